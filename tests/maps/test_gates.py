"""Gates: who is moved, who is not, and that a gate changes nothing else."""

from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import (
    AngularSteering,
    DirectionalAblation,
    GatedMap,
    GaussianTransport,
    InSubspace,
    MeanShift,
    ODESteering,
    ProbeGated,
    load_map,
    method_name,
    save_map,
)
from steerlens.maps._base import method_needs
from steerlens.testing import gaussian_samples

INNER = (MeanShift(), GaussianTransport(), AngularSteering(), ODESteering(), InSubspace(MeanShift(), rank=3))


def clouds(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two Gaussians three standard deviations apart, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, n, 6, generator=generator, dtype=torch.float64).unbind()
    return source + 2.0, target + 2.0 + torch.tensor([3.0, 0, 0, 0, 0, 0]).double()


@pytest.mark.parametrize("inner", INNER, ids=lambda m: type(m).__name__)
def test_rows_move_exactly_as_by_the_inner_map_or_not_at_all(inner):
    source, target = clouds(300, 0)
    gated, bare = ProbeGated(inner).fit(source, target), inner.fit(source, target)
    x = torch.cat(clouds(200, 1))
    assert gated.strength_unit == bare.strength_unit
    acting = gated.is_open(x)
    assert 0.3 < acting.double().mean() < 0.7
    for strength in (0.3, 1.0, 1.7):
        moved = gated(x, strength=strength) - x
        assert torch.equal(moved[~acting], torch.zeros_like(moved[~acting]))
        assert_close(moved[acting], (bare(x, strength=strength) - x)[acting])
        assert (moved[acting].norm(dim=1) > 0).all()
    assert_close(gated.displacement(x), gated.path(x, torch.ones(len(x), dtype=x.dtype)))


def test_target_rows_are_moved_no_oftener_than_the_probe_errs():
    source, target = clouds(300, 0)
    held_source, held_target = clouds(2000, 1)
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    probe.fit(torch.cat([source, target]).numpy(), [0] * 300 + [1] * 300)
    gated = ProbeGated().fit(source, target)
    for x in (held_source, held_target):
        taken_for_source = torch.from_numpy(probe.predict(x.numpy()) == 0)
        assert (gated.is_open(x) == taken_for_source).double().mean() > 0.998
    assert (gated.displacement(held_target).norm(dim=1) > 0).double().mean() < 0.1
    assert (gated.displacement(held_source).norm(dim=1) > 0).double().mean() > 0.9
    bare = MeanShift().fit(source, target)
    assert (bare.displacement(held_target).norm(dim=1) > 0).all(), "without the gate all rows move"


def test_a_probe_that_cannot_tell_moves_rows_at_random():
    """Equal means: the default gate is a coin, whatever the inner map would do."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 500, 4, generator=generator, dtype=torch.float64).unbind()
    gated = ProbeGated(GaussianTransport(rank=4)).fit(source, 3 * target)
    assert 0.3 < gated.is_open(source).double().mean() < 0.7


def test_the_threshold_is_a_probability():
    source, target = clouds(300, 0)
    x = torch.cat(clouds(500, 1))
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    probe.fit(torch.cat([source, target]).numpy(), [0] * 300 + [1] * 300)
    p = torch.from_numpy(probe.predict_proba(x.numpy())[:, 1])
    shares = []
    for threshold in (0.1, 0.5, 0.9):
        acting = ProbeGated(threshold=threshold).fit(source, target).is_open(x)
        assert (acting == (p < threshold)).double().mean() > 0.995
        shares.append(float(acting.double().mean()))
    assert shares == sorted(shares)
    assert shares[0] < shares[2]


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_the_reverse_is_the_fit_the_other_way_round(threshold: float):
    source, target = clouds(300, 0)
    x = torch.cat(clouds(200, 1))
    method = ProbeGated(GaussianTransport(rank=6, shrinkage=0.0), threshold=threshold)
    reverse = method.fit(source, target).reverse
    other_way = method.fit(target, source)
    assert reverse is not None
    assert torch.equal(reverse.is_open(x), other_way.is_open(x))
    assert_close(reverse(x), other_way(x))
    assert not reverse.is_open(source.mean(0))
    assert reverse.is_open(target.mean(0))


def test_what_has_no_reverse_has_none_behind_a_gate():
    assert ProbeGated(DirectionalAblation()).fit(*clouds(100, 0)).reverse is None


def test_the_gate_is_decided_where_the_row_starts():
    """Far along the path rows have long crossed the boundary, and still move in full."""
    source, target = clouds(300, 0)
    gated = ProbeGated().fit(source, target)
    x = source[gated.is_open(source)]
    assert not gated.is_open(gated(x, strength=5.0)).any()
    assert_close(gated(x, strength=5.0) - x, 5 * gated.displacement(x))


def test_a_gated_map_survives_saving_with_its_inner_map(tmp_path: Path):
    source, target = clouds(100, 0)
    gated = ProbeGated(ODESteering()).fit(source, target)
    save_map(gated, tmp_path, provenance={"model": "tiny"})
    loaded = load_map(tmp_path, d_model=6)
    assert isinstance(loaded, GatedMap)
    assert torch.equal(loaded(source, strength=0.7), gated(source, strength=0.7))
    assert loaded.strength_unit == "integration time"


def test_a_gate_has_the_needs_of_its_method_and_names_it():
    assert method_needs(ProbeGated()) == "samples"
    assert method_name(ProbeGated()) == "ProbeGated"
    assert "GaussianTransport" in method_name(ProbeGated(GaussianTransport()))


def test_degenerate_samples():
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="cannot tell"):
        ProbeGated().fit(source, source)
    with pytest.raises(FitError, match="cannot tell"):
        ProbeGated().fit(torch.ones(4, 3), torch.ones(4, 3))
    with pytest.raises(FitError, match="at least 2 rows"):
        ProbeGated().fit(source[:1], target)
    for n in (2, 5):
        few = ProbeGated().fit(source[:n], target[:n])
        assert few.is_open(source[:n]).all()
        assert not few.is_open(target[:n]).any()
    with pytest.raises(OptionError, match="threshold"):
        ProbeGated(threshold=1.0)

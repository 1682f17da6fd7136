"""Discrete plans against sorting, linear assignment and the Gaussian closed form; and their regression."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from steerlens.concepts import planted
from steerlens.errors import FitError, OptionError
from steerlens.maps import BarycentricTransport, GaussianTransport, MeanShift
from steerlens.maps._barycentric import barycentres, transport_plan
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

SMALL = BarycentricTransport(features=128)


def test_in_one_dimension_the_plan_sorts():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 40, 1, generator=generator, dtype=torch.float64).unbind()
    y = y**3 + 1
    moved = barycentres(transport_plan(x, y, None), y)
    assert_close(moved[x[:, 0].argsort()], y.sort(dim=0).values)
    assert not torch.allclose(moved, y)


def test_equal_samples_are_matched_as_by_linear_assignment():
    source, target = gaussian_samples(n=60)
    rows, columns = linear_sum_assignment(torch.cdist(source, target).square().numpy())
    assert_close(barycentres(transport_plan(source, target, None), target)[rows], target[columns])


def test_a_plan_between_unequal_samples_has_the_right_margins():
    source, target = gaussian_samples(n=60)
    for entropy in (None, 0.05):
        plan = transport_plan(source, target[:45], entropy)
        assert_close(plan.sum(dim=1), torch.full((60,), 1 / 60, dtype=torch.float64), atol=1e-6, rtol=0)
        assert_close(plan.sum(dim=0), torch.full((45,), 1 / 45, dtype=torch.float64), atol=1e-6, rtol=0)


def test_entropy_leads_from_the_exact_plan_to_the_mean():
    source, target = gaussian_samples(n=60)
    exact, near, far = (barycentres(transport_plan(source, target, e), target) for e in (None, 0.002, 100.0))
    spread = target.std()
    assert (near - exact).norm(dim=1).mean() < 0.4 * spread
    assert (far - target.mean(dim=0)).norm(dim=1).mean() < 0.05 * spread
    assert (exact - target.mean(dim=0)).norm(dim=1).mean() > spread


def gaussians(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    return source, target @ torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64) + 3


def test_between_gaussians_it_approaches_gaussian_transport():
    source, target = gaussians(700, 0)
    held, _ = gaussians(500, 1)
    truth = GaussianTransport(rank=2, shrinkage=0.0).fit(source, target).displacement(held)
    shift = MeanShift().fit(source, target).vector
    found = BarycentricTransport(rank=2).fit(source, target).displacement(held)
    assert (found - truth).square().mean() < 0.1 * (shift - truth).square().mean()


@pytest.mark.slow
def test_it_carries_new_rows_both_ways():
    (source, target), (held, held_target) = gaussians(500, 0), gaussians(500, 1)
    fitted = SMALL.fit(source, target)
    before = energy_distance(held, held_target)
    assert energy_distance(fitted(held), held_target) < 0.03 * before
    assert energy_distance(fitted(held_target, strength=-1.0), held) < 0.03 * before
    entropic = replace(SMALL, entropy=0.05).fit(source, target)
    assert energy_distance(entropic(held), held_target) < 0.1 * before


@pytest.mark.slow
def test_nuisance_dimensions_spoil_the_matching():
    left = []
    for width in (3, 16):
        plant = planted("parity3", width=width)
        source, target = plant.sample(1000, seed=0).source, plant.sample(1000, seed=1).target
        held, held_target = (
            plant.signal(x) for x in (plant.sample(500, seed=2).source, plant.sample(500, seed=3).target)
        )
        moved = plant.signal(SMALL.fit(source, target)(plant.sample(500, seed=2).source))
        left.append(energy_distance(moved, held_target) / energy_distance(held, held_target))
    assert left[0] < 0.4
    assert left[1] > 1.4 * left[0]


def test_larger_samples_are_drawn_down():
    source, target = gaussians(300, 0)
    few, all_ = (replace(SMALL, max_rows=k).fit(source, target)(source) for k in (50, 300))
    assert not torch.allclose(few, all_)
    assert torch.equal(few, replace(SMALL, max_rows=50).fit(source, target)(source))
    assert torch.equal(all_, replace(SMALL, max_rows=10_000).fit(source, target)(source))


def test_the_seed_decides():
    source, target = gaussians(100, 0)
    a, b, c = (replace(SMALL, seed=s).fit(source, target)(source) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_awkward_samples_fit_or_say_why():
    source, target = gaussian_samples(n=30, width=64)
    assert torch.isfinite(SMALL.fit(source, target[:25])(source)).all()
    source[:, 3] = target[:, 3] = 7.0
    assert_close(SMALL.fit(source, target)(source)[:, 3], source[:, 3])
    assert SMALL.fit(source, source.clone()).displacement(source).abs().max() < 1e-9
    with pytest.raises(FitError, match="at least 20 rows"):
        SMALL.fit(source[:2], target)
    with pytest.raises(FitError, match="all rows are equal"):
        SMALL.fit(torch.ones(30, 4), torch.ones(30, 4))


@pytest.mark.parametrize("options", [{"entropy": 0.0}, {"max_rows": 5}, {"features": 0}, {"rank": 0}])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(OptionError):
        BarycentricTransport(**options)

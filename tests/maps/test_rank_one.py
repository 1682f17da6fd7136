"""The rank-one family, each against its own closed form, beside what it must not do."""

import warnings
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import (
    AffineConceptEditing,
    ConceptErasure,
    ConceptSetPoint,
    DirectionalAblation,
    GatedSetPoint,
    MeanMirror,
    RankOneMap,
)
from steerlens.numerics import moments, unit
from steerlens.testing import gaussian_samples

ALL = (
    DirectionalAblation(), AffineConceptEditing(), MeanMirror(), ConceptErasure(), ConceptSetPoint(), GatedSetPoint(),
)  # fmt: skip


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    """Classes of different size, so that a mean of means is not the mean."""
    source, target = gaussian_samples(n=300)
    return source, target[:120]


def test_editing_is_the_published_formula(samples: tuple[Tensor, Tensor]):
    """h − proj_r(h) + proj_r(μ₋) + α r with r = μ₊ − μ₋, at α = 1."""
    source, target = samples
    low, r = source.mean(0), target.mean(0) - source.mean(0)

    def proj(x: Tensor) -> Tensor:
        return (x @ r / (r @ r))[..., None] * r

    edit = AffineConceptEditing().fit(source, target)
    assert_close(edit(source), source - proj(source) + proj(low) + r)
    assert edit.reverse is not None
    assert_close(edit.reverse(target), target - proj(target) + proj(low))


def test_editing_leaves_no_spread_along_the_direction_and_all_of_it_elsewhere(samples: tuple[Tensor, Tensor]):
    source, target = samples
    edit = AffineConceptEditing().fit(source, target)
    assert (source @ edit.read).std() > 0.5
    assert (edit(source) @ edit.read).std() < 1e-12
    across = torch.eye(12, dtype=torch.float64) - torch.outer(edit.read, edit.read)
    assert_close(edit(source) @ across, source @ across)


def test_a_mirror_keeps_distances_swaps_the_means_and_undoes_itself(samples: tuple[Tensor, Tensor]):
    source, target = samples
    mirror = MeanMirror().fit(source, target)
    assert_close(mirror(source).mean(0), target.mean(0))
    assert_close(mirror(target).mean(0), source.mean(0))
    assert_close(torch.cdist(mirror(source[:20]), mirror(target[:20])), torch.cdist(source[:20], target[:20]))
    assert_close(mirror(mirror(source)), source)
    assert mirror.reverse is not None
    assert_close(mirror(source, strength=-1.0), mirror(source))


def test_erasure_equals_the_reference_implementation(samples: tuple[Tensor, Tensor]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, on import
        from concept_erasure import LeaceFitter

    source, target = samples
    x = torch.cat([source, target])
    z = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).double()
    fitter = LeaceFitter(12, 1, dtype=torch.float64, shrinkage=False, constrain_cov_trace=False)
    fitter.update(x, z[:, None])
    ours = ConceptErasure(shrinkage=0.0).fit(source, target)
    assert_close(ours(x), fitter.eraser(x), atol=1e-8, rtol=1e-8)
    assert (ours(x) - x).abs().max() > 0.1


def test_after_erasure_no_linear_classifier_beats_a_constant_on_the_fitted_data(samples: tuple[Tensor, Tensor]):
    source, target = samples
    y = [0] * len(source) + [1] * len(target)

    def gain(a: Tensor, b: Tensor) -> float:
        """Nats per row over the best constant."""
        x = torch.cat([a, b]).numpy()
        probe = LogisticRegression(C=1e6, max_iter=5000).fit(x, y)
        signs = 2.0 * torch.tensor(y) - 1
        logp = torch.nn.functional.logsigmoid(signs * torch.tensor(probe.decision_function(x))).mean()
        share = torch.tensor(len(b) / len(y), dtype=torch.float64)
        return float(logp + torch.special.entr(share) + torch.special.entr(1 - share))

    erase = ConceptErasure(shrinkage=0.0).fit(source, target)
    other = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    control = replace(erase, read=other / (other @ other), write=other)
    assert gain(source, target) > 0.1
    assert gain(erase(source), erase(target)) < 1e-5
    assert gain(control(source), control(target)) > 0.1, "erasing something else erases nothing of this"


def test_erasure_moves_the_data_least_of_all_that_erase(samples: tuple[Tensor, Tensor]):
    """Ablation of the mean difference about the pooled mean erases, too, and moves more."""
    source, target = samples
    x = torch.cat([source, target])
    erase = ConceptErasure(shrinkage=0.0).fit(source, target)
    W = torch.linalg.cholesky(torch.linalg.inv(moments(x).cov))
    # Any a with aᵀΔ = 1 erases the difference of means; this one costs least.
    cost = erase.displacement(x).square().sum()
    generator = torch.Generator().manual_seed(0)
    ablated = (x - x.mean(0)) @ unit(erase.write)
    assert ablated.square().sum() > 1.01 * cost
    for _ in range(20):
        a = W @ torch.randn(12, generator=generator, dtype=torch.float64)
        a = a / (a @ erase.write)
        other = -((x - x.mean(0)) @ a)[:, None] * erase.write
        assert other.square().sum() >= cost


def test_a_set_point_carries_either_mean_to_the_target_and_reads_a_constant(samples: tuple[Tensor, Tensor]):
    source, target = samples
    lift = ConceptSetPoint().fit(source, target)
    high = target.mean(0)
    assert_close(lift(source).mean(0), high)
    assert_close(lift(target).mean(0), high)
    assert_close(lift.reading(lift(source)), torch.full((len(source),), 0.5, dtype=torch.float64))
    assert lift.reading(source).std() > 0.05
    assert lift.reverse is not None
    assert_close(lift.reverse(target).mean(0), source.mean(0))


def test_a_gate_leaves_alone_what_is_above_and_lifts_the_rest_to_it(samples: tuple[Tensor, Tensor]):
    source, target = samples
    gated = GatedSetPoint(percentile=0.5).fit(source, target)
    level = (target @ gated.read).quantile(0.5)
    for x in (source, target):
        score = x @ gated.read
        moved = gated.displacement(x).norm(dim=1)
        assert (moved[score >= level] == 0).all()
        assert (moved[score < level] > 0).all()
        assert (gated(x) @ gated.read).min() >= level - 1e-9
    share = (gated.displacement(target).norm(dim=1) > 0).double().mean()
    assert 0.4 < share < 0.6
    assert gated.reverse is None


def test_what_is_erased_has_no_way_back(samples: tuple[Tensor, Tensor]):
    for method in (DirectionalAblation(), ConceptErasure()):
        assert method.fit(*samples).reverse is None


@pytest.mark.parametrize("method", ALL, ids=lambda m: type(m).__name__)
def test_equal_means_are_refused(method):
    x, _ = gaussian_samples()
    with pytest.raises(FitError, match="same mean"):
        method.fit(x, x)


@pytest.mark.parametrize(
    "method", [ConceptErasure(), ConceptSetPoint(), GatedSetPoint()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("rows", [2, 5])
def test_fewer_rows_than_dimensions_still_fit(method, rows: int):
    source, target = gaussian_samples()
    fitted = method.fit(source[:rows], target[:rows])
    assert torch.isfinite(fitted(source)).all()
    assert isinstance(fitted, RankOneMap)


def test_a_constant_feature_is_left_alone():
    source, target = gaussian_samples()
    source[:, 3] = target[:, 3] = 7.0
    for method in (ConceptErasure(shrinkage=0.0), ConceptSetPoint(shrinkage=0.0), AffineConceptEditing()):
        assert_close(method.fit(source, target)(source)[:, 3], source[:, 3])


def test_streamed_moments_give_the_same_maps(samples: tuple[Tensor, Tensor]):
    for method in (AffineConceptEditing(), MeanMirror(), ConceptErasure(), ConceptSetPoint()):
        streamed = [moments(x[:30]).merge(moments(x[30:])) for x in samples]
        assert_close(method.fit_moments(*streamed)(samples[0]), method.fit(*samples)(samples[0]))


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="shrinkage"):
        ConceptErasure(shrinkage=1.5)
    with pytest.raises(OptionError, match="percentile"):
        GatedSetPoint(percentile=1.0)


def test_the_direction_of_the_gate_is_the_linear_discriminant(samples: tuple[Tensor, Tensor]):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, y = torch.cat(samples).numpy(), [0] * len(samples[0]) + [1] * len(samples[1])
    expected = unit(torch.tensor(LinearDiscriminantAnalysis(solver="lsqr").fit(x, y).coef_[0]))
    assert_close(GatedSetPoint(shrinkage=0.0).fit(*samples).read, expected, atol=1e-8, rtol=0)

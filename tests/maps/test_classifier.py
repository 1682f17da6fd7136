"""Climbing a classifier: what a row is promised, and what a convinced classifier does not show."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import ClassifierGradient, GradientMap, MeanShift, Training, load_map, save_map
from steerlens.maps._classifier import log_odds, uphill
from steerlens.numerics import energy_distance, unit
from steerlens.testing import gaussian_samples

SHORT = Training(steps=150)


def line(sign: int, n: int, seed: int) -> Tensor:
    """One signal coordinate at ±1 (σ 0.5) and fifteen of noise (σ 0.3), in a random frame."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.5] + [0.3] * 15, dtype=torch.float64)
    z = torch.randn(n, 16, generator=generator, dtype=torch.float64) * scale
    z[:, 0] += sign
    frame = torch.randn(16, 16, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return z @ torch.linalg.qr(frame).Q


@pytest.fixture(scope="module")
def fitted() -> GradientMap:
    return ClassifierGradient(training=SHORT).fit(*gaussian_samples())


@pytest.fixture
def rows() -> Tensor:
    return torch.cat([gaussian_samples(n=60, seed=s).source for s in (0, 1)])


def share_convinced(fitted: GradientMap, x: Tensor) -> float:
    return float((fitted.log_odds(x) >= fitted.enough).double().mean())


@pytest.mark.parametrize("hidden", [(5,), (8, 8), (4, 6, 3)])
def test_the_written_out_gradient_is_that_of_autograd(hidden: tuple[int, ...], rows: Tensor):
    fitted = ClassifierGradient(hidden=hidden, training=Training(steps=40)).fit(*gaussian_samples())
    x = rows.clone().requires_grad_()
    odds, slope = fitted._log_odds_and_slope(x)
    (expected,) = torch.autograd.grad(fitted.log_odds(x).sum(), x)
    assert_close(odds.detach(), fitted.log_odds(rows))
    assert_close(slope.detach() / fitted.scale, expected)
    assert (uphill(expected)[0] - uphill(expected)[1]).norm() > 1e-3, "the direction depends on the row"


def test_gradients_switched_off_change_nothing(fitted: GradientMap, rows: Tensor):
    expected = fitted.displacement(rows)
    with torch.no_grad():
        assert torch.equal(fitted.displacement(rows), expected)
    with torch.inference_mode():
        assert torch.equal(fitted.displacement(rows.clone()), expected)
    assert not expected.requires_grad


def test_a_row_stops_at_the_first_step_that_convinces_and_a_convinced_row_stays(fitted: GradientMap, rows: Tensor):
    before, moved = fitted.log_odds(rows), fitted.displacement(rows)
    assert (before >= fitted.enough).any()
    assert (before < fitted.enough).any()
    assert (moved[before >= fitted.enough] == 0).all()
    assert share_convinced(fitted, rows + moved) == 1.0
    x = rows[before < fitted.enough]
    paths = [x]
    while share_convinced(fitted, paths[-1]) < 1:
        slope = fitted._log_odds_and_slope(paths[-1])[1]
        paths.append(paths[-1] + fitted.step_length * uphill(slope))
    first = torch.stack([fitted.log_odds(p) >= fitted.enough for p in paths]).int().argmax(dim=0)
    assert_close(fitted(x), torch.stack(paths)[first, torch.arange(len(x))])
    assert first.unique().numel() > 3, "rows need different numbers of steps"


def test_no_row_leaves_the_trust_region(rows: Tensor):
    samples = gaussian_samples()
    near = ClassifierGradient(trust=0.2, training=SHORT).fit(*samples)
    far = ClassifierGradient(training=SHORT).fit(*samples)
    assert near.radius == pytest.approx(0.2 * float(torch.cat(samples).norm(dim=1).mean()))
    length = near.displacement(rows).norm(dim=1)
    assert length.max() <= near.radius * (1 + 1e-12)
    at_the_edge = length > near.radius * (1 - 1e-12)
    assert at_the_edge.any()
    assert (near.log_odds(near(rows))[~at_the_edge] >= near.enough).all()
    walked = torch.zeros_like(rows[at_the_edge])
    for _ in range(50):
        step = near.step_length * uphill(near._log_odds_and_slope(rows[at_the_edge] + walked)[1])
        walked = torch.where(walked.norm(dim=1, keepdim=True) < near.radius, walked + step, walked)
    expected = near.radius * walked / walked.norm(dim=1, keepdim=True)
    assert_close(near.displacement(rows)[at_the_edge], expected, msg="a row at the edge does not slide along it")
    assert far.displacement(rows).norm(dim=1).max() > near.radius
    assert share_convinced(near, near(rows)) < share_convinced(far, far(rows))


@pytest.mark.slow
def test_a_convinced_classifier_is_no_evidence_of_the_target_s_distribution():
    """Own and independent classifier are convinced, as by mean shift, but only mean shift arrives at the target."""
    source, target = line(-1, 1000, 0), line(1, 1000, 1)
    held_source, held_target = line(-1, 1000, 2), line(1, 1000, 3)
    # Of many rows, and stopped early: a judge fitted to the noise of few rows has its boundary where rows stop.
    fresh = torch.cat([line(-1, 4000, 4), line(1, 4000, 5)]).numpy()
    judge = MLPClassifier((64, 64), random_state=1, early_stopping=True, learning_rate_init=3e-3)
    judge.fit(fresh, [0] * 4000 + [1] * 4000)
    climb, shift = ClassifierGradient(stop=0.99).fit(source, target), MeanShift().fit(source, target)
    sooner = ClassifierGradient().fit(source, target)

    def independent(x: Tensor) -> float:
        return float(judge.predict(x.numpy()).mean())

    assert independent(held_source) < 0.05, "before"
    assert share_convinced(climb, held_source) < 0.05
    climbed, shifted = climb(held_source), shift(held_source)
    assert share_convinced(climb, climbed) >= 0.95
    assert independent(climbed) >= 0.95
    assert independent(shifted) >= 0.95
    assert 0.75 <= independent(sooner(held_source)) < independent(climbed), "rows stop nearer to the boundary"
    assert abs(energy_distance(shifted, held_target)) < 0.02
    assert energy_distance(climbed, held_target) > 0.15
    assert energy_distance(held_source, held_target) > 1.0


def test_the_reverse_is_the_fit_the_other_way_round(fitted: GradientMap, rows: Tensor):
    other_way = ClassifierGradient(training=SHORT).fit(*reversed(gaussian_samples()))
    assert_close(fitted.reverse.displacement(rows), other_way.displacement(rows))
    assert_close(fitted.reverse.log_odds(rows), -fitted.log_odds(rows))
    target = gaussian_samples().target
    assert (fitted.log_odds(fitted.reverse(target)) <= -fitted.enough).all()
    assert (fitted.log_odds(target) > -fitted.enough).any()


def test_units_do_not_matter():
    source, target = gaussian_samples()
    method = ClassifierGradient(training=SHORT)
    expected = method.fit(source, target).displacement(source)
    assert_close(method.fit(100 * source, 100 * target).displacement(100 * source), 100 * expected)


def test_seeds_decide_the_network():
    samples = gaussian_samples()
    a, b = (ClassifierGradient(seed=s, training=Training(steps=20)).fit(*samples)(samples.source) for s in (0, 1))
    assert not torch.allclose(a, b)


def test_the_curve_begins_at_chance_and_falls(fitted: GradientMap):
    assert fitted.curve[0].tolist() == pytest.approx([0.0, math.log(2)])
    assert fitted.curve[:, 1].min() < 0.2


def test_half_precision_goes_in_and_comes_out(fitted: GradientMap, rows: Tensor):
    for dtype, close in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        x = rows.to(dtype)
        moved = fitted.displacement(x.reshape(4, 5, 6, -1))
        assert moved.dtype == dtype
        expected = fitted.displacement(x.double())
        assert_close(moved.reshape_as(expected).double(), expected, rtol=close, atol=close)


def test_classes_count_alike_whatever_their_sizes():
    """Half way between the means the odds are even, and not those of the sizes, log(1/10) = −2.3."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 3000, 2, generator=generator, dtype=torch.float64).unbind()
    whole = Training(steps=150, batch_size=3000)  # a batch of equally many rows of each would hide the sizes
    fitted = ClassifierGradient(training=whole).fit(source - 0.5, target[:300] + 0.5)
    assert abs(float(fitted.log_odds(torch.zeros(2).double()))) < 0.5


def test_classes_that_cannot_be_told_apart_are_refused():
    x, y = gaussian_samples()
    with pytest.raises(FitError, match="no better apart than a coin"):
        ClassifierGradient(training=SHORT).fit(x, x)
    with pytest.raises(FitError, match="all rows are equal"):
        ClassifierGradient().fit(torch.ones(30, 4), torch.ones(30, 4))
    with pytest.raises(FitError, match="at least 20 rows"):
        ClassifierGradient().fit(x[:19], y)


def test_directions_in_which_no_row_varies_are_left_alone():
    source, target = gaussian_samples()
    source[:, 3] = target[:, 3] = 7.0
    moved = ClassifierGradient(training=SHORT).fit(source, target).displacement(source)
    assert moved[:, 3].abs().max() < 1e-9
    assert moved[:, 2].abs().max() > 1e-2
    wide_source, wide_target = gaussian_samples(n=25, width=64)
    wide = ClassifierGradient(training=SHORT).fit(wide_source, wide_target)
    assert share_convinced(wide, wide(wide_source)) == 1.0
    both = torch.cat([wide_source, wide_target])
    seen = torch.linalg.svd(both - both.mean(0), full_matrices=False).Vh[:49]
    moved = wide.displacement(wide_source)
    assert_close(moved @ seen.T @ seen, moved)


def test_a_flat_classifier_moves_nothing(fitted: GradientMap, rows: Tensor):
    flat = replace(fitted, weights=tuple(torch.zeros_like(W) for W in fitted.weights), biases=tuple(
        torch.zeros_like(b) for b in fitted.biases
    ))  # fmt: skip
    assert torch.equal(flat.displacement(rows), torch.zeros_like(rows))


def test_saving_keeps_the_steps(fitted: GradientMap, rows: Tensor, tmp_path: Path):
    save_map(fitted, tmp_path, provenance={"model": "tiny"})
    loaded = load_map(tmp_path)
    assert torch.equal(loaded.displacement(rows), fitted.displacement(rows))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassifierGradient(stop=1.0), "stop"),
        (lambda: ClassifierGradient(step=0.0), "step"),
        (lambda: ClassifierGradient(trust=-1.0), "trust"),
        (lambda: ClassifierGradient(hidden=()), "hidden"),
    ],
)
def test_options_outside_their_range_are_refused(build, message: str):
    with pytest.raises(OptionError, match=message):
        build()


def test_log_odds_are_those_of_gaussians():
    """Equal covariances: w = Σ⁻¹Δ, and zero half way between the means."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 20_000, 3, generator=generator, dtype=torch.float64).unbind()
    sd, delta = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.0, -1.0, 0.0]).double()
    read, offset = log_odds(source * sd, target[:5000] * sd + delta)
    assert_close(read, delta / sd**2, atol=0.1, rtol=0)
    assert float(offset + read @ delta / 2) == pytest.approx(0, abs=0.05)
    with pytest.raises(FitError, match="cannot tell"):
        log_odds(source, source)


def test_log_odds_do_not_read_a_constant():
    source, target = gaussian_samples()
    source[:, 3] = target[:, 3] = 0.1  # its mean is not quite 0.1
    read, _ = log_odds(source, target)
    assert read[3] == 0
    assert unit(read).abs().max() > 0.2

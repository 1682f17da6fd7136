"""Flows: where they arrive, the way there, and the way back."""

from dataclasses import replace

import ot
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import planted
from steerlens.errors import FitError, OptionError
from steerlens.maps import FlowMap, FlowMatching, MeanShift, SubspaceMap, Training
from steerlens.maps._flow import matched
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

SHORT = FlowMatching(training=Training(steps=100, learning_rate=3e-3))


def linear_flow(steps: int = 10, *, forward: bool = True) -> FlowMap:
    """v(x, t) = (1 + 2 gelu(t) , 0): a field of which the time integral can be done by hand."""
    hidden = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    out = torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    zeros = [torch.zeros(k, dtype=torch.float64) for k in (1, 2)]
    shift = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return FlowMap(shift, (hidden, out), tuple(zeros), torch.zeros(0, 2, dtype=torch.float64), steps, forward)


def gelu_integral(a: float, b: float) -> float:
    t = torch.linspace(a, b, 10_001, dtype=torch.float64)
    return float(torch.trapezoid(torch.nn.functional.gelu(t), t))


def ring(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A blob, and a ring around it."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    circle = 3 * torch.stack([angle.cos(), angle.sin()], dim=1)
    noise = 0.3 * torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    return noise[0], circle + noise[1]


def inner(fitted: SubspaceMap) -> FlowMap:
    assert isinstance(fitted.inner, FlowMap)
    return fitted.inner


def test_the_path_is_the_integral_of_the_field_and_past_one_of_its_last_moment():
    x = torch.zeros(3, 2, dtype=torch.float64)
    strengths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    last = 1 + 2 * float(torch.nn.functional.gelu(torch.tensor(1.0, dtype=torch.float64)))
    expected = [0.5 + 2 * gelu_integral(0, 0.5), 1 + 2 * gelu_integral(0, 1), 1 + 2 * gelu_integral(0, 1) + last]
    moved = linear_flow(200).path(x, strengths)
    assert_close(moved[:, 0], torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)
    assert moved[:, 1].abs().max() == 0


def test_the_reverse_runs_the_same_field_from_its_end_and_past_its_start_goes_on():
    x = torch.zeros(2, 2, dtype=torch.float64)
    strengths = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = [-(0.5 + 2 * gelu_integral(0.5, 1)), -(2 + 2 * gelu_integral(0, 1))]
    moved = linear_flow(200, forward=False).path(x, strengths)
    assert_close(moved[:, 0], torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_blob_becomes_a_ring_and_the_reverse_brings_every_row_home():
    (source, target), (held, held_target) = ring(600, 0), ring(600, 1)
    fitted = FlowMatching(rank=2, training=Training(steps=500, learning_rate=3e-3)).fit(source, target)
    moved = fitted(held)
    assert energy_distance(MeanShift().fit(source, target)(held), held_target) > 1.0
    assert energy_distance(moved, held_target) < 0.05
    home = (fitted(moved, strength=-1.0) - held).norm(dim=1)
    assert home.median() < 0.02
    finer = replace(fitted, inner=replace(inner(fitted), steps=100))
    assert (finer(finer(held), strength=-1.0) - held).norm(dim=1).max() < 0.1 * home.max()
    # A straight line back, which an extrapolated map would take, misses.
    assert (moved - fitted.displacement(moved) - held).norm(dim=1).median() > 0.5


def test_strength_is_time_and_far_times_stay_finite():
    source, target = ring(200, 0)
    fitted = replace(SHORT, rank=2).fit(source, target)
    assert fitted.strength_unit == "integration time"
    half, whole = fitted(source, strength=0.5), fitted(source)
    assert (half - (source + whole) / 2).norm(dim=1).max() > 1e-3, "the path bends"
    for strength in (2.0, 10.0, -10.0):
        assert torch.isfinite(fitted(source, strength=strength)).all()


@pytest.mark.slow
def test_between_shifted_gaussians_it_is_close_to_the_shift():
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(600, 4, generator=generator, dtype=torch.float64) + m for m in (0.0, 2.0))
    held = torch.randn(600, 4, generator=generator, dtype=torch.float64)
    shift = MeanShift().fit(source, target).vector
    moved = replace(SHORT, rank=4).fit(source, target).displacement(held)
    assert (moved - shift).norm(dim=1).mean() < 0.15 * shift.norm()


def test_matching_is_that_of_pot():
    source, target = gaussian_samples(n=50)
    x, y = matched(source, target)
    expected = ot.emd2([], [], torch.cdist(source, target).square().numpy())
    assert float((x - y).square().sum(dim=1).mean()) == pytest.approx(expected)
    assert (source - target).square().sum(dim=1).mean() > 1.05 * expected
    assert len(matched(source, target[:20])[0]) == 20


def test_the_seed_decides_and_the_curve_falls():
    source, target = ring(150, 0)
    a, b, c = (replace(SHORT, seed=s, rank=2).fit(source, target) for s in (0, 0, 1))
    assert torch.equal(a(source), b(source))
    assert not torch.equal(a(source), c(source))
    curve = inner(a).curve
    assert curve[0, 0] == 0
    assert curve[:, 1].min() < 0.8 * curve[0, 1]


def test_awkward_samples_fit_or_say_why():
    source, target = gaussian_samples(n=30, width=64)
    fitted = SHORT.fit(source, target[:25])
    assert torch.isfinite(fitted(source)).all()
    source[:, 3] = target[:, 3] = 7.0
    assert_close(SHORT.fit(source, target)(source)[:, 3], source[:, 3])
    with pytest.raises(FitError, match="at least 20 rows"):
        SHORT.fit(source[:2], target)
    with pytest.raises(FitError, match="all rows are equal"):
        SHORT.fit(torch.ones(30, 4), torch.ones(30, 4))
    with pytest.raises(OptionError, match="integration_steps"):
        FlowMatching(integration_steps=0)


def test_one_sample_twice_hardly_moves():
    source, _ = gaussian_samples()
    assert SHORT.fit(source, source.clone()).displacement(source).norm(dim=1).mean() < 0.1 * source.std()


@pytest.mark.slow
def test_arcs_among_nuisance_dimensions_are_reached():
    plant = planted("ring6")
    source, target = plant.sample(2000, seed=0).source, plant.sample(2000, seed=1).target
    held, held_target = plant.sample(1000, seed=2).source, plant.sample(1000, seed=3).target
    fitted = FlowMatching(training=Training(steps=600, learning_rate=3e-3)).fit(source, target)
    assert energy_distance(plant.signal(held), plant.signal(held_target)) > 0.3
    assert energy_distance(plant.signal(fitted(held)), plant.signal(held_target)) < 0.05
    assert (plant.logit(held) > 0).double().mean() < 0.1
    assert (plant.logit(fitted(held)) > 0).double().mean() > 0.85

"""Networks as maps: they learn what depends on the row, and stay at the mean shift where nothing does."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import planted
from steerlens.errors import FitError, OptionError
from steerlens.maps import MeanShift, MLPMap, PairedMLP, ResidualMLP, SubspaceMap, Training, TwoWayMap
from steerlens.maps._nonlinear import Signal, match_distributions
from steerlens.maps._training import cut
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

SHORT = Training(steps=80, learning_rate=3e-3)
LONGER = Training(steps=200, learning_rate=3e-3)
TOGETHER = (ResidualMLP(training=SHORT), PairedMLP(training=SHORT))


def bent_pairs(n: int, seed: int, *, bend: float) -> tuple[Tensor, Tensor]:
    """Pairs whose difference is constant but for noise and, where ``bend`` is not zero, |x₀| of the source row."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    d = torch.tensor([2.0, -1.0, 0.0, 0.5, 0.0], dtype=torch.float64) + noise
    d[:, 1] += bend * source[:, 0].abs()
    return source, source + d


def trained(fitted: TwoWayMap) -> MLPMap:
    assert isinstance(fitted.forward, SubspaceMap)
    assert isinstance(fitted.forward.inner, MLPMap)
    return fitted.forward.inner


def error_share(fitted, source: Tensor, truth: Tensor) -> float:
    """Mean squared error in units of that of the mean shift."""
    shifted = MeanShift().fit(source, source + truth).displacement(source)
    return float((fitted.displacement(source) - truth).square().mean() / (shifted - truth).square().mean())


@pytest.mark.slow
def test_differences_that_depend_on_the_row_are_learned_in_both_directions():
    source, target = bent_pairs(600, 0, bend=2.0)
    held, _ = bent_pairs(600, 1, bend=2.0)
    truth = torch.tensor([2.0, -1.0, 0.0, 0.5, 0.0], dtype=torch.float64).repeat(600, 1)
    truth[:, 1] += 2 * held[:, 0].abs()
    fitted = PairedMLP(rank=5).fit(source, target)
    assert error_share(fitted, held, truth) < 0.2
    back = fitted.reverse.displacement(target)
    assert (back - (source - target)).square().mean() < 0.7 * (source - target).var(dim=0).mean()
    assert_close(fitted.reverse.reverse.displacement(held), fitted.displacement(held))


@pytest.mark.slow
def test_differences_that_do_not_depend_on_the_row_leave_the_mean_shift():
    source, target = bent_pairs(600, 0, bend=0.0)
    moved = PairedMLP(rank=5).fit(source, target).displacement(source)
    shift = MeanShift().fit(source, target).vector
    assert (moved - shift).norm(dim=1).mean() < 0.1 * shift.norm()


@pytest.mark.slow
def test_it_averages_over_what_the_row_does_not_decide_where_a_transport_does_not():
    """Which of two ways a pair goes is a coin: their mean is the best prediction, and far from every target."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    ways = torch.randint(0, 2, (400,), generator=generator).double() * 2 - 1
    target = source + 3 * ways[:, None] * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    paired = PairedMLP(rank=3, training=LONGER).fit(source, target)
    unpaired = ResidualMLP(rank=3, training=LONGER).fit(source, target)
    assert energy_distance(paired(source), target) > 0.5
    assert energy_distance(unpaired(source), target) < 0.1


@pytest.mark.slow
def test_twins_in_another_order_are_other_pairs():
    source, target = bent_pairs(300, 0, bend=2.0)
    other = torch.randperm(300, generator=torch.Generator().manual_seed(5))
    truth = target - source
    assert error_share(PairedMLP(rank=5, training=LONGER).fit(source, target), source, truth) < 0.7
    assert error_share(PairedMLP(rank=5, training=LONGER).fit(source, target[other]), source, truth) > 0.9


def test_pairs_must_be_equally_many():
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="80 source and 79 target"):
        PairedMLP().fit(source, target[:79])


@pytest.mark.parametrize("method", TOGETHER, ids=lambda m: type(m).__name__)
def test_the_curve_is_kept_and_the_step_kept_is_its_lowest(method):
    source, target = bent_pairs(200, 0, bend=2.0)
    curve = trained(method.fit(source, target)).curve
    assert curve[0, 0] == 0
    assert curve[:, 1].min() < 0.8 * curve[0, 1]


def test_the_kept_parameters_are_those_of_the_lowest_held_out_loss():
    """The rate is so high that training passes the best step and leaves it."""
    source, target = bent_pairs(200, 0, bend=0.0)
    offset = torch.zeros(5, dtype=torch.float64)
    curve = match_distributions(
        lambda x: offset.expand_as(x),
        [offset],
        source,
        target,
        signal=Signal(0.0, Training(steps=40, learning_rate=0.5), 0),
    )
    assert curve[:, 1].min() < 0.1 * curve[0, 1]
    assert curve[-1, 1] > 1.5 * curve[:, 1].min()
    held_source, held_target = cut(source, 0)[1], cut(target, 0)[1]
    assert_close(energy_distance(held_source + offset, held_target), curve[:, 1].min())


@pytest.mark.parametrize("method", TOGETHER, ids=lambda m: type(m).__name__)
def test_the_seed_decides(method):
    from dataclasses import replace

    source, target = bent_pairs(100, 0, bend=2.0)
    a, b, c = (replace(method, seed=s).fit(source, target)(source) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("method", TOGETHER, ids=lambda m: type(m).__name__)
def test_awkward_samples_fit_or_say_why(method):
    source, target = gaussian_samples(n=30, width=64)
    assert torch.isfinite(method.fit(source, target)(source)).all()
    source[:, 3] = target[:, 3] = 7.0
    assert_close(method.fit(source, target)(source)[:, 3], source[:, 3])
    with pytest.raises(FitError, match="at least 20 rows"):
        method.fit(source[:2], target[:2])
    with pytest.raises(FitError, match="all rows are equal"):
        method.fit(torch.ones(30, 4), torch.ones(30, 4))


@pytest.mark.parametrize("method", TOGETHER, ids=lambda m: type(m).__name__)
def test_one_sample_twice_hardly_moves(method):
    source, _ = gaussian_samples()
    assert method.fit(source, source.clone()).displacement(source).norm(dim=1).mean() < 0.1 * source.std()


@pytest.mark.slow
def test_a_small_sample_in_many_dimensions_ends_no_farther_from_held_out_rows_than_the_mean_shift():
    """Correlated Gaussians with a falling spectrum, as in a residual stream; only the mean differs."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1, 577, dtype=torch.float64) ** -0.7

    def draw(n: int, shift: float) -> Tensor:
        x = torch.randn(n, 576, generator=generator, dtype=torch.float64) * spread
        x[:, :20] += shift
        return x

    source, target = draw(150, 0.0), draw(150, 0.3)
    held_source, held_target = draw(500, 0.0), draw(500, 0.3)
    left = [
        float(energy_distance(m.fit(source, target)(held_source), held_target)) for m in (MeanShift(), ResidualMLP())
    ]
    before = float(energy_distance(held_source, held_target))
    assert left[0] < 0.2 * before
    assert left[1] < left[0] + 0.02 * before


@pytest.mark.slow
def test_parity_among_nuisance_dimensions_is_learned():
    plant = planted("parity3")
    source, target = plant.sample(2000, seed=0).source, plant.sample(2000, seed=1).target
    held_source, held_target = (
        plant.signal(x) for x in (plant.sample(1000, seed=2).source, plant.sample(1000, seed=3).target)
    )
    moved = plant.signal(
        ResidualMLP(training=Training(steps=400, learning_rate=3e-3)).fit(source, target)(
            plant.sample(1000, seed=2).source
        )
    )
    assert energy_distance(held_source, held_target) > 0.2
    assert energy_distance(moved, held_target) < 0.05


def test_options_out_of_range_are_refused():
    for build in (
        lambda: PairedMLP(hidden=()),
        lambda: PairedMLP(rank=0),
        lambda: ResidualMLP(transport_cost=-1.0),
    ):
        with pytest.raises(OptionError):
            build()

"""The gate solves what a dose can solve, and nothing that needs another direction."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import planted
from steerlens.errors import FitError, OptionError
from steerlens.maps import GatedShiftMap, MeanShift, ResidualMLP, StrengthGate, Training, TwoWayMap
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

SHORT = StrengthGate(training=Training(steps=60, learning_rate=3e-3))


def doses(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of two contexts, in the second coordinate, go 1 or 5 along the first."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> tuple[Tensor, Tensor]:
        context = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
        x = 0.3 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
        x[:, 1] += 2 * context
        return x, 3 + 2 * context

    source, (target, dose) = draw()[0], draw()
    target[:, 0] += dose
    return source, target


def gate_of(fitted: TwoWayMap) -> GatedShiftMap:
    assert isinstance(fitted.forward, GatedShiftMap)
    return fitted.forward


@pytest.mark.slow
def test_where_only_the_dose_depends_on_the_row_it_is_solved_and_a_shift_is_not():
    (source, target), (held, held_target) = doses(500, 0), doses(500, 1)
    before = energy_distance(held, held_target)
    fitted = StrengthGate(rank=4, training=Training(steps=200, learning_rate=3e-3)).fit(source, target)
    assert energy_distance(MeanShift().fit(source, target)(held), held_target) > 0.1 * before
    assert energy_distance(fitted(held), held_target) < 0.02 * before
    travelled = fitted.displacement(held)[:, 0]
    assert travelled[held[:, 1] > 0].mean() == pytest.approx(5, abs=0.3)
    assert travelled[held[:, 1] < 0].mean() == pytest.approx(1, abs=0.3)
    assert energy_distance(fitted(held_target, strength=-1.0), held) < 0.1 * before


def test_every_row_moves_along_the_mean_difference_and_never_against_it():
    source, target = gaussian_samples()
    fitted = gate_of(SHORT.fit(source, target))
    shift = MeanShift().fit(source, target).vector
    assert_close(fitted.vector, shift)
    dose = fitted.dose(source)
    assert (dose >= 0).all()
    assert dose.std() > 0.01
    assert_close(fitted.displacement(source), dose[:, None] * shift)
    assert torch.isfinite(fitted(1e4 * source)).all()


@pytest.mark.slow
def test_where_the_direction_depends_on_the_context_it_leaves_the_others_alone_at_best():
    """ctx(0.7): three in ten rows ought to go against the mean difference. A map that may turn solves it."""
    plant = planted("ctx")
    source, target = plant.sample(400, seed=0).source, plant.sample(400, seed=1).target
    held, held_target = plant.sample(600, seed=2).source, plant.sample(600, seed=3).target
    short = Training(steps=300, learning_rate=3e-3)
    gate, bend = (m.fit(source, target) for m in (StrengthGate(training=short), ResidualMLP(training=short)))

    def reached(moved: Tensor) -> float:
        return float((plant.logit(moved) > 0).double().mean())

    assert reached(gate(held)) < 0.75
    assert reached(bend(held)) > 0.9
    left = [energy_distance(plant.signal(m(held)), plant.signal(held_target)) for m in (gate, bend)]
    assert left[0] > 3 * left[1]


@pytest.mark.slow
def test_where_only_the_mean_differs_the_dose_stays_near_one():
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(400, 4, generator=generator, dtype=torch.float64) + m for m in (0.0, 2.0))
    dose = gate_of(StrengthGate(rank=4).fit(source, target)).dose(source)
    assert (dose - 1).abs().mean() < 0.15


def test_untrained_it_is_the_mean_shift():
    source, target = gaussian_samples()
    barely = StrengthGate(training=Training(steps=1, learning_rate=1e-12)).fit(source, target)
    assert_close(barely(source), MeanShift().fit(source, target)(source))


def test_the_seed_decides_and_the_curve_is_kept():
    source, target = doses(100, 0)
    a, b, c = (replace(SHORT, seed=s).fit(source, target) for s in (0, 0, 1))
    assert torch.equal(a(source), b(source))
    assert not torch.equal(a(source), c(source))
    assert gate_of(a).curve[:, 1].min() < gate_of(a).curve[0, 1]


def test_awkward_samples_fit_or_say_why():
    source, target = gaussian_samples(n=30, width=64)
    assert torch.isfinite(SHORT.fit(source, target[:25])(source)).all()
    source[:, 3] = target[:, 3] = 7.0
    assert_close(SHORT.fit(source, target)(source)[:, 3], source[:, 3])
    with pytest.raises(FitError, match="same mean"):
        SHORT.fit(source, source.clone())
    with pytest.raises(FitError, match="at least 20 rows"):
        SHORT.fit(source[:2], target)


@pytest.mark.parametrize("options", [{"hidden": ()}, {"rank": 0}, {"transport_cost": -1.0}])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(OptionError):
        StrengthGate(**options)

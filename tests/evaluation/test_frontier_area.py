"""Areas under frontiers against triangles and trapezia done by hand."""

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import DoseCurve, area_contrast, area_under_frontier


def curve(effect: tuple[float, ...], kl: tuple[float, ...], *, scale: float = 1.0, groups: str = "abcdef") -> DoseCurve:
    """Questions and texts that differ by factors which average 1; KL given per token."""
    factor = np.linspace(0.5, 1.5, len(groups))
    return DoseCurve(
        strengths=tuple(float(i) for i in range(len(effect))),
        change=scale * np.outer(effect, factor),
        groups=tuple(groups),
        kl=10 * np.outer(kl, np.linspace(0.8, 1.2, 6)),
        n_tokens=np.full(6, 10.0),
    )


@pytest.mark.parametrize(
    ("effect", "kl", "budget", "area"),
    [
        ((0.0, 2.0), (0.0, 1.0), 1.0, 4 / 3),  # twice the root of KL, over its base
        ((0.0, 2.0), (0.0, 1.0), 0.5, 4 / 3 * 0.5**0.5),  # the first half of it
        ((0.0, 2.0), (0.0, 0.5), 1.0, 5 / 3),  # the root to 0.5, then level
        ((0.0, 2.0, -4.0), (0.0, 0.5, 1.0), 1.0, 5 / 3),  # the fall is not bought
        ((0.0, -2.0), (0.0, 1.0), 1.0, 0.0),  # nothing is better
        ((0.0, -1.0, 1.0), (0.0, 0.5, 1.0), 1.0, 0.125),  # KL doubles with strength: straight, above zero from 0.75 on
        ((0.0, 1.0, 3.0), (0.0, 0.0, 1.0), 1.0, 1 + 4 / 3),  # a free step, then 1 to 3 by the root
        ((0.0, 1.0, 3.0), (0.0, 1.0, 0.5), 1.0, 2 / 3 * 0.5**1.5 + 0.5 * 3),  # dearer first, then cheaper
        ((0.0, 1.0, 0.0), (0.0, 4.0, 1.0), 4.0, 2 / 3),  # the dear end first: the second piece never wins
        ((0.0, 0.0, -3.0), (0.0, 4.0, 1.0), 4.0, 0.0),  # a piece from dear to cheap that is never above zero
    ],
)
def test_areas_are_those_done_by_hand(effect: tuple[float, ...], kl: tuple[float, ...], budget: float, area: float):
    e = area_under_frontier(curve(effect, kl), budget, seed=0)
    assert e.value == pytest.approx(area, abs=0.01)
    assert e.low <= e.value <= e.high


def test_where_effect_and_cost_rise_the_frontier_is_the_curve():
    draw = np.random.default_rng(0)
    effect, kl = (np.concatenate([[0], draw.uniform(0.1, 1, size=5).cumsum()]) for _ in range(2))
    fine = np.linspace(0, 5, 5 * 4000 + 1)[1:]
    first, past = fine <= 1, np.interp(np.log(np.maximum(fine, 1)), np.log(np.arange(1, 6)), np.log(kl[1:]))
    cost = np.where(first, kl[1] * fine**2, np.exp(past))
    budget = float(kl[-1])
    expected = np.trapezoid(np.interp(fine, np.arange(6), effect), cost) / budget
    e = area_under_frontier(curve(tuple(effect), tuple(kl)), budget, seed=0)
    assert e.value == pytest.approx(expected, rel=1e-3)


def test_an_area_does_not_hang_on_how_finely_a_curve_was_measured():
    """KL of a small dose is its square and the effect the dose: the grid adds nothing that is not known."""
    coarse = curve((0.0, 4.0), (0.0, 16.0))
    fine = curve((0.0, 1.0, 2.0, 3.0, 4.0), (0.0, 1.0, 4.0, 9.0, 16.0))
    for budget in (0.5, 4.0, 10.0):
        a, b = (area_under_frontier(c, budget, seed=0).value for c in (coarse, fine))
        assert a == pytest.approx(b, rel=0.01) == pytest.approx(2 / 3 * budget**0.5, rel=0.01)


def test_a_larger_effect_at_equal_cost_is_a_larger_area():
    one, two = curve((0.0, 1.0, 2.0), (0.0, 0.2, 1.0)), curve((0.0, 1.0, 2.0), (0.0, 0.2, 1.0), scale=2.0)
    area = area_under_frontier(one, 0.5, seed=0)
    d = area_contrast(two, one, 0.5, seed=0)
    assert (d.value, d.low, d.high) == pytest.approx((area.value, area.low, area.high))
    same = area_contrast(one, one, 0.5, seed=0)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_nonsense_is_refused():
    one = curve((0.0, 1.0), (0.0, 1.0))
    for budget in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(OptionError, match="positive and finite"):
            area_under_frontier(one, budget, seed=0)
        with pytest.raises(OptionError, match="positive and finite"):
            area_contrast(one, one, budget, seed=0)
    with pytest.raises(EstimateError, match="same questions"):
        area_contrast(one, curve((0.0, 1.0), (0.0, 1.0), groups="abcdeg"), 1.0, seed=0)
    with pytest.raises(EstimateError, match="at least 5"):
        area_under_frontier(curve((0.0, 1.0), (0.0, 1.0), groups="aabbcc"), 1.0, seed=0)

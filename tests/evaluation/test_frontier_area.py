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
        ((0.0, 2.0), (0.0, 1.0), 1.0, 1.0),  # a triangle, over its base
        ((0.0, 2.0), (0.0, 1.0), 0.5, 0.5),  # half of it
        ((0.0, 2.0), (0.0, 0.5), 1.0, 1.5),  # triangle to 0.5, then level
        ((0.0, 2.0, -4.0), (0.0, 0.5, 1.0), 1.0, 1.5),  # the fall is not bought
        ((0.0, -2.0), (0.0, 1.0), 1.0, 0.0),  # nothing is better
        ((0.0, -1.0, 1.0), (0.0, 0.5, 1.0), 1.0, 0.125),  # above zero from KL 0.75 on: 0.25 · 1 / 2
        ((0.0, 1.0, 3.0), (0.0, 0.0, 1.0), 1.0, 2.0),  # a free step, then 1 to 3
        ((0.0, 1.0, 3.0), (0.0, 1.0, 0.5), 1.0, 0.0625 * 2 + 0.5 * 3),  # dearer first, then cheaper: 3 from 0.5 on
    ],
)
def test_areas_are_those_done_by_hand(effect: tuple[float, ...], kl: tuple[float, ...], budget: float, area: float):
    e = area_under_frontier(curve(effect, kl), budget, seed=0)
    assert e.value == pytest.approx(area, abs=0.01)
    assert e.low <= e.value <= e.high


def test_where_effect_and_cost_rise_the_frontier_is_the_curve():
    draw = np.random.default_rng(0)
    effect, kl = (np.concatenate([[0], draw.uniform(0.1, 1, size=5).cumsum()]) for _ in range(2))
    budget = float(kl[-1])
    expected = np.trapezoid(effect, kl) / budget
    e = area_under_frontier(curve(tuple(effect), tuple(kl)), budget, seed=0)
    assert e.value == pytest.approx(expected, rel=1e-4)


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

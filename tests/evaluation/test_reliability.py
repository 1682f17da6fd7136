"""Slopes, anti-steerable shares and effects at a budget, by hand."""

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import DoseCurve, anti_steerable, contrast, steerability

GRID = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
GROUPS = tuple(range(6))


def curve(scale: float = 1.0, groups: tuple = GROUPS) -> DoseCurve:
    """Effect scale × strength on every question; KL 0, .05, .20 a token on texts of ten tokens."""
    strengths = (0.0, 1.0, 2.0)
    change = np.outer(strengths, np.full(len(groups), scale))
    kl = np.outer([0.0, 0.05, 0.20], np.full(5, 10.0))
    return DoseCurve(strengths, change, groups, kl, np.full(5, 10.0))


def test_the_slope_is_the_published_sum_over_seven():
    m = np.random.default_rng(0).normal(size=(7, 4))
    assert steerability(m, GRID) == pytest.approx(np.array(GRID) @ m / 7)


def test_an_even_response_has_no_slope_and_a_line_has_its_own():
    s = np.array(GRID)
    assert steerability(np.stack([s**2, 3 * s + 1], axis=1), GRID) == pytest.approx([0.0, 3.0])


def test_strengths_beyond_the_published_grid_do_not_enter():
    m = np.array([[0.0], [1.0], [-50.0]])
    assert steerability(m, (0.0, 1.0, 4.0)) == pytest.approx([1.0])
    with pytest.raises(EstimateError, match="two strengths"):
        steerability(m[:2], (0.0, 4.0))


def test_the_two_anti_steerable_shares_can_differ():
    # Falls at strength 1 but rises from -1 to 1: steerable by slope, anti-steered at strength one.
    dips = [-3.0, 0.0, -1.0]
    rises = [-1.0, 0.0, 1.0]
    m = np.array([dips] * 3 + [rises] * 3).T
    shares = anti_steerable(m, (-1.0, 0.0, 1.0), GROUPS, seed=0)
    assert shares.slope.value == 0.0
    assert shares.unit.value == 0.5
    assert shares.unit.low < 0.5 < shares.unit.high


def test_the_shares_need_strength_zero_and_one_and_enough_groups():
    with pytest.raises(OptionError, match=r"\[1\.0\] is not in"):
        anti_steerable(np.zeros((2, 6)), (0.0, 0.5), GROUPS, seed=0)
    with pytest.raises(EstimateError, match="at least 5 clusters"):
        anti_steerable(np.zeros((2, 6)), (0.0, 1.0), [0, 0, 1, 1, 2, 2], seed=0)


def test_the_effect_at_the_budget_lies_between_the_strengths():
    at = curve().at_budget(0.11, seed=0)
    assert at.strength == pytest.approx(1.4)
    assert at.effect.value == pytest.approx(1.4)
    assert at.kl == pytest.approx(0.11)
    assert at.reached


def test_a_budget_that_is_never_met_reports_the_largest_strength_and_says_so():
    at = curve().at_budget(0.5, seed=0)
    assert (at.reached, at.strength, at.kl) == (False, pytest.approx(2.0), pytest.approx(0.20))
    assert at.effect.value == pytest.approx(2.0)
    with pytest.raises(OptionError, match="positive"):
        curve().at_budget(0.0, seed=0)


def test_a_contrast_with_itself_is_nothing_and_with_half_is_half():
    assert contrast(curve(), curve(), 0.11, seed=0).value == 0.0
    assert contrast(curve(2.0), curve(1.0), 0.11, seed=0).value == pytest.approx(1.4)
    with pytest.raises(EstimateError, match="same questions"):
        contrast(curve(), curve(groups=tuple("abcdef")), 0.11, seed=0)


def test_a_dose_curve_starts_at_zero_and_ascends():
    with pytest.raises(OptionError, match="ascending"):
        DoseCurve((1.0, 2.0), np.zeros((2, 6)), GROUPS, np.zeros((2, 5)), np.ones(5))

"""Slopes, anti-steerable shares and dose curves against sums done by hand."""

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import DoseCurve, anti_steerable, contrast, steerability

GRID = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
GROUPS = tuple("abcdef")


def curve(
    effect: tuple[float, ...] = (0.0, 1.0, 4.0),
    kl: tuple[float, ...] = (0.0, 0.2, 1.0),
    groups: tuple[str, ...] = GROUPS,
    strengths: tuple[float, ...] = (0.0, 1.0, 2.0),
    scale: float = 1.0,
) -> DoseCurve:
    """Questions differ by a factor that averages 1; texts have 10 tokens each and KL given per token."""
    factor = np.linspace(0.5, 1.5, len(groups))
    texts = np.linspace(0.8, 1.2, 6)
    return DoseCurve(
        strengths=strengths,
        change=scale * np.outer(effect, factor),
        groups=groups,
        kl=10 * np.outer(kl, texts),
        n_tokens=np.full(6, 10.0),
    )


def test_on_the_published_grid_the_slope_is_a_sum_over_seven():
    m = np.random.default_rng(0).normal(size=(7, 5))
    expected = np.array(GRID) @ m / 7
    np.testing.assert_allclose(steerability(m, GRID), expected, rtol=1e-12)


def test_a_response_that_is_even_in_strength_has_no_slope():
    m = np.outer(np.array(GRID) ** 2, [1.0, -3.0])
    np.testing.assert_allclose(steerability(m, GRID), 0, atol=1e-12)


@pytest.mark.parametrize("strengths", [GRID, (0.0, 1.0), (-1.0, 0.0, 0.25, 1.5)])
def test_a_linear_response_has_its_own_slope(strengths: tuple[float, ...]):
    m = np.outer(strengths, [2.0, -0.5]) + np.array([7.0, -3.0])
    np.testing.assert_allclose(steerability(m, strengths), [2.0, -0.5], rtol=1e-12)


def test_strengths_beyond_the_published_range_do_not_count():
    strengths = (*GRID, 2.0, 4.0, -3.0)
    m = np.random.default_rng(1).normal(size=(len(strengths), 4))
    np.testing.assert_array_equal(steerability(m, strengths), steerability(m[:7], GRID))


def test_a_slope_needs_two_strengths_in_range():
    with pytest.raises(EstimateError, match="two strengths"):
        steerability(np.zeros((3, 2)), (0.0, 2.0, 4.0))


def test_the_two_definitions_of_anti_steerable_can_differ():
    strengths = (-1.0, 0.0, 1.0)
    falls_after_zero = [-5.0, 0.0, -1.0]  # slope +2, unit change −1
    rises_after_zero = [5.0, 0.0, 1.0]  # slope −2, unit change +1
    flat = [0.0, 0.0, 0.0]  # the slope is not above zero, nothing falls
    good = [-1.0, 0.0, 1.0]
    m = np.array([falls_after_zero, rises_after_zero, rises_after_zero, flat, good, good]).T
    found = anti_steerable(m, strengths, GROUPS, seed=0)
    assert found.slope.value == pytest.approx(3 / 6)
    assert found.unit.value == pytest.approx(1 / 6)
    assert found.slope.n_clusters == 6


@pytest.mark.parametrize("strengths", [(0.0, 0.5), (0.5, 1.0)])
def test_anti_steerable_shares_need_strengths_zero_and_one(strengths: tuple[float, ...]):
    with pytest.raises(OptionError, match="0 and 1"):
        anti_steerable(np.zeros((2, 6)), strengths, GROUPS, seed=0)


def test_fewer_than_five_groups_give_no_interval():
    with pytest.raises(EstimateError, match="at least 5"):
        anti_steerable(np.zeros((2, 6)), (0.0, 1.0), tuple("aabbcd"), seed=0)
    with pytest.raises(EstimateError, match="at least 5"):
        curve(groups=tuple("aabbcd")).at_budget(0.5, seed=0)


def test_the_effect_at_the_budget_is_interpolated_between_strengths():
    # KL 0.6 lies half-way between 0.2 (strength 1) and 1.0 (strength 2): effect (1 + 4) / 2.
    at = curve().at_budget(0.6, seed=0)
    assert at.reached
    assert at.strength == pytest.approx(1.5)
    assert at.kl == pytest.approx(0.6)
    assert at.effect.value == pytest.approx(2.5)
    assert at.effect.low < 2.5 < at.effect.high


def test_below_the_first_strength_the_effect_is_interpolated_from_zero():
    at = curve().at_budget(0.05, seed=0)
    assert (at.strength, at.effect.value) == (pytest.approx(0.25), pytest.approx(0.25))


def test_a_budget_met_exactly_at_a_strength_takes_that_strength():
    at = curve(kl=(0.0, 0.25, 1.0)).at_budget(0.25, seed=0)
    assert (at.reached, at.strength, at.effect.value) == (True, pytest.approx(1.0), pytest.approx(1.0))


def test_the_first_crossing_counts_where_kl_falls_again():
    at = curve(effect=(0.0, 1.0, 2.0, 3.0), kl=(0.0, 0.4, 0.1, 0.9), strengths=(0.0, 1.0, 2.0, 3.0)).at_budget(
        0.2, seed=0
    )
    assert at.strength == pytest.approx(0.5)
    assert at.effect.value == pytest.approx(0.5)


def test_a_budget_that_is_never_met_takes_the_largest_strength():
    at = curve().at_budget(50.0, seed=0)
    assert not at.reached
    assert (at.strength, at.kl, at.effect.value) == (2.0, pytest.approx(1.0), pytest.approx(4.0))


def test_a_map_that_costs_nothing_never_meets_the_budget():
    at = curve(kl=(0.0, 0.0, 0.0)).at_budget(0.1, seed=0)
    assert (at.reached, at.strength, at.kl) == (False, 2.0, 0.0)


def test_a_curve_does_not_differ_from_itself():
    d = contrast(curve(), curve(), 0.3, seed=0)
    assert (d.value, d.low, d.high) == (0.0, 0.0, 0.0)


def test_a_curve_with_doubled_effect_differs_by_the_effect():
    effect = curve().at_budget(0.3, seed=0).effect
    d = contrast(curve(scale=2.0), curve(), 0.3, seed=0)
    assert d.value == pytest.approx(effect.value)
    assert (d.low, d.high) == (pytest.approx(effect.low), pytest.approx(effect.high))


def test_a_contrast_needs_the_same_questions():
    with pytest.raises(EstimateError, match="same questions"):
        contrast(curve(), curve(groups=tuple("abcdeg")), 0.3, seed=0)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_must_be_positive_and_finite(budget: float):
    with pytest.raises(OptionError, match="positive and finite"):
        curve().at_budget(budget, seed=0)
    with pytest.raises(OptionError, match="positive and finite"):
        contrast(curve(), curve(), budget, seed=0)


@pytest.mark.parametrize("strengths", [(0.0, 2.0, 1.0), (0.5, 1.0, 2.0), (0.0, 1.0, 1.0), (0.0,)])
def test_a_dose_curve_ascends_from_zero(strengths: tuple[float, ...]):
    with pytest.raises(OptionError, match="ascending"):
        curve(strengths=strengths)

"""Slopes, anti-steerable shares and dose curves against sums done by hand."""

from dataclasses import replace

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import (
    SCORE_RESOLUTION,
    ChosenStrength,
    DoseCurve,
    anti_steerable,
    contrast,
    slope_rounding,
    steerability,
)
from steerlens.numerics import bootstrap

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


NULL = np.outer(1 + 1e-14 * np.array(GRID), [-2.3, 0.7, 0.1, 12.9, -7.7, 3.3, 1.1, -0.2])
"""Propensities that nothing moves, with the rounding of sums."""
EIGHT = tuple("abcdefgh")


@pytest.mark.parametrize("resolution", [0.0, SCORE_RESOLUTION["float32"]])
def test_a_map_that_moves_nothing_has_no_signs(resolution: float):
    slopes = steerability(NULL, GRID)
    assert (slopes > 0).any()
    assert (slopes < 0).any()
    null = anti_steerable(NULL, GRID, EIGHT, seed=0, resolution=resolution)
    assert (null.unmoved.value, null.slope.value, null.unit.value) == (1.0, 1.0, 0.0)
    # Control: one question of eight is moved up, and one down.
    moved = NULL + 0.01 * np.outer(GRID, [1, -1, 0, 0, 0, 0, 0, 0])
    found = anti_steerable(moved, GRID, EIGHT, seed=0, resolution=resolution)
    assert (found.unmoved.value, found.slope.value, found.unit.value) == (6 / 8, 7 / 8, 1 / 8)


def test_noise_of_float32_is_no_steering_and_smaller_slopes_can_be_asked_for():
    noisy = NULL + 1e-5 * np.random.default_rng(0).uniform(-1, 1, NULL.shape)
    null = anti_steerable(noisy, GRID, EIGHT, seed=0)
    assert (null.unmoved.value, null.unit.value) == (1.0, 0.0)
    exact = anti_steerable(noisy, GRID, EIGHT, seed=0, resolution=0.0)
    assert exact.unmoved.value == 0.0
    assert exact.slope.value == pytest.approx((steerability(noisy, GRID) < 0).mean())


@pytest.mark.parametrize("strengths", [GRID, (0.0, 1.0), (-1.0, 0.0, 0.25, 1.5), (*GRID, 4.0)])
def test_no_error_within_the_resolution_makes_a_larger_slope_and_one_makes_it(strengths: tuple[float, ...]):
    r = 0.03
    flat = np.zeros((len(strengths), 1))
    bound = slope_rounding(flat, strengths, resolution=r)[0]
    errors = np.random.default_rng(0).uniform(-r, r, (len(strengths), 5000))
    assert np.abs(steerability(errors, strengths)).max() <= bound
    s = np.array(strengths)
    within = s[np.abs(s) <= 1.5]
    worst = r * np.sign(s - within.mean())[:, None]
    assert steerability(worst, strengths)[0] == pytest.approx(bound)


def test_a_resolution_is_not_negative():
    with pytest.raises(OptionError, match="resolution is zero or more"):
        anti_steerable(NULL, GRID, EIGHT, seed=0, resolution=-1.0)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_propensities_that_are_not_finite_are_refused(broken: float):
    m = NULL.copy()
    m[0, 2] = broken
    with pytest.raises(EstimateError, match="1 of 8 questions are NaN or infinite"):
        steerability(m, GRID)
    with pytest.raises(EstimateError, match="1 of 8 questions are NaN or infinite"):
        anti_steerable(m, GRID, EIGHT, seed=0)
    with pytest.raises(EstimateError, match="8 of 8 questions"):
        anti_steerable(np.full((7, 8), np.nan), GRID, EIGHT, seed=0)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        (GRID[:-1], r"6 strengths.*but got \(7, 8\)"),
        ((*GRID[:-1], float("nan")), "finite"),
        ((*GRID[:-1], float("inf")), "finite"),
        ((*GRID[:-2], 1.0, 1.0), "given once"),
    ],
)
def test_strengths_that_do_not_fit_are_refused(strengths: tuple[float, ...], message: str):
    with pytest.raises(OptionError, match=message):
        steerability(NULL, strengths)
    with pytest.raises(OptionError, match=message):
        anti_steerable(NULL, strengths, EIGHT, seed=0)


def test_anti_steerable_needs_a_group_for_each_question():
    with pytest.raises(OptionError, match="6 groups"):
        anti_steerable(NULL, GRID, GROUPS, seed=0)


def test_fewer_than_five_groups_give_no_interval():
    with pytest.raises(EstimateError, match="at least 5"):
        anti_steerable(np.zeros((2, 6)), (0.0, 1.0), tuple("aabbcd"), seed=0)
    with pytest.raises(EstimateError, match="at least 5"):
        curve(groups=tuple("aabbcd")).at_budget(0.5, seed=0)


def test_between_strengths_cost_is_a_power_of_strength_and_the_effect_is_straight():
    # The geometric mean of 0.2 (strength 1) and 1.0 (strength 2) is met at √2: effect 1 + 3·(√2 − 1).
    budget = np.sqrt(0.2)
    at = curve().at_budget(budget, seed=0)
    assert at.reached
    assert at.strength == pytest.approx(np.sqrt(2))
    assert at.kl == pytest.approx(budget)
    expected = 1 + 3 * (np.sqrt(2) - 1)
    assert at.effect.value == pytest.approx(expected)
    assert at.effect.low < expected < at.effect.high
    assert curve().changes_at(budget).mean() == pytest.approx(expected)


@pytest.mark.parametrize("strengths", [(0.0, 1.0), (0.0, 1.0, 2.0, 4.0), (0.0, 0.1, 0.7, 4.0, 16.0), (0.0, 3.0)])
@pytest.mark.parametrize("budget", [1e-6, 0.003, 0.02, 0.019999, 0.1])
def test_a_cost_that_is_the_square_of_strength_is_met_exactly_on_any_grid(strengths: tuple[float, ...], budget: float):
    scale = 0.101
    one = curve(tuple(strengths), tuple(scale * s**2 for s in strengths), strengths=strengths)
    at = one.at_budget(budget, seed=0)
    assert at.reached
    assert at.strength == pytest.approx(np.sqrt(budget / scale), rel=1e-12)
    assert at.effect.value == pytest.approx(np.sqrt(budget / scale), rel=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7, 2.0, 4.0])
def test_any_power_law_is_met_exactly_between_strengths_that_cost(power: float):
    strengths = (0.0, 0.25, 1.0, 4.0)
    one = curve(tuple(strengths), tuple(0.03 * s**power for s in strengths), strengths=strengths)
    for s in (0.25, 0.3, 1.0, 2.5, 4.0):
        assert one.strength_at(0.03 * s**power * (1 - 1e-15)) == pytest.approx(s, rel=1e-9)


def test_every_resample_meets_the_budget_at_its_own_strength():
    """Three texts of different cost: each drawn alone has its own root, and the effect is the strength."""
    strengths, scale = (0.0, 1.0, 2.0, 4.0), np.array([0.02, 0.05, 0.11, 0.02, 0.05, 0.11])
    one = DoseCurve(
        strengths, np.outer(strengths, np.ones(6)), GROUPS, 10 * np.outer(np.square(strengths), scale), np.full(6, 10.0)
    )
    found = one.effect_at(0.06, np.ones((6, 6)), np.eye(6))
    np.testing.assert_allclose(found, np.sqrt(0.06 / scale), rtol=1e-12)


def test_below_the_first_strength_cost_is_the_square_of_strength_and_the_effect_its_multiple():
    at = curve().at_budget(0.05, seed=0)
    assert (at.strength, at.effect.value) == (pytest.approx(0.5), pytest.approx(0.5))


def test_from_a_strength_that_costs_nothing_cost_grows_as_the_square_of_the_distance():
    free = curve(kl=(0.0, 0.0, 1.0))
    at = free.at_budget(0.25, seed=0)
    assert (at.strength, at.effect.value) == (pytest.approx(1.5), pytest.approx(2.5))
    rounded = curve(kl=(0.0, -1e-12, 1.0)).at_budget(0.25, seed=0)
    assert rounded.strength == pytest.approx(1.5)


def test_a_budget_met_exactly_at_a_strength_takes_that_strength():
    at = curve(kl=(0.0, 0.25, 1.0)).at_budget(0.25, seed=0)
    assert (at.reached, at.strength, at.effect.value) == (True, pytest.approx(1.0), pytest.approx(1.0))


def test_the_first_crossing_counts_where_kl_falls_again():
    at = curve(effect=(0.0, 1.0, 2.0, 3.0), kl=(0.0, 0.4, 0.1, 0.9), strengths=(0.0, 1.0, 2.0, 3.0)).at_budget(
        0.1, seed=0
    )
    assert at.strength == pytest.approx(0.5)
    assert at.effect.value == pytest.approx(0.5)


def chosen(strength: float, budget: float = 0.3, reached: bool = True) -> DoseCurve:
    at = ChosenStrength(strength, budget, kl=budget, reached=reached)
    return replace(
        curve(effect=(0.0, 1.0, 5.0, 4.0), kl=(0.0, 0.2, 0.37, 1.0), strengths=(0.0, 1.0, 1.4, 2.0)), chosen=at
    )


def test_a_strength_chosen_on_other_texts_is_measured_and_not_interpolated():
    at = chosen(1.4).at_budget(0.3, seed=0)
    assert (at.strength, at.kl, at.reached) == (1.4, pytest.approx(0.37), True)
    assert at.effect.value == pytest.approx(5.0)
    assert chosen(1.4).changes_at(0.3).mean() == pytest.approx(5.0)
    np.testing.assert_allclose(chosen(1.4).effect_at(0.3, np.eye(6), np.eye(6)), 5 * np.linspace(0.5, 1.5, 6))
    assert not chosen(2.0, reached=False).at_budget(0.3, seed=0).reached, "whatever these texts cost"


def test_a_chosen_strength_answers_for_its_own_budget_alone():
    other = chosen(1.4).at_budget(0.2, seed=0)
    assert (other.strength, other.effect.value) == (pytest.approx(1.0), pytest.approx(1.0))


def test_neutral_texts_cannot_move_a_strength_that_was_chosen_on_others():
    one, dear = chosen(1.4), replace(chosen(1.4), kl=chosen(1.4).kl * np.linspace(0.1, 3.0, 6))
    assert one.at_budget(0.3, seed=0).effect == dear.at_budget(0.3, seed=0).effect
    moved = 5 * np.linspace(0.5, 1.5, 6)
    alone = bootstrap(lambda w: (w @ moved) / w.sum(axis=-1), [GROUPS], seed=0)
    assert one.at_budget(0.3, seed=0).effect == alone, "questions are drawn anew, texts are not"
    assert (
        replace(one, chosen=None).at_budget(0.3, seed=0).effect
        != replace(dear, chosen=None).at_budget(0.3, seed=0).effect
    )


def test_methods_are_compared_each_at_its_own_chosen_strength():
    one, two = chosen(1.0), chosen(1.4)
    assert contrast(two, one, 0.3, seed=0).value == pytest.approx(4.0)
    assert contrast(two, replace(one, chosen=None), 0.2, seed=0).value == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"strengths": ()}, OptionError, "two or more ascending"),
        ({"strengths": (0.0, 1.0, float("nan"))}, OptionError, "finite"),
        ({"strengths": (0.0, 1.0, float("inf"))}, OptionError, "finite"),
        ({"strengths": (0.0, 1.0)}, OptionError, r"needs change of shape \(2, 6\)"),
        ({"groups": GROUPS[:5]}, OptionError, r"needs change of shape \(3, 5\)"),
        ({"n_tokens": np.full(5, 10.0)}, OptionError, r"needs kl of shape \(3, 5\)"),
        ({"n_tokens": np.zeros(6)}, OptionError, "scored tokens"),
        ({"change": np.ones((3, 6))}, OptionError, "first row"),
        ({"kl": np.ones((3, 6))}, OptionError, "first row"),
        ({"kl": np.array([[0.0] * 6, [1.0] * 6, [np.nan] * 6])}, EstimateError, r"finite KL.*\[2.0\]"),
        ({"change": np.array([[0.0] * 6, [np.inf] * 6, [1.0] * 6])}, EstimateError, r"finite changes.*\[1.0\]"),
        ({"chosen": ChosenStrength(1.5, 0.1, 0.1, True)}, OptionError, "1.5 is not among"),
    ],
)
def test_a_curve_that_cannot_be_one_is_refused(change: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        replace(curve(), **change)


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

"""Propensities with known answers: straight, even, saturating, mixed, and noisy."""

import numpy as np
import pytest

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import PropensityReport, option_mass, propensity_report, relative_steerability
from steerlens.evaluation._anti_steering import anti_steering, question_intervals, slope_variance

GRID = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
S = np.array(GRID)


def planted(shape: np.ndarray, n: int = 12, **options) -> PropensityReport:
    """The same response, a little larger or smaller from question to question and from another start."""
    factor, start = np.linspace(0.9, 1.1, n), np.linspace(-3, 3, n)
    return propensity_report(np.outer(shape, factor) + start, options.pop("strengths", GRID), range(n), seed=0)


def refitted(true: np.ndarray, noise: float, n_maps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of a map, and of maps that are as far from it as it is from the truth."""
    rng = np.random.default_rng(seed)
    slopes = true + noise * rng.normal(size=len(true))
    return slopes, slopes + noise * rng.normal(size=(n_maps, len(true)))


def along(slopes: np.ndarray) -> np.ndarray:
    """Straight propensities with these slopes: shape (..., question) to (..., strength, question)."""
    return S[:, None] * np.asarray(slopes)[..., None, :]


def test_a_straight_response_has_its_slope_everywhere():
    r = planted(2 * S)
    assert r.slope.value == pytest.approx(2)
    assert r.local_slope.value == pytest.approx(2)
    assert r.monotonicity.value == 1.0
    assert r.curvature.value == pytest.approx(0, abs=1e-12)
    assert r.missed.value == 0.0
    assert (r.questions.best_strength == 1.5).all()
    assert r.slope.low < 2 < r.slope.high
    assert (r.n, r.n_clusters, r.strengths) == (12, 12, GRID)


@pytest.mark.parametrize(("sign", "best"), [(1, (-1.5,)), (-1, (0.0,))])
def test_an_even_response_has_no_slope_but_curvature_and_a_best_strength(sign: int, best: tuple[float, ...]):
    r = planted(sign * S**2)
    assert r.slope.value == pytest.approx(0, abs=1e-12)
    assert r.local_slope.value == pytest.approx(0, abs=1e-12)
    assert r.monotonicity.value == pytest.approx(0, abs=1e-12)
    assert r.curvature.value == pytest.approx(sign)
    assert r.missed.value == 1.0
    assert np.median(r.questions.residual_rms) == pytest.approx(np.sqrt(((S**2 - 1) ** 2).mean()), rel=0.01)
    assert set(r.questions.best_strength) == set(best)


@pytest.mark.parametrize(
    ("gain", "slope", "on_grid"), [(0.5, 1.76, 1.96), (1.0, 2.69, 3.70), (2.0, 3.24, 6.09), (4.0, 3.41, 7.71)]
)
def test_saturation_shrinks_the_slope_and_less_so_the_slope_at_zero(gain: float, slope: float, on_grid: float):
    r = planted(4 * np.tanh(gain * S))
    assert r.slope.value == pytest.approx(slope, abs=0.01)
    assert r.local_slope.value == pytest.approx(on_grid, abs=0.01)
    assert r.monotonicity.value == 1.0
    fine = (-1.0, -0.01, 0.0, 0.01, 1.0)
    near = planted(4 * np.tanh(gain * np.array(fine)), strengths=fine)
    assert near.local_slope.value == pytest.approx(4 * gain, rel=1e-3)  # the derivative: 2, 4, 8, 16


def test_strengths_beyond_the_range_count_for_the_best_strength_alone():
    m = np.random.default_rng(0).normal(size=(7, 6))
    near = propensity_report(m, GRID, range(6), seed=0)
    far = propensity_report(np.vstack([m, np.full(6, 9.0)]), (*GRID, 4.0), range(6), seed=0)
    for name in ("slope", "local_slope", "monotonicity", "curvature", "residual_rms"):
        np.testing.assert_array_equal(getattr(near.questions, name), getattr(far.questions, name))
    assert (far.questions.best_strength == 4.0).all()


def test_curvatures_that_cancel_are_seen_in_their_size():
    m = np.outer(S**2, np.tile([1.0, -1.0], 6))
    r = propensity_report(m, GRID, range(12), seed=0)
    assert r.curvature.value == pytest.approx(0, abs=1e-12)
    assert r.absolute_curvature.value == pytest.approx(1)


@pytest.mark.parametrize("strengths", [(0.0, 0.5, 1.0), (-0.7, 0.0, 0.2), (-1.0, 0.3, 1.2)])
def test_the_slope_at_zero_of_a_parabola_is_exact_where_zero_is_measured(strengths: tuple[float, ...]):
    s = np.array(strengths)
    r = planted(3 * s - 2 * s**2, strengths=strengths)
    expected = 3.0 if 0 in strengths else 3 - 2 * (strengths[0] + strengths[1])  # of the chord
    assert np.median(r.questions.local_slope) == pytest.approx(expected, rel=0.02)
    assert r.curvature.value == pytest.approx(-2)


def test_the_order_of_strengths_does_not_matter():
    m = np.random.default_rng(0).normal(size=(7, 9))
    order = np.random.default_rng(1).permutation(7)
    a = propensity_report(m, GRID, range(9), seed=0)
    b = propensity_report(m[order], S[order].tolist(), range(9), seed=0)
    assert str(a) == str(b)
    np.testing.assert_array_equal(a.questions.best_strength, b.questions.best_strength)


def test_monotonicity_is_scipy_s_rank_correlation():
    from scipy import stats

    m = np.random.default_rng(0).normal(size=(7, 5)).round(1)
    r = propensity_report(m, GRID, range(5), seed=0)
    expected = [stats.spearmanr(S, column).statistic for column in m.T]
    np.testing.assert_allclose(r.questions.monotonicity, expected)


def test_a_question_that_does_not_answer_has_zeros_everywhere():
    m = np.outer(S, [1.0, 2, 3, 4, 0]) + 7
    q = propensity_report(m, GRID, range(5), seed=0).questions
    for name in ("slope", "local_slope", "monotonicity", "curvature", "residual_rms"):
        assert getattr(q, name)[4] == pytest.approx(0, abs=1e-12), name
    assert q.best_strength[4] == 0.0


@pytest.mark.slow
def test_two_kinds_of_questions_are_two_modes_and_one_kind_is_one():
    rng = np.random.default_rng(0)
    two = rng.normal(0, 0.3, 120) + np.repeat([-1.0, 2.0], 60)
    assert propensity_report(along(two), GRID, range(120), seed=0).bimodality.p_value < 0.05
    one = rng.normal(0.5, 1.5, 120)
    assert propensity_report(along(one), GRID, range(120), seed=0).bimodality.p_value > 0.05


@pytest.mark.slow
def test_groups_of_questions_make_intervals_wider():
    slopes = np.repeat(np.random.default_rng(0).normal(1, 1, 10), 12)
    m = along(slopes)
    alone = propensity_report(m, GRID, range(120), seed=0)
    grouped = propensity_report(m, GRID, np.repeat(range(10), 12).tolist(), seed=0)
    assert grouped.slope.high - grouped.slope.low > 2.5 * (alone.slope.high - alone.slope.low)
    assert grouped.n_clusters == 10


@pytest.mark.slow
def test_noise_of_the_map_looks_like_anti_steering_to_the_naive_count_alone():
    """No question is anti-steered, half of them by the naive count; 30 maps, each fitted to other pairs."""
    naive, shown = [], []
    for seed in range(30):
        slopes, maps = refitted(np.zeros(80), 1.0, 39, seed)
        a = anti_steering(along(slopes), GRID, range(80), seed=0, resampled_slopes=maps)
        naive.append(a.naive.value)
        shown.append(a.shown.value)
    assert np.mean(naive) == pytest.approx(0.5, abs=0.04)
    # 2400 questions: the share of false counts has a standard error of 0.003.
    assert np.mean(shown) <= 0.025 + 0.01


def test_questions_that_are_anti_steered_are_found_beside_those_that_are_not():
    true = np.repeat([-6.0, 0.3], [20, 80])
    slopes, maps = refitted(true, 1.0, 199, 0)
    a = propensity_report(along(slopes), GRID, range(100), seed=0, resampled=along(maps)).anti_steering
    assert a.naive.value > 0.4  # truly 0.2
    assert a.shown.value == pytest.approx(0.2, abs=0.04)
    assert a.unmoved.value == 0.0
    assert a.shown.value + a.steered.value + a.undecided.value == pytest.approx(1)
    assert (a.high[:20] < 0).all()


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_map_that_moves_nothing_is_neither_anti_steering_nor_steering(noise: float):
    """Forty questions whose propensity is what it is, up to rounding: of float64, or of scores in float32."""
    rng = np.random.default_rng(0)
    start = rng.normal(0, 5, 40)
    m = start + noise * rng.normal(size=(7, 40))
    same = np.repeat(m[None], 39, axis=0)
    null = propensity_report(m, GRID, range(40), seed=0, resampled=same, n_pairs=20)
    a = null.anti_steering
    assert [e.value for e in (a.unmoved, a.naive)] == [1.0, 1.0]
    assert [e.value for e in (a.unit, a.shown, a.steered, a.undecided)] == [0.0] * 4
    assert null.variance is None
    assert null.bimodality.p_value == 1.0
    assert "unmoved 1 [" in str(null)
    # Control: half of the questions are moved the wrong way, by every map alike.
    wrong = m + np.outer(S, np.where(np.arange(40) < 20, -0.1, 0.0))
    b = propensity_report(wrong, GRID, range(40), seed=0, resampled=np.repeat(wrong[None], 39, axis=0)).anti_steering
    assert [e.value for e in (b.unmoved, b.naive, b.unit, b.shown, b.steered)] == [0.5, 1.0, 0.5, 0.5, 0.0]


def test_what_counts_as_moved_is_what_is_asked_for():
    m = np.outer(S, np.full(10, -1e-7)) + np.arange(10)
    assert propensity_report(m, GRID, range(10), seed=0).anti_steering.unmoved.value == 1.0
    assert propensity_report(m, GRID, range(10), seed=0, resolution=0.0).anti_steering.unmoved.value == 0.0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_question_without_a_slope_is_not_shown_whatever_other_maps_do_to_it(sign: float):
    slopes = np.array([0.0, 0, 0, 1, 1, 1])
    maps = np.repeat(np.where(slopes == 0, sign, 1.0)[None], 39, axis=0)
    a = anti_steering(along(slopes), GRID, range(6), seed=0, resampled_slopes=maps)
    assert [e.value for e in (a.unmoved, a.shown, a.undecided, a.steered)] == [0.5, 0.0, 0.0, 0.5]


def test_equal_slopes_have_no_variance_to_split():
    m = along(np.full(8, 2.0)) + np.arange(8)
    maps = np.repeat(m[None], 39, axis=0)
    assert propensity_report(m, GRID, range(8), seed=0, resampled=maps).variance is None
    differ = along(np.linspace(1, 2, 8))
    assert propensity_report(differ, GRID, range(8), seed=0, resampled=maps).variance is not None


def test_intervals_of_questions_hold_a_true_zero_as_often_as_they_say():
    slopes, maps = refitted(np.zeros(4000), 1.0, 39, 0)
    low, high = question_intervals(slopes, maps, None)
    assert (high < 0).mean() == pytest.approx(1 / 40, abs=0.0075)
    assert (low > 0).mean() == pytest.approx(1 / 40, abs=0.0075)
    # Saturation changes slopes and not their signs.
    saturated = question_intervals(np.tanh(3 * slopes), np.tanh(3 * maps), None)
    np.testing.assert_array_equal(saturated[1] < 0, high < 0)


def test_few_pairs_widen_the_intervals_of_questions():
    slopes, maps = refitted(np.zeros(50), 1.0, 99, 0)
    plain, few, many = (question_intervals(slopes, maps, n) for n in (None, 8, 10**6))
    np.testing.assert_allclose(many, plain, atol=1e-4)
    assert (few[0] < plain[0]).all()
    assert (few[1] > plain[1]).all()


@pytest.mark.slow
def test_the_variance_of_slopes_is_split_into_what_was_planted():
    rng = np.random.default_rng(0)
    n, n_maps = 400, 200
    questions, noise, common = 1.5 * rng.normal(size=n), 0.8, 0.5
    slopes = questions + noise * rng.normal(size=n) + common * rng.normal()
    maps = slopes + noise * rng.normal(size=(n_maps, n)) + common * rng.normal(size=(n_maps, 1))
    v = propensity_report(along(slopes), GRID, range(n), seed=0, resampled=along(maps)).variance
    assert v.questions.low < questions.var(ddof=1) < v.questions.high
    assert v.by_question.value == pytest.approx(0.64, rel=0.02)
    assert v.common.value == pytest.approx(0.25, rel=0.25)
    assert v.noise_share.value == pytest.approx(0.64 / slopes.var(ddof=1), rel=0.03)
    for e in (v.questions, v.common, v.by_question, v.noise_share):
        assert e.low <= e.value <= e.high


@pytest.mark.slow
def test_where_noise_is_all_there_is_no_variance_between_questions():
    slopes, maps = refitted(np.ones(200), 1.0, 99, 0)
    v = propensity_report(along(slopes), GRID, range(200), seed=0, resampled=along(maps)).variance
    assert v.noise_share.low < 1 < v.noise_share.high
    assert v.questions.value < 0.25 * slopes.var()


def test_resamples_of_a_single_question_have_no_variance_and_break_nothing():
    """Of five questions one in 625 resamples draws one five times: there is nothing to divide by."""
    slopes = np.array([2.0, -1.0, 0.5, 3.0, 1.0])
    maps = slopes + np.random.default_rng(0).normal(size=(39, 5))
    found = slope_variance(slopes, maps, range(5), seed=0)
    for e in (found.questions, found.common, found.by_question, found.noise_share):
        assert np.isfinite([e.low, e.value, e.high]).all()
    noise = maps - maps.mean(axis=1, keepdims=True)
    by_question = noise.var(axis=0, ddof=1).sum() / 4
    assert found.by_question.value == pytest.approx(by_question)
    assert found.noise_share.value == pytest.approx(by_question / slopes.var(ddof=1))


def test_without_resampled_maps_nothing_is_shown():
    r = planted(S)
    assert r.anti_steering.shown is None
    assert r.variance is None
    assert "no resampled maps" in str(r)


def test_the_share_at_one_strength_needs_zero_and_one():
    assert planted(S).anti_steering.unit.value == 0.0
    assert planted(-S).anti_steering.unit.value == 1.0
    strengths = (-1.0, 0.5, 1.0)
    assert planted(np.array(strengths), strengths=strengths).anti_steering.unit is None


@pytest.mark.parametrize(
    ("strengths", "shape", "error", "match"),
    [((0.0, 1.0), (2, 6), EstimateError, "three strengths"), ((0.0, 1.0, 2.0), (3, 6), EstimateError, "three str"),
     ((0.0, 1.0, np.nan), (3, 6), OptionError, "finite"), ((0.0, 1.0, np.inf), (3, 6), OptionError, "finite"),
     ((0.5, 1.0, 1.5), (3, 6), EstimateError, "Add 0"), ((0.0, 1.0, 1.0), (3, 6), OptionError, "given once"),
     ((0.0, 0.5, 1.0), (3, 7), OptionError, "6 groups"), ((0.0, 0.5, 1.0), (3, 4), EstimateError, "at least 5")],
)  # fmt: skip
def test_a_grid_that_cannot_answer_is_refused(strengths, shape, error, match):
    groups = range(shape[1] if error is EstimateError else 6)
    with pytest.raises(error, match=match):
        propensity_report(np.random.default_rng(0).normal(size=shape), strengths, groups, seed=0)


def test_broken_propensities_are_refused():
    m = np.random.default_rng(0).normal(size=(7, 6))
    m[2, 3] = np.nan
    with pytest.raises(EstimateError, match="1 of 6 questions"):
        propensity_report(m, GRID, range(6), seed=0)
    m[2, 3] = 0
    with pytest.raises(OptionError, match=r"\(resample, 7, 6\)"):
        propensity_report(m, GRID, range(6), seed=0, resampled=m)
    with pytest.raises(EstimateError, match="at least 39 resampled maps, but got 20"):
        propensity_report(m, GRID, range(6), seed=0, resampled=np.repeat(m[None], 20, axis=0))
    with pytest.raises(EstimateError, match="NaN or infinite"):
        propensity_report(m, GRID, range(6), seed=0, resampled=np.full((40, 7, 6), np.nan))


def test_option_mass_falls_where_steering_breaks_the_answer():
    n = 20
    p = np.linspace(0.35, 0.45, n)
    falling = np.log(np.stack([p * f for f in (1.0, 0.9, 0.2)]))
    found = option_mass(falling, falling, (0.0, 1.0, 4.0), range(n), seed=0)
    assert found.mass[0].value == pytest.approx(0.8)
    assert found.change[0].value == 0.0
    assert found.change[2].value == pytest.approx(0.8 * -0.8)
    assert found.change[2].high < -0.6
    # Control: probability that moves between the options leaves their mass alone.
    moved = option_mass(np.log(np.stack([p, p + 0.2])), np.log(np.stack([p, p - 0.2])), (0.0, 1.0), range(n), seed=0)
    assert moved.change[1].value == pytest.approx(0, abs=1e-12)


def test_option_mass_refuses_what_is_no_probability():
    half = np.log(np.full((2, 6), 0.5))
    with pytest.raises(OptionError, match="at most 1"):
        option_mass(half + 0.2, half, (0.0, 1.0), range(6), seed=0)
    with pytest.raises(OptionError, match="hold 0"):
        option_mass(half, half, (0.5, 1.0), range(6), seed=0)
    with pytest.raises(OptionError, match="shape"):
        option_mass(half, half, (0.0, 1.0), range(7), seed=0)
    with pytest.raises(EstimateError, match="five groups, but got none"):
        option_mass(half[:, :0], half[:, :0], (0.0, 1.0), [], seed=0)
    with pytest.raises(EstimateError, match="1 questions are NaN"):
        option_mass(np.where(np.arange(6) == 2, np.nan, half), half, (0.0, 1.0), range(6), seed=0)


def test_relative_steerability_divides_by_the_data_s_own_map():
    found = relative_steerability([[2.0, 0.5, 1.0], [1.0, 1.0, 0.3], [0.5, 0.25, 0.2]])
    np.testing.assert_allclose(found.relative[:, :2], [[1, 0.5], [0.5, 1], [0.25, 0.25]])
    # The third is steered by its own map by 0.2 < 0.25, and is left out as data.
    assert np.isnan(found.relative[:, 2]).all()
    assert found.kept.tolist() == [True, True, False]
    np.testing.assert_allclose(found.in_distribution, [2, 1])
    np.testing.assert_allclose(found.out_of_distribution, [0.5, 1.0])
    assert found.id_ood is None


def test_maps_that_steer_elsewhere_as_at_home_have_a_high_rank_correlation():
    rng = np.random.default_rng(0)
    own = rng.uniform(0.5, 3, 20)
    of_map = own[:, None] * np.ones(20) + 0.2 * rng.normal(size=(20, 20))
    assert relative_steerability(of_map).id_ood.rho.low > 0.5
    # Where it is the data that decide, a map's strength at home says nothing of it elsewhere.
    assert relative_steerability(of_map.T).id_ood.rho.value < 0.5


def test_relative_steerability_needs_a_square_of_finite_slopes():
    with pytest.raises(OptionError, match="as many maps as data"):
        relative_steerability(np.ones((2, 3)))
    with pytest.raises(EstimateError, match="1 slopes are NaN"):
        relative_steerability([[1.0, np.nan], [1.0, 1.0]])
    with pytest.raises(EstimateError, match="1 of 2 data"):
        relative_steerability([[1.0, 1.0], [1.0, 0.1]])

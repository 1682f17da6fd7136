"""Tests and intervals over concepts: against scipy, against sums by hand, and against their own level."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import (
    benjamini_hochberg,
    cluster_change,
    cluster_mean,
    clustered_mcnemar,
    effect_size,
    equivalence,
    holm,
    mcnemar,
    sign_flip,
    spearman,
    two_stage_mean,
    wilson,
)


def nested(k: int, between: float, seed: int, *, groups: int = 5, rows: int = 2) -> tuple[np.ndarray, list, list]:
    """Values of mean zero in k clusters, whose groups differ by 0.5 and whose rows by 1."""
    rng = np.random.default_rng((seed, k))
    x = (
        between * rng.normal(size=(k, 1, 1))
        + 0.5 * rng.normal(size=(k, groups, 1))
        + rng.normal(size=(k, groups, rows))
    )
    clusters = np.repeat(np.arange(k), groups * rows).tolist()
    return x.ravel(), clusters, np.tile(np.repeat(np.arange(groups), rows), k).tolist()


def test_flipping_signs_is_scipy_s_permutation_of_one_sample():
    x = np.random.default_rng(0).normal(0.4, 1, 11)
    theirs = stats.permutation_test(
        (x,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=2**11, vectorized=True
    )
    ours = sign_flip(x, range(11), seed=0)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.exact, ours.n_clusters) == (True, 11)


def test_flipping_signs_by_hand():
    # Of the 2^5 sums of ±1 … ±16 only the one found and its mirror are as far out as 31.
    assert sign_flip([1, 2, 4, 8, 16], range(5), seed=0).p_value == 2 / 32
    # And 29 = 31 − 2·1 is reached or passed by four.
    assert sign_flip([-1, 2, 4, 8, 16], range(5), seed=0).p_value == 4 / 32
    assert sign_flip(np.zeros(6), range(6), seed=0).p_value == 1.0


def test_twenty_clusters_are_flipped_exactly_and_more_are_sampled():
    x = np.random.default_rng(1).normal(0.5, 1, 40)
    assert sign_flip(x[:20], range(20), seed=0) == sign_flip(x[:20], range(20), seed=1)
    sampled = sign_flip(x, range(40), seed=0)
    assert not sampled.exact
    assert sampled != sign_flip(x, range(40), seed=1)
    assert sampled.p_value == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.005)


def test_rows_of_a_cluster_flip_together():
    """Ten clusters of 30 rows each, no effect: rows alone would reject far too often."""
    rejected = {"clusters": 0, "rows": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=10), 30) + 0.3 * rng.normal(size=300)
        rejected["clusters"] += sign_flip(x, np.repeat(range(10), 30).tolist(), seed=0).p_value <= 0.05
        rejected["rows"] += sign_flip(x, range(300), seed=0, n_flips=200).p_value <= 0.05
    assert rejected["clusters"] <= 20  # Binomial(200, .05) is above 20 once in a thousand
    assert rejected["rows"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("k", [8, 20])
def test_a_two_stage_interval_covers_as_often_as_it_says(k: int, between: float):
    """300 sets: the share has a standard error of 0.013, and bounds are three of them away from 0.94 and 0.95."""
    covered = 0
    for seed in range(300):
        e = two_stage_mean(*nested(k, between, seed), seed=0, n_resamples=600)
        covered += e.low <= 0 <= e.high
    assert 0.90 <= covered / 300 <= 0.99


def test_a_two_stage_mean_counts_every_concept_once():
    values, clusters = [0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0], [0] * 95 + [1, 2, 3, 4, 5]
    e = two_stage_mean(values, clusters, range(100), seed=0)
    assert e.value == pytest.approx(15 / 6)
    assert cluster_mean(values, clusters, seed=0).value == pytest.approx(0.15)
    assert (e.n, e.n_clusters) == (100, 6)


def test_two_stages_are_wider_than_drawing_rows_and_as_wide_as_drawing_clusters():
    x, clusters, groups = nested(20, 1.0, 0)
    two, rows = two_stage_mean(x, clusters, groups, seed=0), cluster_mean(x, range(len(x)), seed=0)
    whole = cluster_mean(x, clusters, seed=0)
    assert two.high - two.low > 2 * (rows.high - rows.low)
    assert two.high - two.low == pytest.approx(whole.high - whole.low, rel=0.1)


def test_one_group_in_each_concept_leaves_the_bootstrap_of_concepts():
    x = np.random.default_rng(0).exponential(size=25)
    two = two_stage_mean(x, range(25), [0] * 25, seed=0)
    one = cluster_mean(x, range(25), seed=0, n_resamples=10_000)
    assert two.value == pytest.approx(one.value)
    assert (two.low, two.high) == (pytest.approx(one.low, abs=0.04), pytest.approx(one.high, abs=0.06))


def test_a_paired_difference_is_as_sharp_as_its_differences():
    """Two methods on the same questions: what questions share cancels in the differences and not in the means."""
    x, clusters, groups = nested(12, 2.0, 0)
    better = x + 0.3 + 0.05 * np.random.default_rng(1).normal(size=len(x))
    paired = two_stage_mean(better - x, clusters, groups, seed=0)
    assert paired.low < 0.3 < paired.high
    assert not paired.low <= 0 <= paired.high
    apart = two_stage_mean(better, clusters, groups, seed=0)
    assert apart.high - apart.low > 10 * (paired.high - paired.low)


def test_equal_values_have_a_two_stage_interval_without_width():
    e = two_stage_mean(np.full(12, 3.0), np.repeat(range(6), 2).tolist(), [0, 1] * 6, seed=0)
    assert (e.value, e.low, e.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("test", [lambda x, c: sign_flip(x, c, seed=0), lambda x, c: equivalence(x, c, margin=1.0),
                                  lambda x, c: two_stage_mean(x, c, c, seed=0)])  # fmt: skip
def test_too_little_data_is_refused(test):
    with pytest.raises(EstimateError, match="at least 5 clusters, but got 4"):
        test(np.arange(8.0), [0, 1, 2, 3] * 2)
    with pytest.raises(EstimateError, match="1 of 8 values are NaN"):
        test([np.nan, *range(7)], range(8))
    with pytest.raises(OptionError, match=r"(cluster|group), but got 7"):
        test(np.arange(8.0), range(7))


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])


def test_adjusted_p_values_are_those_of_statsmodels():
    p = np.random.default_rng(0).random(30) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])


def test_holm_keeps_the_level_of_the_family_and_single_tests_do_not():
    p = np.random.default_rng(0).random((400, 10))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) < 0.08
    assert np.mean(p.min(axis=1) <= 0.05) > 0.3


@pytest.mark.parametrize("p", [[], [0.1, 1.2], [np.nan], [[0.1]]])
def test_a_p_value_is_a_probability(p):
    with pytest.raises(OptionError, match="between 0 and 1"):
        holm(p)


def test_equivalence_is_two_t_tests():
    x = np.random.default_rng(0).normal(0.02, 0.1, 30)
    found = equivalence(x, range(30), margin=0.1)
    above = stats.ttest_1samp(x, -0.1, alternative="greater").pvalue
    below = stats.ttest_1samp(x, 0.1, alternative="less").pvalue
    assert found.p_value == pytest.approx(max(above, below))
    assert (found.estimate.low, found.estimate.high) == pytest.approx(
        stats.t.interval(0.9, 29, x.mean(), stats.sem(x)), rel=1e-9
    )


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [(0.0, 0.02, "equivalent"), (0.05, 0.02, "equivalent"), (0.0, 1.0, "inconclusive"), (0.1, 0.02, "inconclusive"),
     (0.5, 0.1, "different"), (-0.5, 0.1, "different")],
)  # fmt: skip
def test_the_verdict_compares_the_interval_with_the_margin(mean: float, spread: float, verdict: str):
    x = mean + spread * stats.norm.ppf(np.linspace(0.05, 0.95, 15))
    found = equivalence(x, range(15), margin=0.1)
    assert found.verdict == verdict
    assert (found.p_value <= 0.05) == (verdict == "equivalent")


def test_a_large_p_value_is_not_equivalence():
    x = np.random.default_rng(3).normal(0, 1, 8)
    assert stats.ttest_1samp(x, 0).pvalue > 0.3
    assert equivalence(x, range(8), margin=0.1).verdict == "inconclusive"


def test_a_mean_at_the_margin_is_called_equivalent_at_most_at_the_level():
    called = 0
    for seed in range(400):
        x = np.random.default_rng(seed).normal(0.5, 1, 40)
        called += equivalence(x, range(40), margin=0.5).verdict == "equivalent"
    assert called <= 33  # Binomial(400, .05) is above 33 once in two hundred


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_is_positive(margin: float):
    with pytest.raises(OptionError, match="positive and finite"):
        equivalence(np.arange(6.0), range(6), margin=margin)


def test_a_paired_change_of_shares_is_the_mean_of_its_changes():
    before, after = np.array([0, 1, 1, 0, 0, 1, 0, 0]), np.array([1, 1, 0, 0, 1, 1, 1, 0])
    groups = [0, 0, 1, 2, 3, 4, 5, 6]
    assert cluster_change(before, after, groups, seed=0) == cluster_mean(after - before, groups, seed=0)
    assert cluster_change(before, after, groups, seed=0).value == 2 / 8


@pytest.mark.parametrize(("before", "after", "value"), [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, -1)])
def test_a_change_that_all_items_share_is_known_up_to_the_share_of_others(before: int, after: int, value: int):
    """Of k clusters none is another: the exact 95 % bound on the share of others is 1 − 0.025^(1/k)."""
    n, k = 24, 12
    found = cluster_change([before] * n, [after] * n, [i % k for i in range(n)], seed=0)
    others = 1 - 0.025 ** (1 / k)
    low, high = {0: (-others, others), 1: (1 - 2 * others, 1), -1: (-1, 2 * others - 1)}[value]
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))
    assert (found.n, found.n_clusters) == (n, k)


def test_mcnemar_tosses_a_coin_for_each_change():
    before = [0] * 9 + [1] * 2 + [1] * 20 + [0] * 5
    after = [1] * 9 + [0] * 2 + [1] * 20 + [0] * 5
    found = mcnemar(before, after)
    assert (found.gained, found.lost, found.n) == (9, 2, 36)
    assert found.p_value == pytest.approx(stats.binomtest(9, 11).pvalue)
    clustered = clustered_mcnemar(before, after, range(36), seed=0)
    assert clustered.p_value == pytest.approx(found.p_value)
    assert clustered.method == "signs of groups, exact"
    assert mcnemar(after, before).gained == 2


def test_items_that_change_together_are_one_item():
    before, after = np.zeros(60, int), np.repeat([1, 1, 1, 0, 0, 0], 10)
    assert mcnemar(before, after).p_value < 1e-8
    assert clustered_mcnemar(before, after, np.repeat(range(6), 10).tolist(), seed=0).p_value == 0.25


@pytest.mark.parametrize(("before", "after"), [([0, 1], [1]), ([0, 2], [1, 1]), ([[0]], [[1]])])
def test_mcnemar_takes_pairs_of_bits(before, after):
    with pytest.raises(OptionError, match="0 and 1"):
        mcnemar(before, after)


@pytest.mark.parametrize(("n", "half"), [(50, 0.123), (100, 0.088), (200, 0.063), (500, 0.040)])
def test_wilson_s_half_widths_at_a_share_of_0_3(n: int, half: float):
    found = wilson(3 * n // 10, n)
    theirs = stats.binomtest(3 * n // 10, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=5e-4)


def test_wilson_has_a_width_where_all_agree():
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert wilson(10, 10).low == pytest.approx(0.7225, abs=1e-4)
    assert wilson(10, 10).high == 1.0
    with pytest.raises(OptionError, match="between 0 and 10"):
        wilson(11, 10)
    with pytest.raises(EstimateError, match="at least one trial"):
        wilson(0, 0)


def ranked(rho: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks with a Spearman correlation of rho up to 0.004: neighbours are swapped where that brings it nearer."""
    x, y = np.arange(n), np.arange(n)
    rng = np.random.default_rng(0)
    off = n * (n**2 - 1) / 6 * (1 - rho)  # the sum of squared differences wanted
    while abs(off - ((x - y) ** 2).sum()) > 1:
        i, j = rng.integers(n, size=2)
        z = y.copy()
        z[[i, j]] = y[[j, i]]
        if abs(off - ((x - z) ** 2).sum()) < abs(off - ((x - y) ** 2).sum()):
            y = z
    return x, y


@pytest.mark.parametrize(("rho", "n", "low", "high"), [(0.76, 36, 0.54, 0.88), (0.5, 12, -0.143, 0.846)])
def test_bonett_and_wright_s_interval(rho: float, n: int, low: float, high: float):
    found = spearman(*ranked(rho, n)).rho
    assert found.value == pytest.approx(rho, abs=0.004)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.008), pytest.approx(high, abs=0.008))


def test_spearman_is_scipy_s():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, 40)  # with ties
    y = x + rng.normal(0, 4, 40)
    theirs, ours = stats.spearmanr(x, y), spearman(x, y)
    assert ours.rho.value == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue)


def test_a_common_cause_is_partialled_out_and_an_effect_of_its_own_is_not():
    rng = np.random.default_rng(0)
    depth = rng.normal(size=300)
    x, y = depth + 0.5 * rng.normal(size=300), depth + 0.5 * rng.normal(size=300)
    assert spearman(x, y).rho.low > 0.6
    partial = spearman(x, y, covariates=depth)
    assert partial.rho.low < 0 < partial.rho.high
    assert spearman(x, x + y, covariates=depth).rho.low > 0.4
    # The textbook formula for one covariate.
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, depth), (y, depth)))
    assert partial.rho.value == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def test_a_correlation_needs_units_that_vary():
    with pytest.raises(EstimateError, match="vary beyond the covariates"):
        spearman(np.ones(9), np.arange(9))
    with pytest.raises(EstimateError, match="vary beyond the covariates"):
        spearman(np.arange(9), np.arange(9)[::-1], covariates=np.arange(9))
    with pytest.raises(EstimateError, match="five units more"):
        spearman(np.arange(6), np.arange(6), covariates=np.ones((2, 6)))
    with pytest.raises(OptionError, match="as many y"):
        spearman(np.arange(6), np.arange(7))


def test_effect_sizes_by_hand():
    first, second = np.array([3.0, 5.0, 1.0, 4.0, 2.0, 7.0]), np.array([1.0, 1.0, 2.0, 4.0, 5.0, 1.0])
    found = effect_size(first, second, range(6), seed=0)
    d = first - second  # 2, 4, −1, 0, −3, 6: ranks 2, 4, 1, –, 3, 5
    assert found.d_z.value == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.rank_biserial.value == pytest.approx((2 + 4 + 5 - 1 - 3) / 15)
    greater = sum(float(np.sign(a - b)) for a in first for b in second)
    assert found.cliffs_delta.value == pytest.approx(greater / 36)


def test_effect_sizes_are_those_of_scipy_s_tests():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1, 1, 40), rng.normal(0, 1, 40)
    found = effect_size(first, second, range(40), seed=0)
    u = stats.mannwhitneyu(first, second).statistic
    assert found.cliffs_delta.value == pytest.approx(2 * u / 1600 - 1)
    positive = stats.wilcoxon(first - second, alternative="greater").statistic
    assert found.rank_biserial.value == pytest.approx(2 * positive / (40 * 41 / 2) - 1)
    assert found.d_z.value * np.sqrt(40) == pytest.approx(stats.ttest_rel(first, second).statistic)
    for e in (found.d_z, found.cliffs_delta, found.rank_biserial):
        assert 0 < e.low < e.value < e.high


def test_cliff_s_delta_is_blind_to_pairs_and_the_others_are_not():
    x = 10 * np.random.default_rng(0).normal(size=30)
    small = x - 0.1 - 0.01 * np.random.default_rng(1).normal(size=30)
    found = effect_size(x, small, range(30), seed=0)
    assert found.rank_biserial.value == 1.0
    assert found.d_z.value > 5
    assert abs(found.cliffs_delta.value) < 0.1


def test_an_effect_size_needs_differences_that_vary():
    with pytest.raises(EstimateError, match="all 6 are equal"):
        effect_size(np.arange(6.0) + 1, np.arange(6.0), range(6), seed=0)

"""Intervals: they cover, they respect clusters, and they refuse too little data."""

import math

import numpy as np
import pytest
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import Estimate, bootstrap, cluster_mean, cluster_share, wilson


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        clusters = np.repeat(np.arange(30), 4)
        values = rng.normal(0, 1, 30)[clusters] + rng.normal(0, 0.5, 120)
        estimate = cluster_mean(values, clusters.tolist(), seed=trial, n_resamples=400)
        covered += not estimate.excludes(0.0)
    # Binomial(200, .95) has standard deviation 3; 30 clusters cost the bootstrap another percent or two.
    assert 178 <= covered <= 198


def test_ignoring_clusters_would_be_overconfident():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(20), 10)
    values = rng.normal(0, 1, 20)[clusters]
    honest = cluster_mean(values, clusters.tolist(), seed=0)
    naive = cluster_mean(values, list(range(200)), seed=0)
    assert honest.high - honest.low > 2 * (naive.high - naive.low)
    assert (honest.n, honest.n_clusters) == (200, 20)
    assert honest.value == pytest.approx(values.mean())


def test_a_mean_of_one_cluster_size_is_scipy_s_bootstrap():
    from scipy import stats

    x = np.random.default_rng(2).exponential(size=40)
    ours = cluster_mean(x, list(range(40)), seed=3, n_resamples=4000)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=4000, rng=np.random.default_rng(4)).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.06)


def test_equal_values_have_an_interval_without_width():
    estimate = cluster_mean(np.ones(10), list(range(10)), seed=0)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_two_samples_are_resampled_apart():
    x, y = np.arange(10.0), np.full(7, 2.0)
    estimate = bootstrap(lambda a, b: (a @ x) / a.sum(-1) - (b @ y) / b.sum(-1), [range(10), range(7)], seed=0)
    assert estimate.value == pytest.approx(2.5)
    assert estimate.low < 2.5 < estimate.high


def test_the_seed_decides_the_interval():
    x = np.random.default_rng(0).normal(size=30)
    a, b, c = (cluster_mean(x, list(range(30)), seed=s) for s in (0, 0, 1))
    assert a == b
    assert a != c


def test_too_few_clusters_are_an_error_and_not_a_number():
    with pytest.raises(EstimateError, match="at least 5 clusters, but got 4"):
        cluster_mean(np.ones(40), [i % 4 for i in range(40)], seed=0)


def test_values_and_clusters_must_be_as_many():
    with pytest.raises(OptionError, match=r"values of shape \(9,\) and 10 clusters"):
        cluster_mean(np.ones(9), range(10), seed=0)
    with pytest.raises(OptionError, match=r"values of shape \(9,\) and 10 clusters"):
        cluster_share(np.ones(9), range(10), seed=0)
    with pytest.raises(OptionError, match=r"values of shape \(10, 2\)"):
        cluster_mean(np.ones((10, 2)), range(10), seed=0)


@pytest.mark.parametrize("level", [95, 1.0, 0.0, math.nan])
def test_a_level_is_a_share(level: float):
    x = np.arange(10.0)
    with pytest.raises(OptionError, match=rf"0 < level < 1, such as 0.95, but got {level}"):
        cluster_mean(x, range(10), seed=0, level=level)
    with pytest.raises(OptionError, match="0 < level < 1"):
        cluster_share(x > 3, range(10), seed=0, level=level)
    with pytest.raises(OptionError, match="0 < level < 1"):
        wilson(3, 10, level=level)


def test_an_estimate_must_be_finite_and_ordered():
    with pytest.raises(EstimateError, match="finite"):
        Estimate(math.nan, 0, 1, 0.95, 3, 3, "by hand")
    with pytest.raises(EstimateError, match="low <= high"):
        Estimate(0, 1, 0, 0.95, 3, 3, "by hand")


def test_an_estimate_shows_its_interval():
    estimate = Estimate(0.5, 0.25, 0.75, 0.95, 8, 6, "by hand")
    assert str(estimate) == "0.5 [0.25, 0.75]"
    assert "n = 8" in estimate._repr_html_()
    by = Estimate(0.5, 0.25, 0.75, 0.95, 8, 6, '"><script>alert(1)</script>')
    assert "<script" not in by._repr_html_()
    assert "&lt;script&gt;" in by._repr_html_()
    assert estimate.excludes(0.8)
    assert not estimate.excludes(0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "rows"), [(6, 10), (12, 5), (60, 1)])
def test_intervals_of_a_mean_cover_it_with_few_clusters(groups: int, rows: int):
    """300 sets of 60 rows: the share covered has a standard error of 0.013. BCa alone covers 0.87 with six clusters."""
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = 0.7 * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, rows))
        e = cluster_mean(x.ravel(), np.repeat(np.arange(groups), rows).tolist(), seed=0, n_resamples=400)
        covered += e.low <= 0 <= e.high
    assert 0.90 <= covered / 300 <= 0.99


def test_an_interval_of_a_mean_stays_within_the_range_of_the_values():
    hits = [1.0] * 29 + [0.0]
    e = cluster_mean(hits, [i // 5 for i in range(30)], seed=0)
    assert e.high == 1.0
    assert 0.0 <= e.low < e.value


def test_a_share_on_which_all_rows_agree_has_an_interval():
    """Ten clusters of one mind: t²/(10 + t²) with nine degrees of freedom, however many rows there are."""
    clusters = [i // 8 for i in range(80)]
    none, every = (cluster_share(np.full(80, x), clusters, seed=0) for x in (0.0, 1.0))
    t = stats.t.ppf(0.975, 9)
    assert (none.value, none.low, none.high) == (0.0, 0.0, pytest.approx(t**2 / (10 + t**2)))
    assert (every.value, every.low, every.high) == (1.0, pytest.approx(1 - none.high), 1.0)
    mixed = np.arange(80) % 4 == 0
    assert cluster_share(mixed, clusters, seed=0) == cluster_mean(mixed, clusters, seed=0)
    with pytest.raises(EstimateError, match="0 and 1"):
        cluster_share(np.full(80, 0.5), clusters, seed=0)


@pytest.mark.parametrize("rounding", [-1e-13, 1e-13])
def test_rounding_does_not_say_on_which_side_the_sample_itself_lies(rounding: float):
    """Machines add up many resamples in another order than one, and BCa counts how many lie below the value."""
    x = np.random.default_rng(0).normal(size=6)

    def mean(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = (weights @ x) / weights.sum(axis=-1) + (rounding if len(weights) > 1 else 0.0)
        return found

    exact, rounded = cluster_mean(x, list(range(6)), seed=0), bootstrap(mean, [list(range(6))], seed=0)
    assert (rounded.low, rounded.high) == pytest.approx((exact.low, exact.high), abs=1e-9)

"""What a study of this size could have found: by simulation, and the numbers that studies are planned with."""

import numpy as np
import pytest
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import clusters_needed, detectable_correlation, minimal_detectable_effect, power_of


@pytest.mark.parametrize(
    ("level", "needed"), [(0.05, (787, 199, 90, 34)), (0.005, (1336, 337, 152, 58))], ids=["one test", "ten, by Holm"]
)
def test_clusters_needed_for_power_0_8(level: float, needed: tuple[int, ...]):
    assert tuple(clusters_needed(d, 1.0, level=level) for d in (0.1, 0.2, 0.3, 0.5)) == needed


def test_the_number_needed_is_the_least():
    assert power_of(0.5, 1.0, 34) >= 0.8 > power_of(0.5, 1.0, 33)
    assert clusters_needed(100.0, 1.0) == 2 + (power_of(100.0, 1.0, 2) < 0.8)


def test_power_is_how_often_a_t_test_rejects():
    x = np.random.default_rng(0).normal(0.6, 1.5, size=(4000, 25))
    rejected = (stats.ttest_1samp(x, 0, axis=1).pvalue <= 0.05).mean()
    assert power_of(0.6, 1.5, 25) == pytest.approx(rejected, abs=0.025)


def test_without_an_effect_power_is_the_level_and_far_from_none_it_is_one():
    assert power_of(0.0, 1.0, 10) == pytest.approx(0.05, abs=1e-6)
    for n in (5, 20, 100):
        assert power_of(50.0, 1.0, n) == pytest.approx(1.0)
    assert power_of(-0.5, 1.0, 30) == power_of(0.5, 1.0, 30)


@pytest.mark.parametrize(("d", "k"), [(27.295447924020017, 5), (9.01337038951742, 19), (6.832607387157405, 28)])
def test_where_scipys_series_ends_power_goes_on(d: float, k: int):
    """Points where the noncentral t of scipy 1.17 is NaN; a search for the detectable effect once met one."""
    assert power_of(d, 1.0, k) == pytest.approx(1.0, abs=1e-12)
    x = np.random.default_rng(0).normal(d + 1e-6, 1.0, size=(20_000, k))
    strict = 2 * stats.t.sf(d * np.sqrt(k), k - 1)  # a level at which the power is about one half
    rejected = (stats.ttest_1samp(x, 0, axis=1).pvalue <= strict).mean()
    assert power_of(d, 1.0, k, level=strict) == pytest.approx(rejected, abs=0.02)


def test_the_detectable_effect_has_the_power_asked_for():
    x = np.random.default_rng(0).normal(3, 2, 60)
    clusters = np.repeat(range(15), 4).tolist()
    found = minimal_detectable_effect(x, clusters)
    assert power_of(found.effect, found.sd, 15) == pytest.approx(0.8)
    assert found.sd == pytest.approx(x.reshape(15, 4).mean(axis=1).std(ddof=1))
    assert str(found).startswith("15 clusters of sd")
    # It speaks of the design, not of what was found.
    assert minimal_detectable_effect(x + 100, clusters).effect == pytest.approx(found.effect)
    assert minimal_detectable_effect(x, clusters, power=0.95).effect > found.effect


@pytest.mark.parametrize(
    ("n", "fisher", "bonett"), [(12, 0.73, 0.75), (20, 0.59, 0.60), (36, 0.45, 0.46), (40, 0.43, 0.44)]
)
def test_detectable_correlations(n: int, fisher: float, bonett: float):
    """The numbers quoted are those of Pearson's standard error; Spearman's is larger, and asks for a little more."""
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert np.tanh(z / np.sqrt(n - 3)) == pytest.approx(fisher, abs=0.005)
    assert detectable_correlation(n) == pytest.approx(bonett, abs=0.005)


def test_a_detectable_correlation_is_detected_as_often_as_it_says():
    n = 40
    rho = 2 * np.sin(np.pi / 6 * detectable_correlation(n))  # Pearson's for this Spearman's, in a Gaussian
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, n))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    found = np.mean([stats.spearmanr(a, b).pvalue <= 0.05 for a, b in zip(x, y, strict=True)])
    assert found == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(("power", "level"), [(1.0, 0.05), (0.8, 0.0), (0.04, 0.05)])
def test_power_lies_between_level_and_one(power: float, level: float):
    with pytest.raises(OptionError, match="level < power < 1"):
        clusters_needed(0.5, 1.0, power=power, level=level)


def test_power_needs_a_spread():
    with pytest.raises(OptionError, match="positive sd"):
        power_of(1.0, 0.0, 10)
    with pytest.raises(OptionError, match="not zero"):
        clusters_needed(0.0, 1.0)
    with pytest.raises(EstimateError, match="at least five units"):
        detectable_correlation(4)

"""Rank correlations against scipy, and intervals against published ones."""

import numpy as np
import pytest
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.evaluation import clustered_spearman
from steerlens.evaluation._rank_correlation import _centred_ranks
from steerlens.numerics import spearman


def ranks_with(rho: float, n: int) -> np.ndarray:
    """A permutation of n whose Spearman correlation with the identity is ``rho``, to a hundredth."""
    draw = np.random.default_rng(0)
    order, best = np.arange(n, dtype=float), 1.0
    while abs(best - rho) > 0.004:
        i, j = draw.integers(0, n, size=2)
        other = order.copy()
        other[[i, j]] = other[[j, i]]
        now = float(stats.spearmanr(np.arange(n), other).statistic)
        if abs(now - rho) <= abs(best - rho):
            order, best = other, now
    return order


@pytest.mark.parametrize(("n", "rho", "low", "high"), [(36, 0.76, 0.54, 0.88), (12, 0.5, -0.14, 0.85)])
def test_the_interval_is_bonett_and_wright_s(n: int, rho: float, low: float, high: float):
    e = spearman(np.arange(n), ranks_with(rho, n)).rho
    assert e.value == pytest.approx(rho, abs=0.005)
    assert (e.low, e.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert (e.n, e.n_clusters) == (n, n)


def test_ties_are_ranked_as_scipy_ranks_them():
    draw = np.random.default_rng(1)
    x, y = draw.integers(0, 4, size=20).astype(float), draw.integers(0, 4, size=20).astype(float)
    expected = stats.spearmanr(x, y).statistic
    assert spearman(x, y).rho.value == pytest.approx(expected, abs=1e-12)
    assert clustered_spearman(x, y, [i // 2 for i in range(20)], seed=0).value == pytest.approx(expected, abs=1e-12)


def test_weights_are_repetitions():
    draw = np.random.default_rng(2)
    x, times = draw.integers(0, 5, size=12).astype(float), draw.integers(0, 4, size=12)
    repeated = np.repeat(x, times)
    expected = stats.rankdata(repeated) - (len(repeated) + 1) / 2
    found = np.repeat(_centred_ranks(x, times[None].astype(float))[0], times)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_whole_agreement_of_few_concepts_is_not_certain():
    few, many = (spearman(np.arange(n), np.arange(n) ** 3).rho for n in (6, 40))
    assert (few.value, few.high) == (1.0, 1.0)
    assert few.low < 0.7 < many.low < 1.0
    opposite = spearman(np.arange(6), -np.arange(6)).rho
    assert (opposite.value, opposite.low, opposite.high) == (-1.0, -1.0, pytest.approx(-few.low))


@pytest.mark.slow
def test_the_bootstrap_of_questions_covers_a_known_correlation():
    """Groups of 2 questions that share half of their noise; truth from a sample of a million."""

    def sample(draw: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray]:
        shared = np.repeat(draw.normal(size=(groups, 2)), 2, axis=0)
        own = draw.normal(size=(2 * groups, 2))
        both = shared + own
        return both[:, 0], both[:, 1] + both[:, 0]

    truth = float(stats.spearmanr(*sample(np.random.default_rng(0), 500_000)).statistic)
    covered = 0
    for i in range(60):
        x, y = sample(np.random.default_rng(i + 1), 30)
        covered += not clustered_spearman(x, y, [k // 2 for k in range(60)], seed=0).excludes(truth)
    assert covered >= 51  # 0.85 of 60; at a coverage of 0.95 fewer than that happen once in 500


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "at least 5"),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], "the same throughout"),
        ([1, 2, 3, 4, float("nan")], [1, 2, 3, 4, 5], "two lists of finite"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4], "one length"),
    ],
)
def test_nonsense_is_refused(x: list[float], y: list[float], message: str):
    groups = list(range(max(len(x), 5)))[: len(x)]
    with pytest.raises(EstimateError, match=message):
        clustered_spearman(x, y, groups, seed=0)

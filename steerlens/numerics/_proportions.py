"""Shares, and pairs of answers that are right or wrong."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import cluster_codes
from steerlens.numerics._estimate import Estimate
from steerlens.numerics._resample import check_level, cluster_mean
from steerlens.numerics._sign_flip import flip_signs

Bits = npt.NDArray[np.int64]


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """A share of independent trials with Wilson's interval, which stays within [0, 1] and has a width at 0 and 1.

    For trials in groups use `cluster_share`.

    Args:
        successes: Trials that succeeded.
        n: Trials.
        level: Coverage aimed at.

    Raises:
        EstimateError: If there is no trial.
        OptionError: If there are more successes than trials, or fewer than none, or the level is not between 0 and 1.

    References:
        wilson1927.
    """
    from statsmodels.stats.proportion import proportion_confint

    check_level(level)
    if n < 1:
        raise EstimateError(f"A share needs at least one trial, but got {n}.")
    if not 0 <= successes <= n:
        raise OptionError(f"Expected between 0 and {n} successes, but got {successes}.")
    share = successes / n
    low, high = (float(end) for end in proportion_confint(successes, n, alpha=1 - level, method="wilson"))
    return Estimate(share, min(low, share), max(high, share), level, n, n, "Wilson")


def cluster_change(
    before: npt.ArrayLike, after: npt.ArrayLike, clusters: Sequence[Hashable], *, seed: int, level: float = 0.95
) -> Estimate:
    """Paired difference of two shares, after − before: `cluster_mean` of the changes.

    Where every item changes alike, most often not at all, every resample gives the same number, and the bootstrap would
    claim certainty. Then the interval is what the exact bound on the share of other items (no cluster's) allows.

    Args:
        before: Shape (n,), 0 or 1.
        after: Shape (n,), 0 or 1, of the same items.
        clusters: The cluster of each item.
        seed: Of the resampling.
        level: Coverage aimed at.

    Raises:
        OptionError: If the shapes differ, or something is neither 0 nor 1.
        EstimateError: If there are fewer than five clusters.
    """
    b, a = _pairs(before, after)
    change = (a - b).astype(np.float64)
    found = cluster_mean(change, clusters, seed=seed, level=level)
    if len(set(change.tolist())) > 1:
        return found
    others = float(stats.binomtest(0, found.n_clusters).proportion_ci(level, method="exact").high)
    reach = others if found.value == 0 else 2 * others
    low, high = max(-1.0, found.value - reach), min(1.0, found.value + reach)
    method = "all items alike: exact bound on the share of others"
    return Estimate(found.value, low, high, level, found.n, found.n_clusters, method)


@final
@dataclass(frozen=True)
class McNemar:
    """Whether as many items went from wrong to right as from right to wrong.

    Args:
        gained: Items that were wrong before and are right after.
        lost: Items that were right before and are wrong after.
        n: Items; those with two equal answers say nothing about the difference.
        n_clusters: Groups of items that were counted as one.
        p_value: Two-sided.
        method: How it was made.
    """

    gained: int
    lost: int
    n: int
    n_clusters: int
    p_value: float
    method: str


def mcnemar(before: npt.ArrayLike, after: npt.ArrayLike) -> McNemar:
    """McNemar's exact test of paired answers to independent items: gained against lost is a fair coin.

    Args:
        before: Shape (n,), 0 or 1.
        after: Shape (n,), 0 or 1, of the same items.

    Raises:
        OptionError: If the shapes differ, or something is neither 0 nor 1.

    References:
        mcnemar1947.
    """
    from statsmodels.stats.contingency_tables import mcnemar as of_table

    b, a = _pairs(before, after)
    gained, lost = int((a > b).sum()), int((a < b).sum())
    table = np.array([[((b == 1) & (a == 1)).sum(), lost], [gained, ((b == 0) & (a == 0)).sum()]])
    return McNemar(gained, lost, len(b), len(b), float(of_table(table, exact=True).pvalue), "exact binomial")


def clustered_mcnemar(
    before: npt.ArrayLike, after: npt.ArrayLike, groups: Sequence[Hashable], *, seed: int, n_flips: int = 10_000
) -> McNemar:
    """The same for items in groups, where answers within a group come together.

    Gained less lost is summed within each group, and the signs of groups are flipped. With groups of one item it is the
    exact test.

    Args:
        before: Shape (n,), 0 or 1.
        after: Shape (n,), 0 or 1, of the same items.
        groups: The group of each item.
        seed: Of the sampled signs; without influence where up to 20 groups changed.
        n_flips: Sampled signs where more did.

    Raises:
        OptionError: If the shapes differ, or something is neither 0 nor 1.
        EstimateError: If there are fewer than five groups.

    References:
        mcnemar1947; fisher1935 (section 21).
    """
    b, a = _pairs(before, after)
    codes = cluster_codes(groups, len(b))
    test = flip_signs(np.bincount(codes, a - b).astype(np.float64), seed=seed, n_flips=n_flips)
    method = f"signs of groups, {'exact' if test.exact else n_flips}"
    return McNemar(int((a > b).sum()), int((a < b).sum()), len(b), test.n_clusters, test.p_value, method)


def _pairs(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[Bits, Bits]:
    b, a = np.asarray(before), np.asarray(after)
    if b.ndim != 1 or b.shape != a.shape or not np.isin(b, (0, 1)).all() or not np.isin(a, (0, 1)).all():
        raise OptionError(
            f"Expected two rows of 0 and 1 for the same items, but got shapes {b.shape} and {a.shape} with values "
            f"{sorted(set(b.ravel().tolist()) | set(a.ravel().tolist()))[:5]}."
        )
    return b.astype(np.int64), a.astype(np.int64)

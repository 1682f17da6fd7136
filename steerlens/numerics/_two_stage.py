"""Means over concepts, where concepts were drawn and questions within them were drawn too."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import Array, Codes, cluster_codes, finite_values
from steerlens.numerics._estimate import Estimate


def two_stage_mean(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable],
    groups_within: Sequence[Hashable],
    *,
    seed: int,
    level: float = 0.95,
    n_resamples: int = 10_000,
) -> Estimate:
    """Mean of cluster means, with an interval that speaks of new clusters and new groups.

    Clusters are drawn with replacement, and groups within each drawn cluster. Taken as they come, such draws count the
    variation within clusters twice, since the means of clusters hold it already, and that between them (k − 1)/k
    times. So means of clusters are first shrunk towards the grand mean by 1 − √(k/(k − 1) · (1 − W/B)), where B is the
    variance of cluster means and W what of it the groups within explain. The ends are BCa, widened by t(k − 1)/z for k
    clusters. Where W > B nothing is left between, and t has as many degrees of freedom as there are groups, less k.

    A paired difference between two methods is the two-stage mean of the differences: give those as ``values``.

    Args:
        values: Shape (n,).
        clusters: The cluster of each value: its concept. Every cluster counts once, however many values it has.
        groups_within: The group of each value within its cluster; the same name in two clusters is two groups.
        seed: Of the resampling.
        level: Coverage aimed at.
        n_resamples: Resamples.

    Raises:
        OptionError: If there is not one cluster and one group for each value.
        EstimateError: If a value is not finite, or there are fewer than five clusters.

    References:
        davison1997 (section 3.8, shrinkage); efron1987 (BCa); hesterberg2015 (few clusters).
    """
    x = finite_values(values)
    if len(groups_within) != len(x):
        raise OptionError(f"Each of the {len(x)} values needs a group, but got {len(groups_within)} groups.")
    codes = cluster_codes(clusters, len(x))
    k = int(codes.max()) + 1
    means = np.bincount(codes, x) / np.bincount(codes)
    names = np.empty(len(x), dtype=object)
    for i, group in enumerate(groups_within):
        names[i] = group
    blocks = [_Groups(x[codes == c], names[codes == c].tolist()) for c in range(k)]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(k, size=(n_resamples, k))
    away = np.empty(drawn.shape)
    for c, block in enumerate(blocks):
        here = drawn == c
        away[here] = block.deviations(int(here.sum()), rng)
    between, within = float(means.var(ddof=1)), float(np.mean([b.variance for b in blocks]))
    kept = np.sqrt(k / (k - 1) * max(1 - within / between, 0.0)) if between > 0 else 0.0
    value = float(means.mean())
    resampled = value + (kept * (means - value)[drawn] + away).mean(axis=1)
    # Where groups explain all variation between clusters, the spread is theirs, and there are more of them.
    freedom = k - 1 if kept > 0 else max(k - 1, sum(len(b.size) - 1 for b in blocks))
    low, high = _bca_t(value, resampled, means, level, freedom)
    return Estimate(value, low, high, level, len(x), k, f"two-stage bootstrap, BCa × t, {n_resamples}")


class _Groups:
    """The groups of one cluster: how far its mean moves when they are drawn anew."""

    def __init__(self, x: Array, groups: Sequence[Hashable]) -> None:
        order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
        codes: Codes = np.array([order[g] for g in groups], dtype=np.int64)
        self.size = np.bincount(codes).astype(np.float64)
        self.sum = np.bincount(codes, x - x.mean())
        g = len(order)
        # A drawn mean has (g − 1)/g of the variance of the mean; a single group says nothing of its own.
        self.scale = np.sqrt(g / (g - 1)) if g > 1 else 0.0
        self.variance = float(self.scale**2 * ((self.sum / self.size.sum()) ** 2).sum())

    def deviations(self, times: int, rng: np.random.Generator) -> Array:
        g = len(self.size)
        if g == 1:
            return np.zeros(times)
        counts = rng.multinomial(g, np.full(g, 1 / g), size=times)
        drawn: Array = self.scale * (counts @ self.sum) / (counts @ self.size)
        return drawn


def _bca_t(value: float, resampled: Array, means: Array, level: float, freedom: int) -> tuple[float, float]:
    """BCa ends, widened as few clusters ask for; acceleration from leaving out clusters."""
    if np.ptp(resampled) <= 1e-12 * max(abs(value), 1e-300):
        return value, value
    k = len(means)
    skew = means - means.mean()
    acceleration = (skew**3).sum() / (6 * max((skew**2).sum(), 1e-300) ** 1.5)
    ties = (resampled == value).mean() / 2
    shift = stats.norm.ppf(np.clip((resampled < value).mean() + ties, 1e-4, 1 - 1e-4))
    z = np.asarray(stats.norm.ppf([(1 - level) / 2, (1 + level) / 2]))
    at = stats.norm.cdf(shift + (shift + z) / (1 - acceleration * (shift + z)))
    low, high = (float(end) for end in np.quantile(resampled, at))
    if not low <= high:
        raise EstimateError(f"The resamples of {k} clusters have no ordered interval. Measure on more clusters.")
    wider = float(stats.t.ppf((1 + level) / 2, freedom) / z[1])
    return min(low, value - wider * (value - low)), max(high, value + wider * (high - value))

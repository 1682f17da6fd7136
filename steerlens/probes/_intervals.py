"""Intervals of means, shares, areas and bits over clusters of rows and seeds of probes, in closed form.

The variance over clusters is the jackknife's (one cluster left out), that over seeds is added to it, quantiles are
Student's, and skewness is corrected for by Hall's transformation. The BCa cluster bootstrap covers too rarely with a
dozen clusters, and Student's interval alone does where losses are rare and large; ``benchmarks/calibrate_probes.py``
measures all of them.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

MIN_CLUSTERS = 5
"""As in `steerlens.numerics.bootstrap`."""


@final
@dataclass(frozen=True)
class Spread:
    """How an estimate varies.

    Args:
        variance: Over clusters and seeds.
        freedom: Satterthwaite's degrees of freedom of the sum.
        skewness: Of the estimate.
    """

    variance: float
    freedom: float
    skewness: float

    @classmethod
    def of(cls, influence: Array, share: Array, by_seed: Array) -> "Spread":
        """Add up the variance over clusters and that over seeds.

        Seeds also differ because each errs on other rows. That part comes with the rows, is in the variance over
        clusters, and is taken off here (clustering in two ways); what is left is not negative.

        Args:
            influence: Of each cluster on the estimate of each seed to first order, shape (seed, cluster); rows sum to
                zero.
            share: Of the rows that a cluster holds, shape (cluster,): leaving out a large cluster tells more.
            by_seed: The estimate of each seed alone, shape (seed,).

        References:
            mackinnon2023 (the jackknife, CV3); cameron2011 (two ways); satterthwaite1946.
        """
        seeds, count = influence.shape
        left_out = influence / np.maximum(1 - share, 1 / count)
        mean, jackknife = left_out.mean(axis=0), (count - 1) / count
        over_clusters = jackknife * float(mean @ mean)
        over_seeds = 0.0
        if seeds > 1:
            by_rows = jackknife * float(((left_out - mean) ** 2).sum()) / (seeds - 1)
            over_seeds = max(float(by_seed.var(ddof=1)) - by_rows, 0.0) / seeds
        total = over_clusters + over_seeds
        if total <= np.finfo(np.float64).tiny:
            return cls(0.0, count - 1.0, 0.0)
        # Ratios, as squares of tiny variances would underflow.
        of_clusters, of_seeds = over_clusters / total, over_seeds / total
        parts = of_clusters**2 / (count - 1) + (of_seeds**2 / (len(by_seed) - 1) if of_seeds else 0.0)
        of_cluster = influence.mean(axis=0)
        deviation = float(of_cluster.std())
        skewness = float((of_cluster**3).mean()) / deviation**3 / count**0.5 if deviation > 0 else 0.0
        return cls(total, 1 / parts, skewness * of_clusters**1.5)

    def quantile(self, level: float) -> float:
        """Student's, two-sided."""
        return float(stats.t.ppf((1 + level) / 2, self.freedom))

    def student(self, level: float) -> tuple[float, float]:
        """How far both ends of Student's interval lie from the estimate."""
        half = self.quantile(level) * self.variance**0.5
        return -half, half

    def hall(self, level: float) -> tuple[float, float]:
        """The same of the interval without skewness.

        With a the skewness of the estimate, t + a t²/3 + a² t³/27 + a/6 is distributed as if there were none, and
        rises with t, so that it can be turned round.

        References:
            hall1992, section 2.
        """
        a = self.skewness
        u = np.array([1.0, -1.0]) * self.quantile(level)
        t = (np.cbrt(1 + a * (u - a / 6)) - 1) * 3 / a if abs(a) > 1e-6 else u
        ends = -t * self.variance**0.5
        return float(ends[0]), float(ends[1])


def mean_interval(values: Array, codes: Codes, *, level: float, low: float = -np.inf, high: float = np.inf) -> Estimate:
    """Mean of values of rows, with an interval over clusters and seeds: the hull of Student's and Hall's.

    Student's is too short on the side of rare large values, Hall's is where tails are heavy on both sides.

    Args:
        values: Shape (seed, n).
        codes: The cluster of each row.
        level: Coverage aimed at.
        low, high: Between which a mean must lie; the interval is cut there.

    Raises:
        EstimateError: If there are fewer than five clusters, or values are not finite.
    """
    count = _check(values, codes)
    spread = _mean_spread(values, codes, count)
    value = float(values.mean())
    student, hall = spread.student(level), spread.hall(level)
    ends = (max(value + min(student[0], hall[0]), low), min(value + max(student[1], hall[1]), high))
    method = f"cluster jackknife and {_seeds(values)}, hull of Student's and Hall's"
    return Estimate(value, min(ends[0], value), max(ends[1], value), level, values.shape[1], count, method)


def share_interval(hits: Array, codes: Codes, *, level: float) -> Estimate:
    """Share of hits, with Wilson's interval at the number of rows that the clusters are worth.

    That number is p(1 − p) over the variance of p between clusters; where all rows agree it cannot be known, and a
    cluster counts as one row. Student's quantile replaces the normal one.

    Args:
        hits: 0 and 1, shape (seed, n).
        codes: The cluster of each row.
        level: Coverage aimed at.

    Raises:
        EstimateError: If there are fewer than five clusters.

    References:
        wilson1927; korn1998 (the effective number of rows).
    """
    count = _check(hits, codes)
    spread = _mean_spread(hits, codes, count)
    p = float(hits.mean())
    worth = p * (1 - p) / spread.variance if spread.variance > 0 and 0 < p < 1 else float(count)
    ends = _wilson(p, spread.quantile(level) ** 2 / worth)
    method = f"cluster jackknife and {_seeds(hits)}, Wilson, worth {worth:.0f} rows"
    return Estimate(p, *ends, level, hits.shape[1], count, method)


def auroc_interval(scores: Array, y: npt.NDArray[np.int64], codes: Codes, *, level: float) -> Estimate:
    """Area under the ROC curve, with Hall's interval of its logit over clusters and seeds.

    No mean of values in [0, 1] varies more than a share: the interval is never wider than Wilson's with one row for
    each cluster, and is that where classes do not overlap, so that the variance cannot be known. Near 1 the logit alone
    would reach below 0.1.

    Args:
        scores: Shape (seed, n).
        y: Labels, shape (n,).
        codes: The cluster of each row.
        level: Coverage aimed at.

    Raises:
        EstimateError: If there are fewer than five clusters, or one class only.

    References:
        obuchowski1997 (clusters); hall1992.
    """
    count = _check(scores, codes)
    ones = y == 1
    n1, n0 = int(ones.sum()), int((~ones).sum())
    if min(n1, n0) == 0:
        raise EstimateError(f"An ROC curve needs rows of both classes, but got {n1} and {n0}. Test on more groups.")
    placements = np.stack([_placements(s, ones) for s in scores])
    by_seed = placements[:, ones].mean(axis=1)
    area = float(by_seed.mean())
    scale = np.where(ones, 1 / n1, 1 / n0)
    influence = _sums((placements - by_seed[:, None]) * scale, codes, count)
    share = _sums(scale[None] / 2, codes, count)[0]
    spread = Spread.of(influence, share, by_seed)
    rounding = 1e-12
    ends = _wilson(area, Spread(0.0, count - 1.0, 0.0).quantile(level) ** 2 / min(count, n1, n0))
    if spread.variance > rounding**2 and rounding < area < 1 - rounding:
        slope = 1 / (area * (1 - area))
        logit, scaled = np.log(area / (1 - area)), replace(spread, variance=spread.variance * slope**2)
        by_logit = [1 / (1 + np.exp(-(logit + end))) for end in scaled.hall(level)]
        ends = (max(min(float(by_logit[0]), area), ends[0]), min(max(float(by_logit[1]), area), ends[1]))
    method = f"cluster jackknife and {_seeds(scores)}, Hall's on the logit"
    return Estimate(area, *ends, level, len(y), count, method)


def _wilson(p: float, q: float) -> tuple[float, float]:
    """The shares from which p is √q standard deviations of one row away."""
    middle, half = (p + q / 2) / (1 + q), (q * p * (1 - p) + q**2 / 4) ** 0.5 / (1 + q)
    return max(min(middle - half, p), 0.0), min(max(middle + half, p), 1.0)


def _seeds(values: Array) -> str:
    return f"{len(values)} seed{'s' if len(values) > 1 else ''}"


def _placements(scores: Array, ones: npt.NDArray[np.bool_]) -> Array:
    """For each row the share of the other class on its right side, ties by half."""
    above, below = np.sort(scores[ones]), np.sort(scores[~ones])

    def share_below(s: Array, of: Array) -> Array:
        found: Array = (of.searchsorted(s, "left") + of.searchsorted(s, "right")) / (2 * len(of))
        return found

    return np.where(ones, share_below(scores, below), 1 - share_below(scores, above))


def _mean_spread(values: Array, codes: Codes, count: int) -> Spread:
    by_seed, n = values.mean(axis=1), values.shape[1]
    influence = _sums((values - by_seed[:, None]) / n, codes, count)
    return Spread.of(influence, _sums(np.full((1, n), 1 / n), codes, count)[0], by_seed)


def _sums(values: Array, codes: Codes, count: int) -> Array:
    """Of each cluster, shape (seed, n) → (seed, cluster)."""
    return np.stack([np.bincount(codes, v, count) for v in values]).astype(np.float64)


def _check(values: Array, codes: Codes) -> int:
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < MIN_CLUSTERS:
        raise EstimateError(
            f"An interval over clusters needs at least {MIN_CLUSTERS} of them, but got {count} (n = {len(codes)}). "
            "Measure on more groups."
        )
    if not np.isfinite(values).all():
        raise EstimateError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are not finite.")
    return count

"""How large is a paired difference, in units that other studies use?"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import finite_values
from steerlens.numerics._estimate import Estimate
from steerlens.numerics._resample import Weights, bootstrap

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class EffectSize:
    """A paired difference without its unit.

    Args:
        d_z: Mean of the differences over their standard deviation.
        cliffs_delta: P(first > second) − P(first < second) over all pairs of values, in [-1, 1]; blind to the pairing.
        rank_biserial: Of the signed ranks of the differences, the share that is positive less that negative, in
            [-1, 1]; Wilcoxon's test asks whether it is zero. Differences of zero are left out.
    """

    d_z: Estimate
    cliffs_delta: Estimate
    rank_biserial: Estimate


def effect_size(
    first: npt.ArrayLike, second: npt.ArrayLike, clusters: Sequence[Hashable], *, seed: int, level: float = 0.95
) -> EffectSize:
    """Three effect sizes of first less second, on the same items.

    Args:
        first: Shape (n,).
        second: Shape (n,), of the same items.
        clusters: The cluster of each item.
        seed: Of the resampling.
        level: Coverage aimed at.

    Raises:
        OptionError: If the shapes differ.
        EstimateError: If a value is not finite, there are fewer than five clusters, or all differences are equal.

    References:
        cohen1988 (d_z); cliff1993; kerby2014 (rank-biserial).
    """
    a, b = finite_values(first, "first values"), finite_values(second, "second values")
    if len(a) != len(b):
        raise OptionError(f"Pairs need as many first as second values, but got {len(a)} and {len(b)}.")
    d = a - b
    if not len(d) or np.ptp(d) <= 1e-12 * np.abs(d).max():
        raise EstimateError(f"An effect size needs differences that vary, but all {len(d)} are equal.")
    above = np.sign(a[:, None] - b)
    size = np.abs(d)
    # Row i: which differences are smaller than the i-th, ties half; weighted, that is its rank.
    smaller = (size < size[:, None]) + 0.5 * (size == size[:, None])

    def d_z(w: Weights) -> Array:
        n = w.sum(axis=1)
        mean = w @ d / n
        spread = np.sqrt(np.maximum(w @ d**2 - n * mean**2, 0) / np.maximum(n - 1, 1))
        # A resample of one cluster may have no spread; it then lies beyond all others.
        found: Array = mean / np.maximum(spread, 1e-9 * size.max())
        return found

    def cliff(w: Weights) -> Array:
        delta: Array = np.einsum("rn,rn->r", w @ above, w) / w.sum(axis=1) ** 2
        return delta

    def biserial(w: Weights) -> Array:
        moving = w * (d != 0)
        ranks = moving * (moving @ smaller.T + 0.5)
        total: Array = ranks @ np.sign(d) / np.maximum(ranks.sum(axis=1), 1e-300)
        return total

    within = (-1.0, 1.0)
    return EffectSize(
        d_z=bootstrap(d_z, [clusters], seed=seed, level=level),
        cliffs_delta=bootstrap(cliff, [clusters], seed=seed, level=level, bounds=within),
        rank_biserial=bootstrap(biserial, [clusters], seed=seed, level=level, bounds=within),
    )

"""Intervals of statistics that a bootstrap would bias, from the same statistic on parts of the groups.

A resample with replacement holds copies of rows, which are each other's neighbours, and are fitted and scored at once.
Parts without replacement hold none.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

from steerlens.numerics import Estimate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

JACKKNIFE_SHARE = 0.1
"""Of the jackknife's variance where both are used: of 0 to 0.5 the one that covered the same in nulls and effects."""


def jackknife(
    value: float, left_out: Array, codes: Codes, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """95 % interval from the values without each block in turn: value ± t · √((B − 1)/B Σ (v₋ᵦ − v̄)²).

    For statistics that a bootstrap would bias, since a resample holds copies of rows, or that are fitted on some rows
    and scored on others, where a bootstrap of the scores alone misses that other data would fit otherwise. ``within``
    is the range of the statistic.

    References:
        tukey1958; busing1999 (blocks).
    """
    n_blocks = len(left_out)
    error = np.sqrt((n_blocks - 1) / n_blocks * ((left_out - left_out.mean()) ** 2).sum())
    half = float(special.stdtrit(n_blocks - 1, 0.975) * error)
    return _around(value, half, within, codes, f"block jackknife, {n_blocks}")


def share_as_large(null: Array, found: float, scale: float) -> float:
    """Permutation p-value: the share of null values, the found one included, that are at least as large.

    Values that differ by rounding alone, a billionth of ``scale``, count as equal.
    """
    return float((1 + (null >= found - 1e-9 * scale).sum()) / (1 + len(null)))


def half_samples(
    value: float, halves: Array, codes: Codes, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """95 % interval from the two halves of every split of the groups: value ± t · √(mean (θ₁ − θ₂)²) / 2.

    For a mean this is its variance. For statistics that jump when one group is left out (shares, ranks, whatever is
    fitted anew) the jackknife multiplies the jump by the number of blocks, and halves do not; what half as many rows
    change in the statistic itself cancels in the difference.

    Args:
        value: On all groups.
        halves: On the halves of `group_halves`, in its order.
        codes: The group of each row.
        within: Range of the statistic.

    References:
        mccarthy1969 (half-samples).
    """
    half = _quantile(codes) * _half_error(halves)
    return _around(value, half, within, codes, f"{len(halves) // 2} half-samples")


def jackknife_and_halves(
    value: float, left_out: Array, halves: Array, codes: Codes, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """95 % interval with a tenth of the jackknife's variance and nine of that of halves.

    Along a held-out direction where there is no effect the jackknife's variance is 2.5 times too large; that of halves
    is right on average, but varies so much that 0.92 are covered. Where there is an effect both are right.
    """
    half = _quantile(codes) * float(np.sqrt(_both_variances(left_out, halves)))
    return _around(value, half, within, codes, f"block jackknife, {len(left_out)}, and {len(halves) // 2} half-samples")


def jackknife_and_halves_share(value: float, left_out: Array, halves: Array, codes: Codes, *, of: int) -> Estimate:
    """The same of a share of ``of`` things: Wilson's interval, for as many as that variance is worth.

    References:
        wilson1927.
    """
    method = f"block jackknife, {len(left_out)}, and {len(halves) // 2} half-samples, Wilson"
    return _wilson(value, _both_variances(left_out, halves), _quantile(codes), codes, of, method)


def half_samples_share(value: float, halves: Array, codes: Codes, *, of: int) -> Estimate:
    """95 % interval of a share of ``of`` things: Wilson's, for as many as its variance over halves is worth.

    References:
        mccarthy1969; wilson1927.
    """
    method = f"{len(halves) // 2} half-samples, Wilson"
    return _wilson(value, _half_error(halves) ** 2, _quantile(codes), codes, of, method)


def _around(value: float, half: float, within: tuple[float, float], codes: Codes, method: str) -> Estimate:
    """All three within the range of the statistic, which rounding may leave."""
    value, low, high = (float(min(max(v, within[0]), within[1])) for v in (value, value - half, value + half))
    return Estimate(value, low, high, 0.95, len(codes), int(codes.max()) + 1, method)


def _both_variances(left_out: Array, halves: Array) -> float:
    n_blocks = len(left_out)
    by_blocks = (n_blocks - 1) / n_blocks * float(((left_out - left_out.mean()) ** 2).sum())
    return JACKKNIFE_SHARE * by_blocks + (1 - JACKKNIFE_SHARE) * _half_error(halves) ** 2


def _half_error(halves: Array) -> float:
    return float(np.sqrt(((halves[0::2] - halves[1::2]) ** 2).mean()) / 2)


def _quantile(codes: Codes) -> float:
    return float(special.stdtrit(int(codes.max()), 0.975))


def _wilson(value: float, variance: float, quantile: float, codes: Codes, most: int, method: str) -> Estimate:
    """Unlike value ± t · error it stays within [0, 1], and has a width where all rows agree: groups count there."""
    n_groups = int(codes.max()) + 1
    p = min(max(value, 0.0), 1.0)
    spread = p * (1 - p)
    worth = float(np.clip(spread / variance, 1.0, most)) if spread > 0 and variance > 0 else float(n_groups)
    t = quantile**2 / worth
    middle, half = (p + t / 2) / (1 + t), np.sqrt(t * spread + t**2 / 4) / (1 + t)
    low, high = min(max(middle - half, 0.0), p), max(min(middle + half, 1.0), p)
    return Estimate(p, float(low), float(high), 0.95, len(codes), n_groups, method)

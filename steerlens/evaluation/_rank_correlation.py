"""Rank correlations with intervals: over concepts, each measured once, and over questions that come in groups."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]

LEAST_CONCEPTS = 5
"""Fewer points than this give an interval nobody should read."""


def agreement(first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Spearman correlation over concepts of two measures, such as effects on chosen and on open-ended answers.

    The interval is Fisher's with the standard error of Bonett and Wright, √((1 + ρ²/2)/(n − 3)) on the scale of
    arctanh; it takes concepts for independent. Of ranks that agree wholly (|ρ| = 1) the scale knows no width, and the
    near end of the interval is that of the next lower correlation which n ranks can have.

    Args:
        first: One number a concept.
        second: Of the same concepts in the same order.
        level: Coverage aimed at.

    Raises:
        EstimateError: If there are fewer than five concepts, numbers that are not finite, or one measure is constant.

    References:
        bonett2000, equation for Spearman's coefficient.
    """
    x, y = _checked(first, second)
    n = len(x)
    if n < LEAST_CONCEPTS:
        raise EstimateError(f"An agreement needs at least {LEAST_CONCEPTS} concepts, but got {n}. Measure more.")
    rho = float(np.clip(stats.spearmanr(x, y).statistic, -1, 1))
    whole = abs(rho) > 1 - 1e-12
    near = np.sign(rho) * (1 - 12 / (n**3 - n)) if whole else rho
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + near**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(near) - half), np.tanh(np.arctanh(near) + half)
    if whole:
        low, high = (low, 1.0) if rho > 0 else (-1.0, high)
    return Estimate(rho, float(low), float(high), level, n, n, "Spearman, Bonett–Wright")


def clustered_spearman(
    first: npt.ArrayLike, second: npt.ArrayLike, groups: Sequence[Hashable], *, seed: int
) -> Estimate:
    """Spearman correlation over questions, with a cluster-bootstrap interval; ranks are found anew in each resample.

    Raises:
        EstimateError: If there are fewer than five groups, numbers that are not finite, or one measure is constant.
    """
    x, y = _checked(first, second)

    def rho(weights: Array) -> Array:
        a, b = _centred_ranks(x, weights), _centred_ranks(y, weights)
        between = (weights * a * b).sum(axis=1)
        spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
        # A resample in which one measure is constant shows no correlation.
        out: Array = np.divide(between, spread, out=np.zeros_like(between), where=spread > 0)
        return out

    return bootstrap(rho, [groups], seed=seed, bounds=(-1.0, 1.0))


def _centred_ranks(values: Array, weights: Array) -> Array:
    """Mid-ranks of a sample in which value i stands ``weights[:, i]`` times, less their mean."""
    distinct, which = np.unique(values, return_inverse=True)
    times = weights @ (which[:, None] == np.arange(len(distinct)))
    rank = times.cumsum(axis=1) - times / 2
    centred: Array = rank[:, which] - weights.sum(axis=1, keepdims=True) / 2
    return centred


def _checked(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise EstimateError(
            f"A correlation needs two lists of finite numbers of one length, but got shapes {x.shape} and {y.shape}."
        )
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise EstimateError("A rank correlation needs two measures that vary, but one of them is the same throughout.")
    return x, y

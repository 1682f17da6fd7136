"""Rank correlation over questions, which come in groups; over concepts see `steerlens.numerics.spearman`."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]


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

"""P-values of several tests together."""

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import OptionError

Array = npt.NDArray[np.float64]


def holm(p_values: npt.ArrayLike) -> Array:
    """P-values adjusted by Holm: rejecting those up to 0.05 is wrong anywhere with probability at most 0.05.

    For the hypotheses named beforehand. Holds whatever the dependence between the tests.

    Args:
        p_values: Shape (n,).

    Raises:
        OptionError: If there is none, or one is not in [0, 1].

    References:
        holm1979.
    """
    p = _probabilities(p_values)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: npt.ArrayLike) -> Array:
    """P-values adjusted by Benjamini and Hochberg: of those up to q, on average at most the share q is wrong.

    For grids that are explored. Holds for independent tests, and where dependence is positive.

    Args:
        p_values: Shape (n,).

    Raises:
        OptionError: If there is none, or one is not in [0, 1].

    References:
        benjamini1995.
    """
    adjusted: Array = np.asarray(stats.false_discovery_control(_probabilities(p_values)), dtype=np.float64)
    return adjusted


def _probabilities(p_values: npt.ArrayLike) -> Array:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise OptionError(f"Expected one row of p-values between 0 and 1, but got {p.tolist()}.")
    return p

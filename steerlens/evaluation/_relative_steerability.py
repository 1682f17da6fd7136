"""Does a map steer other data as it steers its own?"""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import RankCorrelation, spearman

Array = npt.NDArray[np.float64]

MIN_BASE = 0.25
"""Data that their own map steers by less than this, in nats per unit of strength, are left out, as published."""


@final
@dataclass(frozen=True, eq=False)
class RelativeSteerability:
    """Steerability of data by maps of other data.

    Args:
        relative: s(map of A, data B) / s(map of B, data B), shape (map, data); 1 on the diagonal, and NaN in the
            columns of data that are left out.
        kept: Which data are not left out, shape (data,).
        in_distribution: s(map of A, data A) of the maps whose data are kept.
        out_of_distribution: Mean of s(map of A, data B) over all other kept data B.
        id_ood: Spearman's correlation of the two over maps; None with fewer than five kept. Maps of one concept share
            data, which its interval does not know.
    """

    relative: Array
    kept: npt.NDArray[np.bool_]
    in_distribution: Array
    out_of_distribution: Array
    id_ood: RankCorrelation | None


def relative_steerability(slopes: npt.ArrayLike) -> RelativeSteerability:
    """Relative steerability of every pair of a map and data.

    Norms of the maps should be matched before: a longer vector steers everything more.

    Args:
        slopes: Shape (map, data), in one order: [a, b] is the mean slope on data b of the map fitted to data a.

    Raises:
        OptionError: If the matrix is not square, of at least two.
        EstimateError: If a slope is not finite, or fewer than two data are steered by their own maps.

    References:
        tan2024 (section 6).
    """
    s = np.asarray(slopes, dtype=np.float64)
    if s.ndim != 2 or s.shape[0] != s.shape[1] or len(s) < 2:
        raise OptionError(f"Expected slopes of shape (map, data), as many maps as data, but got {s.shape}.")
    if not np.isfinite(s).all():
        raise EstimateError(f"{int((~np.isfinite(s)).sum())} slopes are NaN or infinite. Measure them first.")
    own = np.diag(s)
    kept = own >= MIN_BASE
    if kept.sum() < 2:
        raise EstimateError(
            f"{int(kept.sum())} of {len(s)} data are steered by their own map by {MIN_BASE} nats or more; relative "
            "steerability needs two."
        )
    relative = np.full(s.shape, np.nan)
    relative[:, kept] = s[:, kept] / own[kept]
    inside = s[np.ix_(kept, kept)]
    elsewhere = (inside.sum(axis=1) - np.diag(inside)) / (len(inside) - 1)
    correlation = spearman(own[kept], elsewhere) if len(inside) >= 5 else None
    return RelativeSteerability(relative, kept, own[kept], elsewhere, correlation)

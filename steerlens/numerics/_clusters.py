"""Values summed up by cluster, where a cluster is what was drawn and counts once."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._codes import codes_of
from steerlens.numerics._resample import MIN_CLUSTERS

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def finite_values(values: npt.ArrayLike, name: str = "values") -> Array:
    """Values as one row in float64, checked to be finite.

    Raises:
        OptionError: If they are not one row.
        EstimateError: If one is NaN or infinite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise OptionError(f"Expected one row of {name}, but got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise EstimateError(f"{int((~np.isfinite(x)).sum())} of {len(x)} {name} are NaN or infinite. Look where from.")
    return x


def cluster_codes(clusters: Sequence[Hashable], n: int) -> Codes:
    """Clusters as numbers, in order of appearance.

    Raises:
        OptionError: If there is not one cluster for each value.
        EstimateError: If there are fewer than five.
    """
    if len(clusters) != n:
        raise OptionError(f"Each of the {n} values needs a cluster, but got {len(clusters)} clusters.")
    codes = codes_of(clusters)
    count = int(codes.max(initial=-1)) + 1
    if count < MIN_CLUSTERS:
        raise EstimateError(f"Needs at least {MIN_CLUSTERS} clusters, but got {count} (n = {n}). Measure on more.")
    return codes


def cluster_means(values: npt.ArrayLike, clusters: Sequence[Hashable]) -> Array:
    """Mean of each cluster, in order of appearance.

    Raises:
        OptionError: If there is not one cluster for each value.
        EstimateError: If a value is not finite, or there are fewer than five clusters.
    """
    x = finite_values(values)
    codes = cluster_codes(clusters, len(x))
    means: Array = np.bincount(codes, x) / np.bincount(codes)
    return means

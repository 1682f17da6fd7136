"""Whether activations curve: paths along the data against straight lines, and how its tangents turn."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.numerics import Estimate
from steerlens.probes._groups import group_codes, group_halves
from steerlens.probes._jackknife import half_samples
from steerlens.probes._pairs import finite_rows

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

N_LANDMARKS = 24
"""Rows from which paths are measured; from all rows they would take n/24 times as long."""


@final
@dataclass(frozen=True)
class CurvatureReport:
    """How much a cloud of rows curves, beside Gaussian clouds of the same covariance, which do not.

    Args:
        distortion: Mean length of shortest paths along the graph of nearest neighbours over mean straight distance, at
            least 1. Paths over a finite flat cloud zigzag, so that its reference is above 1, too.
        flat_distortion: Mean of that for Gaussian clouds.
        p_distortion: Share of Gaussian clouds, this one included, with as much.
        tangent_variation: Mean squared sine of the principal angles between tangent planes of neighbours, in [0, 1].
            Where noise is as wide as the neighbourhoods it is large for flat clouds, too, and even larger.
        flat_variation: Mean of that for Gaussian clouds.
        turning: How much more tangent planes differ between far rows than between neighbours, in [−1, 1]: near planes
            that agree while far ones do not are those of a curve.
        flat_turning: Mean of that for Gaussian clouds.
        p_turning: Share of Gaussian clouds, this one included, with as much.
        rank: Principal components in which all this is measured.
        neighbours: k.
        n: Rows.
        n_clusters: Groups.
    """

    distortion: Estimate
    flat_distortion: float
    p_distortion: float
    tangent_variation: Estimate
    flat_variation: float
    turning: Estimate
    flat_turning: float
    p_turning: float
    rank: int
    neighbours: int
    n: int
    n_clusters: int

    def __str__(self) -> str:
        lines = (
            f"Curvature in {self.rank} principal components ({self.n} rows in {self.n_clusters} groups)",
            f"  path over distance  {self.distortion}, flat {self.flat_distortion:.3g} (p = {self.p_distortion:.2g})",
            f"  tangent variation   {self.tangent_variation}, flat {self.flat_variation:.3g}",
            f"  turning             {self.turning}, flat {self.flat_turning:.3g} (p = {self.p_turning:.2g})",
        )
        return "\n".join(lines)


def curvature_report(
    x: Float[Tensor, "n d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    neighbours: int = 10,
    rank: int = 10,
    tangent: int = 1,
    n_samples: int = 99,
) -> CurvatureReport:
    """Compare a cloud with Gaussian clouds of the same covariance, between and within groups.

    Any departure from a Gaussian that lengthens paths counts, clusters included: the test refutes "flat and Gaussian",
    not "flat". Look at the plane as well.

    Args:
        x: Rows, or means of classes.
        groups: The group of each row.
        seed: Of landmarks and Gaussian clouds.
        neighbours: k of the graph and of the tangent planes.
        rank: Leading principal components to keep; the noise of the others lengthens every distance.
        tangent: Dimensions of a tangent plane, below ``rank``.
        n_samples: Gaussian clouds.

    Raises:
        ActivationError: If rows are not finite.
        OptionError: If there is not one group for each row, or an option is out of range.
        FitError: If rows do not vary, or there are not more of them than neighbours.
        EstimateError: If there are fewer than five groups.

    References:
        tenenbaum2000 (paths along a graph).
    """
    rows = finite_rows(x)
    codes = group_codes(groups, len(rows))
    if len(rows) <= neighbours + 1 or neighbours < 2:
        raise OptionError(f"neighbours must be at least 2 and below {len(rows) - 1}, but got {neighbours}.")
    z = principal_coordinates(rows, rank)
    if not 1 <= tangent < max(z.shape[1], 2):
        raise OptionError(f"tangent must be at least 1 and below the rank {z.shape[1]}, but got {tangent}.")
    rng = np.random.default_rng(seed)
    landmarks = rng.permutation(len(z))[:N_LANDMARKS]
    found = _statistics(z, landmarks, neighbours, tangent)
    null = np.array(
        [_statistics(cloud, landmarks, neighbours, tangent) for cloud in matched_gaussian(z, codes, rng, n_samples)]
    )
    halves = np.array([_of_part(z, landmarks, half, neighbours, tangent) for half in group_halves(codes, seed)])
    distortion, variation, turning = (
        half_samples(v, o, codes, within=w)
        for v, o, w in zip(found, halves.T, ((1.0, np.inf), (0.0, 1.0), (-1.0, 1.0)), strict=True)
    )
    p_distortion, _, p_turning = ((1 + (null >= found - 1e-9).sum(axis=0)) / (1 + n_samples)).tolist()
    flat = null.mean(axis=0)
    return CurvatureReport(
        distortion=distortion,
        flat_distortion=float(flat[0]),
        p_distortion=p_distortion,
        tangent_variation=variation,
        flat_variation=float(flat[1]),
        turning=turning,
        flat_turning=float(flat[2]),
        p_turning=p_turning,
        rank=z.shape[1],
        neighbours=neighbours,
        n=len(z),
        n_clusters=int(codes.max()) + 1,
    )


def principal_coordinates(x: Tensor, rank: int) -> Array:
    """Centred rows in their leading principal components, those without variance left out.

    Raises:
        FitError: If rows do not vary.
        OptionError: If ``rank`` is below 1.
    """
    if rank < 1:
        raise OptionError(f"rank must be at least 1, but got {rank}.")
    centred = (x - x.mean(dim=0)).numpy()
    small = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    values, vectors = np.linalg.eigh(small)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    keep = values > 1e-12 * max(values[0], 0.0)
    if not keep.any() or values[0] <= 1e-18 * float((x**2).sum()):
        raise FitError("Shape needs rows that vary, but all are equal.")
    coordinates: Array = (
        vectors[:, keep] * np.sqrt(values[keep]) if small.shape[0] == len(centred) else centred @ vectors[:, keep]
    )
    return coordinates


def matched_gaussian(z: Array, codes: Codes, rng: np.random.Generator, n_samples: int) -> list[Array]:
    """Gaussian clouds with the rows' covariance between and within groups (analysis of variance)."""
    x = z - z.mean(axis=0)
    sizes = np.bincount(codes).astype(float)
    n, k = len(x), len(sizes)
    if k == n:
        root = _root(x.T @ x / (n - 1))
        return [rng.normal(size=x.shape) @ root for _ in range(n_samples)]
    means = np.stack([np.bincount(codes, column) for column in x.T], axis=1) / sizes[:, None]
    left = x - means[codes]
    within = left.T @ left / (n - k)
    size = (n - (sizes**2).sum() / n) / (k - 1)
    between = ((means.T * sizes) @ means / (k - 1) - within) / size
    inner, outer = _root(within), _root(between)
    return [rng.normal(size=x.shape) @ inner + (rng.normal(size=means.shape) @ outer)[codes] for _ in range(n_samples)]


def _root(cov: Array) -> Array:
    """Symmetric root of the positive part."""
    values, vectors = np.linalg.eigh(cov)
    root: Array = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _statistics(z: Array, landmarks: Codes, k: int, tangent: int, *, k_paths: int | None = None) -> Array:
    """Distortion, tangent variation and turning; paths may go along fewer or more neighbours than planes have."""
    squared = (z**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared - 2 * z @ z.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    near, along = (np.argpartition(distance, m, axis=1)[:, :m] for m in (k, k_paths or k))
    planes = _tangent_planes(z, near, tangent)
    straight = distance[landmarks]
    far = np.isfinite(straight)
    paths = csgraph.dijkstra(_graph(distance, along), directed=False, indices=landmarks)
    neighbour = _unlike(planes[:, None], planes[near]).mean()
    others = _unlike(planes[landmarks][:, None], planes[None])[far].mean()
    return np.array([paths[far].mean() / max(straight[far].mean(), 1e-300), neighbour, others - neighbour])


def _of_part(z: Array, landmarks: Codes, keep: npt.NDArray[np.bool_], k: int, tangent: int) -> Array:
    """Statistics of some rows, from those landmarks that are among them, or from all where none is.

    With fewer rows, planes have fewer neighbours, so that neighbourhoods stay about as wide: with k as it is, wider
    ones hid half of the noise of a half, and intervals covered 0.62 at 200 rows. Paths lose fewer, for with few
    neighbours they jump across gaps. The powers are those at which intervals cover (docs/calibration.md).
    """
    places = np.cumsum(keep) - 1
    some = landmarks[keep[landmarks]]
    chosen = places[some] if len(some) else np.arange(int(keep.sum()))
    share, most = float(keep.mean()), int(keep.sum()) - 2
    of_planes, of_paths = (min(max(2, round(k * share**power)), most) for power in (0.75, 0.5))
    return _statistics(z[keep], chosen, of_planes, tangent, k_paths=of_paths)


def _graph(distance: Array, near: Codes) -> sparse.csr_array:
    """Nearest neighbours, and where these leave parts unconnected the shortest edges that connect everything."""
    n, k = near.shape
    lengths = np.maximum(np.take_along_axis(distance, near, axis=1).ravel(), 1e-300)
    graph = sparse.csr_array((lengths, near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    if csgraph.connected_components(graph, directed=False)[0] > 1:
        finite = np.where(np.isfinite(distance), np.maximum(distance, 1e-300), 0.0)
        graph = graph.maximum(sparse.csr_array(csgraph.minimum_spanning_tree(finite)))
    return graph


def _tangent_planes(z: Array, near: Codes, tangent: int) -> Array:
    """Leading local principal components of each row with its neighbours, shape (n, rank, tangent)."""
    around = np.concatenate([z[:, None], z[near]], axis=1)
    around = around - around.mean(axis=1, keepdims=True)
    planes: Array = np.linalg.eigh(around.mT @ around)[1][:, :, -tangent:]
    return planes


def _unlike(first: Array, second: Array) -> Array:
    """Mean squared sine of the principal angles of planes."""
    shared = ((first.mT @ second) ** 2).sum(axis=(-1, -2)) / first.shape[-1]
    unlike: Array = 1 - shared
    return unlike

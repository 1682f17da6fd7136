"""Two Gaussian classes of their own covariances, shrunk so that few rows can bear them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steerlens.probes._probe import Scorer

Array = npt.NDArray[np.float64]

POOLING = 0.3
"""α: how far each class's covariance is moved to the pooled one."""

ROUNDNESS = (1.0, 0.1)
"""Values of β: how far each covariance is then moved to a multiple of the identity; at 1 only its size is left."""

AXES_SHRINKAGE = 0.1
"""How far `two_axes_score` moves the pooled covariance to a multiple of the identity, and variances to shared ones."""

FLOOR = 1e-6
"""Least variance, in coordinates of variance 1: classes may be points."""


def discriminant_score(fit: Array, y: npt.NDArray[np.int64], rank: int, roundness: float) -> Scorer:
    """log N(u; μ₁, S₁) − log N(u; μ₀, S₀) in the leading coordinates u, each scaled to variance 1.

    Sₖ ← (1 − α) Sₖ + α S_pooled, then Sₖ ← (1 − β) Sₖ + β tr(Sₖ)/r · I. Where β is 1 this is a linear function and
    squared lengths: two Gaussians that differ in mean and size, however many coordinates there are.

    Args:
        fit: Coordinates of the rows to fit, largest variance first.
        y: Their labels; both must occur.
        rank: Leading coordinates, r.
        roundness: β.

    References:
        friedman1989 (regularised discriminant analysis; his λ is α, his γ is β).
    """
    classes = _classes(fit, y, rank)
    pooled = _pooled(classes)
    covs = [_rounded((1 - POOLING) * c.cov + POOLING * pooled, roundness) for c in classes]
    spectra = [np.linalg.eigh(cov) for cov in covs]
    return _log_ratio(classes, [v for _, v in spectra], [s for s, _ in spectra])


def two_axes_score(fit: Array, y: npt.NDArray[np.int64], rank: int) -> Scorer:
    """The same of two Gaussians whose covariances differ along two axes only, found from the rows.

    Where BᵀS_pooled B = I and Bᵀ(S₁ − S₀)B is diagonal, both classes are uncorrelated along the columns of B. Along
    the two where they differ most each keeps its own variance, shrunk by a tenth; along the others they share one. Two
    axes hold one product, so that exclusive or is found with fewer rows than all products need.

    Args:
        fit: Coordinates of the rows to fit, largest variance first.
        y: Their labels; both must occur.
        rank: Leading coordinates that the axes are found in.

    References:
        fukunaga1990 (simultaneous diagonalisation).
    """
    classes = _classes(fit, y, rank)
    values, vectors = np.linalg.eigh(_rounded(_pooled(classes), AXES_SHRINKAGE))
    root = vectors / np.sqrt(values)
    differences, turned = np.linalg.eigh(root.T @ (classes[1].cov - classes[0].cov) @ root)
    B = root @ turned[:, np.argsort(-np.abs(differences), kind="stable")]
    variances = np.stack([((B.T @ c.cov) * B.T).sum(axis=1) for c in classes])
    shared = variances.mean(axis=0)
    variances = (1 - AXES_SHRINKAGE) * variances + AXES_SHRINKAGE * shared + FLOOR
    variances[:, 2:] = shared[2:] + FLOOR
    return _log_ratio(classes, [B, B], list(variances))


class _Class(NamedTuple):
    """Rows of one label in scaled coordinates: how many, their mean and covariance, and the scale."""

    n: int
    mean: Array
    cov: Array
    scale: Array


def _classes(fit: Array, y: npt.NDArray[np.int64], rank: int) -> tuple[_Class, _Class]:
    scale = np.maximum(fit[:, :rank].std(axis=0), np.finfo(np.float64).tiny)
    absent, present = (fit[y == k, :rank] / scale for k in (0, 1))
    return _class(absent, scale), _class(present, scale)


def _class(u: Array, scale: Array) -> _Class:
    mean = u.mean(axis=0)
    return _Class(len(u), mean, (u - mean).T @ (u - mean) / len(u), scale)


def _pooled(classes: Sequence[_Class]) -> Array:
    return np.average([c.cov for c in classes], axis=0, weights=[c.n for c in classes])


def _rounded(cov: Array, roundness: float) -> Array:
    """(1 − β) S + β tr(S)/r · I, and the floor."""
    size = np.trace(cov) / len(cov)
    found: Array = (1 - roundness) * cov + (roundness * size + FLOOR) * np.eye(len(cov))
    return found


def _log_ratio(classes: Sequence[_Class], axes: Sequence[Array], variances: Sequence[Array]) -> Scorer:
    """log of the second class's density over the first's, each a Gaussian uncorrelated along its axes."""

    def score(z: Array) -> Array:
        absent, present = (
            (((z[:, : len(c.mean)] / c.scale - c.mean) @ B) ** 2 / v).sum(axis=1) + np.log(v).sum()
            for c, B, v in zip(classes, axes, variances, strict=True)
        )
        found: Array = (absent - present) / 2
        return found

    return score

"""Rows standardised and turned into the span of the rows that a probe is fitted on, where n is small and d large."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import FitError
from steerlens.probes._rows import LabelledRows

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest count as zero: a Gram matrix in float64 holds no smaller ones."""


@final
@dataclass(frozen=True, eq=False)
class Span:
    """Standardised coordinates along the principal axes of some rows.

    z = Vᵀ (x − mean) / scale, in as many dimensions as the rows span. A method whose answer turns with the data and
    lies in their span (ridge penalties, distances, kernels, gradient descent from zero) loses nothing by it, and a
    matrix of n × d becomes one of n × rank.

    Args:
        mean: Of the rows, shape (d_model,).
        scale: Standard deviations, 1 where a coordinate does not vary, shape (d_model,).
        axes: V, shape (d_model, rank).
        singular: Singular values of the standardised rows, largest first, shape (rank,).
    """

    mean: Array
    scale: Array
    axes: Array
    singular: Array

    @classmethod
    def of(cls, x: Array) -> "Span":
        """The span of the rows of ``x``, shape (n, d_model).

        Raises:
            FitError: If the rows do not vary.
        """
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        varies = deviation > 1e-12 * max(float(np.abs(x).max()), np.finfo(np.float64).tiny)
        if not varies.any():
            raise FitError(f"A probe needs rows that vary, but all {len(x)} are equal.")
        scale = np.where(varies, deviation, 1.0)
        z = np.where(varies, (x - mean) / scale, 0.0)
        axes, singular = principal_axes(z)
        return cls(mean, scale, axes, singular)

    @property
    def rank(self) -> int:
        """Number of coordinates."""
        return int(self.axes.shape[1])

    def coordinates(self, x: Array) -> Array:
        """Shape (n, d_model) → (n, rank)."""
        found: Array = ((x - self.mean) / self.scale) @ self.axes
        return found


def principal_axes(z: Array) -> tuple[Array, Array]:
    """Right singular vectors and singular values of centred rows, by the smaller Gram matrix; null ones left out."""
    n, d = z.shape
    values, vectors = np.linalg.eigh(z @ z.T if n < d else z.T @ z)
    singular = np.sqrt(np.maximum(values[::-1], 0.0))
    keep = singular > RANK_TOLERANCE * singular[0]
    singular, vectors = singular[keep], vectors[:, ::-1][:, keep]
    axes = z.T @ vectors / singular if n < d else vectors
    return axes, singular


@final
@dataclass(frozen=True, eq=False)
class FitData:
    """What a probe sees while it is fitted: rows to fit, and rows to choose and recalibrate by.

    Args:
        span: Of the rows to fit.
        fit: Their coordinates, shape (n, rank).
        select: Coordinates of the others, shape (m, rank).
    """

    span: Span
    fit: Array
    select: Array

    @classmethod
    def of(cls, fit: LabelledRows, select: LabelledRows) -> "FitData":
        """Standardise and turn both by what the rows to fit are.

        Raises:
            FitError: If the widths differ, or the rows to fit do not vary.
        """
        if fit.x.shape[1] != select.x.shape[1]:
            raise FitError(
                f"A probe needs rows of one width, but got {fit.x.shape[1]} to fit and {select.x.shape[1]} to select."
            )
        return cls.of_features(fit.features(), select.features())

    @classmethod
    def of_features(cls, fit: Array, select: Array) -> "FitData":
        """The same from arrays, shapes (n, d_model) and (m, d_model).

        Raises:
            FitError: If the rows to fit do not vary.
        """
        span = Span.of(fit)
        return cls(span, span.coordinates(fit), span.coordinates(select))


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """The labels to be told apart, and the seed of whatever is random.

    Args:
        y: Labels of the rows to fit, shape (n,).
        select_y: Labels of the rows to select by, shape (m,).
        seed: Of initial weights.
    """

    y: Labels
    select_y: Labels
    seed: int

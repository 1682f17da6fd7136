"""Kernel ridge regression with a free mean, fitted without each fold, and without each of many blocks at no cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import linalg

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]

N_FOLDS = 5
"""Folds of groups: predictors are fitted on four parts and judged on the fifth."""

PENALTIES = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
"""Of ridge regression, as shares of the trace of its kernel over n."""


@final
@dataclass(frozen=True, eq=False)
class Kernel:
    """Similarities of rows: a matrix, or Z Zᵀ of few columns, for which fitting costs n · rank² and not n³.

    Args:
        K: Shape (n, n), or None.
        Z: Shape (n, rank), or None.
    """

    K: Array | None = None
    Z: Array | None = None

    def between(self, at: Rows, fit: Rows) -> Array:
        """Similarities of some rows to others, shape (at, fit)."""
        if self.Z is not None:
            return np.asarray(self.Z[at] @ self.Z[fit].T)
        assert self.K is not None
        return np.asarray(self.K[np.ix_(at, fit)])

    def solver(self, fit: Rows, ridge: float) -> Callable[[Array], Array]:
        """(K + ridge)⁻¹ over some rows, applied to columns."""
        n = int(fit.sum())
        if self.Z is not None:
            Z = self.Z[fit]
            inner = linalg.cho_factor(Z.T @ Z + ridge * np.eye(Z.shape[1]), check_finite=False) if Z.size else None
            if inner is None:
                return lambda columns: columns / ridge
            return lambda columns: (columns - Z @ linalg.cho_solve(inner, Z.T @ columns, check_finite=False)) / ridge
        factor = linalg.cho_factor(self.between(fit, fit) + ridge * np.eye(n), lower=True, check_finite=False)
        return lambda columns: np.asarray(linalg.cho_solve(factor, columns, check_finite=False))


Setting = tuple[Kernel, float]
"""A kernel and its penalty."""


def no_kernel(n: int) -> Kernel:
    """Of the mean alone."""
    return Kernel(Z=np.zeros((n, 0)))


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """A linear smoother fitted on some rows: predictions elsewhere are H y.

    The system that kernel ridge regression with an unpenalised mean solves is [[K + λ, 1], [1ᵀ, 0]]. Of its inverse
    the first block is S = (K + λ)⁻¹ − m mᵀ / Σm with m = (K + λ)⁻¹ 1, and the row below it is m / Σm, so that
    H = K(at, fit) S + m / Σm. Any block B of fitted rows can be taken back without fitting again:
    H₋ᵦ y = H y − H[:, B] S[B, B]⁻¹ (S y)[B].

    Args:
        H: Shape (at, fit).
        solve: (K + λ)⁻¹ applied to columns.
        mean: m, shape (fit,).
    """

    H: Array
    solve: Callable[[Array], Array]
    mean: Array

    @cached_property
    def S(self) -> Array:  # noqa: N802
        """Shape (fit, fit)."""
        return self.solve(np.eye(len(self.mean))) - np.outer(self.mean, self.mean / self.mean.sum())

    def without_each(self, y: Array, blocks: Codes, n_blocks: int) -> Iterator[Array]:
        """Predictions from all fitted rows, and then from all but those of each block in turn, shape (at, column).

        Args:
            y: What is predicted, of the fitted rows.
            blocks: The block of each fitted row.
            n_blocks: How many there are; a block may have no fitted row.
        """
        everything, left = self.H @ y, self.S @ y
        yield everything
        for block in range(n_blocks):
            B = np.flatnonzero(blocks == block)
            yield everything - self.H[:, B] @ np.linalg.solve(self.S[np.ix_(B, B)], left[B]) if len(B) else everything


def fit_rows(setting: Setting, fit: Rows, at: Rows) -> Fit:
    """Kernel ridge regression on the rows ``fit``, for predictions at the rows ``at``."""
    kernel, penalty = setting
    n = int(fit.sum())
    solve = kernel.solver(fit, penalty * n)
    # One column more than there are places to predict: that of ones, whose solution is m.
    solved = solve(np.concatenate([kernel.between(fit, at), np.ones((n, 1))], axis=1)).T
    mean = solved[-1]
    return Fit(solved[:-1] + np.outer(1 - solved[:-1].sum(axis=1), mean / mean.sum()), solve, mean)


def held_out_fits(settings: Sequence[Setting], folds: Codes) -> list[list[Fit]]:
    """For every setting, the fits to all rows but those of one fold, for predictions of these."""
    parts = range(int(folds.max()) + 1)
    return [[fit_rows(setting, folds != part, folds == part) for part in parts] for setting in settings]


def residual_operators(fits: Sequence[Sequence[Fit]], folds: Codes) -> Array:
    """I − H of each setting, where row i of H predicts row i from other folds, shape (setting, n, n)."""
    operators = np.tile(np.eye(len(folds)), (len(fits), 1, 1))
    for operator, parts in zip(operators, fits, strict=True):
        for part, fit in enumerate(parts):
            operator[np.ix_(folds == part, folds != part)] = -fit.H
    return operators


def chosen_settings(squared: Array, folds: Codes, lasts: Sequence[int]) -> Codes:
    """The best setting for each fold by the errors in the others, among the first so many, shape (class_, fold)."""
    in_fold = squared @ np.eye(int(folds.max()) + 1)[folds]
    elsewhere = in_fold.sum(axis=1, keepdims=True) - in_fold
    return np.stack([elsewhere[:last].argmin(axis=0) for last in lasts])

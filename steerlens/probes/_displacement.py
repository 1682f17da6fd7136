"""How much of the displacement of a pair is the same for all, linear in its source, or nonlinear in it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import linalg
from torch import Tensor

from steerlens.errors import ActivationError, FitError
from steerlens.numerics import Estimate
from steerlens.probes._groups import deal_groups, group_blocks, group_codes, group_folds
from steerlens.probes._jackknife import jackknife, share_as_large
from steerlens.probes._pairs import finite_rows, span_coordinates

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Setting = tuple[Array, float]
"""A kernel and its penalty."""

RANKS = (4, 16, None)
"""Leading principal components of the source that predictors may use; None is all of them."""

LINEAR_PENALTIES = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
"""Of ridge regression, as shares of the trace of its kernel over n."""

KERNEL_PENALTIES = (1e-3, 3e-2, 1.0)
"""Of kernel ridge regression, likewise."""

N_FOLDS = 5
"""Folds of groups: predictors are fitted on four parts and judged on the fifth."""


@final
@dataclass(frozen=True)
class DisplacementReport:
    """What predicts the displacement dᵢ from the source hᵢ, as shares of E|d|² on pairs that were held out.

    Each share is what a predictor of its class gains over the best of the class before; they may be slightly negative,
    which is the price of fitting noise. All are what this many pairs can learn, not what there is to know.

    Args:
        constant: Gain of the mean of the other folds over no displacement at all: |Δ|² / E|d|² less noise.
        linear: Gain of ridge regression on h over the mean.
        nonlinear: Gain of kernel ridge regression (a linear plus a Gaussian kernel) over ridge regression.
        unexplained: What is left: noise, and whatever these predictors cannot learn from so many pairs.
        p_linear: Permutation p-value of the linear gain: displacements are dealt anew to groups of sources.
        p_nonlinear: Of the nonlinear gain: the residuals of the linear fit are dealt anew.
        n: Pairs.
        n_clusters: Groups.
    """

    constant: Estimate
    linear: Estimate
    nonlinear: Estimate
    unexplained: Estimate
    p_linear: float
    p_nonlinear: float
    n: int
    n_clusters: int

    def __str__(self) -> str:
        lines = (
            f"Displacements of {self.n} pairs in {self.n_clusters} groups, shares of E|d|² on held-out pairs",
            f"  constant     {self.constant}",
            f"  linear       {self.linear} (p = {self.p_linear:.2g})",
            f"  nonlinear    {self.nonlinear} (p = {self.p_nonlinear:.2g})",
            f"  unexplained  {self.unexplained}",
        )
        return "\n".join(lines)


def displacement_report(
    source: Float[Tensor, "pair d_model"],
    displacements: Float[Tensor, "pair d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    n_permutations: int = 199,
) -> DisplacementReport:
    """Split the second moment of displacements into constant, linear and nonlinear functions of the source, and rest.

    Ranks and penalties are chosen for each fold by the errors in the other folds. The p-values take for each dealing
    the best of all settings, as they do for the data, so that choosing costs nothing.

    A class of functions is one thing, the data another: a sign that two clusters carry is a linear function of where
    the clusters lie, so that ``xor2`` and ``ctx`` are mostly linear.

    Args:
        source: Activations h without the concept.
        displacements: Target minus source, of the same pairs.
        groups: The group of each pair.
        seed: Of folds, resamples and dealings.
        n_permutations: Dealings for each p-value.

    Raises:
        ActivationError: If rows do not match, or are not finite.
        FitError: If all displacements are zero.
        OptionError: If there is not one group for each pair.
        EstimateError: If there are fewer than five groups.

    References:
        hoerl1970 (ridge regression); saunders1998 (kernel ridge regression); freedman1983 (permuting residuals).
    """
    if source.shape != displacements.shape:
        raise ActivationError(
            f"Every source needs a displacement, but got {tuple(source.shape)} and {tuple(displacements.shape)}."
        )
    h, d = span_coordinates(finite_rows(source)), span_coordinates(finite_rows(displacements))
    if not d.any():
        raise FitError("All displacements are zero: source and target rows are equal. Nothing is left to explain.")
    codes = group_codes(groups, len(h))
    folds, blocks = group_folds(codes, N_FOLDS, seed), group_blocks(codes)
    linear, kernel = _kernels(h)
    settings = [
        (np.zeros_like(linear[0]), 1.0),
        *((K, penalty) for K in linear for penalty in LINEAR_PENALTIES),
        *((K, penalty) for K in kernel for penalty in KERNEL_PENALTIES),
    ]
    n_linear = 1 + len(linear) * len(LINEAR_PENALTIES)
    fits = held_out_fits(settings, folds)
    residual = residual_operators(fits, folds)
    squared = np.stack([((R @ d) ** 2).sum(axis=1) for R in residual])
    chosen, total = chosen_settings(squared, folds, (1, n_linear, len(settings))), (d**2).sum(axis=1)

    def shares(block: int) -> Array:
        left_out = blocks == block
        return _shares(_errors(fits, chosen, d, folds, left_out), total, ~left_out)

    left_out = np.stack([shares(block) for block in range(int(blocks.max()) + 1)])
    estimates = [jackknife(v, o, codes) for v, o in zip(shares(-1), left_out.T, strict=True)]
    p_linear, p_nonlinear = _p_values(residual, d, settings[:n_linear], deal_groups(codes, n_permutations, seed))
    return DisplacementReport(
        constant=estimates[0],
        linear=estimates[1],
        nonlinear=estimates[2],
        unexplained=estimates[3],
        p_linear=p_linear,
        p_nonlinear=p_nonlinear,
        n=len(d),
        n_clusters=int(codes.max()) + 1,
    )


def _kernels(h: Array) -> tuple[list[Array], list[Array]]:
    """Linear kernels on leading components, and each of them plus a Gaussian one on the same; traces are n."""
    x = h - h.mean(axis=0)
    gram, n = x @ x.T, len(x)
    largest = max(rank for rank in RANKS if rank is not None)
    values, vectors = linalg.eigh(gram, subset_by_index=(max(n - largest, 0), n - 1))
    leading = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0))
    linear, kernel = [], []
    for rank in (rank for rank in RANKS if rank is None or rank < h.shape[1]):
        z = leading[:, :rank]
        K = gram.copy() if rank is None else z @ z.T
        squared = np.maximum(K.diagonal()[:, None] + K.diagonal() - 2 * K, 0.0)
        width = np.median(squared[~np.eye(n, dtype=bool)])
        K *= n / max(float(K.trace()), 1e-300)
        linear.append(K)
        kernel.append(K / 2 + np.exp(-squared / max(float(width), 1e-300)) / 2)
    return linear, kernel


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """A linear smoother fitted on some pairs: predictions elsewhere are H d.

    The system that kernel ridge regression with an unpenalised mean solves is [[K + λ, 1], [1ᵀ, 0]]. Of its inverse
    the first block is S = (K + λ)⁻¹ − m mᵀ / Σm with m = (K + λ)⁻¹ 1, and the row below it is m / Σm, so that
    H = K(at, fit) S + m / Σm. Any block B of fitted pairs can be taken back without fitting again:
    H₋ᵦ = H − H[:, B] S[B, B]⁻¹ S[B, :], for which S is solved for these rows alone.

    Args:
        H: Shape (at, fit).
        factor: Lower Cholesky factor of K + λ over the fitted pairs.
        mean: m, shape (fit,).
    """

    H: Array
    factor: Array
    mean: Array

    def without(self, block: npt.NDArray[np.bool_]) -> Array:
        """H of the fit without these pairs; their columns are zero."""
        if not block.any():
            return self.H
        rows = linalg.cho_solve((self.factor, True), np.eye(len(block))[:, block], check_finite=False).T
        rows -= np.outer(self.mean[block], self.mean) / self.mean.sum()
        H: Array = self.H - self.H[:, block] @ np.linalg.solve(rows[:, block], rows)
        H[:, block] = 0.0
        return H


def _fit(K: Array, penalty: float, fit: npt.NDArray[np.bool_], at: npt.NDArray[np.bool_]) -> Fit:
    """Kernel ridge regression on the pairs ``fit``, for predictions at the pairs ``at``."""
    n = int(fit.sum())
    factor = linalg.cholesky(K[np.ix_(fit, fit)] + penalty * n * np.eye(n), lower=True, check_finite=False)
    # One row more than there are places to predict: that of ones, whose solution is m.
    wanted = np.concatenate([K[np.ix_(at, fit)], np.ones((1, n))])
    solved = linalg.cho_solve((factor, True), wanted.T, check_finite=False).T
    mean = solved[-1]
    return Fit(solved[:-1] + np.outer(1 - solved[:-1].sum(axis=1), mean / mean.sum()), factor, mean)


def held_out_fits(settings: Sequence[Setting], folds: Codes) -> list[list[Fit]]:
    """For every setting, the fits to all pairs but those of one fold, for predictions of these."""
    parts = range(int(folds.max()) + 1)
    return [[_fit(K, penalty, folds != part, folds == part) for part in parts] for K, penalty in settings]


def residual_operators(fits: Sequence[Sequence[Fit]], folds: Codes) -> Array:
    """I − H of each setting, where row i of H predicts pair i from other folds, shape (setting, n, n)."""
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


def _errors(
    fits: Sequence[Sequence[Fit]], chosen: Codes, d: Array, folds: Codes, left_out: npt.NDArray[np.bool_]
) -> Array:
    """Squared error of each pair under the best predictor of each class, shape (class_, n), fitted without some."""
    errors = np.empty((len(chosen), len(d)))
    for part in range(chosen.shape[1]):
        at, fit = folds == part, folds != part
        for setting in set(chosen[:, part]):
            predicted = fits[setting][part].without(left_out[fit]) @ d[fit]
            errors[np.ix_(chosen[:, part] == setting, at)] = ((d[at] - predicted) ** 2).sum(axis=1)
    return errors


def _shares(errors: Array, total: Array, keep: npt.NDArray[np.bool_]) -> Array:
    """Constant, linear and nonlinear gain and the rest, as shares of the second moment of the kept pairs."""
    steps = np.concatenate([[total[keep].sum()], errors[:, keep].sum(axis=1), [0.0]])
    shares: Array = -np.diff(steps) / steps[0]
    return shares


def _p_values(residual: Array, d: Array, linear: Sequence[Setting], dealt: Codes) -> tuple[float, float]:
    """Of the largest linear gain over the mean, and of the largest further gain of a kernel."""
    n, last = len(d), len(linear)
    quadratic = np.stack([R.T @ R for R in residual]).reshape(len(residual), -1)

    def gains(grams: Array) -> Array:
        """Linear and further gain for each Gram matrix of displacements."""
        found = quadratic @ grams.reshape(-1, n * n).T
        best = np.minimum(found[1:last].min(axis=0), found[0])
        gained: Array = np.stack([found[0] - found[1:last].min(axis=0), best - found[last:].min(axis=0)])
        return gained

    G = d @ d.T
    found = gains(G[None])[:, 0]
    F, left = _linear_fit(residual, d, linear, int((quadratic[:last] @ G.ravel()).argmin()))
    FF, FE, EE = F @ F.T, F @ left.T, left @ left.T
    null = []
    at_once = max(8, 400_000 // (n * n))
    for chunk in np.array_split(dealt, -(-len(dealt) // at_once)):
        moved = np.stack([G.take(p, axis=0).take(p, axis=1) for p in chunk])
        cross = np.stack([FE.take(p, axis=1) for p in chunk])
        refitted = np.stack([EE.take(p, axis=0).take(p, axis=1) for p in chunk]) + FF + cross + cross.mT
        null.append(np.stack([gains(moved)[0], gains(refitted)[1]]))
    dealings, scale = np.concatenate(null, axis=1), float(G.trace())
    return share_as_large(dealings[0], float(found[0]), scale), share_as_large(dealings[1], float(found[1]), scale)


def _linear_fit(residual: Array, d: Array, linear: Sequence[Setting], best: int) -> tuple[Array, Array]:
    """A linear function of the sources for the null, and what the best predictor leaves on held-out pairs.

    The function is fitted with a third of the best penalty. The best one shrinks it so much that the null misses what
    the data have: in simulations 8 of 100 true nulls are then rejected at n = 60 and 2 at n = 200, instead of 5 and 4.
    """
    K, penalty = linear[best]
    everything = np.ones(len(d), dtype=bool)
    left = residual[best] @ d
    return _fit(K, penalty / 3, everything, everything).H @ d, left - left.mean(axis=0)

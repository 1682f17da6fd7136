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
from steerlens.probes._smoothers import (
    N_FOLDS,
    PENALTIES,
    Fit,
    Kernel,
    Setting,
    chosen_settings,
    fit_rows,
    held_out_fits,
    no_kernel,
    residual_operators,
)

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
RANKS = (4, 16, None)
"""Leading principal components of the source that predictors may use; None is all of them."""

KERNEL_PENALTIES = (1e-3, 3e-2, 1.0)
"""Of kernel ridge regression, as shares of the trace of its kernel over n."""


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
        (no_kernel(len(h)), 1.0),
        *((K, penalty) for K in linear for penalty in PENALTIES),
        *((K, penalty) for K in kernel for penalty in KERNEL_PENALTIES),
    ]
    n_linear = 1 + len(linear) * len(PENALTIES)
    fits = held_out_fits(settings, folds)
    residual = residual_operators(fits, folds)
    squared = np.stack([((R @ d) ** 2).sum(axis=1) for R in residual])
    chosen, total = chosen_settings(squared, folds, (1, n_linear, len(settings))), (d**2).sum(axis=1)
    errors = _errors(fits, chosen, d, folds, blocks)
    value = _shares(errors[0], total, np.ones(len(d), dtype=bool))
    left_out = np.stack([_shares(e, total, blocks != block) for block, e in enumerate(errors[1:])])
    estimates = [jackknife(v, o, codes) for v, o in zip(value, left_out.T, strict=True)]
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


def _kernels(h: Array) -> tuple[list[Kernel], list[Kernel]]:
    """Linear kernels on leading components, and each of them plus a Gaussian one on the same; traces are n."""
    x = h - h.mean(axis=0)
    gram, n = x @ x.T, len(x)
    largest = max(rank for rank in RANKS if rank is not None)
    values, vectors = linalg.eigh(gram, subset_by_index=(max(n - largest, 0), n - 1))
    leading = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0))
    linear, kernel = [], []
    for rank in (rank for rank in RANKS if rank is None or rank < h.shape[1]):
        z = x if rank is None else leading[:, :rank]
        K = gram.copy() if rank is None else z @ z.T
        squared = np.maximum(K.diagonal()[:, None] + K.diagonal() - 2 * K, 0.0)
        width = np.median(squared[~np.eye(n, dtype=bool)])
        scale = n / max(float(K.trace()), 1e-300)
        K *= scale
        linear.append(Kernel(Z=z * np.sqrt(scale)) if 4 * z.shape[1] <= n else Kernel(K))
        kernel.append(Kernel(K / 2 + np.exp(-squared / max(float(width), 1e-300)) / 2))
    return linear, kernel


def _errors(fits: Sequence[Sequence[Fit]], chosen: Codes, d: Array, folds: Codes, blocks: Codes) -> Array:
    """Squared error of each pair under the best predictor of each class, shape (1 + block, class_, n).

    First fitted to all pairs of other folds, then also without each block in turn.
    """
    n_blocks = int(blocks.max()) + 1
    errors = np.empty((1 + n_blocks, len(chosen), len(d)))
    for part in range(chosen.shape[1]):
        at, fit = folds == part, folds != part
        for setting in set(chosen[:, part]):
            where = np.ix_(chosen[:, part] == setting, at)
            for error, predicted in zip(
                errors, fits[setting][part].without_each(d[fit], blocks[fit], n_blocks), strict=True
            ):
                error[where] = ((d[at] - predicted) ** 2).sum(axis=1)
    return errors


def _shares(errors: Array, total: Array, keep: npt.NDArray[np.bool_]) -> Array:
    """Constant, linear and nonlinear gain and the rest, as shares of the second moment of the kept pairs."""
    steps = np.concatenate([[total[keep].sum()], errors[:, keep].sum(axis=1), [0.0]])
    shares: Array = -np.diff(steps) / steps[0]
    return shares


def _p_values(residual: Array, d: Array, linear: Sequence[Setting], dealt: Codes) -> tuple[float, float]:
    """Of the largest linear gain over the mean, and of the largest further gain of a kernel.

    A setting leaves tr(Q D Dᵀ) of displacements D, with Q = RᵀR of its residual operator R. Displacements dealt anew
    are P d, and those of the second null F + P E, of which the parts in F alone, and in F and E, need no n² of their
    own.
    """
    n, last = len(d), len(linear)
    quadratic = np.stack([R.T @ R for R in residual]).reshape(len(residual), -1)

    def gains(left: Array) -> Array:
        """Linear and further gain, from what each setting leaves of each set of displacements."""
        best = np.minimum(left[1:last].min(axis=0), left[0])
        gained: Array = np.stack([left[0] - left[1:last].min(axis=0), best - left[last:].min(axis=0)])
        return gained

    G = d @ d.T
    left_now = quadratic @ G.ravel()
    F, E = _linear_fit(residual, d, linear, int(left_now[:last].argmin()))
    found, EE = gains(left_now[:, None])[:, 0], E @ E.T
    of_F = quadratic @ (F @ F.T).ravel()
    QF = (quadratic.reshape(-1, n, n) @ F).reshape(len(residual), -1)
    null = []
    chunks = np.array_split(dealt, -(-len(dealt) // max(8, 400_000 // (n * n))))
    room = np.empty((max(map(len, chunks)), n, n))
    for chunk in chunks:
        alone = gains(quadratic @ _dealt(G, chunk, room))[0]
        cross = QF @ E[chunk].reshape(len(chunk), -1).T
        null.append(np.stack([alone, gains(of_F[:, None] + 2 * cross + quadratic @ _dealt(EE, chunk, room))[1]]))
    dealings, scale = np.concatenate(null, axis=1), float(G.trace())
    return share_as_large(dealings[0], float(found[0]), scale), share_as_large(dealings[1], float(found[1]), scale)


def _dealt(gram: Array, permutations: Codes, room: Array) -> Array:
    """A Gram matrix of rows dealt anew, shape (n², permutation), written into room for (permutation, n, n)."""
    moved = room[: len(permutations)]
    for place, p in zip(moved, permutations, strict=True):
        gram.take(p, axis=0).take(p, axis=1, out=place, mode="clip")
    return moved.reshape(len(permutations), -1).T


def _linear_fit(residual: Array, d: Array, linear: Sequence[Setting], best: int) -> tuple[Array, Array]:
    """A linear function of the sources for the null, and what the best predictor leaves on held-out pairs.

    The function is fitted with a third of the best penalty. The best one shrinks it so much that the null misses what
    the data have: in simulations 8 of 100 true nulls are then rejected at n = 60 and 2 at n = 200, instead of 5 and 4.
    """
    K, penalty = linear[best]
    everything = np.ones(len(d), dtype=bool)
    left = residual[best] @ d
    return fit_rows((K, penalty / 3), everything, everything).H @ d, left - left.mean(axis=0)

"""Affine maps that need to know which row becomes which: row i of the target is what row i of the source should be."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._affine import AffineMap, SubspaceAffineMap
from steerlens.maps._base import Family, Needs
from steerlens.maps._compose import TwoWayMap, both_ways, check_rank
from steerlens.maps._samples import checked
from steerlens.numerics import moments, principal_subspace

PENALTIES = (*(10.0**e for e in range(-4, 5)), float("inf"))
"""What cross-validation chooses among."""


def checked_pairs(source: Tensor, target: Tensor, *, at_least: int) -> tuple[Tensor, Tensor]:
    """`checked`, and both samples are of one size.

    Raises:
        FitError: If they are not, or a sample cannot be fitted.
    """
    source, target = checked(source, target, at_least=at_least)
    if len(source) != len(target):
        raise FitError(
            f"This map is fitted to pairs, so source and target need equally many rows, but have {len(source)} and "
            f"{len(target)}. Give row i of the target as the twin of row i of the source."
        )
    return source, target


@final
@dataclass(frozen=True)
class Procrustes:
    """Turn the source rigidly onto its twins: T(x) = x + Δ + U (R − I) Uᵀ (x − μ₋), with R orthogonal.

    Of all maps of this form the one that minimises Σᵢ ‖T(xᵢ) − yᵢ‖²: R = V Wᵀ from the singular value decomposition
    V S Wᵀ = Σᵢ Uᵀ(yᵢ − μ₊)(xᵢ − μ₋)ᵀU, in the leading principal subspace U of both samples about their own means;
    outside it the mean moves. Distances are kept, and the reverse is exact. R may hold a reflection. It turns each
    direction of the subspace, also those in which twins have nothing in common: see `permuted_displacement`.
    Between strengths 0 and 1 rows move on a straight line, and so come nearer to the mean.

    Args:
        rank: Dimensions of the subspace; None takes a fifth of the pairs.

    References:
        schonemann1966.
    """

    rank: int | None = None

    family: ClassVar[Family] = "affine"
    needs: ClassVar[Needs] = "pairs"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept turns activations about their mean, all by one rotation"

    def __post_init__(self) -> None:
        check_rank(self.rank)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SubspaceAffineMap:
        """Fit from pairs of rows.

        Raises:
            FitError: If there are fewer than 3 pairs, samples differ in size, or all rows of a sample are equal.
        """
        source, target = checked_pairs(source, target, at_least=3)
        low, high = moments(source), moments(target)
        wanted = self.rank if self.rank is not None else max(len(source) // 5, 1)
        U, variances = principal_subspace((low.cov + high.cov) / 2, min(wanted, len(source) - 1))
        if len(variances) == 0:
            raise FitError("A rotation needs activations that vary, but all rows of each sample are equal.")
        x, y = (source - low.mean) @ U, (target - high.mean) @ U
        V, _, Wt = torch.linalg.svd(y.T @ x)
        identity = torch.eye(U.shape[1], dtype=U.dtype)
        return SubspaceAffineMap(high.mean - low.mean, low.mean, U, V @ Wt - identity)


@final
@dataclass(frozen=True)
class PairedRidge:
    """Predict from a row how far its twin lies: T(x) = x + Δ + M (x − μ₋), by ridge regression of y − x on x.

    M minimises Σᵢ ‖yᵢ − T(xᵢ)‖² + λ n s̄ ‖M‖², with s̄ the mean eigenvalue of the source's covariance. Because the
    difference is regressed and not the twin, an infinite penalty gives `MeanShift`: what cannot be learned from the row
    is left to the mean. It learns E[y | x] as far as that is affine, and so does not keep the target's spread. The
    reverse is fitted the other way round.

    Args:
        penalty: λ ≥ 0, infinity allowed; None chooses among 10⁻⁴ … 10⁴ and infinity by generalised cross-validation.
            At 0, with fewer pairs than dimensions, M is the smallest that fits.

    References:
        hoerl1970; golub1979.
    """

    penalty: float | None = None

    family: ClassVar[Family] = "affine"
    needs: ClassVar[Needs] = "pairs"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the difference within a pair is an affine function of the row"

    def __post_init__(self) -> None:
        if self.penalty is not None and not self.penalty >= 0:
            raise OptionError(f"penalty must not be negative, but got {self.penalty}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Fit both directions from pairs of rows.

        Raises:
            FitError: If there are fewer than 3 pairs, or samples differ in size.
        """
        return both_ways(self._regress, *checked_pairs(source, target, at_least=3))

    def _regress(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "n d_model"]) -> AffineMap:
        center, shift = source.mean(dim=0), (target - source).mean(dim=0)
        x, difference = source - center, target - source - shift
        if self.penalty == 0:
            M = torch.linalg.lstsq(x, difference, rcond=1e-10, driver="gelsd").solution
        else:
            M = self._penalised(x, difference)
        return AffineMap(shift, center, M.T.contiguous())

    def _penalised(self, x: Float[Tensor, "n d_model"], difference: Float[Tensor, "n d_model"]) -> Tensor:
        """M from the smaller of the Gram matrices: λ > 0 keeps away from zero what squaring makes inexact."""
        n, d = x.shape
        wide = n < d
        values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
        values = values.clamp_min(0.0)
        scale = float(values.sum() / d)  # n times the mean eigenvalue
        if scale == 0:
            return x.new_zeros(d, d)
        rotated = vectors.T @ (difference if wide else x.T @ difference)
        explained = rotated.square().sum(dim=1) / (1.0 if wide else values.clamp_min(1e-12 * values[-1]))

        def cross_validated(penalty: float) -> float:
            """Generalised cross-validation: mean squared residual over the square of the freedom left."""
            fitted = values / (values + penalty * scale)
            residual = difference.square().sum() - (explained * fitted * (2 - fitted)).sum()
            return float(residual / (n - 1 - fitted.sum()) ** 2)

        penalty = self.penalty if self.penalty is not None else min(PENALTIES, key=cross_validated)
        solved = vectors @ (rotated / (values + penalty * scale)[:, None])
        M: Tensor = x.T @ solved if wide else solved
        return M

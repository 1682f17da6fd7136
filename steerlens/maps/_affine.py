"""Affine maps: mean and covariance of the source become those of the target."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, SteeringMap, SteeringMethod, method_needs
from steerlens.maps._samples import checked
from steerlens.numerics import (
    Moments,
    Shrinkage,
    check_shrinkage,
    moments,
    principal_subspace,
    shrink,
    shrinkage_intensity,
    transport_matrix,
)

LARGEST_CONDITION = 1e6
"""A linear part of a larger condition number is not inverted: its inverse would magnify rounding more than data."""


@final
@dataclass(frozen=True, eq=False)
class AffineMap(SteeringMap):
    """T(x) = x + Δ + M (x − c), with a full matrix.

    Args:
        shift: Δ.
        center: c.
        change: M = A − I.
    """

    shift: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    change: Float[Tensor, "d_model d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + (x - self.center.to(x)) @ self.change.to(x).T

    @property
    def reverse(self) -> "AffineMap | None":
        """The inverse; None if the condition number of A is above 10⁶."""
        inverse = _inverse_change(self.change)
        return None if inverse is None else AffineMap(-self.shift, self.center + self.shift, inverse)


@final
@dataclass(frozen=True, eq=False)
class SubspaceAffineMap(SteeringMap):
    """T(x) = x + Δ + U M Uᵀ (x − c): a translation everywhere, a linear change within span(U).

    Args:
        shift: Δ, how far the mean moves.
        center: c, the mean of the source.
        basis: U, orthonormal columns.
        change: M = A − I, in coordinates of U.
    """

    shift: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    basis: Float[Tensor, "d_model rank"]
    change: Float[Tensor, "rank rank"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        U = self.basis.to(x)
        return self.shift.to(x) + ((x - self.center.to(x)) @ U) @ self.change.to(x).T @ U.T

    @property
    def reverse(self) -> "SubspaceAffineMap | None":
        """The inverse; None if the condition number of A is above 10⁶."""
        inverse = _inverse_change(self.change)
        if inverse is None:
            return None
        return SubspaceAffineMap(-self.shift, self.center + self.shift, self.basis, inverse)

    @property
    def folds_at(self) -> float:
        """The strength from which on the map is no longer one-to-one: 1 / (1 − smallest real eigenvalue of A)."""
        values = torch.linalg.eigvals(self.change)
        real = values.real[values.imag.abs() <= 1e-9 * values.abs()]
        smallest = float(real.min()) if len(real) else 0.0
        return -1 / smallest if smallest < 0 else float("inf")


@final
@dataclass(frozen=True)
class GaussianTransport:
    """Carry the source mean and covariance to the target's, moving the data least: T(x) = μ₊ + A (x − μ₋).

    A = Σ₋^{-1/2} (Σ₋^{1/2} Σ₊ Σ₋^{1/2})^{1/2} Σ₋^{-1/2}, in the leading principal subspace of the pooled data;
    outside it the mean moves and the spread stays, so that rank 0 would be `MeanShift`. Both covariances are
    shrunk by the same intensity: different ones would show up as a difference of spread. It is blind to
    everything beyond second moments. See ``folds_at`` of the map before using strengths above 1.

    Args:
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample.
        shrinkage: Intensity in [0, 1]; "oas" takes the oracle-approximating one of the within-class covariance,
            "bodnar" the optimal linear one for large dimensions.

    References:
        singh2024, theorem 2; peyre2019, remark 2.31; chen2010, bodnar2014 (shrinkage).
    """

    rank: int | None = None
    shrinkage: Shrinkage = "oas"

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the classes differ in mean and covariance, and in nothing else"

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"rank must be at least 1, but got {self.rank}. Rank 0 is MeanShift.")
        check_shrinkage(self.shrinkage)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SubspaceAffineMap:
        """Fit from rows.

        Raises:
            FitError: If a sample has fewer than 10 rows or does not vary.
        """
        source, target = checked(source, target, at_least=10)
        return self.fit_moments(moments(source), moments(target))

    def fit_moments(self, source: Moments, target: Moments) -> SubspaceAffineMap:
        """The same map from streamed moments."""
        n = min(source.n, target.n)
        rank = self.rank if self.rank is not None else max(n // 5, 1)
        U, variances = principal_subspace(source.merge(target).cov, min(rank, n - 1))
        if len(variances) == 0:
            raise FitError("Gaussian transport needs activations that vary, but all rows are equal.")
        source_cov, target_cov = (U.T @ m.cov @ U for m in (source, target))
        within = (source.n * source_cov + target.n * target_cov) / (source.n + target.n)
        intensity = shrinkage_intensity(within, source.n + target.n, self.shrinkage)
        A = transport_matrix(shrink(source_cov, intensity), shrink(target_cov, intensity))
        identity = torch.eye(len(A), dtype=A.dtype)
        return SubspaceAffineMap(target.mean - source.mean, source.mean, U, A - identity)


@final
@dataclass(frozen=True)
class PermutedDisplacement:
    """How far a method moves the source, beside how far it moves it when the labels mean nothing.

    Args:
        real: Mean ‖T(x) − x‖ over the source.
        null: The same, averaged over maps fitted to permuted labels.
        ratio: null / real; infinite if nothing was moved. Above a quarter, much of the map is noise: take more rows, a
            smaller rank, or more shrinkage.
    """

    real: float
    null: float
    ratio: float


def permuted_displacement(
    method: SteeringMethod,
    source: Float[Tensor, "n d_model"],
    target: Float[Tensor, "m d_model"],
    *,
    n_permutations: int,
    seed: int,
) -> PermutedDisplacement:
    """How much of what a method does to the source it would also do to rows whose labels are chance.

    Labels are permuted over the rows of both samples; where rows are pairs, the members of each pair are swapped or
    not, by a coin, so that pairs stay pairs.

    Args:
        method: Fitted ``n_permutations`` + 1 times.
        source: Rows without the concept.
        target: Rows with it.
        n_permutations: Maps behind the null.
        seed: Of the permutations.

    Raises:
        OptionError: If there is no permutation.
        FitError: If the method cannot be fitted.
    """
    if n_permutations < 1:
        raise OptionError(f"n_permutations must be at least 1, but got {n_permutations}.")
    source, target = checked(source, target)
    generator = torch.Generator().manual_seed(seed)
    real = _moved(method, source, target)
    nulls = []
    for _ in range(n_permutations):
        if method_needs(method) == "pairs":
            swap = torch.rand(len(source), 1, generator=generator) < 0.5
            relabelled = torch.where(swap, target, source), torch.where(swap, source, target)
        else:
            rows = torch.cat([source, target])[torch.randperm(len(source) + len(target), generator=generator)]
            relabelled = rows[: len(source)], rows[len(source) :]
        nulls.append(_moved(method, *relabelled))
    null = sum(nulls) / n_permutations
    return PermutedDisplacement(real, null, null / real if real > 0 else float("inf"))


def _moved(method: SteeringMethod, source: Tensor, target: Tensor) -> float:
    return float(method.fit(source, target).displacement(source).norm(dim=1).mean())


def _inverse_change(change: Tensor) -> Tensor | None:
    """A⁻¹ − I = −A⁻¹M, which does not cancel where A is near the identity; None if A is too ill conditioned."""
    A = change + torch.eye(len(change), dtype=change.dtype, device=change.device)
    if not torch.linalg.cond(A) < LARGEST_CONDITION:
        return None
    inverse: Tensor = -torch.linalg.solve(A, change)
    return inverse

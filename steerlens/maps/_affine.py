"""Affine maps: mean and covariance of the source become those of the target."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._samples import checked
from steerlens.numerics import Moments, moments, oas_intensity, principal_subspace, shrink, transport_matrix


@final
@dataclass(frozen=True, eq=False)
class SubspaceAffineMap(SteeringMap):
    """T(x) = x + Δ + U M Uᵀ (x − c): a translation everywhere, a linear change within span(U).

    Args:
        shift: Δ, how far the mean moves.
        center: c, the mean of the source.
        basis: U, orthonormal columns.
        change: M = A − I, symmetric, in coordinates of U.
    """

    shift: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    basis: Float[Tensor, "d_model rank"]
    change: Float[Tensor, "rank rank"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        U = self.basis.to(x)
        return self.shift.to(x) + ((x - self.center.to(x)) @ U) @ self.change.to(x).T @ U.T

    @property
    def reverse(self) -> "SubspaceAffineMap":
        """The inverse, which is also the optimal transport from target to source."""
        identity = torch.eye(len(self.change), dtype=self.change.dtype, device=self.change.device)
        inverse = torch.linalg.inv(self.change + identity) - identity
        return SubspaceAffineMap(-self.shift, self.center + self.shift, self.basis, (inverse + inverse.T) / 2)

    @property
    def folds_at(self) -> float:
        """The strength from which on the map is no longer one-to-one: 1 / (1 − smallest eigenvalue of A)."""
        smallest = float(torch.linalg.eigvalsh(self.change)[0])
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
        shrinkage: Intensity in [0, 1]; None takes the oracle-approximating one of the within-class covariance.

    References:
        singh2024, theorem 2; peyre2019, remark 2.31; chen2010 (shrinkage).
    """

    rank: int | None = None
    shrinkage: float | None = None

    family: ClassVar[Family] = "affine"

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"rank must be at least 1, but got {self.rank}. Rank 0 is MeanShift.")
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise OptionError(f"shrinkage must be between 0 and 1, but got {self.shrinkage}.")

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
        intensity = self.shrinkage
        if intensity is None:
            within = (source.n * source_cov + target.n * target_cov) / (source.n + target.n)
            intensity = oas_intensity(within, source.n + target.n)
        A = transport_matrix(shrink(source_cov, intensity), shrink(target_cov, intensity))
        identity = torch.eye(len(A), dtype=A.dtype)
        return SubspaceAffineMap(target.mean - source.mean, source.mean, U, A - identity)

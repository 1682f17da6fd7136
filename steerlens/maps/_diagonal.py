"""Transport of each coordinate by itself."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._compose import TwoWayMap, both_ways
from steerlens.maps._samples import checked
from steerlens.numerics import Moments

SPREAD = 1e-12
"""A coordinate whose variance is below this share of the largest has no spread."""


@final
@dataclass(frozen=True, eq=False)
class DiagonalMap(SteeringMap):
    """T(x) = x + Δ + m ⊙ (x − c): each coordinate is scaled and moved by itself.

    Args:
        shift: Δ.
        center: c, the mean of the source.
        change: m, the slopes less one.
    """

    shift: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    change: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + self.change.to(x) * (x - self.center.to(x))

    @property
    def reverse(self) -> "DiagonalMap | None":
        """The inverse; None if a slope is zero or negative."""
        if (self.change <= -1).any():
            return None
        return DiagonalMap(-self.shift, self.center + self.shift, -self.change / (1 + self.change))


@final
@dataclass(frozen=True)
class DiagonalTransport:
    """Match mean and standard deviation of every coordinate: T(x) = μ₊ + (σ₊ / σ₋) ⊙ (x − μ₋).

    Gaussian transport of each coordinate by itself: `GaussianTransport` where both covariances are diagonal. It needs
    few rows, and is blind to how coordinates vary together, so that it depends on the basis. A coordinate without
    spread in one of the samples is only translated.

    References:
        rodriguez2025 (its Gaussian variant); peyre2019, remark 2.31.
    """

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "coordinates differ in mean and spread, each by itself"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> DiagonalMap:
        """Fit from rows.

        Raises:
            FitError: If a sample has fewer than two rows.
        """
        source, target = checked(source, target)
        return _matched(source.mean(dim=0), source.var(dim=0, correction=0), target.mean(dim=0), _variance(target))

    def fit_moments(self, source: Moments, target: Moments) -> DiagonalMap:
        """The same map from streamed moments."""
        variances = (m.cov.diagonal() for m in (source, target))
        return _matched(source.mean, next(variances), target.mean, next(variances))


@final
@dataclass(frozen=True)
class LinearAcT:
    """The straight line through the sorted coordinates, one by one: T(x) = m₊ + ω ⊙ (x − m₋).

    ω = Σᵢ ãᵢ b̃ᵢ / Σᵢ ãᵢ², with ã and b̃ the sorted and centred values of a coordinate in source and target: of all
    straight lines the one nearest to the optimal transport of that coordinate. For samples of equal shape it is
    `DiagonalTransport`; where shapes differ its slope is smaller. Samples of unequal size are compared at the quantiles
    of the larger one, interpolated in the smaller. A coordinate without spread in one of the samples is only
    translated.

    References:
        rodriguez2025.
    """

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "coordinates differ in mean and spread, each by itself"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Fit both directions from rows.

        Raises:
            FitError: If a sample has fewer than two rows.
        """
        return both_ways(_line, *checked(source, target))


def _variance(x: Float[Tensor, "n d_model"]) -> Float[Tensor, " d_model"]:
    return x.var(dim=0, correction=0)


def _matched(
    source_mean: Float[Tensor, " d_model"],
    source_variance: Float[Tensor, " d_model"],
    target_mean: Float[Tensor, " d_model"],
    target_variance: Float[Tensor, " d_model"],
) -> DiagonalMap:
    varies = _spread(source_variance) & _spread(target_variance)
    slope = torch.where(varies, (target_variance / source_variance).sqrt(), 1.0)
    return DiagonalMap(target_mean - source_mean, source_mean, slope - 1)


def _line(source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> DiagonalMap:
    size = max(len(source), len(target))
    a, b = (q - q.mean(dim=0) for q in (_quantiles(source, size), _quantiles(target, size)))
    varies = _spread(_variance(source)) & _spread(_variance(target))
    slope = torch.where(varies, (a * b).sum(dim=0) / (a * a).sum(dim=0), 1.0)
    return DiagonalMap(target.mean(dim=0) - source.mean(dim=0), source.mean(dim=0), slope - 1)


def _quantiles(x: Float[Tensor, "n d_model"], size: int) -> Float[Tensor, "m d_model"]:
    """Quantiles of each column at (i + ½) / size, linear between the sorted rows; those rows if there are ``size``."""
    n = len(x)
    ordered = x.sort(dim=0).values
    at = ((torch.arange(size, dtype=x.dtype) + 0.5) * (n / size) - 0.5).clamp(0, n - 1)
    below = at.floor().long()
    above = (below + 1).clamp(max=n - 1)
    share = (at - below)[:, None]
    return (1 - share) * ordered[below] + share * ordered[above]


def _spread(variance: Float[Tensor, " d_model"]) -> Tensor:
    return variance > SPREAD * variance.max()

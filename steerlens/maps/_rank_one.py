"""Maps that read one number and write one vector: h + g(h) · b · (τ − aᵀ(h − c)).

Ablation, erasure, set-points and mirrors differ only in what is read, what is written, and where zero is.
"""

import abc
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, Needs, SteeringMap
from steerlens.maps._directions import DirectionEstimator, MeanDifference
from steerlens.maps._samples import checked
from steerlens.numerics import (
    Moments,
    Shrinkage,
    check_shrinkage,
    moments,
    psd_power,
    shrink,
    shrinkage_intensity,
    unit,
)


@final
@dataclass(frozen=True, eq=False)
class RankOneMap(SteeringMap):
    """T(x) = x + b (τ − aᵀ(x − c)) where aᵀ(x − c) < g, and x elsewhere.

    Args:
        read: a, what is read.
        write: b, along which is written. With aᵀb = 1, strength 1 sets what is read to τ.
        origin: c, where the reading is zero.
        set_point: τ.
        below: g; infinity acts on every row.
    """

    read: Float[Tensor, " d_model"]
    write: Float[Tensor, " d_model"]
    origin: Float[Tensor, " d_model"]
    set_point: Float[Tensor, ""]
    below: Float[Tensor, ""]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        reading = self.reading(x)
        dose = torch.where(reading < self.below.to(x), self.set_point.to(x) - reading, torch.zeros_like(reading))
        return dose.unsqueeze(-1) * self.write.to(x)

    def reading(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """aᵀ(x − c) of every row."""
        return (x - self.origin.to(x)) @ self.read.to(x)

    @property
    def reverse(self) -> "RankOneMap | None":
        """The opposite set-point; a mirror is its own. What was erased, or moved behind a gate, is gone."""
        if torch.isfinite(self.below):
            return None
        if self.set_point != 0:
            return replace(self, set_point=-self.set_point)
        is_mirror = (self.read @ self.write - 2).abs() < 1e-6
        return self if is_mirror else None


class _FromMeans(abc.ABC):
    """A method that needs nothing but the two means."""

    family: ClassVar[Family] = "affine"

    @abc.abstractmethod
    def _of(self, source: Float[Tensor, " d_model"], target: Float[Tensor, " d_model"]) -> RankOneMap:
        """The map between two means that differ."""

    @final
    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> RankOneMap:
        """Fit from rows.

        Raises:
            FitError: If source and target have the same mean.
        """
        source, target = checked(source, target, at_least=1)
        return self._of(source.mean(dim=0), target.mean(dim=0))

    @final
    def fit_moments(self, source: Moments, target: Moments) -> RankOneMap:
        """The same map from streamed moments."""
        return self._of(source.mean, target.mean)


class _FromMoments(abc.ABC):
    """A method that needs means and covariances."""

    family: ClassVar[Family] = "affine"

    @abc.abstractmethod
    def fit_moments(self, source: Moments, target: Moments) -> RankOneMap:
        """The map from streamed moments."""

    @final
    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> RankOneMap:
        """Fit from rows.

        Raises:
            FitError: If source and target have the same mean.
        """
        source, target = checked(source, target)
        return self.fit_moments(moments(source), moments(target))


@final
@dataclass(frozen=True)
class DirectionalAblation:
    """Remove one direction, T(x) = x − r̂ r̂ᵀ x; by default r̂ = unit(mean(target) − mean(source)).

    It erases; it does not promote. It takes zero along r̂ for "concept absent", which is wrong wherever the
    source mean is not zero there: then it moves the source by more than the concept. Strength 1 is idempotent. The sign
    of r̂ does not matter.

    Args:
        direction: Estimates r̂.

    References:
        arditi2024, equation 4.
    """

    direction: DirectionEstimator = MeanDifference()  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "one direction carries the concept, and zero along it means that it is absent"

    @property
    def needs(self) -> Needs:
        """What the estimator needs."""
        return self.direction.needs

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> RankOneMap:
        """Fit from rows.

        Raises:
            FitError: If the estimator finds no direction, as for the default where the means are equal.
        """
        return _removed(self.direction.direction(source, target))

    def fit_moments(self, source: Moments, target: Moments) -> RankOneMap:
        """The same map from streamed moments.

        Raises:
            FitError: If the means are equal, or the direction is another than the mean difference.
        """
        if not isinstance(self.direction, MeanDifference):
            raise FitError(f"{self.direction} needs rows, but got moments. Use fit, with rows.")
        return _removed(unit(_difference(source.mean, target.mean)))


@final
@dataclass(frozen=True)
class AffineConceptEditing(_FromMeans):
    """Set the position along the mean difference to the target's mean: T(x) = x + r̂ r̂ᵀ(μ₊ − x).

    Every row ends at one position along r̂, wherever it began, so that the dose does not depend on the prompt.
    With r = μ₊ − μ₋ it is x − proj(x) + proj(μ₋) + α r at α = 1; its strength 0.5 on a row at μ₋ goes half the way.
    Spread along r̂ is lost.

    References:
        marshall2024.
    """

    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one direction carries the concept, and every row should end at one place along it"

    def _of(self, source: Float[Tensor, " d_model"], target: Float[Tensor, " d_model"]) -> RankOneMap:
        difference = _difference(source, target)
        r = unit(difference)
        return _everywhere(r, r, (source + target) / 2, float(difference.norm()) / 2)


@final
@dataclass(frozen=True)
class MeanMirror(_FromMeans):
    """Reflect at the hyperplane half way between the means: T(x) = x − 2 n̂ n̂ᵀ(x − (μ₋ + μ₊)/2).

    It carries either mean to the other and keeps all distances, so that nothing shrinks. It is its own reverse, and
    moves rows of the target as far as rows of the source.

    References:
        pham2024 (Householder pseudo-rotation), without its gate.
    """

    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the classes are mirror images of each other along the mean difference"

    def _of(self, source: Float[Tensor, " d_model"], target: Float[Tensor, " d_model"]) -> RankOneMap:
        n = unit(_difference(source, target))
        return _everywhere(n, 2 * n, (source + target) / 2, 0.0)


@final
@dataclass(frozen=True)
class ConceptErasure(_FromMoments):
    """Least-squares concept erasure (LEACE) of the two classes: T(x) = x − Δ aᵀ(x − μ), a = Σ⁻¹Δ / (ΔᵀΣ⁻¹Δ).

    μ and Σ are mean and covariance of both samples together. Of all affine maps after which no linear classifier
    beats a constant on the data it was fitted on, it moves the data least. It erases; see `ConceptSetPoint` for the
    map that promotes. With P = I − Δaᵀ, PΣPᵀ = Σ − ΔΔᵀ/(ΔᵀΣ⁻¹Δ): the total variance never grows, so that a constraint
    on it has nothing to do. Where the classes of the rows are known, `OracleErasure` moves them less.

    Args:
        shrinkage: Of Σ towards a multiple of the identity, in [0, 1]; "oas" takes the oracle-approximating intensity,
            "bodnar" the optimal linear one for large dimensions. At 0 a singular Σ has its pseudo-inverse.

    References:
        belrose2023; chen2010, bodnar2014 (shrinkage).
    """

    shrinkage: Shrinkage = "oas"

    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "the concept is what a linear classifier can tell, and it should be gone"

    def __post_init__(self) -> None:
        check_shrinkage(self.shrinkage)

    def fit_moments(self, source: Moments, target: Moments) -> RankOneMap:
        """The same map from streamed moments."""
        pooled = source.merge(target)
        a, b = _whitened_read(source, target, self.shrinkage)
        return _everywhere(a, b, pooled.mean, 0.0)


@final
@dataclass(frozen=True)
class ConceptSetPoint(_FromMoments):
    """Set what LEACE reads to the target's mean: T(x) = x + Δ (½ − aᵀ(x − (μ₋ + μ₊)/2)), a as in `ConceptErasure`.

    Reads where the classes are best told apart linearly, and writes along the mean difference. It carries either mean
    to μ₊.

    Args:
        shrinkage: As in `ConceptErasure`.

    References:
        belrose2023 (for a, and the direction written).
    """

    shrinkage: Shrinkage = "oas"

    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one linear reading carries the concept, and every row should end at one value of it"

    def __post_init__(self) -> None:
        check_shrinkage(self.shrinkage)

    def fit_moments(self, source: Moments, target: Moments) -> RankOneMap:
        """The same map from streamed moments."""
        a, b = _whitened_read(source, target, self.shrinkage)
        return _everywhere(a, b, (source.mean + target.mean) / 2, 0.5)


@final
@dataclass(frozen=True)
class GatedSetPoint:
    """Lift rows below the target's usual score to it, and leave all others alone.

    T(x) = x + ŵ (τ − ŵᵀx) where ŵᵀx < τ: w = Σ⁻¹Δ of the within-class covariance (linear discriminant), and τ the
    ``percentile`` of the target's scores. Rows that already have the concept are not touched.

    Args:
        percentile: Of the target's scores, in (0, 1).
        shrinkage: Of the within-class covariance, as in `ConceptErasure`.

    References:
        arXiv 2604.08169 (StTP); known to us from a summary, so the details are ours.
    """

    percentile: float = 0.5
    shrinkage: Shrinkage = "oas"

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "rows that score as the target does have the concept already"

    def __post_init__(self) -> None:
        check_shrinkage(self.shrinkage)
        if not 0 < self.percentile < 1:
            raise OptionError(f"percentile must lie between 0 and 1, but got {self.percentile}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> RankOneMap:
        """Fit from rows.

        Raises:
            FitError: If source and target have the same mean.
        """
        source, target = checked(source, target)
        below, above = moments(source), moments(target)
        cov = (below.scatter + above.scatter) / (below.n + above.n)
        w = unit(_solve(cov, below.n + above.n, _difference(below.mean, above.mean), self.shrinkage))
        level = torch.quantile(target @ w, self.percentile)
        return RankOneMap(w, w, torch.zeros_like(w), level, level)


def _everywhere(a: Tensor, b: Tensor, origin: Tensor, set_point: float) -> RankOneMap:
    level, always = torch.tensor([set_point, torch.inf], dtype=a.dtype).unbind()
    return RankOneMap(a, b, origin, level.clone(), always.clone())


def _removed(r: Float[Tensor, " d_model"]) -> RankOneMap:
    return _everywhere(r, r, torch.zeros_like(r), 0.0)


def _difference(source: Float[Tensor, " d_model"], target: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    difference = target - source
    if difference.norm() == 0:
        raise FitError("A direction needs two means that differ, but source and target have the same mean.")
    return difference


def _whitened_read(
    source: Moments, target: Moments, shrinkage: Shrinkage
) -> tuple[Float[Tensor, " d_model"], Float[Tensor, " d_model"]]:
    """a = Σ⁻¹Δ / (ΔᵀΣ⁻¹Δ) and Δ."""
    pooled = source.merge(target)
    delta = _difference(source.mean, target.mean)
    solved = _solve(pooled.cov, pooled.n, delta, shrinkage)
    return solved / (delta @ solved), delta


def _solve(
    cov: Float[Tensor, "d_model d_model"], n: int, b: Float[Tensor, " d_model"], shrinkage: Shrinkage
) -> Float[Tensor, " d_model"]:
    intensity = shrinkage_intensity(cov, n, shrinkage)
    solved: Tensor = torch.linalg.solve(shrink(cov, intensity), b) if intensity > 0 else psd_power(cov, -1.0) @ b
    return solved

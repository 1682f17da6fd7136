"""Ways to estimate one direction from two samples, so that a map can vary it and keep everything else."""

import abc
import hashlib
from dataclasses import dataclass
from typing import ClassVar, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Needs
from steerlens.maps._samples import checked
from steerlens.numerics import Shrinkage, check_shrinkage, moments, psd_power, shrink, shrinkage_intensity, unit

ROUNDING = 1e-12
"""What is smaller than this share of the longest row is rounding error."""


@runtime_checkable
class DirectionEstimator(Protocol):
    """Frozen hyperparameters that make one unit vector of two samples.

    An estimator without a sign of its own (an eigenvector) has that of the mean difference Δ; where it is orthogonal to
    Δ, that of most pairs; where there are no pairs or they are tied, its largest coordinate is positive.
    """

    @property
    def needs(self) -> Needs:
        """Whether the rows must be pairs."""
        ...

    def direction(
        self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
    ) -> Float[Tensor, " d_model"]:
        """The unit vector that points from ``source`` to ``target``.

        Raises:
            FitError: If the samples have no such direction.
        """
        ...


class _Estimator(abc.ABC):
    """Checks at the public edge, once."""

    needs: ClassVar[Needs] = "samples"

    @abc.abstractmethod
    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        """The unit vector; both samples are checked, in float64, and pairs if they must be."""

    @final
    def direction(
        self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
    ) -> Float[Tensor, " d_model"]:
        """The unit vector that points from ``source`` to ``target``.

        Raises:
            FitError: If the samples have no such direction, or are not pairs where they must be.
        """
        source, target = checked(source, target, at_least=1)
        if self.needs == "pairs":
            check_pairs(source, target)
        return self._of(source, target)


@final
@dataclass(frozen=True)
class MeanDifference(_Estimator):
    """The direction of Δ = mean(target) − mean(source).

    With pairs Δ is the mean of their differences dᵢ, hence the v with the least mean |dᵢ − v|²; pairing does not change
    it. It does not exist where the means coincide.

    References:
        rimsky2024, equation 1; arditi2024, equation 1.
    """

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        return unit(mean_difference(source, target))


@final
@dataclass(frozen=True, eq=False, repr=False)
class MeanCentred(_Estimator):
    """From generic text to the target: unit(mean(target) − mean(background)).

    For a concept without an opposite. The source is not used, so the background decides the answer; with the source for
    background it is `MeanDifference`. The sign is its own, and may be against the mean difference.

    Args:
        background: Activations of generic text at the same site, or their mean.

    References:
        jorgensen2023.
    """

    background: Float[Tensor, "*batch d_model"]

    def __post_init__(self) -> None:
        if self.background.numel() == 0 or not torch.isfinite(self.background).all():
            raise OptionError("background must hold at least one row, and finite ones. Extract generic text again.")

    def __repr__(self) -> str:
        """Named by the background's mean: two backgrounds are two estimators."""
        return f"MeanCentred(background={hashlib.sha256(self._mean().numpy().tobytes()).hexdigest()[:8]})"

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        background = self._mean()[None]
        if background.shape[1] != target.shape[1]:
            raise FitError(
                f"The background has width {background.shape[1]}, but the samples have {target.shape[1]}. "
                "Extract all at one site."
            )
        return unit(mean_difference(background, target))

    def _mean(self) -> Float[Tensor, " d_model"]:
        rows = self.background.detach().double().cpu()
        return rows.reshape(-1, rows.shape[-1]).mean(dim=0)


@final
@dataclass(frozen=True)
class PairDifferencePC(_Estimator):
    """First principal component of the pairs' differences about their mean: the top eigenvector of Cov(d).

    The trap of this estimator: centring removes the mean difference itself. What is left is the direction in which
    pairs differ from each other, which may be orthogonal to the concept. Right if the order within pairs is arbitrary,
    so that their mean says nothing; otherwise see `PairMidpointPC`.

    References:
        vogel2024 (``pca_diff``, its default); im2025 (on how it fails).
    """

    needs: ClassVar[Needs] = "pairs"

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        d = target - source
        return oriented(first_component(d - d.mean(dim=0), size=_size(source, target)), source, target)


@final
@dataclass(frozen=True)
class PairMidpointPC(_Estimator):
    """Top eigenvector of E[d dᵀ] = ΔΔᵀ + Cov(d): principal component of pairs about their own midpoints.

    It keeps the mean difference, and is right where pairs agree in direction more than in length. Where the variance
    of d in a direction across Δ exceeds |Δ|² and the variance along Δ together, that direction is found instead.

    References:
        vogel2024 (``pca_center``).
    """

    needs: ClassVar[Needs] = "pairs"

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        d = target - source
        return oriented(first_component(d, size=_size(source, target)), source, target)


@final
@dataclass(frozen=True)
class RandomPairPC(_Estimator):
    """Linear artificial tomography: first component of unit differences of random pairs of the pooled rows.

    No label enters but for the sign. It finds where the pooled rows vary most, which is the concept only if nothing
    else varies more. Each row is in at most one pair; pairs of equal rows are dropped; nothing is centred, as the order
    within a random pair is arbitrary.

    Args:
        seed: Of the pairing.

    References:
        zou2023.
    """

    seed: int = 0

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        rows = torch.cat([source, target])
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))
        half = len(rows) // 2
        d = rows[order[:half]] - rows[order[half : 2 * half]]
        d = d[d.norm(dim=1) > ROUNDING * _size(source, target)]
        return oriented(first_component(torch.nn.functional.normalize(d, dim=1), size=1.0), source, target)


@final
@dataclass(frozen=True)
class LogisticDirection(_Estimator):
    """Weights of a logistic regression of the class on the activations, unit length.

    Right for reading the concept; a direction that detects best need not be one that steers best. All coordinates are
    scaled by one number, the root mean square about the mean, so that the penalty means the same at every site and
    the direction turns with the data. The L2 penalty makes it exist for separable classes, and w·Δ ≥ 0.

    Args:
        inverse_penalty: C of scikit-learn.

    References:
        pedregosa2011 (LogisticRegression).
    """

    inverse_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.inverse_penalty < float("inf"):
            raise OptionError(f"inverse_penalty must be positive and finite, but got {self.inverse_penalty}.")

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        mean_difference(source, target)  # where it is zero, so is w
        x = torch.cat([source, target])
        x = x - x.mean(dim=0)
        y = [0] * len(source) + [1] * len(target)
        probe = LogisticRegression(C=self.inverse_penalty, tol=1e-8, max_iter=10_000)
        probe.fit((x / x.square().mean().sqrt()).numpy(), y)
        return unit(torch.as_tensor(probe.coef_[0], dtype=torch.float64))


@final
@dataclass(frozen=True)
class LinearDiscriminant(_Estimator):
    """Fisher's discriminant, unit(Σ_W⁻¹ Δ) of the within-class covariance Σ_W; the total covariance gives the same.

    Right for reading, if the classes share one covariance. Whitening weighs directions of small spread most, so with
    few rows it needs the shrinkage. To write, see `MeanDifference`.

    Args:
        shrinkage: Of Σ_W towards a multiple of the identity, in [0, 1]; "oas" takes the oracle-approximating intensity,
            "bodnar" the optimal linear one for large dimensions. At 0 a singular Σ_W has its pseudo-inverse; at 1 it is
            `MeanDifference`.

    References:
        fisher1936; chen2010, bodnar2014 (shrinkage).
    """

    shrinkage: Shrinkage = "oas"

    def __post_init__(self) -> None:
        check_shrinkage(self.shrinkage)

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        delta = mean_difference(source, target)
        below, above = moments(source), moments(target)
        cov = (below.scatter + above.scatter) / (below.n + above.n)
        if cov.diagonal().sum().sqrt() <= ROUNDING * _size(source, target):
            raise FitError("A linear discriminant needs rows that vary within a class. Use MeanDifference.")
        intensity = shrinkage_intensity(cov, below.n + above.n, self.shrinkage)
        cov = shrink(cov, intensity)
        w = torch.linalg.solve(cov, delta) if intensity > 0 else psd_power(cov, -1.0) @ delta
        if (cov @ w).norm() <= ROUNDING * _size(source, target):
            raise FitError(
                "The means differ only where neither class varies, which a pseudo-inverse drops. Use MeanDifference, "
                "or LinearDiscriminant with shrinkage."
            )
        return unit(w)


@final
@dataclass(frozen=True)
class MassMean(_Estimator):
    """The mass-mean probe, unit(Σ_W⁺ Δ): to read with, not to write with.

    The authors add Δ to steer and read with Σ_W⁺ Δ; to write along this one is the standard bug, and `MeanDifference`
    is what was meant. It is `LinearDiscriminant` without shrinkage. With fewer rows than dimensions the pseudo-inverse
    drops whatever of Δ lies outside the rows' spread.

    References:
        marks2023.
    """

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        return LinearDiscriminant(shrinkage=0.0).direction(source, target)


@final
@dataclass(frozen=True)
class TrimmedMean(_Estimator):
    """Mean of the pairs' differences, each coordinate without its largest and smallest values.

    Right against a few wild pairs. It deletes a minority mode: if a tenth of the pairs really differ otherwise, they
    are cut away; look at ``bimodality`` of `direction_report`. It does not turn with the data. The sign is its own, as
    wild pairs may have turned the mean difference round.

    Args:
        share: Cut at each end, in [0, 0.5); 0 is `MeanDifference`.

    References:
        huber1981.
    """

    share: float = 0.1

    needs: ClassVar[Needs] = "pairs"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 0.5:
            raise OptionError(f"share must lie in [0, 0.5), but got {self.share}.")

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        d = (target - source).sort(dim=0).values
        cut = int(self.share * len(d))
        return _unit_unless_rounding(d[cut : len(d) - cut].mean(dim=0), source, target)


@final
@dataclass(frozen=True)
class MedianOfMeans(_Estimator):
    """Geometric median of the mean differences of random blocks of pairs.

    Right against heavy tails; it turns with the data. It stands up to wild pairs in fewer than half of the blocks, that
    is to 3 wild pairs with the default 8; more of them need more blocks, or `TrimmedMean`. The sign is its own.

    Args:
        blocks: How many; 1 is `MeanDifference`.
        seed: Of the division into blocks.

    References:
        minsker2015; weiszfeld1937 (the iteration).
    """

    blocks: int = 8
    seed: int = 0

    needs: ClassVar[Needs] = "pairs"

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise OptionError(f"blocks must be at least 1, but got {self.blocks}.")

    def _of(self, source: Tensor, target: Tensor) -> Tensor:
        d = target - source
        if len(d) < self.blocks:
            raise FitError(f"{self.blocks} blocks need at least as many pairs, but got {len(d)}. Use fewer blocks.")
        order = torch.randperm(len(d), generator=torch.Generator().manual_seed(self.seed))
        means = torch.stack([block.mean(dim=0) for block in d[order].tensor_split(self.blocks)])
        return _unit_unless_rounding(_geometric_median(means), source, target)


def mean_difference(
    source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
) -> Float[Tensor, " d_model"]:
    """Δ of two samples whose means differ by more than rounding.

    Raises:
        FitError: If they do not.
    """
    delta = target.mean(dim=0) - source.mean(dim=0)
    if delta.norm() <= ROUNDING * _size(source, target):
        raise FitError("A direction needs two means that differ, but source and target have the same mean.")
    return delta


def check_pairs(source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> None:
    """Refuse samples that cannot be pairs.

    Raises:
        FitError: If one is longer than the other.
    """
    if len(source) != len(target):
        raise FitError(
            f"Rows must be pairs, but source has {len(source)} and target {len(target)}. Give the two rows of every "
            "pair in one order, or use an estimator that takes samples, such as MeanDifference."
        )


def first_component(rows: Float[Tensor, "n d_model"], *, size: float) -> Float[Tensor, " d_model"]:
    """Top right singular vector of rows as they are, of either sign.

    Raises:
        FitError: If they are all zero, up to rounding of numbers of this ``size``.
    """
    if len(rows) == 0 or rows.norm(dim=1).max() <= ROUNDING * size:
        raise FitError("A principal component needs differences that are not all equal. Use MeanDifference.")
    component: Tensor = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return component


def oriented(
    v: Float[Tensor, " d_model"], source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
) -> Float[Tensor, " d_model"]:
    """v or −v, by the rule of `DirectionEstimator`."""
    smallest = ROUNDING * _size(source, target)
    along = float(v @ (target.mean(dim=0) - source.mean(dim=0)))
    if abs(along) > smallest:
        return v if along > 0 else -v
    votes = 0
    if len(source) == len(target):
        scores = (target - source) @ v
        votes = int((scores > smallest).sum()) - int((scores < -smallest).sum())
    sign = votes if votes != 0 else float(v[v.abs().argmax()])
    return v if sign > 0 else -v


def _size(source: Tensor, target: Tensor) -> float:
    return float(torch.cat([source, target]).norm(dim=1).max())


def _unit_unless_rounding(v: Tensor, source: Tensor, target: Tensor) -> Tensor:
    if v.norm() <= ROUNDING * _size(source, target):
        raise FitError("The robust mean of the pairs' differences is zero: source and target have the same mean.")
    return unit(v)


def _geometric_median(points: Float[Tensor, "n d_model"]) -> Float[Tensor, " d_model"]:
    """The point with the least sum of distances, by Weiszfeld's iteration."""
    median = points.mean(dim=0)
    spread = float((points - median).norm())
    if spread == 0:
        return median
    for _ in range(1000):
        weights = 1 / (points - median).norm(dim=1).clamp(min=ROUNDING * spread)
        previous, median = median, (weights @ points) / weights.sum()
        if (median - previous).norm() <= ROUNDING * spread:
            break
    return median

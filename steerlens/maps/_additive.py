"""Additive maps: every activation moves by the same vector."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family, Needs, SteeringMap
from steerlens.maps._directions import DirectionEstimator, MeanDifference, PairMidpointPC, mean_difference
from steerlens.maps._samples import checked
from steerlens.numerics import Moments, unit


@final
@dataclass(frozen=True, eq=False)
class AdditiveMap(SteeringMap):
    """Translation, T(x) = x + v."""

    vector: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.vector.to(x).expand_as(x)

    @property
    def reverse(self) -> "AdditiveMap":
        """T(x) = x − v."""
        return AdditiveMap(-self.vector)


@final
@dataclass(frozen=True)
class MeanShift:
    """Carry the source mean to the target mean, and change nothing else.

    v = mean(target) − mean(source). Of all maps that match the means, this one moves the data least in mean
    square (Jensen). It is blind to covariance; see `GaussianTransport`.

    References:
        rimsky2024 (contrastive activation addition), equation 1.
    """

    family: ClassVar[Family] = "additive"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept is one vector, added to every input alike"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AdditiveMap:
        """Fit from rows; see `fit_moments` for streams."""
        source, target = checked(source, target, at_least=1)
        return AdditiveMap(target.mean(dim=0) - source.mean(dim=0))

    def fit_moments(self, source: Moments, target: Moments) -> AdditiveMap:
        """The same map from streamed moments."""
        return AdditiveMap(target.mean - source.mean)


@final
@dataclass(frozen=True)
class DirectionShift:
    """Translate along the direction of any estimator, as far as the means are apart: T(x) = x + |Δ| v̂.

    The length is that of `MeanShift` whatever the direction, so that two of these differ in direction alone. Right to
    ask which direction steers; the mean moves to the target's only with `MeanDifference`. The length is not robust,
    even where the direction is. The reverse is the opposite translation.

    Args:
        direction: Estimates v̂.

    References:
        vogel2024 (the default direction).
    """

    direction: DirectionEstimator = PairMidpointPC()  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "additive"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one direction for all inputs, which its estimator finds"

    @property
    def needs(self) -> Needs:
        """What the estimator needs."""
        return self.direction.needs

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AdditiveMap:
        """Fit from rows.

        Raises:
            FitError: If the means are equal, which leaves no length, or the estimator finds no direction.
        """
        source, target = checked(source, target, at_least=1)
        return AdditiveMap(mean_difference(source, target).norm() * self.direction.direction(source, target))


@final
@dataclass(frozen=True)
class NormRelativeShift:
    """Translate by a share of the activations' mean norm: T(x) = x + f · E|x| · v̂.

    Right to compare sites, layers and models, whose activations differ in scale; the distance of the classes does not
    enter. E|x| is over the rows of both samples.

    Args:
        direction: Estimates v̂.
        fraction: f, at strength 1.
    """

    direction: DirectionEstimator = MeanDifference()  # noqa: RUF009 - frozen
    fraction: float = 0.1

    family: ClassVar[Family] = "additive"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one direction for all inputs, and a dose in proportion to the activations' norm"

    def __post_init__(self) -> None:
        if not 0 < self.fraction < float("inf"):
            raise OptionError(f"fraction must be positive and finite, but got {self.fraction}.")

    @property
    def needs(self) -> Needs:
        """What the estimator needs."""
        return self.direction.needs

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AdditiveMap:
        """Fit from rows.

        Raises:
            FitError: If the estimator finds no direction.
        """
        source, target = checked(source, target, at_least=1)
        norm = torch.cat([source, target]).norm(dim=1).mean()
        return AdditiveMap(self.fraction * norm * self.direction.direction(source, target))


@final
@dataclass(frozen=True)
class RandomShift:
    """Translate in a uniformly random direction, as far as `MeanShift`: the control for every additive effect.

    Nothing but the length of Δ comes from the data.

    Args:
        seed: Equal seeds give equal directions.
    """

    seed: int = 0

    family: ClassVar[Family] = "random"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "that any push of this length would do"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AdditiveMap:
        """Fit from rows.

        Raises:
            FitError: If source and target have the same mean, which leaves no length.
        """
        source, target = checked(source, target, at_least=1)
        length = float(mean_difference(source, target).norm())
        return random_direction(source.shape[1], norm=length, seed=self.seed)


def random_direction(width: int, *, norm: float, seed: int) -> AdditiveMap:
    """A translation of given norm in a uniformly random direction: the control for every additive effect.

    Args:
        width: d_model of the site.
        norm: Length of the vector, in units of the activations.
        seed: Equal seeds give equal directions.

    Raises:
        OptionError: If ``norm`` is negative or not finite.
    """
    if not 0 <= norm < float("inf"):
        raise OptionError(f"A norm must be finite and not negative, but got {norm}.")
    generator = torch.Generator().manual_seed(seed)
    return AdditiveMap(norm * unit(torch.randn(width, dtype=torch.float64, generator=generator)))

"""Additive maps: every activation moves by the same vector."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family, SteeringMap
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

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AdditiveMap:
        """Fit from rows; see `fit_moments` for streams."""
        source, target = checked(source, target, at_least=1)
        return AdditiveMap(target.mean(dim=0) - source.mean(dim=0))

    def fit_moments(self, source: Moments, target: Moments) -> AdditiveMap:
        """The same map from streamed moments."""
        return AdditiveMap(target.mean - source.mean)


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

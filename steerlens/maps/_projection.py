"""Projections: remove what an activation says along one direction."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._samples import checked
from steerlens.numerics import Moments, unit


@final
@dataclass(frozen=True, eq=False)
class AblationMap(SteeringMap):
    """Orthogonal projection, T(x) = x − r̂ r̂ᵀ x.

    Strength 1 is idempotent, strength 2 a mirror. There is no reverse: what was projected away is gone.
    """

    direction: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        r = self.direction.to(x)
        return -(x @ r).unsqueeze(-1) * r


@final
@dataclass(frozen=True)
class DirectionalAblation:
    """Remove the direction of the mean difference, r̂ = unit(mean(target) − mean(source)).

    It erases; it does not promote. It takes zero along r̂ for "concept absent", which is wrong wherever the
    source mean is not zero there: then it moves the source by more than the concept.

    References:
        arditi2024, equation 4.
    """

    family: ClassVar[Family] = "affine"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> AblationMap:
        """Fit from rows.

        Raises:
            FitError: If source and target have the same mean.
        """
        source, target = checked(source, target, at_least=1)
        return _ablation(target.mean(dim=0) - source.mean(dim=0))

    def fit_moments(self, source: Moments, target: Moments) -> AblationMap:
        """The same map from streamed moments."""
        return _ablation(target.mean - source.mean)


def _ablation(difference: Float[Tensor, " d_model"]) -> AblationMap:
    if difference.norm() == 0:
        raise FitError("Directional ablation needs two means that differ, but source and target have the same mean.")
    return AblationMap(unit(difference))

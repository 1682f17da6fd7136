"""The map to one point: every activation is replaced."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from steerlens.maps._base import SteeringMap


@final
@dataclass(frozen=True, eq=False)
class ConstantMap(SteeringMap):
    """T(x) = p for every x: strength 1 replaces, and a strength between 0 and 1 goes a part of the way.

    What is patched into a model from other inputs: a task vector, or a head's mean output. Nothing of x survives, so
    there is no reverse.

    Args:
        point: p.
    """

    point: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.point.to(x) - x

"""Additive maps that give every row its norm back: one vector, and movement on a sphere."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family, Needs, SteeringMap
from steerlens.maps._directions import (
    ROUNDING,
    DirectionEstimator,
    MeanDifference,
    check_pairs,
    first_component,
    mean_difference,
    oriented,
)
from steerlens.maps._samples import checked
from steerlens.numerics import unit


@final
@dataclass(frozen=True, eq=False)
class NormRestoredMap(SteeringMap):
    """T(x) = |x| unit(x + v): add, then rescale to the old norm.

    A row at zero stays there. So does a row with x + s v = 0, which has no direction.
    """

    vector: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        return _restored(x, strength.unsqueeze(-1) * self.vector.to(x))

    @property
    def strength_unit(self) -> str:
        """The norm is restored after every dose, so the path is an arc."""
        return "lengths of the vector, norm restored"

    @property
    def reverse(self) -> "NormRestoredMap":
        """The map of −v; not the inverse."""
        return NormRestoredMap(-self.vector)


@final
@dataclass(frozen=True, eq=False)
class InContextMap(SteeringMap):
    """T(x) = |x| unit(x̂ + λ (1 + max(0, −cos(x, v))) v̂): a dose relative to the norm, doubled for rows opposite to v.

    A row at zero has no direction and stays there; so does a row that the dose would bring to zero.

    Args:
        vector: v̂, of length one.
        dose: λ, at strength 1; negative in the reverse.
    """

    vector: Float[Tensor, " d_model"]
    dose: float

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        v = self.vector.to(x)
        # |x| λ (1 + max(0, −cos(x, v))) without the division that a zero row would not survive.
        dose = self.dose * (x.norm(dim=-1) + (-(x @ v)).clamp(min=0))
        return _restored(x, (strength * dose).unsqueeze(-1) * v)

    @property
    def strength_unit(self) -> str:
        """The norm is kept, so the path is an arc."""
        return "doses, norm kept"

    @property
    def reverse(self) -> "InContextMap":
        """The same v with the dose −λ, as published: rows opposite to v still move most. Not the inverse."""
        return InContextMap(self.vector, -self.dose)


@final
@dataclass(frozen=True)
class NormRestoredShift:
    """Add the mean difference's length along a direction, then restore the norm: T(x) = |x| unit(x + |Δ| v̂).

    The same vector as `DirectionShift`, and a constraint on the norm besides. Right where later layers see little but
    the direction of an activation, and large norms do harm; wrong where the concept is in the norm.

    Args:
        direction: Estimates v̂.

    References:
        vonruette2024; vogel2024 (its option to normalise).
    """

    direction: DirectionEstimator = MeanDifference()  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "additive"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one direction for all inputs; norms say nothing about the concept"

    @property
    def needs(self) -> Needs:
        """What the estimator needs."""
        return self.direction.needs

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> NormRestoredMap:
        """Fit from rows.

        Raises:
            FitError: If the means are equal, which leaves no length, or the estimator finds no direction.
        """
        source, target = checked(source, target, at_least=1)
        return NormRestoredMap(mean_difference(source, target).norm() * self.direction.direction(source, target))


@final
@dataclass(frozen=True)
class InContextShift:
    """In-context vector at one site: v = Δ + ê, norm kept; ê is the first component of the pairs' differences.

    ê is `PairDifferencePC`, of length one beside a Δ in units of the activations: it counts where activations are
    small, and not where they are large. That is the published code, whose ê has an arbitrary sign; the paper's text
    names a component alone. If all differences are equal there is no ê, and v = Δ. The paper acts on the MLP's output
    in all layers, with one component over all of them together. A negative strength is a negative λ, as published, and
    not the map fitted the other way round: that one pushes rows along v twice as far.

    Args:
        dose: λ, at strength 1, in units of the norm of each row.

    References:
        liu2024.
    """

    dose: float = 0.1

    family: ClassVar[Family] = "additive"
    needs: ClassVar[Needs] = "pairs"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one direction for all inputs, and a dose in proportion to each row's norm"

    def __post_init__(self) -> None:
        if not 0 < self.dose < float("inf"):
            raise OptionError(f"dose must be positive and finite, but got {self.dose}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> InContextMap:
        """Fit from pairs.

        Raises:
            FitError: If the rows are not pairs, or the means are equal.
        """
        source, target = checked(source, target, at_least=1)
        check_pairs(source, target)
        v = mean_difference(source, target)
        about_mean = target - source - v
        size = float(torch.cat([source, target]).norm(dim=1).max())
        if about_mean.norm(dim=1).max() > ROUNDING * size:
            v = v + oriented(first_component(about_mean, size=size), source, target)
        return InContextMap(unit(v), self.dose)


def _restored(x: Float[Tensor, "*batch d_model"], step: Float[Tensor, "*batch d_model"]) -> Tensor:
    """|x| unit(x + step) − x, with no subtraction of an image from its row: a small step keeps its digits."""
    old, new = x.norm(dim=-1, keepdim=True), (x + step).norm(dim=-1, keepdim=True)
    # |x|/|x + step| − 1, by the difference of two squares.
    change = -((2 * x + step) * step).sum(dim=-1, keepdim=True) / (new * (old + new))
    return torch.where((old > 0) & (new > 0), change * x + old / new * step, torch.zeros_like(x))

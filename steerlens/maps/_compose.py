"""Maps made of maps: two directions, one after another, within a subspace."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import (
    Family,
    Needs,
    SteeringMap,
    SteeringMethod,
    method_family,
    method_needs,
    method_reversible,
)
from steerlens.maps._samples import checked
from steerlens.numerics import moments, principal_subspace

Scaling = Literal["whitened", "even"]
"""Units of the coordinates in a subspace: one standard deviation along each axis, or one for all axes together."""


@final
@dataclass(frozen=True, eq=False)
class TwoWayMap(SteeringMap):
    """A map whose reverse is another, fitted the other way round."""

    forward: SteeringMap
    backward: SteeringMap

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.forward.displacement(x)

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        return self.forward.path(x, strength)

    @property
    def strength_unit(self) -> str:
        """That of the forward map."""
        return self.forward.strength_unit

    @property
    def d_model(self) -> int | None:
        """Width of the forward map."""
        return self.forward.d_model

    @property
    def reverse(self) -> "TwoWayMap":
        """The two exchanged."""
        return TwoWayMap(self.backward, self.forward)


@final
@dataclass(frozen=True, eq=False)
class SubspaceMap(SteeringMap):
    """T(x) = x + Δ⊥ + U S (t(z) − z) with z = S⁻¹Uᵀ(x − c): a map t of few coordinates, a translation outside.

    Args:
        center: c, where the coordinates are zero.
        basis: U, orthonormal columns.
        scale: The diagonal of S.
        shift: Δ⊥, orthogonal to U.
        inner: t, in the coordinates.
    """

    center: Float[Tensor, " d_model"]
    basis: Float[Tensor, "d_model rank"]
    scale: Float[Tensor, " rank"]
    shift: Float[Tensor, " d_model"]
    inner: SteeringMap

    def coordinates(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch rank"]:
        """z of every row."""
        return (x - self.center.to(x)) @ self.basis.to(x) / self.scale.to(x)

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + self._lifted(self.inner.displacement(self.coordinates(x)))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        moved = self.inner.path(self.coordinates(x), strength)
        return strength.unsqueeze(-1) * self.shift.to(x) + self._lifted(moved)

    def _lifted(self, step: Float[Tensor, "*batch rank"]) -> Float[Tensor, "*batch d_model"]:
        return (step * self.scale.to(step)) @ self.basis.to(step).T

    @property
    def strength_unit(self) -> str:
        """That of the inner map."""
        return self.inner.strength_unit

    @property
    def reverse(self) -> "SubspaceMap | None":
        """The inner reverse, and the translation back."""
        inner = self.inner.reverse
        return None if inner is None else SubspaceMap(self.center, self.basis, self.scale, -self.shift, inner)


@final
@dataclass(frozen=True, eq=False)
class SequenceMap(SteeringMap):
    """T = last ∘ … ∘ first; a strength is that of each in turn."""

    maps: tuple[SteeringMap, ...]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        moved = torch.zeros_like(x)
        for one in self.maps:
            moved = moved + one.path(x + moved, strength)
        return moved

    @property
    def strength_unit(self) -> str:
        """Each map has its own."""
        return "the strength of each map in turn"

    @property
    def d_model(self) -> int | None:
        """Width of the first map that has one."""
        return next((one.d_model for one in self.maps if one.d_model is not None), None)

    @property
    def reverse(self) -> "SequenceMap | None":
        """The reverses, last first; None if one of the maps has none."""
        reverses = [one.reverse for one in reversed(self.maps)]
        return SequenceMap(tuple(r for r in reverses if r is not None)) if None not in reverses else None


@final
@dataclass(frozen=True)
class InSequence:
    """One method after another, each fitted on what the ones before it left.

    Args:
        methods: At least two, in the order in which they act.
    """

    methods: tuple[SteeringMethod, ...]

    def __post_init__(self) -> None:
        if len(self.methods) < 2:
            raise OptionError(f"A sequence needs at least two methods, but got {len(self.methods)}.")

    @property
    def family(self) -> Family:
        """That of the last method whose family is not additive; additive if all are."""
        families = [method_family(m) for m in self.methods]
        return next((f for f in reversed(families) if f != "additive"), "additive")

    @property
    def needs(self) -> Needs:
        """Pairs if one of the methods needs them."""
        return "pairs" if any(method_needs(m) == "pairs" for m in self.methods) else "samples"

    @property
    def reversible(self) -> bool | None:
        """No if one of the methods is not."""
        each = [method_reversible(m) for m in self.methods]
        return False if False in each else None if None in each else True

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SequenceMap:
        """Fit each on the source as the ones before it moved it."""
        source, target = checked(source, target, at_least=1)
        maps: list[SteeringMap] = []
        for method in self.methods:
            maps.append(method.fit(source, target))
            source = maps[-1](source)
        return SequenceMap(tuple(maps))


@final
@dataclass(frozen=True)
class InSubspace:
    """A method in the leading principal subspace of both samples together; outside it the mean moves.

    Args:
        method: What is fitted, in coordinates of the subspace.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of the coordinates. "whitened" lets directions of small spread count as much as others.
    """

    method: SteeringMethod
    rank: int | None = None
    scaling: Scaling = "even"

    def __post_init__(self) -> None:
        check_rank(self.rank)

    @property
    def family(self) -> Family:
        """That of the method."""
        return method_family(self.method)

    @property
    def needs(self) -> Needs:
        """What the method needs."""
        return method_needs(self.method)

    @property
    def reversible(self) -> bool | None:
        """Whether the method is."""
        return method_reversible(self.method)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SubspaceMap:
        """Fit from rows.

        Raises:
            FitError: If nothing varies, or the method cannot be fitted in the subspace.
        """
        source, target = checked(source, target)
        return within_subspace(source, target, self.method.fit, rank=self.rank, scaling=self.scaling)


def within_subspace(
    source: Float[Tensor, "n d_model"],
    target: Float[Tensor, "m d_model"],
    fit: Callable[[Tensor, Tensor], SteeringMap],
    *,
    rank: int | None,
    scaling: Scaling,
) -> SubspaceMap:
    """What ``fit`` makes of the two samples in coordinates of their leading subspace, lifted back.

    Raises:
        FitError: If all rows are equal.
    """
    n = min(len(source), len(target))
    wanted = rank if rank is not None else max(min(n // 5, 32), 1)
    pooled = moments(torch.cat([source, target]))
    U, variances = principal_subspace(pooled.cov, min(wanted, max(n - 1, 1)))
    if len(variances) == 0:
        raise FitError("A map needs activations that vary, but all rows are equal.")
    scale = variances.sqrt() if scaling == "whitened" else variances.mean().sqrt().expand(len(variances)).clone()
    center, shift = source.mean(dim=0), target.mean(dim=0) - source.mean(dim=0)
    inner = fit((source - center) @ U / scale, (target - center) @ U / scale)
    return SubspaceMap(center, U, scale, shift - U @ (U.T @ shift), inner)


def both_ways(
    fit: Callable[[Tensor, Tensor], SteeringMap], source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
) -> TwoWayMap:
    """``fit`` from source to target and from target to source."""
    return TwoWayMap(fit(source, target), fit(target, source))


def check_rank(rank: int | None) -> None:
    """Refuse a rank below 1.

    Raises:
        OptionError: If it is.
    """
    if rank is not None and rank < 1:
        raise OptionError(f"rank must be at least 1, but got {rank}.")

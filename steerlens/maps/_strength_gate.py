"""One direction for all, a dose for each: the control between a translation and a map that bends."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, cast, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._compose import Scaling, TwoWayMap, both_ways, check_rank, within_subspace
from steerlens.maps._nonlinear import (
    Biases,
    Signal,
    Weights,
    check_cost,
    check_hidden,
    initial_network,
    match_distributions,
    network,
)
from steerlens.maps._samples import checked
from steerlens.maps._training import Training
from steerlens.numerics import unit

AT_ONE = math.log(math.e - 1)
"""Where softplus is 1."""


@final
@dataclass(frozen=True, eq=False)
class GatedShiftMap(SteeringMap):
    """T(x) = x + g(x) v with a dose g(x) = softplus(f(Rᵀ(x − c)) + ln(e − 1)) ≥ 0, f a GELU network.

    Args:
        vector: v.
        center: c.
        read: R, from activations to inputs of the network.
        weights: Matrices of f, input first.
        biases: Their biases.
        curve: Step and held-out loss during training.
    """

    vector: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    read: Float[Tensor, "d_model rank"]
    weights: Weights
    biases: Biases
    curve: Float[Tensor, "look 2"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.dose(x).unsqueeze(-1) * self.vector.to(x)

    def dose(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """g(x) of every row: 1 is the mean shift."""
        weights, biases = tuple(w.to(x) for w in self.weights), tuple(b.to(x) for b in self.biases)
        return _dose((x - self.center.to(x)) @ self.read.to(x), weights, biases).squeeze(-1)


@final
@dataclass(frozen=True)
class StrengthGate:
    """Move every row along the mean difference, as far as a network says: T(x) = x + g(x) v, v = μ₊ − μ₋, g ≥ 0.

    The control for the question whether direction or dose must depend on the input. The dose cannot be negative: a
    gate that may change sign chooses between two directions, and would pass for a dose what is a direction that
    depends on context. So it solves what a dose can solve, and can at best leave alone the rows that ought to go the
    other way. Training is that of `ResidualMLP`, from the mean shift (g = 1) on, the best held-out step kept.

    Args:
        seed: Of the initial weights, batches and held-out rows.
        hidden: Widths of the hidden layers.
        rank: Dimensions that the network reads and in which distributions are compared; None takes a fifth of the
            smaller sample, at most 32.
        scaling: Units of these dimensions.
        transport_cost: As in `ResidualMLP`.
        training: Steps, rate, patience and batch.

    References:
        arXiv 2604.24693 (CLAS: a fixed direction with a context-dependent strength); known to us from a summary, so the
        details are ours.
    """

    seed: int = 0
    hidden: tuple[int, ...] = (64, 64)
    rank: int | None = None
    scaling: Scaling = "even"
    transport_cost: float = 0.005
    training: Training = Training(steps=800, learning_rate=3e-3, patience=300)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "all rows go the same way, some farther than others"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_hidden(self.hidden)
        check_cost(self.transport_cost)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows, or source and target have the same mean.
        """
        source, target = checked(source, target, at_least=20)
        unit(target.mean(dim=0) - source.mean(dim=0))
        return both_ways(self._one_way, source, target)

    def _one_way(self, source: Tensor, target: Tensor) -> GatedShiftMap:
        lifted = within_subspace(source, target, self._train, rank=self.rank, scaling=self.scaling)
        return replace(
            cast(GatedShiftMap, lifted.inner),
            vector=target.mean(dim=0) - source.mean(dim=0),
            center=lifted.center,
            read=lifted.basis / lifted.scale,
        )

    def _train(self, source: Tensor, target: Tensor) -> GatedShiftMap:
        rank, shift = source.shape[1], target.mean(dim=0) - source.mean(dim=0)
        generator = torch.Generator().manual_seed(self.seed)
        weights, biases = initial_network((rank, *self.hidden, 1), generator)
        curve = match_distributions(
            lambda x: _dose(x, weights, biases) * shift,
            [*weights, *biases],
            source,
            target,
            signal=Signal(self.transport_cost, self.training, self.seed),
        )
        return GatedShiftMap(shift, torch.zeros_like(shift), torch.eye(rank).to(shift), weights, biases, curve)


def _dose(z: Float[Tensor, "*batch rank"], weights: Weights, biases: Biases) -> Float[Tensor, "*batch 1"]:
    return functional.softplus(network(z, weights, biases) + AT_ONE)

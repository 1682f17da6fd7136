"""Learned nonlinear maps: a small network that transports one sample onto another."""

import itertools
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.errors import OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._compose import TwoWayMap, both_ways, check_rank, within_subspace
from steerlens.maps._samples import checked
from steerlens.maps._training import Training, cut, some, train
from steerlens.numerics import energy_distance

Weights = tuple[Float[Tensor, "_ _"], ...]
Biases = tuple[Float[Tensor, " _"], ...]


@final
@dataclass(frozen=True, eq=False)
class MLPMap(SteeringMap):
    """T(x) = x + Δ + f(x), with f a GELU network.

    Args:
        shift: Δ.
        weights: Matrices of the layers of f, input first.
        biases: Their biases.
        curve: Step and held-out loss during training.
    """

    shift: Float[Tensor, " d_model"]
    weights: Weights
    biases: Biases
    curve: Float[Tensor, "look 2"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + network(x, tuple(w.to(x) for w in self.weights), tuple(b.to(x) for b in self.biases))


@final
@dataclass(frozen=True)
class ResidualMLP:
    """A network trained so that the transported source cannot be told from the target.

    It starts as `MeanShift` and learns what is left: in the whitened leading subspace, T(z) = z + Δ + f(z) minimises
    the energy distance of T(source) to target plus ``transport_cost`` · E‖f‖²/r. Of the trained steps the one with the
    smallest energy distance on held-out rows is kept, so that it stays near the mean shift where nothing more can be
    learned. Unpaired; energy distance is zero only for equal laws, so unlike affine maps it sees moments of every
    order.

    Args:
        seed: Of the initial weights and the held-out rows.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        transport_cost: Price of moving, which picks the map that moves least among those that match.
        training: Steps, rate, patience and batch; energy distance costs the square of the batch.

    References:
        szekely2013 (energy distance); methods follow the transport view of bunne2023.
    """

    seed: int = 0
    hidden: tuple[int, ...] = (64, 64)
    rank: int | None = None
    transport_cost: float = 0.005
    training: Training = Training()  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    assumes: ClassVar[str] = "enough rows to tell distributions apart; no moment is left out"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_hidden(self.hidden)
        if self.transport_cost < 0:
            raise OptionError(f"transport_cost must not be negative, but got {self.transport_cost}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows or does not vary.
        """
        source, target = checked(source, target, at_least=20)
        return both_ways(
            lambda a, b: within_subspace(a, b, self._train, rank=self.rank, scaling="whitened"), source, target
        )

    def _train(self, source: Tensor, target: Tensor) -> MLPMap:
        generator = torch.Generator().manual_seed(self.seed)
        shift = target.mean(dim=0) - source.mean(dim=0)
        source_fit, source_held = cut(source, self.seed)
        target_fit, target_held = cut(target, self.seed)
        weights, biases = initial_network((source.shape[1], *self.hidden, source.shape[1]), generator)

        def loss() -> Tensor:
            x, y = (some(rows, self.training.batch_size, generator) for rows in (source_fit, target_fit))
            moved = network(x, weights, biases)
            return energy_distance(x + shift + moved, y) + self.transport_cost * (moved**2).mean()

        def held_out() -> Tensor:
            return energy_distance(source_held + shift + network(source_held, weights, biases), target_held)

        curve = train([*weights, *biases], loss, held_out, self.training)
        return MLPMap(shift, weights, biases, curve)


def network(x: Float[Tensor, "*batch d_in"], weights: Weights, biases: Biases) -> Float[Tensor, "*batch d_out"]:
    """A GELU network with a linear last layer."""
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        x = functional.gelu(functional.linear(x, W, b))
    return functional.linear(x, weights[-1], biases[-1])


def initial_network(widths: tuple[int, ...], generator: torch.Generator) -> tuple[Weights, Biases]:
    """Random layers of variance 1 / fan-in; the last one is zero, so that the network begins as zero."""
    weights = [
        torch.randn(o, i, dtype=torch.float64, generator=generator) / i**0.5 for i, o in itertools.pairwise(widths)
    ]
    weights[-1].zero_()
    return tuple(weights), tuple(torch.zeros(o, dtype=torch.float64) for o in widths[1:])


def check_hidden(hidden: tuple[int, ...]) -> None:
    """Refuse a network without a hidden layer.

    Raises:
        OptionError: If there is none, or one has no units.
    """
    if not hidden or min(hidden) < 1:
        raise OptionError(f"hidden needs at least one positive width, but got {hidden}.")

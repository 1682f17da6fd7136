"""Learned nonlinear maps: a small network that transports one sample onto another, or regresses differences."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, Needs, SteeringMap
from steerlens.maps._compose import Scaling, TwoWayMap, both_ways, check_rank, within_subspace
from steerlens.maps._samples import checked
from steerlens.maps._training import Training, cut, some, train
from steerlens.numerics import energy_distance

HELD_OUT_ROWS = 700
"""Most rows of each sample by which training stops: energy distance costs their square."""

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

    It starts as `MeanShift` and learns what is left: in the leading subspace, T(z) = z + Δ + f(z) minimises the energy
    distance of T(source) to target plus ``transport_cost`` · E‖f‖²/r. Of the trained steps the one with the
    smallest energy distance on held-out rows is kept, so that it stays near the mean shift where nothing more can be
    learned. Unpaired; energy distance is zero only for equal laws, so unlike affine maps it sees moments of every
    order.

    Args:
        seed: Of the initial weights and the held-out rows.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of its coordinates. "whitened" makes directions of small spread as loud as the others.
        transport_cost: Price of moving, which picks the map that moves least among those that match.
        training: Steps, rate, patience and batch; energy distance costs the square of the batch.

    References:
        szekely2013 (energy distance); methods follow the transport view of bunne2023.
    """

    seed: int = 0
    hidden: tuple[int, ...] = (128, 128)
    rank: int | None = None
    scaling: Scaling = "even"
    transport_cost: float = 0.005
    training: Training = Training(steps=800, learning_rate=3e-3, patience=300)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "enough rows to tell distributions apart; no moment is left out"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_hidden(self.hidden)
        check_cost(self.transport_cost)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows, or all rows are equal.
        """
        source, target = checked(source, target, at_least=20)
        return both_ways(
            lambda a, b: within_subspace(a, b, self._train, rank=self.rank, scaling=self.scaling), source, target
        )

    def _train(self, source: Tensor, target: Tensor) -> MLPMap:
        shift = target.mean(dim=0) - source.mean(dim=0)
        generator = torch.Generator().manual_seed(self.seed)
        weights, biases = initial_network((source.shape[1], *self.hidden, source.shape[1]), generator)
        curve = match_distributions(
            lambda x: shift + network(x, weights, biases),
            [*weights, *biases],
            source,
            target,
            signal=Signal(self.transport_cost, self.training, self.seed),
        )
        return MLPMap(shift, weights, biases, curve)


@final
@dataclass(frozen=True)
class PairedMLP:
    """The network of `ResidualMLP`, trained to predict each pair's difference from its source row.

    In the leading subspace, f minimises E‖d − Δ − f(z)‖² over pairs, with d their difference and Δ its mean: T(z) = z +
    E[d | z]. It starts as `MeanShift`, and of the trained steps the one with the smallest loss on held-out pairs is
    kept, so that it falls back to the mean shift where d does not depend on z. Being a conditional mean, it
    averages over whatever z does not decide: unlike a transport, it need not reproduce the target's spread.

    Args:
        seed: Of the initial weights and the held-out pairs.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the pairs, at most 32.
        scaling: Units of its coordinates, as in `ResidualMLP`.
        training: Steps, rate, patience and batch.
    """

    seed: int = 0
    hidden: tuple[int, ...] = (128, 128)
    rank: int | None = None
    scaling: Scaling = "even"
    training: Training = Training(steps=800, learning_rate=3e-3)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "rows are pairs, and the difference of a pair can be told from its source row"
    needs: ClassVar[Needs] = "pairs"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_hidden(self.hidden)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If the samples are not equally long, have fewer than 20 rows, or all rows are equal.
        """
        source, target = checked(source, target, at_least=20)
        if len(source) != len(target):
            raise FitError(
                f"PairedMLP needs rows that are pairs, but got {len(source)} source and {len(target)} target rows. "
                "Use ResidualMLP for unpaired samples."
            )
        return both_ways(
            lambda a, b: within_subspace(a, b, self._train, rank=self.rank, scaling=self.scaling), source, target
        )

    def _train(self, source: Tensor, target: Tensor) -> MLPMap:
        generator = torch.Generator().manual_seed(self.seed)
        shift = target.mean(dim=0) - source.mean(dim=0)
        z_fit, z_held = cut(source, self.seed)
        d_fit, d_held = cut(target - source - shift, self.seed)
        weights, biases = initial_network((source.shape[1], *self.hidden, source.shape[1]), generator)

        def loss() -> Tensor:
            rows = torch.randperm(len(z_fit), generator=generator)[: self.training.batch_size]
            return functional.mse_loss(network(z_fit[rows], weights, biases), d_fit[rows])

        def held_out() -> Tensor:
            return functional.mse_loss(network(z_held, weights, biases), d_held)

        return MLPMap(shift, weights, biases, train([*weights, *biases], loss, held_out, self.training))


@final
@dataclass(frozen=True)
class Signal:
    """What every learned unpaired map is trained on, so that such maps differ in their functions alone.

    Args:
        transport_cost: Price of moving otherwise than by the mean shift.
        training: Steps, rate, patience and batch.
        seed: Of batches and held-out rows.
    """

    transport_cost: float
    training: Training
    seed: int


def match_distributions(
    displacement: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    source: Float[Tensor, "n rank"],
    target: Float[Tensor, "m rank"],
    *,
    signal: Signal,
) -> Float[Tensor, "look 2"]:
    """Train ``parameters`` of a displacement until the moved source is distributed as the target.

    The loss of a batch is its energy distance plus transport cost · E‖displacement − Δ‖²/r; the energy distance of
    held-out rows decides which step is kept.

    Returns:
        The training curve.
    """
    generator = torch.Generator().manual_seed(signal.seed)
    shift = target.mean(dim=0) - source.mean(dim=0)
    source_fit, source_held = cut(source, signal.seed)
    target_fit, target_held = cut(target, signal.seed)
    source_held, target_held = source_held[:HELD_OUT_ROWS], target_held[:HELD_OUT_ROWS]

    def loss() -> Tensor:
        x, y = (some(rows, signal.training.batch_size, generator) for rows in (source_fit, target_fit))
        moved = displacement(x)
        return energy_distance(x + moved, y) + signal.transport_cost * ((moved - shift) ** 2).mean()

    def held_out() -> Tensor:
        return energy_distance(source_held + displacement(source_held), target_held)

    return train(parameters, loss, held_out, signal.training)


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


def check_cost(transport_cost: float) -> None:
    """Refuse a negative price.

    Raises:
        OptionError: If it is.
    """
    if transport_cost < 0:
        raise OptionError(f"transport_cost must not be negative, but got {transport_cost}.")

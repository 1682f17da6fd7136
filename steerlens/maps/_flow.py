"""Flows: rows follow a velocity field that was learned from matched pairs."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from steerlens.errors import OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._compose import Scaling, SubspaceMap, check_rank, within_subspace
from steerlens.maps._nonlinear import HELD_OUT_ROWS, Biases, Weights, check_hidden, initial_network, network
from steerlens.maps._samples import checked
from steerlens.maps._training import Training, cut, some, train


@final
@dataclass(frozen=True, eq=False)
class FlowMap(SteeringMap):
    """Where dx/dt = Δ + f(x, t) carries a row from t = 0; strength is the time at which it stops.

    Midpoint rule in a fixed number of steps, whatever the time, so that rows are independent. At times above
    1, which training never saw, the field of t = 1 goes on; the reverse starts at t = 1 and, past 0, goes on with the
    field of t = 0. The reverse is the inverse at strength 1, up to the error of integration.

    Args:
        shift: Δ.
        weights: Matrices of f, whose input is x and then t.
        biases: Their biases.
        curve: Step and held-out loss during training.
        steps: Of the integration.
        forward: From source to target.
    """

    shift: Float[Tensor, " d_model"]
    weights: Weights
    biases: Biases
    curve: Float[Tensor, "look 2"]
    steps: int
    forward: bool

    @property
    def strength_unit(self) -> str:
        """Time: the path is curved."""
        return "integration time"

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        h = strength.unsqueeze(-1) / self.steps
        moved = torch.zeros_like(x)
        for k in range(self.steps):
            half = moved + h / 2 * self.velocity(x + moved, k * h)
            moved = moved + h * self.velocity(x + half, (k + 0.5) * h)
        return moved

    def velocity(
        self, x: Float[Tensor, "*batch d_model"], elapsed: Float[Tensor, "*batch 1"]
    ) -> Float[Tensor, "*batch d_model"]:
        """How fast a row at x moves when this much time has passed since it set out."""
        clock = elapsed.clamp(max=1)
        weights, biases = tuple(w.to(x) for w in self.weights), tuple(b.to(x) for b in self.biases)
        ahead = self.shift.to(x) + network(_at(x, clock if self.forward else 1 - clock), weights, biases)
        return ahead if self.forward else -ahead

    @property
    def reverse(self) -> "FlowMap":
        """The same field, backwards."""
        return replace(self, forward=not self.forward)


@final
@dataclass(frozen=True)
class FlowMatching:
    """Learn the velocity that carries source to target along straight lines between matched rows (OT-CFM).

    Each step matches a batch of source rows x₀ to target rows x₁ at least squared distance, draws t ~ U(0, 1), and
    regresses v(x, t) = Δ + f(x, t) on x₁ − x₀ at x = (1 − t) x₀ + t x₁, in the leading subspace. Whatever the matching,
    the flow of the minimiser carries one law to the other; matching makes its paths straight and short. It
    starts as `MeanShift`; the step with the smallest loss on held-out matched rows is kept. One field serves both
    directions: the reverse integrates it backwards.

    Args:
        seed: Of the initial weights, batches and held-out rows.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of its coordinates; distances between rows are taken in them.
        integration_steps: Of the midpoint rule.
        training: Steps, rate, patience and batch; matching costs up to the cube of the batch.

    References:
        tong2024 (minibatch optimal transport); lipman2023 (flow matching).
    """

    seed: int = 0
    hidden: tuple[int, ...] = (128, 128)
    rank: int | None = None
    scaling: Scaling = "even"
    integration_steps: int = 10
    training: Training = Training(steps=1500, learning_rate=3e-3, patience=300)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "enough rows to learn a field between the samples; no moment is left out"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_hidden(self.hidden)
        if self.integration_steps < 1:
            raise OptionError(f"integration_steps must be at least 1, but got {self.integration_steps}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SubspaceMap:
        """Train the field.

        Raises:
            FitError: If a sample has fewer than 20 rows, or all rows are equal.
        """
        source, target = checked(source, target, at_least=20)
        return within_subspace(source, target, self._train, rank=self.rank, scaling=self.scaling)

    def _train(self, source: Tensor, target: Tensor) -> FlowMap:
        generator = torch.Generator().manual_seed(self.seed)
        shift = target.mean(dim=0) - source.mean(dim=0)
        source_fit, source_held = cut(source, self.seed)
        target_fit, target_held = cut(target, self.seed)
        weights, biases = initial_network((source.shape[1] + 1, *self.hidden, source.shape[1]), generator)

        def error(pairs: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
            x0, x1 = pairs
            return functional.mse_loss(shift + network(_at((1 - t) * x0 + t * x1, t), weights, biases), x1 - x0)

        def times(pairs: tuple[Tensor, Tensor]) -> Tensor:
            return torch.rand(len(pairs[0]), 1, dtype=torch.float64, generator=generator)

        held = matched(source_held[:HELD_OUT_ROWS], target_held[:HELD_OUT_ROWS])
        held_times = times(held)

        def loss() -> Tensor:
            size = min(self.training.batch_size, len(source_fit), len(target_fit))
            pairs = matched(some(source_fit, size, generator), some(target_fit, size, generator))
            return error(pairs, times(pairs))

        curve = train([*weights, *biases], loss, lambda: error(held, held_times), self.training)
        return FlowMap(shift, weights, biases, curve, self.integration_steps, True)


def matched(
    source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
) -> tuple[Float[Tensor, "pair d_model"], Float[Tensor, "pair d_model"]]:
    """Rows in pairs at the least sum of squared distances; rows left over are dropped."""
    rows, columns = linear_sum_assignment(torch.cdist(source, target).square().numpy())
    return source[torch.from_numpy(rows)], target[torch.from_numpy(columns)]


def _at(x: Tensor, t: Tensor) -> Tensor:
    return torch.cat([x, t], dim=-1)

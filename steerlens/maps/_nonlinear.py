"""Learned nonlinear maps: a small network that transports one sample onto another."""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._samples import checked
from steerlens.numerics import energy_distance, moments, principal_subspace

HELD_OUT_EVERY = 5
"""Training steps between two looks at the held-out rows."""


@final
@dataclass(frozen=True, eq=False)
class MLPMap(SteeringMap):
    """T(x) = x + Δ + U S f(S⁻¹ Uᵀ (x − c)), with f a GELU network in a whitened subspace.

    Args:
        shift: Δ, the mean difference.
        center: c, the mean of the source.
        basis: U, orthonormal columns.
        scale: The diagonal of S, standard deviations along U.
        weights: Matrices of the layers of f, input first.
        biases: Their biases.
        opposite: The map trained from target to source.
    """

    shift: Float[Tensor, " d_model"]
    center: Float[Tensor, " d_model"]
    basis: Float[Tensor, "d_model rank"]
    scale: Float[Tensor, " rank"]
    weights: tuple[Float[Tensor, "_ _"], ...]
    biases: tuple[Float[Tensor, " _"], ...]
    opposite: "MLPMap | None" = None

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        U, S = self.basis.to(x), self.scale.to(x)
        z = (x - self.center.to(x)) @ U / S
        moved = _network(z, tuple(w.to(x) for w in self.weights), tuple(b.to(x) for b in self.biases))
        return self.shift.to(x) + (moved * S) @ U.T

    @property
    def reverse(self) -> "MLPMap | None":
        """The map trained from target to source."""
        if self.opposite is None:
            return None
        return dataclasses.replace(self.opposite, opposite=dataclasses.replace(self, opposite=None))


@final
@dataclass(frozen=True)
class ResidualMLP:
    """A network trained so that the transported source cannot be told from the target.

    It starts as `MeanShift` and learns what is left: T(x) = x + Δ + U S f(ẑ) minimises the energy distance of
    T(source) to target plus ``transport_cost`` · E‖f‖²/r, in the whitened leading subspace. Of the trained steps the
    one with the smallest energy distance on held-out rows is kept, so that it stays near the mean shift where
    nothing more can be learned. Unpaired; energy distance is zero only for equal laws, so unlike affine maps it sees
    moments of every order.

    Args:
        seed: Of the initial weights and the held-out rows.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        steps: Most optimisation steps; training stops after ``patience`` without a better held-out distance.
        learning_rate: Of AdamW, with weight decay 1e-4.
        transport_cost: Price of moving, which picks the map that moves least among those that match.
        patience: Steps without improvement before training stops.
        batch_size: Rows of each sample per step; energy distance costs their square.

    References:
        szekely2013 (energy distance); methods follow the transport view of bunne2023.
    """

    seed: int = 0
    hidden: tuple[int, ...] = (64, 64)
    rank: int | None = None
    steps: int = 600
    learning_rate: float = 1e-2
    transport_cost: float = 0.005
    patience: int = 150
    batch_size: int = 256

    family: ClassVar[Family] = "nonlinear"

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"rank must be at least 1, but got {self.rank}.")
        if not self.hidden or min(self.hidden) < 1:
            raise OptionError(f"hidden needs at least one positive width, but got {self.hidden}.")
        if (
            min(self.steps, self.patience, self.batch_size - 1) < 1
            or self.learning_rate <= 0
            or self.transport_cost < 0
        ):
            raise OptionError(
                "steps and patience must be at least 1, batch_size at least 2, learning_rate positive and "
                f"transport_cost not negative, but got {self}."
            )

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> MLPMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows or does not vary.
        """
        source, target = checked(source, target, at_least=20)
        n = min(len(source), len(target))
        pooled = moments(torch.cat([source, target]))
        rank = self.rank if self.rank is not None else min(n // 5, 32)
        U, variances = principal_subspace(pooled.cov, min(rank, n - 1))
        if len(variances) == 0:
            raise FitError("A transport map needs activations that vary, but all rows are equal.")
        scale = variances.sqrt()
        forward = self._one_way(source, target, U, scale)
        backward = self._one_way(target, source, U, scale)
        return dataclasses.replace(forward, opposite=backward)

    def _one_way(self, source: Tensor, target: Tensor, U: Tensor, scale: Tensor) -> MLPMap:
        center, shift = source.mean(dim=0), target.mean(dim=0) - source.mean(dim=0)
        whitened = [(x - center) @ U / scale for x in (source, target)]
        weights, biases = self._train(whitened[0], whitened[1], shift @ U / scale)
        return MLPMap(shift, center, U, scale, weights, biases)

    def _train(self, source: Tensor, target: Tensor, shift: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed)
        # Equal sizes get equal cuts: where rows are pairs, twins stay together, and what they share cancels.
        source_fit, source_held = _cut(source, self.seed)
        target_fit, target_held = _cut(target, self.seed)
        widths = (source.shape[1], *self.hidden, source.shape[1])
        weights = [
            (torch.randn(o, i, dtype=source.dtype, generator=generator) / i**0.5).requires_grad_()
            for i, o in itertools.pairwise(widths)
        ]
        biases = [torch.zeros(o, dtype=source.dtype, requires_grad=True) for o in widths[1:]]
        with torch.no_grad():
            weights[-1].zero_()
        optimiser = torch.optim.AdamW([*weights, *biases], lr=self.learning_rate, weight_decay=1e-4)
        best, kept, kept_at = float("inf"), [p.detach().clone() for p in (*weights, *biases)], 0
        for step in range(self.steps + 1):
            if step > 0 and step % HELD_OUT_EVERY == 0:
                with torch.no_grad():
                    image = source_held + shift + _network(source_held, weights, biases)
                    held = float(energy_distance(image, target_held))
                if held < best:
                    best, kept, kept_at = held, [p.detach().clone() for p in (*weights, *biases)], step
            if step - kept_at >= self.patience:
                break
            with torch.enable_grad():
                x, y = (_some(rows, self.batch_size, generator) for rows in (source_fit, target_fit))
                moved = _network(x, weights, biases)
                loss = energy_distance(x + shift + moved, y) + self.transport_cost * (moved**2).mean()
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
        return tuple(kept[: len(weights)]), tuple(kept[len(weights) :])


def _network(
    z: Tensor, weights: "list[Tensor] | tuple[Tensor, ...]", biases: "list[Tensor] | tuple[Tensor, ...]"
) -> Tensor:
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        z = functional.gelu(functional.linear(z, W, b))
    return functional.linear(z, weights[-1], biases[-1])


def _some(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return x if len(x) <= size else x[torch.randperm(len(x), generator=generator)[:size]]


def _cut(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two thirds to train on and one third to stop by, at random."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    cut = max(len(x) * 2 // 3, 1)
    return x[order[:cut]], x[order[cut:]]

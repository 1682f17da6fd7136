"""Training of learned maps: seeded, stopped by held-out rows, the same bits every time on a CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError

HELD_OUT_EVERY = 5
"""Training steps between two looks at the held-out rows."""


@final
@dataclass(frozen=True)
class Training:
    """How a learned map is trained: AdamW until the loss on held-out rows stops falling.

    Args:
        steps: Most optimisation steps.
        learning_rate: Of AdamW.
        patience: Steps without a better held-out loss before training stops.
        batch_size: Rows of each sample per step.
        weight_decay: Of AdamW.
    """

    steps: int = 600
    learning_rate: float = 1e-2
    patience: int = 150
    batch_size: int = 256
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.steps, self.patience, self.batch_size - 1) < 1:
            raise OptionError(f"steps and patience must be at least 1 and batch_size at least 2, but got {self}.")
        if not self.learning_rate > 0 or self.weight_decay < 0:
            raise OptionError(f"learning_rate must be positive and weight_decay not negative, but got {self}.")


def train(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    held_out: Callable[[], Tensor],
    training: Training,
) -> Float[Tensor, "look 2"]:
    """Minimise ``loss`` over ``parameters``, in place, and leave those of the smallest held-out loss.

    Args:
        parameters: Leaves of the graph; afterwards they need no gradient.
        loss: A fresh loss of a random batch.
        held_out: The loss that decides when to stop; called without gradients.
        training: Steps, rate, patience.

    Returns:
        The training curve: step and held-out loss at every look, beginning with step 0.
    """
    for p in parameters:
        p.requires_grad_()
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    curve: list[tuple[float, float]] = []
    best, kept, kept_at = float("inf"), [p.detach().clone() for p in parameters], 0
    for step in range(training.steps + 1):
        if step % HELD_OUT_EVERY == 0:
            with torch.no_grad():
                held = float(held_out())
            curve.append((float(step), held))
            if held < best:
                best, kept, kept_at = held, [p.detach().clone() for p in parameters], step
        if step - kept_at >= training.patience or step == training.steps:
            break
        with torch.enable_grad():
            value = loss()
            optimiser.zero_grad()
            torch.autograd.backward(value)
            optimiser.step()
    for p, value in zip(parameters, kept, strict=True):
        p.requires_grad_(False)
        p.copy_(value)
    return torch.tensor(curve, dtype=torch.float64)


def cut(x: Float[Tensor, "n d_model"], seed: int) -> tuple[Tensor, Tensor]:
    """Two thirds to train on and one third to stop by, at random; samples of one size are cut alike.

    Where rows are pairs, twins therefore stay together, and what they share cancels.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    at = max(len(x) * 2 // 3, 1)
    return x[order[:at]], x[order[at:]]


def some(x: Float[Tensor, "n d_model"], size: int, generator: torch.Generator) -> Float[Tensor, "m d_model"]:
    """At most ``size`` rows, drawn without replacement."""
    return x if len(x) <= size else x[torch.randperm(len(x), generator=generator)[:size]]

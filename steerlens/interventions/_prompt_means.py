"""What heads and layers hold at the last token of prompts: means, streamed over batches."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site, shrinking_batches
from steerlens.activations._extract import BATCH_TOKENS
from steerlens.concepts import TaskPrompt
from steerlens.errors import ActivationError, OptionError
from steerlens.models import LensModel, TokenBatch
from steerlens.progress import progress

Sink = Callable[[list[int], Tensor], None]
"""Takes the numbers of some texts, and their activations of shape (layer, text, …)."""


def mean_head_outputs(model: LensModel, prompts: Sequence[TaskPrompt]) -> Float[Tensor, "layer head d_head"]:
    """Mean output of every head at the last token, before it is projected into the residual stream.

    One pass per batch serves all layers. Where heads share keys and values there are still as many outputs as query
    heads. Published: over prompts with ten examples that the model answers right (`answered_right`).

    Raises:
        OptionError: If there are no prompts.
        ActivationError: If an output is not finite.

    References:
        todd2024.
    """
    return _mean(model, prompts, [Site.z(layer, 0).hook_name for layer in range(model.n_layers)])


def mean_residuals(model: LensModel, prompts: Sequence[TaskPrompt]) -> Float[Tensor, "layer d_model"]:
    """Mean of the stream that leaves every block, at the last token.

    Over few-shot prompts whose queries are not those to be answered, these are the task vectors of all layers; each is
    also the layer average, the baseline of function vectors.

    Raises:
        OptionError: If there are no prompts.
        ActivationError: If a state is not finite.

    References:
        hendel2023; todd2024.
    """
    return _mean(model, prompts, [Site.resid_post(layer).hook_name for layer in range(model.n_layers)])


def last_token_states(model: LensModel, texts: Sequence[str], hook_names: Sequence[str], sink: Sink) -> None:
    """Show ``sink`` the activations at the last token of texts, batch by batch, in float64 on the CPU.

    Raises:
        ActivationError: If one is not finite.
    """
    rows = model.encode_all(texts)

    def read(numbers: list[int]) -> None:
        batch = TokenBatch.from_rows([rows[i] for i in numbers], pad_id=model.pad_id).to(model.device)
        taken: dict[str, Tensor] = {}

        def take(name: str, x: Tensor) -> None:
            places = torch.arange(len(numbers), device=x.device), (batch.lengths - 1).to(x.device)
            taken[name] = x[places].double().cpu()

        model.read(batch, hook_names, take)
        found = torch.stack([taken[name] for name in hook_names])
        if not torch.isfinite(found).all():
            bad = next(name for name in hook_names if not torch.isfinite(taken[name]).all())
            raise ActivationError(f"Activations at {bad} have NaN or infinity. Load the model in a wider dtype.")
        sink(numbers, found)
        advance(len(numbers))

    with progress(f"read {len(texts)} prompts", len(texts)) as advance:
        shrinking_batches([len(r) for r in rows], read, tokens=BATCH_TOKENS)


def _mean(model: LensModel, prompts: Sequence[TaskPrompt], hook_names: Sequence[str]) -> Tensor:
    if not prompts:
        raise OptionError("A mean needs at least one prompt, but there are none.")
    sums: list[Tensor] = []

    def add(numbers: list[int], found: Tensor) -> None:
        batch_sum = found.sum(dim=1)
        sums[:] = [sums[0] + batch_sum if sums else batch_sum]

    last_token_states(model, [p.prompt for p in prompts], hook_names, add)
    return sums[0] / len(prompts)

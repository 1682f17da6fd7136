"""What all layers hold where given tokens are predicted, from one pass a batch."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site, shrinking_batches
from steerlens.models import (
    LensModel,
    TokenBatch,
    TokenTree,
    TreeBatch,
    TreeTargets,
    columns_that_fit,
    run_trees,
    tree_obstacle,
)


@final
@dataclass(frozen=True, eq=False)
class LayerReading:
    """Streams and logits of one batch of trees, at the cells from which tokens are predicted.

    Args:
        trees: Numbers of the trees, as they were given.
        targets: The tokens; continuations are counted through the trees of this batch.
        streams: What enters each block asked for, by its number.
        logits: Of the last layer, in the model's dtype.
    """

    trees: tuple[int, ...]
    targets: TreeTargets
    streams: dict[int, Float[Tensor, "cell d_model"]]
    logits: Float[Tensor, "cell vocab"]


def read_layers(
    model: LensModel,
    trees: Sequence[TokenTree],
    layers: Sequence[int],
    sink: Callable[[LayerReading], None],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Show ``sink`` the streams and logits of every tree, batch by batch.

    A prompt runs once for all its continuations. Where hooks are on the model, or its masks are not ours to make, each
    continuation runs as a row of its own; the result is the same.

    Args:
        model: The model, steered or not.
        trees: Prompts with their continuations.
        layers: Blocks whose incoming stream is wanted.
        sink: Gets every tree once; it must write its results, not add them up, for a batch may be begun again.
        advance: Told how many trees are done.

    Raises:
        ModelError: A text is too long for the model.
        ActivationError: A single tree does not fit in memory.
    """
    model.check_length(max(len(t.prompt) + max(map(len, t.continuations)) - 1 for t in trees))
    plain = model.is_hooked or bool(tree_obstacle(model))

    def run(rows: list[int]) -> None:
        chosen = [trees[r] for r in rows]
        batch = TreeBatch.from_trees(chosen, pad_id=model.pad_id, device=model.device)
        streams, logits = (_plain_rows if plain else _trees)(model, chosen, batch, layers)
        sink(LayerReading(tuple(rows), batch.targets, streams, logits))
        advance(len(rows))

    sizes = [_plain_columns(t) if plain else t.n_columns for t in trees]
    shrinking_batches(sizes, run, tokens=columns_that_fit(model))


def _trees(
    model: LensModel, chosen: Sequence[TokenTree], batch: TreeBatch, layers: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    found = run_trees(model, batch, layers, keep_columns=0, logits=True)
    assert found.logits is not None  # they were asked for
    at = batch.targets.cell_row, batch.targets.cell_column
    return {layer: stream[at] for layer, stream in found.streams.items()}, found.logits


def _plain_rows(
    model: LensModel, chosen: Sequence[TokenTree], batch: TreeBatch, layers: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    """Hooks see the streams after all others, so that steering shows."""
    texts = [(t.prompt, c) for t in chosen for c in t.continuations]
    tokens = TokenBatch.from_rows(
        [prompt + c[:-1] for prompt, c in texts], pad_id=model.pad_id, n_prompt=[len(prompt) for prompt, _ in texts]
    )
    places = [(r, len(prompt) - 1 + step) for r, (prompt, c) in enumerate(texts) for step in range(len(c))]
    at = torch.zeros(len(batch.targets.cell_row), 2, dtype=torch.long)
    at[batch.targets.cell.cpu()] = torch.tensor(places)
    row, column = at.to(model.device).unbind(1)
    streams: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        return lambda stream, *, hook: streams.__setitem__(layer, stream[row, column])

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(model.hooked(Site.resid_pre(layer).hook_name, keep(layer)))
        logits = model.logits(tokens)[row, column]
    return streams, logits


def _plain_columns(tree: TokenTree) -> int:
    return len(tree.continuations) * (len(tree.prompt) + max(map(len, tree.continuations)) - 1)

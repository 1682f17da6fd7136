"""Forward passes that begin in the middle, for work that changes nothing below."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from steerlens.models._lens_model import LensModel
from steerlens.models._tokens import TokenBatch


@final
@dataclass(frozen=True, eq=False)
class ResidualStart:
    """Where an unsteered forward can be taken up again, for one batch.

    Args:
        layer: The block to go on with.
        first_column: The first column to go on with; columns before it stand in ``past``.
        stream: The residual stream that the block receives, from that column on.
        past: Keys and values of the columns before it; None if there are none.
    """

    layer: int
    first_column: int
    stream: Float[Tensor, "batch kept d_model"]
    past: Any


def residual_starts(
    model: LensModel, tokens: TokenBatch, layers: Iterable[int], *, first_column: int = 0
) -> dict[int, ResidualStart]:
    """Where `resumed_logits` can go on, by layer; one forward for all.

    Args:
        model: Not steered in any way that the resumed passes are not.
        tokens: The batch.
        layers: Blocks to go on with.
        first_column: Columns before it are taken as they are; 0 recomputes all. Models that forget old keys
            (sliding windows) recompute all.
    """
    names = {f"blocks.{layer}.hook_resid_pre": layer for layer in sorted(set(layers))}
    streams: dict[str, Tensor] = {}
    past = None
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(_hooked(model, name, lambda x, hook, name=name: streams.update({name: x})))
        if first_column > 0:
            past = model.run(tokens, use_cache=True, return_type="logits_and_cache", logits_to_keep=1)[1]
            first_column = 0 if any(past.is_sliding) else first_column
        else:
            model.run(tokens, use_cache=False, logits_to_keep=1)
    if past is not None and first_column > 0:
        past.crop(first_column - tokens.ids.shape[1])
    return {
        layer: ResidualStart(
            layer, first_column, streams[name][:, first_column:].clone(), past if first_column else None
        )
        for name, layer in names.items()
    }


def resumed_logits(
    model: LensModel, tokens: TokenBatch, start: ResidualStart, *, keep_last: int
) -> Float[Tensor, "batch kept vocab"]:
    """``model.logits(tokens, keep_last=keep_last)``, without the blocks below and the columns before ``start``.

    Equal to the whole forward with every hook that is on, as long as none of them acts below that block or before
    that column.

    Args:
        model: The model, perhaps steered.
        tokens: The batch the start was made from.
        start: Where to go on.
        keep_last: Logits of the last columns; at most as many as are left to compute.
    """
    name = f"blocks.{start.layer}.hook_resid_pre"
    cached = (
        {"past_key_values": copy.deepcopy(start.past), "use_cache": True}
        if start.past is not None
        else {"use_cache": False}
    )
    with (
        _passing_through(model, start.layer),
        _hooked(model, name, lambda x, hook: start.stream, prepend=True),
    ):
        logits: Tensor = model.run(tokens, first_column=start.first_column, logits_to_keep=keep_last, **cached)
    return logits[:, -keep_last:]


@contextmanager
def _hooked(model: LensModel, name: str, function: Any, *, prepend: bool = False) -> Iterator[None]:
    point = model.hook_point(name)
    handle = point.add_hook(function, prepend=prepend)
    try:
        yield
    finally:
        handle.hook.remove()
        point.fwd_hooks.remove(handle)


@contextmanager
def _passing_through(model: LensModel, layer: int) -> Iterator[None]:
    """Make the blocks below ``layer`` return what they get.

    TransformerLens's own ``start_at_layer`` still computes them.
    """

    def unchanged(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    skipped = list(model.bridge.blocks)[:layer]
    for block in skipped:
        # Plain assignment would land on the wrapped Hugging Face layer.
        object.__setattr__(block, "forward", unchanged)
    try:
        yield
    finally:
        for block in skipped:
            object.__delattr__(block, "forward")

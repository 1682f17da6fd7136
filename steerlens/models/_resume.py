"""Forward passes that begin in the middle, for work that changes nothing below."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from steerlens.models._lens_model import LensModel
from steerlens.models._tokens import TokenBatch


@final
@dataclass(frozen=True, eq=False)
class ResidualStart:
    """The residual stream that block ``layer`` receives, for one batch of an unsteered model."""

    layer: int
    stream: Float[Tensor, "batch token d_model"]


def residual_starts(model: LensModel, tokens: TokenBatch, layers: Iterable[int]) -> dict[int, ResidualStart]:
    """The streams from which `resumed_logits` can go on, by layer; one forward for all."""
    names = {f"blocks.{layer}.hook_resid_pre": layer for layer in sorted(set(layers))}
    starts: dict[int, ResidualStart] = {}

    def keep(name: str, stream: Tensor) -> None:
        starts[names[name]] = ResidualStart(names[name], stream.clone())

    model.read(tokens, tuple(names), keep)
    return starts


def resumed_logits(
    model: LensModel, tokens: TokenBatch, start: ResidualStart, *, keep_last: int | None = None
) -> Float[Tensor, "batch token vocab"]:
    """``model.logits(tokens, keep_last=keep_last)``, without the work of the blocks below ``start``.

    Equal to the whole forward, hooks at or above that block included, as long as nothing below it is hooked
    or has changed since the start was read.
    """
    point = model.hook_point(f"blocks.{start.layer}.hook_resid_pre")
    handle = point.add_hook(lambda x, hook: start.stream, prepend=True)
    try:
        with _passing_through(model, start.layer):
            return model.logits(tokens, keep_last=keep_last)
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

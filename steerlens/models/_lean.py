"""Running Hugging Face's own modules wherever nobody listens.

TransformerLens wraps every module of a model so that its input and output can be hooked, and computes attention
anew, eagerly. That costs time in every forward pass, for hook points that mostly nobody uses. Inside `lean`, a wrapper
none of whose hook points has a hook stands aside for the module it wraps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True, eq=False)
class Wrapper:
    """One wrapped module in its place: ``parent._modules[name]`` is ``wrapper`` and could be ``plain``.

    ``points`` are the hook points that need it. Inside a block they are all those of the block but its own input and
    output, for a block's forward may fire a hook point of one part from another (Granite's attention output).
    """

    parent: nn.Module
    name: str
    wrapper: nn.Module
    plain: nn.Module
    points: tuple[nn.Module, ...]

    @property
    def is_heard(self) -> bool:
        """Whether anybody has put a hook on the hook points that this wrapper serves."""
        return any(p._forward_hooks or p._forward_pre_hooks or p._backward_hooks for p in self.points)


def find_wrappers(bridge: Any, dtype: torch.dtype) -> tuple[Wrapper, ...]:
    """The wrappers of a bridge that may stand aside; none for one whose weights TransformerLens has changed.

    In float64 norms stay wrapped, and so does attention that cannot be SDPA: Hugging Face rounds both to float32.
    """
    if bridge.compatibility_mode or getattr(bridge, "_weights_processed", False):
        return ()
    kept = _stateful()
    if dtype == torch.float64:
        kept += _rounded_to_single(sdpa=_has_sdpa(bridge.original_model))
    found: list[Wrapper] = []
    _collect(bridge.original_model, kept, {id(b) for b in bridge.blocks}, None, found)
    return tuple(found)


@contextmanager
def lean(model: Any, wrappers: Sequence[Wrapper]) -> Iterator[None]:
    """Let wrappers that nobody listens to stand aside for the length of the block.

    Attention is SDPA there, where the architecture has it: some of TransformerLens's adapters switch a model to eager
    attention for the sake of hooks inside it, which are not used.

    Args:
        model: The Hugging Face model inside the bridge.
        wrappers: What `find_wrappers` found; none changes nothing.
    """
    swapped = [(w.parent, w.name, w.parent._modules[w.name], w.plain) for w in wrappers if not w.is_heard]
    config = model.config.get_text_config()
    attention = config._attn_implementation
    try:
        if swapped and attention == "eager" and _has_sdpa(model):
            config._attn_implementation = "sdpa"
        for parent, name, _, plain in swapped:
            parent._modules[name] = plain
        yield
    finally:
        for parent, name, before, _ in reversed(swapped):
            parent._modules[name] = before
        if config._attn_implementation != attention:
            config._attn_implementation = attention


def _has_sdpa(model: Any) -> bool:
    return bool(getattr(model, "_supports_sdpa", False))


def _collect(
    module: nn.Module,
    kept: tuple[type, ...],
    blocks: set[int],
    of_block: tuple[nn.Module, ...] | None,
    found: list[Wrapper],
) -> None:
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    for name, child in module._modules.items():
        if child is None or isinstance(child, HookPoint):
            continue
        plain: Any = child
        while isinstance(plain, GeneralizedComponent) and plain.original_component is not None:
            plain = plain.original_component
        points = tuple(m for m in child.modules() if isinstance(m, HookPoint))
        if plain is not child and not isinstance(child, kept):
            found.append(Wrapper(module, name, child, plain, points if of_block is None else of_block))
        ends = {id(child.hook_in), id(child.hook_out)} if id(child) in blocks else set()
        inner = tuple(p for p in points if id(p) not in ends) if ends else of_block
        _collect(plain, kept, blocks, inner, found)


def _stateful() -> tuple[type, ...]:
    """Positions: the bridge leaves the size of a batch with their wrapper, which takes it up in its own forward."""
    from transformer_lens.model_bridge.generalized_components.pos_embed import PosEmbedBridge

    return (PosEmbedBridge,)


def _rounded_to_single(*, sdpa: bool) -> tuple[type, ...]:
    from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
    from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge

    return (NormalizationBridge,) if sdpa else (NormalizationBridge, AttentionBridge)


def nearly_equal(found: Tensor, expected: Tensor) -> bool:
    """Whether two computations of the same logits differ by rounding alone, in the dtype that they were made in.

    By root mean squares, for in half precision single logits of single tokens differ by whole units.
    """
    allowed = {torch.float64: 1e-9, torch.float32: 1e-3}.get(expected.dtype, 0.25)
    apart = (found.double() - expected.double()).square().mean().sqrt()
    return bool(apart <= allowed * (expected.double().std() + 1e-6))

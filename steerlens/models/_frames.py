"""Which absolute token each column of a forward pass is.

A steering hook sees a tensor of shape [batch, token, d_model] and nothing else: with a KV cache the columns
are only the new tokens, with padding some of them are no token at all. `FrameWatch` tells it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor, nn

from steerlens.errors import ModelError
from steerlens.models._tokens import real_index

_PROMPT_LENGTHS: ContextVar[Tensor | None] = ContextVar("steerlens_prompt_lengths", default=None)


@final
@dataclass(frozen=True, eq=False)
class TokenFrame:
    """The rows and columns of the forward pass in progress.

    Args:
        index: Absolute index of each column among the real tokens of its row: 0 is the first real token,
            whether it is in this forward or in the KV cache; -1 is padding.
        n_prompt: Number of real tokens of each row that belong to the prompt; a column is generated, or
            scored, if its index is at least this.
    """

    index: Int[Tensor, "batch token"]
    n_prompt: Int[Tensor, " batch"]


@final
class FrameWatch:
    """Holds the frame of the forward pass in progress; made by `LensModel.watch_frames`."""

    def __init__(self) -> None:
        self._frame: TokenFrame | None = None

    @property
    def current(self) -> TokenFrame:
        """The frame of the forward pass in progress, or of the last one.

        Raises:
            ModelError: No forward pass has begun since the watch was opened.
        """
        if self._frame is None:
            raise ModelError("No forward pass has begun inside watch_frames(); run the model within its block.")
        return self._frame

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shape, device = _input_shape(args, kwargs)
        n_past = _past_length(kwargs.get("past_key_values"))
        mask = _whole_mask(kwargs.get("attention_mask"), shape, n_past, device)
        index = real_index(mask)[:, mask.shape[1] - shape[1] :]
        self._frame = TokenFrame(index=index, n_prompt=self._prompt_lengths(mask, shape, n_past))

    def _prompt_lengths(
        self, mask: Int[Tensor, "batch total"], shape: tuple[int, int], n_past: int
    ) -> Int[Tensor, " batch"]:
        announced = _PROMPT_LENGTHS.get()
        if announced is not None and announced.shape[0] == shape[0]:
            return announced.to(mask.device)
        if n_past == 0:
            return mask.sum(-1)
        if self._frame is not None and self._frame.n_prompt.shape[0] == shape[0]:
            return self._frame.n_prompt.to(mask.device)
        return mask[:, : mask.shape[1] - shape[1]].sum(-1)


@contextmanager
def announce_prompt(n_prompt: Int[Tensor, " batch"]) -> Iterator[None]:
    """Fix `n_prompt` of the frames of every forward in the block whose batch has as many rows."""
    token = _PROMPT_LENGTHS.set(n_prompt)
    try:
        yield
    finally:
        _PROMPT_LENGTHS.reset(token)


@contextmanager
def watch_frames(module: nn.Module) -> Iterator[FrameWatch]:
    """Watch the forwards of a Hugging Face model; the watch ends with the block, also after an exception."""
    watch = FrameWatch()
    handle = module.register_forward_pre_hook(watch._see, with_kwargs=True)
    try:
        yield watch
    finally:
        handle.remove()


def _input_shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[int, int], torch.device]:
    given = args[0] if args else kwargs.get("input_ids")
    if given is None:
        given = kwargs.get("inputs_embeds")
    if not isinstance(given, Tensor) or given.ndim < 2:
        raise ModelError(
            "A watched forward pass needs input_ids or inputs_embeds, [batch, token, ...]; it got neither."
        )
    return (int(given.shape[0]), int(given.shape[1])), given.device


def _past_length(past: Any) -> int:
    if past is None:
        return 0
    if hasattr(past, "get_seq_length"):
        return int(past.get_seq_length())
    return int(past[0][0].shape[-2])


def _whole_mask(mask: Any, shape: tuple[int, int], n_past: int, device: torch.device) -> Tensor:
    """The mask over cached and new tokens, [batch, n_past + token]."""
    if mask is None:
        return torch.ones(shape[0], n_past + shape[1], dtype=torch.long, device=device)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise ModelError(
            "A watched forward pass needs attention_mask as [batch, token] with 1 on real tokens; it got "
            f"{_kind(mask)}, in which padding cannot be told from causality. Pass the two-dimensional mask."
        )
    if mask.shape[1] < shape[1]:
        raise ModelError(
            f"attention_mask has {mask.shape[1]} columns for {shape[1]} new tokens; it must cover the new "
            "tokens and those in the cache."
        )
    return (mask != 0).long()


def _kind(value: object) -> str:
    return f"{value.ndim} dimensions" if isinstance(value, Tensor) else type(value).__name__

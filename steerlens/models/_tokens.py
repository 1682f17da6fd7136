"""Batches of token ids that always travel with their mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Int
from torch import Tensor

from steerlens.errors import OptionError

PaddingSide = Literal["left", "right"]


@final
@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Rows of token ids of unequal length, padded to a rectangle.

    Args:
        ids: Token ids; padding holds any id that the vocabulary has.
        attention_mask: 1 for real tokens, 0 for padding. Padding is on one side of a row, never inside.
        n_prompt: How many real tokens of each row, counted from its first, belong to the prompt.
    """

    ids: Int[Tensor, "batch token"]
    attention_mask: Int[Tensor, "batch token"]
    n_prompt: Int[Tensor, " batch"]

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[int]],
        *,
        pad_id: int,
        padding_side: PaddingSide = "right",
        n_prompt: Sequence[int] | None = None,
    ) -> "TokenBatch":
        """Pad lists of ids to one length.

        Args:
            rows: Token ids of each row, at least one row and one token a row.
            pad_id: Id written into the padding; it is masked, so its meaning does not matter.
            padding_side: Where the padding goes.
            n_prompt: Prompt tokens of each row; all of them by default.

        Raises:
            OptionError: No rows, an empty row, an unknown side, or `n_prompt` outside a row.
        """
        lengths = [len(row) for row in rows]
        counts = lengths if n_prompt is None else [int(n) for n in n_prompt]
        _check_rows(lengths, counts, padding_side)
        width = max(lengths)
        ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            columns = slice(width - len(row), width) if padding_side == "left" else slice(0, len(row))
            ids[i, columns] = torch.tensor(row, dtype=torch.long)
            mask[i, columns] = 1
        return cls(ids=ids, attention_mask=mask, n_prompt=torch.tensor(counts, dtype=torch.long))

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @property
    def index(self) -> Int[Tensor, "batch token"]:
        """Absolute index of each column among the real tokens of its row; -1 on padding."""
        return real_index(self.attention_mask)

    @property
    def position_ids(self) -> Int[Tensor, "batch token"]:
        """What the model is told: the absolute index, with 0 on left padding."""
        return (self.attention_mask.long().cumsum(-1) - 1).clamp(min=0)

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Number of real tokens of each row."""
        return self.attention_mask.long().sum(-1)

    def rows(self) -> list[list[int]]:
        """The ids of each row without its padding."""
        ids, mask = self.ids.tolist(), self.attention_mask.tolist()
        return [[i for i, m in zip(r, k, strict=True) if m] for r, k in zip(ids, mask, strict=True)]

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        return TokenBatch(
            ids=self.ids.to(device),
            attention_mask=self.attention_mask.to(device),
            n_prompt=self.n_prompt.to(device),
        )


def real_index(mask: Int[Tensor, "batch token"]) -> Int[Tensor, "batch token"]:
    """Absolute index of each column among the real tokens of its row; -1 on padding."""
    mask = mask.long()
    return torch.where(mask != 0, mask.cumsum(-1) - 1, -1)


def check_side(side: str) -> None:
    """Refuse a padding side that does not exist."""
    if side not in ("left", "right"):
        raise OptionError(f"padding_side must be 'left' or 'right', not {side!r}.")


def _check_rows(lengths: list[int], counts: list[int], side: str) -> None:
    check_side(side)
    if not lengths:
        raise OptionError("A token batch needs at least one row; the list of rows is empty.")
    if 0 in lengths:
        raise OptionError(
            f"Row {lengths.index(0)} of the token batch has no tokens. An empty text has only its BOS, and "
            "this tokenizer adds none: remove the text, or ask for bos=True."
        )
    if len(counts) != len(lengths):
        raise OptionError(f"n_prompt has {len(counts)} entries for {len(lengths)} rows; give one a row.")
    for i, (n, length) in enumerate(zip(counts, lengths, strict=True)):
        if not 0 <= n <= length:
            raise OptionError(f"n_prompt of row {i} is {n}, outside 0..{length}, the number of its tokens.")

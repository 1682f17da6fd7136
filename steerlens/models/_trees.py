"""A prompt and its continuations in one row of a batch, so that the prompt is computed once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from steerlens.errors import OptionError


@final
@dataclass(frozen=True)
class TokenTree:
    """Ids of a prompt, and of the continuations that branch from its end.

    Raises:
        OptionError: The prompt has no token to predict from, or a continuation has none.
    """

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.prompt:
            raise OptionError("A prompt without tokens predicts nothing. Give it a text, or a BOS token.")
        if () in self.continuations:
            raise OptionError(f"Continuation {self.continuations.index(())} of a prompt has no tokens.")

    @property
    def n_columns(self) -> int:
        """Columns it takes: a continuation's last token is predicted, never read."""
        return len(self.prompt) + sum(len(c) - 1 for c in self.continuations)


@final
@dataclass(frozen=True, eq=False)
class TreeTargets:
    """The tokens to be predicted. A cell is a (row, column) from which at least one of them is.

    Args:
        cell_row: Row of each cell.
        cell_column: Column of each cell.
        cell: The cell from which each target is predicted.
        token: Id of each target.
        continuation: Number of each target's continuation, counted through all trees of the batch.
    """

    cell_row: Int[Tensor, " cell"]
    cell_column: Int[Tensor, " cell"]
    cell: Int[Tensor, " target"]
    token: Int[Tensor, " target"]
    continuation: Int[Tensor, " target"]

    def to(self, device: torch.device) -> "TreeTargets":
        """The same on another device."""
        return TreeTargets(*(getattr(self, f.name).to(device) for f in fields(self)))


@final
@dataclass(frozen=True, eq=False)
class TreeBatch:
    """Trees side by side. A row holds its prompt, padded on the left, and then its branches one behind another.

    Args:
        ids: Token ids.
        index: Absolute index of each column within its own text; -1 is padding.
        branch: 0 for the prompt, 1, 2, … for the continuations.
        n_prompt: Prompt tokens of each row.
        targets: What is to be predicted.
    """

    ids: Int[Tensor, "batch column"]
    index: Int[Tensor, "batch column"]
    branch: Int[Tensor, "batch column"]
    n_prompt: Int[Tensor, " batch"]
    targets: TreeTargets

    @classmethod
    def from_trees(cls, trees: Sequence[TokenTree], *, pad_id: int, device: torch.device) -> "TreeBatch":
        """Lay trees out in rows."""
        width = max(len(t.prompt) for t in trees)
        behind = max(t.n_columns - len(t.prompt) for t in trees)
        ids, index, branch = (
            torch.full((len(trees), width + behind), fill, dtype=torch.long) for fill in (pad_id, -1, 0)
        )
        for row, tree in enumerate(trees):
            begin, n = width - len(tree.prompt), len(tree.prompt)
            ids[row, begin:width] = torch.tensor(tree.prompt)
            index[row, begin:width] = torch.arange(n)
            column = width
            for number, read in enumerate((c[:-1] for c in tree.continuations), start=1):
                here = slice(column, column + len(read))
                ids[row, here] = torch.tensor(read, dtype=torch.long)
                index[row, here] = torch.arange(n, n + len(read))
                branch[row, here] = number
                column += len(read)
        n_prompt = torch.tensor([len(t.prompt) for t in trees])
        return cls(
            ids.to(device),
            index.to(device),
            branch.to(device),
            n_prompt.to(device),
            _targets(trees, width).to(device),
        )

    def visible(self, first_column: int, window: int | None) -> Bool[Tensor, "batch query column"]:
        """Which columns each column from ``first_column`` on attends to.

        Those of its own text that are not later than itself, and, within a sliding window, nearer than ``window``.
        Padding sees only itself, so that its softmax is a number.
        """
        query, key = self.index[:, first_column:, None], self.index[:, None, :]
        of_query, of_key = self.branch[:, first_column:, None], self.branch[:, None, :]
        seen = (key >= 0) & (key <= query) & ((of_key == 0) | (of_key == of_query))
        if window is not None:
            seen &= query - key < window
        n = self.ids.shape[1]
        itself = torch.arange(first_column, n, device=seen.device)[:, None] == torch.arange(n, device=seen.device)
        return seen | itself


def _targets(trees: Sequence[TokenTree], width: int) -> TreeTargets:
    cells: dict[tuple[int, int], int] = {}
    found: list[tuple[int, int, int]] = []
    number = 0
    for row, tree in enumerate(trees):
        column = width
        for continuation in tree.continuations:
            read = (width - 1, *range(column, column + len(continuation) - 1))
            for at, token in zip(read, continuation, strict=True):
                found.append((cells.setdefault((row, at), len(cells)), token, number))
            column += len(continuation) - 1
            number += 1
    rows = torch.tensor(list(cells), dtype=torch.long).reshape(-1, 2)
    return TreeTargets(*rows.unbind(1), *torch.tensor(found, dtype=torch.long).reshape(-1, 3).unbind(1))

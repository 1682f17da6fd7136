"""A decode loop of our own: left padding, a KV cache, and one generator a row.

It exists because the host's sampler draws all rows from the global generator, so that a row's text would
depend on its neighbours.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.models._tokens import TokenBatch

Rescore = Callable[[Float[Tensor, "batch vocab"], TokenBatch, Bool[Tensor, " batch"]], Float[Tensor, "batch vocab"]]
"""Turns the logits of the next token into what it is chosen from; sees the rows so far, and which of them go on."""


@final
class RowSampler:
    """Chooses the next token of each row; greedy at temperature 0.

    Row i draws from a generator seeded by `(seed, draws[i])`, so a row's draws do not depend on the other rows.
    """

    def __init__(self, draws: Sequence[int], *, temperature: float, seed: int | None) -> None:
        check_sampling(temperature, seed)
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(_row_seed(seed, row)) for row in draws]

    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, " batch"]:
        if self._temperature == 0.0:
            return logits.argmax(-1)
        scaled = logits.double().cpu() / self._temperature
        cumulative = scaled.softmax(-1).cumsum(-1)
        draws = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators])
        chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).squeeze(-1)
        return chosen.clamp(max=logits.shape[-1] - 1).to(logits.device)


def _row_seed(seed: int | None, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8], "big") >> 1


def check_sampling(temperature: float, seed: int | None) -> None:
    """Refuse a temperature below 0, and sampling without a seed."""
    if not 0.0 <= temperature < float("inf"):
        raise OptionError(f"temperature must be 0 (greedy) or a positive number, not {temperature!r}.")
    if temperature > 0.0 and seed is None:
        raise OptionError(
            f"temperature={temperature} samples, and sampling needs seed=: pass an integer, or temperature=0."
        )


def decode(
    step: Any,
    prompt: TokenBatch,
    *,
    max_new_tokens: int,
    sampler: RowSampler,
    stop_ids: frozenset[int],
    use_cache: bool,
    finished: Callable[[Sequence[int]], bool],
    rescore: Rescore | None = None,
) -> list[list[int]]:
    """Continue every row of a left-padded batch.

    Args:
        step: `step(batch, past) -> (last logits [batch, vocab], past)`, one forward over the new columns.
        prompt: Left-padded prompts.
        max_new_tokens: Most tokens to add to a row.
        sampler: Chooses the next token.
        stop_ids: Tokens that end a row; the ending token is not returned.
        use_cache: Reuse keys and values; without, every step runs the whole rows.
        finished: Whether a row with these new ids has ended; its last token is returned.
        rescore: Changes the logits before a token is chosen.

    Returns:
        The new ids of each row, up to its end.
    """
    ids, mask = prompt.ids, prompt.attention_mask
    added: list[list[int]] = [[] for _ in range(len(prompt))]
    open_rows = [True] * len(prompt)
    past: Any = None
    fresh = ids
    for _ in range(max_new_tokens):
        logits, past = step(fresh, mask, past)
        if rescore is not None:
            going_on = torch.tensor(open_rows, device=logits.device)
            logits = rescore(logits, TokenBatch(ids, mask, prompt.n_prompt), going_on)
        chosen = sampler(logits)
        for i, token in enumerate(chosen.tolist()):
            open_rows[i] = open_rows[i] and token not in stop_ids
            if open_rows[i]:
                added[i].append(token)
                open_rows[i] = not finished(added[i])
        if not any(open_rows):
            break
        column = chosen[:, None].to(ids)
        ids, mask = torch.cat([ids, column], -1), torch.cat([mask, torch.ones_like(column)], -1)
        fresh, past = (column, past) if use_cache else (ids, None)
    return added


def until(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the strings that it contains."""
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]

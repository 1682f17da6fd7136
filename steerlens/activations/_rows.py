"""Texts as rows of token ids, with the border between prompt and continuation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from steerlens.errors import ConceptError
from steerlens.models import LensModel


@final
@dataclass(frozen=True)
class TextRow:
    """Token ids of one text, of which the first ``n_prompt`` are the prompt."""

    ids: tuple[int, ...]
    n_prompt: int


def joined_rows(
    model: LensModel, prompts: Sequence[str], continuations: Sequence[Sequence[str]], *, predicted: bool = True
) -> list[tuple[TextRow, ...]]:
    """Tokenise each prompt with each of its continuations.

    Prompt and continuation are tokenised together, as the model would read them, and the border is put after the
    longest prefix that they all share with the prompt alone: where a tokenizer merges across the border, all
    continuations of a prompt are still compared after the same tokens.

    Args:
        model: Whose tokenizer.
        prompts: What texts begin with.
        continuations: Of each prompt.
        predicted: Whether continuations are to be predicted, so that a prompt must have a token, if only BOS.

    Raises:
        ConceptError: If a continuation adds no token, or a prompt has none and is to predict.
    """
    texts = [prompt + c for prompt, cs in zip(prompts, continuations, strict=True) for c in ("", *cs)]
    if not model.add_bos and "" in prompts:
        if predicted:
            raise ConceptError(
                f"Nothing predicts the first token after an empty prompt, as the tokenizer of {model.name!r} adds no "
                "BOS. Give every pair a prompt, or answers."
            )
        found = iter(model.encode_all([t for t in texts if t]))
        encoded = iter([next(found) if t else [] for t in texts])
    else:
        encoded = iter(model.encode_all(texts))
    rows = []
    for prompt, cs in zip(prompts, continuations, strict=True):
        alone = next(encoded)
        whole = [next(encoded) for _ in cs]
        n_prompt = min(_common(alone, ids) for ids in whole)
        for c, ids in zip(cs, whole, strict=True):
            if len(ids) <= n_prompt:
                raise ConceptError(f"The continuation {c!r} adds no token to the prompt {prompt!r}. Lengthen it.")
        rows.append(tuple(TextRow(tuple(ids), n_prompt) for ids in whole))
    return rows


def batches(rows: Iterable[int], lengths: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Rows grouped by length, shortest first, so that rows × longest stays within ``tokens`` (one row at least)."""
    batch: list[int] = []
    for row in sorted(rows, key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[row] > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

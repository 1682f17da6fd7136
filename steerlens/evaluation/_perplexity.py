"""Perplexity of texts of any length, unsteered and steered."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.evaluation._scores import CONTEXT_TOKENS, UNSTEERED
from steerlens.evaluation._texts import TextSet
from steerlens.evaluation._tree_scores import score_trees
from steerlens.interventions import Intervention
from steerlens.models import LensModel, TokenTree
from steerlens.numerics import Estimate, bootstrap
from steerlens.progress import progress

WINDOW = 1024
"""Most tokens of a window where none are asked for and the model takes more."""


@final
@dataclass(frozen=True, eq=False)
class Perplexity:
    """Perplexity under every intervention: exp of the mean negative log-likelihood of a token.

    Args:
        unsteered: Without steering.
        steered: Under each intervention.
        ratio: Steered / unsteered on the same texts, under each intervention.
        nll: Sum over the scored tokens of each text, in nats; the first row is unsteered.
        n_tokens: Scored tokens of each text.
        window: Tokens that the model saw at once.
        stride: By how many tokens windows are apart.
    """

    unsteered: Estimate
    steered: tuple[Estimate, ...]
    ratio: tuple[Estimate, ...]
    nll: Float[Tensor, "intervention text"]
    n_tokens: Int[Tensor, " text"]
    window: int
    stride: int


def perplexity(
    model: LensModel,
    texts: Sequence[str],
    interventions: Sequence[Intervention],
    *,
    seed: int,
    documents: Sequence[Hashable] | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> Perplexity:
    """Perplexity of texts unsteered and under every intervention, with intervals over documents.

    The first four tokens of a text are context, all later ones are scored once. A text longer than the window is read
    in windows ``stride`` tokens apart; each scores the tokens that none before it did, after at least
    ``window − stride`` tokens of context. Where the tokenizer begins texts with BOS, so does every window. Batches,
    padding and the order of texts change nothing.

    Args:
        model: What to steer.
        texts: What is scored; a `TextSet` brings its documents.
        interventions: What to do; may be none.
        seed: Of the bootstrap.
        documents: The document of each text; None for each its own.
        window: Tokens that the model sees at once; None for what it was made for, at most 1024.
        stride: Tokens between windows; None for half a window.

    Raises:
        OptionError: If there are no texts, one is too short, or window and stride do not fit.
        EstimateError: If there are fewer than five documents.
    """
    size, step = _sizes(model, window, stride)
    if isinstance(texts, str) or not texts:
        raise OptionError("perplexity takes a non-empty list of texts. Put a single text into a list.")
    of = documents if documents is not None else texts.documents if isinstance(texts, TextSet) else range(len(texts))
    if len(of) != len(texts):
        raise OptionError(f"documents must name one for each of the {len(texts)} texts, but got {len(of)}.")
    rows = model.encode_all(texts)
    short = min(range(len(rows)), key=lambda i: len(rows[i]))
    if len(rows[short]) <= CONTEXT_TOKENS:
        raise OptionError(
            f"Text {short} has {len(rows[short])} tokens, of which the first {CONTEXT_TOKENS} are context: nothing is "
            f"left to score ({texts[short]!r:.40}). Use whole sentences; read_texts leaves out short ones by min_words."
        )
    parts = [(i, tree) for i, row in enumerate(rows) for tree in windows(row, size, step, bos=model.add_bos)]
    every = (UNSTEERED, *interventions)
    with progress(f"perplexity of {len(rows)} texts", len(parts) * len(every)) as advance:
        found = score_trees(model, [tree for _, tree in parts], every, advance=advance)
    nll = torch.zeros(len(every), len(rows), dtype=torch.float64)
    nll.index_add_(1, torch.tensor([i for i, _ in parts]), -found.log_prob)
    n_tokens = torch.tensor([len(row) - CONTEXT_TOKENS for row in rows])
    return _estimated(nll, n_tokens, texts, list(of), seed, size, step)


def windows(row: Sequence[int], window: int, stride: int, *, bos: bool) -> list[TokenTree]:
    """A text in windows, each as a prompt and the tokens that it scores.

    Args:
        row: Ids of the text, with its BOS where there is one.
        window: Most tokens of a window that are read.
        stride: Tokens between the beginnings of windows.
        bos: Whether the first token is BOS, and is repeated in every window.
    """
    head, body = (list(row[:1]), list(row[1:])) if bos else ([], list(row))
    room = window - len(head)
    scored = CONTEXT_TOKENS - len(head)
    found: list[TokenTree] = []
    begin = 0
    while scored < len(body):
        # The last token of a window is predicted but never read.
        end = min(begin + room + 1, len(body))
        found.append(TokenTree((*head, *body[begin:scored]), (tuple(body[scored:end]),)))
        scored = end
        begin += stride
    return found


def _sizes(model: LensModel, window: int | None, stride: int | None) -> tuple[int, int]:
    limit = getattr(model.config, "max_position_embeddings", None)
    most = WINDOW if limit is None else int(limit)
    size = min(WINDOW, most) if window is None else window
    step = size // 2 if stride is None else stride
    if not 2 * CONTEXT_TOKENS <= size <= most or not 1 <= step <= size - CONTEXT_TOKENS:
        raise OptionError(
            f"A window must have {2 * CONTEXT_TOKENS} to {most} tokens for {model.name!r}, and a stride 1 to the "
            f"window less {CONTEXT_TOKENS}, but got window {size} and stride {step}."
        )
    return size, step


def _estimated(
    nll: Float[Tensor, "intervention text"],
    n_tokens: Int[Tensor, " text"],
    texts: Sequence[str],
    documents: Sequence[Hashable],
    seed: int,
    window: int,
    stride: int,
) -> Perplexity:
    # Texts are sorted for the bootstrap, so that its draws do not depend on the order in which they were given.
    order = sorted(range(len(texts)), key=lambda i: (texts[i], str(documents[i])))
    sums, counts = nll.numpy()[:, order], n_tokens.numpy()[order].astype(np.float64)
    clusters = [documents[i] for i in order] if len(set(documents)) < len(order) else list(range(len(order)))

    def estimate(per_text: npt.NDArray[np.float64]) -> Estimate:
        return bootstrap(lambda w: np.exp((w @ per_text) / (w @ counts)), [clusters], seed=seed)

    return Perplexity(
        unsteered=estimate(sums[0]),
        steered=tuple(estimate(one) for one in sums[1:]),
        ratio=tuple(estimate(one - sums[0]) for one in sums[1:]),
        nll=nll,
        n_tokens=n_tokens,
        window=window,
        stride=stride,
    )

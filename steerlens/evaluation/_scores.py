"""Log-probabilities of continuations, and KL and perplexity on neutral text, under many interventions.

Batches are the outer loop and interventions the inner one. Each batch is tokenised once and run once unsteered; an
intervention that changes nothing below block ℓ and nothing before column c goes on from there, with the keys, values
and residual stream that were kept, which is exact because nothing else changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import TextRow, joined_rows, shrinking_batches
from steerlens.concepts import Question
from steerlens.errors import OptionError
from steerlens.interventions import Intervention, steer
from steerlens.models import (
    LensModel,
    PaddingSide,
    ResidualStart,
    TokenBatch,
    residual_starts,
    resumed_logits,
)
from steerlens.progress import progress

UNSTEERED = Intervention({}, 0.0)
BATCH_TOKENS = 1024
CONTEXT_TOKENS = 4
"""Tokens of a neutral text that are context only: nothing is scored before them."""


@final
@dataclass(frozen=True, eq=False)
class QuestionScores:
    """Log-probability, in nats, of both continuations of every question under every intervention.

    ``propensity`` is log p(positive) − log p(negative), all continuation tokens; ``propensity_per_token`` the same
    with each continuation's mean over its tokens.
    """

    positive: Float[Tensor, "intervention question"]
    negative: Float[Tensor, "intervention question"]
    n_positive: Int[Tensor, " question"]
    n_negative: Int[Tensor, " question"]

    @property
    def propensity(self) -> Float[Tensor, "intervention question"]:
        """Difference of the sums of log-probabilities."""
        return self.positive - self.negative

    @property
    def propensity_per_token(self) -> Float[Tensor, "intervention question"]:
        """Difference of the means of log-probabilities over tokens."""
        return self.positive / self.n_positive - self.negative / self.n_negative


@final
@dataclass(frozen=True, eq=False)
class NeutralScores:
    """Cost of every intervention on every neutral text, summed over its ``n_tokens`` scored tokens.

    ``kl`` is KL(unsteered ‖ steered) of the next-token distributions, ``nll`` the negative log-likelihood, both in
    nats, teacher-forced; ``base_nll`` is that of the unsteered model.
    """

    kl: Float[Tensor, "intervention text"]
    nll: Float[Tensor, "intervention text"]
    base_nll: Float[Tensor, " text"]
    n_tokens: Int[Tensor, " text"]


def score_questions(
    model: LensModel, questions: Sequence[Question], interventions: Sequence[Intervention] = (UNSTEERED,)
) -> QuestionScores:
    """Score both continuations of every question under every intervention.

    Questions whose continuations are one token long share a single row for both.

    Raises:
        OptionError: If there are no questions.
        ConceptError: If a continuation adds no token.
    """
    if not questions:
        raise OptionError("score_questions needs at least one question, but got none.")
    pairs = joined_rows(model, [q.context for q in questions], [(q.positive, q.negative) for q in questions])
    # A continuation's last token is predicted, never read: rows that agree up to there are one row.
    slots: dict[tuple[tuple[int, ...], int], list[tuple[int, TextRow]]] = {}
    for i, row in enumerate(row for pair in pairs for row in pair):
        slots.setdefault((row.ids[:-1], row.n_prompt), []).append((i, row))
    rows = list(slots)
    out = torch.zeros(len(interventions), 2 * len(questions), dtype=torch.float64)

    def run(batch: list[int]) -> None:
        tokens = _padded(model, [rows[b] for b in batch], "left")
        keep = max(len(rows[b][0]) - rows[b][1] for b in batch) + 1
        where = _targets([(r, slot, row) for r, b in enumerate(batch) for slot, row in slots[rows[b]]], keep)
        totals = torch.zeros_like(out)
        for k, logits in _each(model, tokens, interventions, keep):
            row_of, column, token, slot = where.to(logits.device)
            scores = _at_least_single(logits)
            wanted = (scores[row_of, column, token] - scores.logsumexp(dim=-1)[row_of, column]).double()
            totals[k] = torch.zeros(out.shape[1], dtype=torch.float64).index_add_(0, slot.cpu(), wanted.cpu())
            advance(len(batch))
        out.add_(totals)

    with progress(f"score {len(questions)} questions", len(rows) * len(interventions)) as advance:
        shrinking_batches([len(ids) for ids, _ in rows], run, tokens=BATCH_TOKENS)
    lengths = torch.tensor([[len(r.ids) - r.n_prompt for r in pair] for pair in pairs])
    return QuestionScores(out[:, 0::2], out[:, 1::2], lengths[:, 0], lengths[:, 1])


def score_neutral(model: LensModel, texts: Sequence[str], interventions: Sequence[Intervention]) -> NeutralScores:
    """KL from the unsteered model, and likelihood, of every text under every intervention.

    The first tokens of a text are context; all later ones are scored, each from a steered position where the
    selector steers continuations.

    Raises:
        OptionError: If there are no texts, or one is too short.
    """
    rows = model.encode_all(texts)
    if not rows or min(len(r) for r in rows) <= CONTEXT_TOKENS + 1:
        raise OptionError(f"Neutral texts need more than {CONTEXT_TOKENS + 1} tokens each. Use whole sentences.")
    kl, nll = (torch.zeros(len(interventions), len(rows), dtype=torch.float64) for _ in range(2))
    base_nll = torch.zeros(len(rows), dtype=torch.float64)

    def run(batch: list[int]) -> None:
        tokens = _padded(model, [(rows[b], CONTEXT_TOKENS) for b in batch], "right")
        target = tokens.ids[:, CONTEXT_TOKENS:]
        scored = tokens.attention_mask[:, CONTEXT_TOKENS:].bool()
        keep = target.shape[1] + 1
        weights: Tensor | None = None
        own: Tensor | None = None
        for k, logits in _each(model, tokens, (UNSTEERED, *interventions), keep):
            # KL = Σ p·log p − Σ p·log q, and Σ p·log q needs only the logits of q and their log-sum-exp.
            scores = _at_least_single(logits[:, :-1])
            log_norm = scores.logsumexp(dim=-1)
            of_text = (log_norm - scores.gather(-1, target[..., None])[..., 0]).double()
            if weights is None:
                weights = (scores - log_norm[..., None]).exp()
            expected = (torch.linalg.vecdot(weights, scores) - log_norm).double()
            if own is None:
                own = expected
                base_nll[batch] = (of_text * scored).sum(dim=1).cpu()
                continue
            kl[k - 1, batch] = ((own - expected) * scored).sum(dim=1).cpu()
            nll[k - 1, batch] = (of_text * scored).sum(dim=1).cpu()
            advance(len(batch))

    with progress(f"side effects on {len(texts)} texts", len(rows) * len(interventions)) as advance:
        shrinking_batches([len(r) for r in rows], run, tokens=BATCH_TOKENS)
    return NeutralScores(kl, nll, base_nll, torch.tensor([len(r) - CONTEXT_TOKENS for r in rows]))


def _each(
    model: LensModel, tokens: TokenBatch, interventions: Sequence[Intervention], keep: int
) -> Iterator[tuple[int, Float[Tensor, "batch kept vocab"]]]:
    """Logits of the last ``keep`` columns under each intervention.

    Each goes on from the lowest block it touches, and from the first column whose logits are wanted if it changes
    nothing before that column.
    """
    column = tokens.ids.shape[1] - keep
    first = [column if _only_from(i, tokens, column) else 0 for i in interventions]
    starts: dict[tuple[int, int], ResidualStart] = {}
    for c in set(first):
        at = zip(interventions, first, strict=True)
        layers = {i.first_layer for i, f in at if f == c and i.first_layer is not None}
        if layers:
            found = residual_starts(model, tokens, layers, first_column=c)
            starts |= {(layer, c): start for layer, start in found.items()}
    for k, (intervention, c) in enumerate(zip(interventions, first, strict=True)):
        with steer(model, intervention.plan, strength=intervention.strength):
            if intervention.first_layer is None:
                yield k, model.logits(tokens, keep_last=keep)
            else:
                yield k, resumed_logits(model, tokens, starts[intervention.first_layer, c], keep_last=keep)


def _only_from(intervention: Intervention, tokens: TokenBatch, column: int) -> bool:
    """Whether an intervention changes nothing before this column, so that what stands there can be kept."""
    if column <= 0:
        return False
    masks = (site.tokens.write(tokens.index, tokens.n_prompt)[:, :column] for site in intervention.plan)
    return not any(bool(mask.any()) for mask in masks)


def _padded(model: LensModel, rows: Sequence[tuple[Sequence[int], int]], side: PaddingSide) -> TokenBatch:
    """Rows of ids with the length of each one's prompt."""
    made = TokenBatch.from_rows(
        [ids for ids, _ in rows], pad_id=model.pad_id, padding_side=side, n_prompt=[n for _, n in rows]
    )
    return made.to(model.device)


def _at_least_single(logits: Float[Tensor, "batch kept vocab"]) -> Float[Tensor, "batch kept vocab"]:
    """Float32 or wider: a log-sum-exp over a vocabulary in half precision is off by tenths of a nat."""
    return logits if logits.dtype == torch.float64 else logits.float()


@final
@dataclass(frozen=True, eq=False)
class _Targets:
    row: Int[Tensor, " target"]
    column: Int[Tensor, " target"]
    token: Int[Tensor, " target"]
    slot: Int[Tensor, " target"]

    def to(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (self.row.to(device), self.column.to(device), self.token.to(device), self.slot)


def _targets(rows: Sequence[tuple[int, int, TextRow]], keep: int) -> _Targets:
    """Where each continuation token's log-probability stands among the last ``keep`` columns of left-padded rows."""
    found = [
        (r, keep - (len(row.ids) - row.n_prompt) + j, token, slot)
        for r, slot, row in rows
        for j, token in enumerate(row.ids[row.n_prompt :])
    ]
    return _Targets(*torch.tensor(found).unbind(dim=1))

"""Log-probabilities of continuations, and KL and perplexity on neutral text, under many interventions, by replay."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import joined_rows
from steerlens.concepts import Question
from steerlens.errors import OptionError
from steerlens.evaluation._reliability import SCORE_RESOLUTION
from steerlens.evaluation._texts import document_of_each, documents_of
from steerlens.evaluation._tree_scores import at_least_single, score_trees
from steerlens.interventions import Intervention, Replayed, replay
from steerlens.models import LensModel, TokenTree
from steerlens.progress import progress

UNSTEERED = Intervention({}, 0.0)
CONTEXT_TOKENS = 4
"""Tokens of a neutral text that are context only: nothing is scored before them."""


@final
@dataclass(frozen=True, eq=False)
class ContinuationScores:
    """Log-probability, in nats, of every continuation under every intervention.

    Continuations are numbered through all prompts: those of the first prompt, then those of the second, and so on.

    Args:
        log_prob: Sum over the continuation's tokens.
        n_tokens: Tokens of each continuation.
        prompt: Number of the prompt that each continuation belongs to.
    """

    log_prob: Float[Tensor, "intervention continuation"]
    n_tokens: Int[Tensor, " continuation"]
    prompt: Int[Tensor, " continuation"]

    @property
    def per_token(self) -> Float[Tensor, "intervention continuation"]:
        """Mean over the continuation's tokens."""
        return self.log_prob / self.n_tokens


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
    nats, teacher-forced; ``base_nll`` is that of the unsteered model. ``documents`` are the clusters of texts; where
    none are given, each text is its own.
    """

    kl: Float[Tensor, "intervention text"]
    nll: Float[Tensor, "intervention text"]
    base_nll: Float[Tensor, " text"]
    n_tokens: Int[Tensor, " text"]
    documents: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_of_each(self.documents, len(self.n_tokens)))


def score_resolution(model: LensModel) -> float:
    """What propensities of a model are known to, in nats, by the precision it runs in; see `SCORE_RESOLUTION`."""
    return SCORE_RESOLUTION[str(model.dtype).removeprefix("torch.")]


def score_continuations(
    model: LensModel,
    prompts: Sequence[str],
    continuations: Sequence[Sequence[str]],
    interventions: Sequence[Intervention] = (UNSTEERED,),
) -> ContinuationScores:
    """Score given continuations of prompts under every intervention.

    Prompt and continuation are tokenised together. Each prompt runs once, and each intervention from where it begins;
    see `steerlens.interventions.replay`.

    Args:
        model: What to steer.
        prompts: What is continued.
        continuations: Of each prompt, at least one.
        interventions: What to do; `steerlens.grid` makes many.

    Raises:
        OptionError: If there are no prompts, or one has no continuations.
        ConceptError: If a continuation adds no token.
    """
    if isinstance(prompts, str) or any(isinstance(of, str) for of in continuations):
        raise OptionError(
            "score_continuations takes a list of prompts and, for each, a list of continuations, such as "
            "['The film was'] and [[' good', ' bad']], but got a string in place of a list."
        )
    if not prompts or len(prompts) != len(continuations) or not all(continuations):
        raise OptionError(
            f"Every prompt needs at least one continuation, but got {len(prompts)} prompts and "
            f"{[len(of) for of in continuations][:8]} continuations of them."
        )
    rows = joined_rows(model, prompts, continuations)
    trees = [TokenTree(of[0].ids[: of[0].n_prompt], tuple(row.ids[row.n_prompt :] for row in of)) for of in rows]
    count = [len(t.continuations) for t in trees]
    with progress(f"score {sum(count)} continuations", len(trees) * len(interventions)) as advance:
        found = score_trees(model, trees, interventions, advance=advance)
    return ContinuationScores(
        found.log_prob,
        torch.tensor([len(c) for t in trees for c in t.continuations]),
        torch.tensor([i for i, n in enumerate(count) for _ in range(n)]),
    )


def score_questions(
    model: LensModel, questions: Sequence[Question], interventions: Sequence[Intervention] = (UNSTEERED,)
) -> QuestionScores:
    """Score both continuations of every question under every intervention.

    Raises:
        OptionError: If there are no questions.
        ConceptError: If a continuation adds no token.
    """
    if not questions:
        raise OptionError("score_questions needs at least one question, but got none.")
    found = score_continuations(
        model, [q.context for q in questions], [(q.positive, q.negative) for q in questions], interventions
    )
    log_prob, n_tokens = found.log_prob, found.n_tokens
    return QuestionScores(log_prob[:, 0::2], log_prob[:, 1::2], n_tokens[0::2], n_tokens[1::2])


def check_neutral(texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
    """Refuse neutral texts of which too little is left to score, once their first tokens are context.

    Args:
        texts: The texts.
        rows: Their ids.

    Raises:
        OptionError: If there are no texts, or one is too short.
    """
    if not rows:
        raise OptionError("Side effects need at least one neutral text, but got none.")
    short = min(range(len(rows)), key=lambda i: len(rows[i]))
    if len(rows[short]) <= CONTEXT_TOKENS + 1:
        raise OptionError(
            f"Neutral texts need more than {CONTEXT_TOKENS + 1} tokens each, but text {short} has {len(rows[short])} "
            f"({texts[short]!r:.40}). Use whole sentences."
        )


def score_neutral(model: LensModel, texts: Sequence[str], interventions: Sequence[Intervention]) -> NeutralScores:
    """KL from the unsteered model, and likelihood, of every text under every intervention.

    The first tokens of a text are context; all later ones are scored, each from a steered position where the
    selector steers continuations.

    Raises:
        OptionError: If there are no texts, or one is too short.
    """
    rows = model.encode_all(texts)
    check_neutral(texts, rows)
    trees = [TokenTree(tuple(r[:CONTEXT_TOKENS]), (tuple(r[CONTEXT_TOKENS:]),)) for r in rows]
    kl, nll = (torch.zeros(1 + len(interventions), len(rows), dtype=torch.float64) for _ in range(2))
    # Of the batch at hand: the unsteered probabilities, and their expected logit less the log-sum-exp.
    base: list[Tensor] = []

    def keep(part: Replayed) -> None:
        targets = part.batch.targets
        scores = at_least_single(part.logits)
        log_norm = scores.logsumexp(dim=-1)
        if 0 in part.interventions:
            weights = (scores[0] - log_norm[0, :, None]).exp()
            base[:] = [weights, torch.linalg.vecdot(weights, scores[0]) - log_norm[0]]
        # KL = Σ p·log p − Σ p·log q, and Σ p·log q needs only the logits of q and their log-sum-exp.
        apart = base[1] - (torch.linalg.vecdot(base[0], scores) - log_norm)
        of_target = log_norm[:, targets.cell] - scores[:, targets.cell, targets.token]
        for out, values in ((kl, apart[:, targets.cell]), (nll, of_target)):
            sums = torch.zeros(len(scores), len(part.trees), dtype=torch.float64, device=scores.device)
            sums.index_add_(1, targets.continuation, values.double())
            out[torch.tensor(part.interventions)[:, None], torch.tensor(part.trees)] = sums.cpu()

    with progress(f"side effects on {len(texts)} texts", len(rows) * (1 + len(interventions))) as advance:
        replay(model, trees, (UNSTEERED, *interventions), keep, advance=advance)
    n_tokens = torch.tensor([len(r) - CONTEXT_TOKENS for r in rows])
    return NeutralScores(kl[1:], nll[1:], nll[0], n_tokens, documents_of(texts))

"""The first token of an answer under many interventions: what in-context methods are chosen by."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlens.activations import TextRow, joined_rows
from steerlens.concepts import TaskPrompt
from steerlens.errors import ConceptError, OptionError
from steerlens.interventions._edits import Intervention
from steerlens.interventions._replay import Replayed, replay
from steerlens.models import LensModel, TokenTree
from steerlens.progress import progress

UNSTEERED = Intervention({}, 0.0)
_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class AnswerScores:
    """The first token of every prompt's answer under every intervention.

    Args:
        log_prob: Of that token, in nats.
        right: Whether it is the likeliest token.
    """

    log_prob: Float[Tensor, "intervention prompt"]
    right: Bool[Tensor, "intervention prompt"]


def answer_scores(
    model: LensModel, prompts: Sequence[TaskPrompt], interventions: Sequence[Intervention] = (UNSTEERED,)
) -> AnswerScores:
    """Score the first token of every answer by replay.

    Args:
        model: What to steer.
        prompts: Prompts with their answers.
        interventions: What to do; unsteered if not given.

    Raises:
        OptionError: If there are no prompts.
        ConceptError: If the tokenizer merges the end of a prompt with its answer, or different answers all begin with
            the same token, as behind a line break.
    """
    trees = _trees(model, prompts)
    log_prob = torch.zeros(len(interventions), len(trees), dtype=torch.float64)
    right = torch.zeros(len(interventions), len(trees), dtype=torch.bool)

    def keep(part: Replayed) -> None:
        targets = part.batch.targets
        scores = part.logits if part.logits.dtype == torch.float64 else part.logits.float()
        wanted = scores[:, targets.cell, targets.token] - scores.logsumexp(dim=-1)[:, targets.cell]
        where = (torch.tensor(part.interventions)[:, None], torch.tensor(part.trees))
        log_prob[where] = wanted.double().cpu()
        right[where] = (scores.argmax(dim=-1)[:, targets.cell] == targets.token).cpu()

    with progress(f"{len(trees)} answers under {len(interventions)} interventions", right.numel()) as advance:
        replay(model, trees, interventions, keep, advance=advance)
    return AnswerScores(log_prob, right)


def answered_right(model: LensModel, prompts: Sequence[TaskPrompt], *, at_least: int) -> tuple[TaskPrompt, ...]:
    """Those prompts whose answer begins with the model's likeliest token.

    Means of activations over prompts that fail say little about the task.

    Args:
        model: Who answers.
        prompts: Few-shot prompts, as a rule.
        at_least: Fewer than this are an error.

    Raises:
        OptionError: If fewer are answered right.
    """
    right = answer_scores(model, prompts).right[0].tolist()
    found = tuple(p for p, yes in zip(prompts, right, strict=True) if yes)
    if len(found) < at_least:
        raise OptionError(
            f"{model.name!r} answers {len(found)} of {len(prompts)} prompts right, but at least {at_least} are wanted. "
            "Give more prompts or more shots, or another task: what a model cannot do in context has no such vector."
        )
    return found


def answer_rows(model: LensModel, prompts: Sequence[TaskPrompt]) -> tuple[TextRow, ...]:
    """Prompts with their answers as token ids, each border where the prompt ends.

    Raises:
        ConceptError: If the tokenizer merges the end of a prompt with its answer, or an answer adds no token.
    """
    rows = joined_rows(model, [p.prompt for p in prompts], [(p.answer,) for p in prompts])
    alone = model.encode_all([p.prompt for p in prompts])
    for p, (row,), ids in zip(prompts, rows, alone, strict=True):
        if row.n_prompt < len(ids):
            raise ConceptError(
                f"The tokenizer of {model.name!r} merges the end of {p.prompt[-20:]!r} with {p.answer!r}, so the "
                "prompt's last token is not where the answer is predicted. Move the space between them to the "
                "beginning of the answer."
            )
    return tuple(row for (row,) in rows)


def check_first_tokens(model: LensModel, prompts: Sequence[TaskPrompt]) -> None:
    """Refuse prompts whose answers cannot be told apart by their first tokens; no model is run.

    Raises:
        ConceptError: As `answer_scores` raises it.
    """
    _check_first_tokens(model, prompts, answer_rows(model, prompts))


def _check_first_tokens(model: LensModel, prompts: Sequence[TaskPrompt], rows: Sequence[TextRow]) -> None:
    first = [row.ids[row.n_prompt] for row in rows]
    if len({p.answer for p in prompts}) > 1 and len(set(first)) == 1:
        raise ConceptError(
            f"All answers begin with the token {model.tokenizer.decode([first[0]])!r}, such as {prompts[0].answer!r}, "
            "so the first token does not tell them apart. Choose a format that puts no line break before the answer, "
            "or a task whose answers differ in their first tokens."
        )


def _trees(model: LensModel, prompts: Sequence[TaskPrompt]) -> list[TokenTree]:
    if not prompts:
        raise OptionError("There are no prompts to score; give at least one TaskPrompt.")
    _warn_of_the_sink(model, prompts)
    rows = answer_rows(model, prompts)
    _check_first_tokens(model, prompts, rows)
    return [TokenTree(row.ids[: row.n_prompt], ((row.ids[row.n_prompt],),)) for row in rows]


def _warn_of_the_sink(model: LensModel, prompts: Sequence[TaskPrompt]) -> None:
    """The first token of a text is an attention sink, which hides the word that stands there."""
    hidden = [p for p in prompts if not p.demonstrations and p.prompt.startswith(p.input)]
    if hidden and not model.add_bos:
        _LOG.warning(
            "%s: %d prompts begin with the word they ask about, such as %r, and this tokenizer puts no BOS in front. "
            "Most models read little from the first place: choose a format such as 'qa', or one with an opening.",
            model.name,
            len(hidden),
            hidden[0].prompt,
        )

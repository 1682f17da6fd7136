"""What showing and telling do for an in-context task: the levels that steering is measured against."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import pandas as pd

from steerlens.concepts import InContextTask, PromptFormat, TaskPrompt, prompt_format, task_prompts
from steerlens.evaluation._task_scores import TASK_METRICS, TaskScores, score_tasks
from steerlens.models import LensModel

ZERO_SHOT, FEW_SHOT, SHUFFLED, INSTRUCTION = "zero-shot", "few-shot", "shuffled few-shot", "instruction"
TASK_BASELINE_COLUMNS = (
    "task", "format", "condition", "n_shots", "metric", "value", "low", "high",
    "difference", "difference_low", "difference_high", "level", "n", "n_clusters",
)  # fmt: skip
"""One row is one metric under one condition; the difference is paired, from zero-shot."""


@final
@dataclass(frozen=True, eq=False)
class TaskBaselines:
    """One task asked in several ways, of the same words.

    Args:
        scores: By condition: ``"zero-shot"``, ``"few-shot"``, ``"shuffled few-shot"`` and, where the task has one,
            ``"instruction"``.
        seed: Of the demonstrations, and of the intervals.
    """

    scores: Mapping[str, TaskScores]
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """Every metric under every condition, with the paired difference from zero-shot (`TASK_BASELINE_COLUMNS`).

        Raises:
            EstimateError: There are fewer than five words.
        """
        rows = []
        for condition, scores in self.scores.items():
            about = scores.prompts[0]
            for metric in TASK_METRICS:
                (e,) = scores.estimates(metric, seed=self.seed)
                (d,) = scores.changes(metric, since=self.scores[ZERO_SHOT], seed=self.seed)
                apart = (None,) * 3 if condition == ZERO_SHOT else (d.value, d.low, d.high)
                where = (about.task, about.format, condition, about.metadata["n_shots"], metric)
                rows.append((*where, e.value, e.low, e.high, *apart, e.level, e.n, e.n_clusters))
        return pd.DataFrame(rows, columns=list(TASK_BASELINE_COLUMNS))


def task_baselines(
    model: LensModel,
    fit: InContextTask,
    test: InContextTask,
    *,
    format: str | PromptFormat,  # noqa: A002
    n_shots: int,
    seed: int,
) -> TaskBaselines:
    """Ask for the answers of ``test`` without help, behind examples, behind examples with wrong answers, and told.

    The examples with shuffled answers are the same words: what is left of the few-shot level shows what the form of the
    examples does by itself. An instruction stands before the question without examples.

    Args:
        model: What to ask.
        fit: Where examples come from.
        test: What is asked.
        format: A name of `steerlens.concepts.FORMATS`, or a format, without an opening.
        n_shots: Number of examples, two or more.
        seed: Of the examples, and of the intervals.

    Raises:
        UnknownNameError: There is no such format.
        OptionError: There are not so many examples, or fewer than two are asked for.
        ConceptError: The tokenizer merges the end of a prompt with its answer.

    References:
        brown2020; min2022 (shuffled answers).
    """
    chosen = replace(prompt_format(format), opening="")
    told = replace(chosen, name=f"{chosen.name}, instruction", opening="{instruction}")
    asked: dict[str, tuple[TaskPrompt, ...]] = {
        ZERO_SHOT: task_prompts(fit, test, format=chosen, n_shots=0, seed=seed),
        FEW_SHOT: task_prompts(fit, test, format=chosen, n_shots=n_shots, seed=seed),
        SHUFFLED: task_prompts(fit, test, format=chosen, n_shots=n_shots, shuffled=True, seed=seed),
    }
    if test.instruction:
        asked[INSTRUCTION] = task_prompts(fit, test, format=told, n_shots=0, seed=seed)
    scores = score_tasks(model, [p for prompts in asked.values() for p in prompts])
    n = len(test)
    return TaskBaselines({name: scores.of_prompts(i * n, (i + 1) * n) for i, name in enumerate(asked)}, seed)

"""In-context tasks under many interventions: is the answer what the model would write, and how likely is it?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlens.concepts import TaskPrompt
from steerlens.errors import EstimateError, OptionError, UnknownNameError
from steerlens.evaluation._scores import UNSTEERED
from steerlens.evaluation._tree_scores import at_least_single
from steerlens.interventions import Intervention, Replayed, answer_rows, replay
from steerlens.models import LensModel, TokenTree
from steerlens.numerics import Estimate, cluster_change, cluster_mean, cluster_share
from steerlens.progress import progress

Array = npt.NDArray[np.float64]
SHARES = ("accuracy", "first_token_accuracy")
"""The metrics that are 0 or 1 of a prompt."""

TASK_SCORE_COLUMNS = ("intervention", "metric", "value", "low", "high", "level", "n", "n_clusters", "method")
"""One row is one metric under one intervention, over all prompts."""


@final
@dataclass(frozen=True, eq=False)
class TaskScores:
    """What a model makes of prompts of in-context tasks, under every intervention.

    The full answer is judged by teacher forcing: it is right if each of its tokens is the likeliest after the prompt
    and those before it, which is what greedy decoding would write, exactly. What greedy decoding writes after it does
    not count, nor does another way to cut the same text into tokens.

    Args:
        prompts: What was asked.
        correct: Whether greedy decoding begins with the full answer.
        first_correct: Whether the answer's first token is the likeliest.
        log_prob: Log-probability of the full answer, in nats.
        first_log_prob: That of its first token.
        first_rank: How many tokens are likelier than its first; 0 is the likeliest.
        n_tokens: Tokens of each answer.
    """

    prompts: tuple[TaskPrompt, ...]
    correct: Bool[Tensor, "intervention prompt"]
    first_correct: Bool[Tensor, "intervention prompt"]
    log_prob: Float[Tensor, "intervention prompt"]
    first_log_prob: Float[Tensor, "intervention prompt"]
    first_rank: Int[Tensor, "intervention prompt"]
    n_tokens: Int[Tensor, " prompt"]

    @property
    def groups(self) -> tuple[str, ...]:
        """The cluster of each prompt."""
        return tuple(p.group for p in self.prompts)

    def values(self, metric: str) -> Array:
        """A metric of `TASK_METRICS` for every intervention and prompt, shape (intervention, prompt).

        Raises:
            UnknownNameError: There is no such metric.
        """
        if metric not in TASK_METRICS:
            raise UnknownNameError("metric of an in-context task", metric, TASK_METRICS)
        found: Array = TASK_METRICS[metric](self).double().numpy()
        return found

    def under(self, intervention: int) -> "TaskScores":
        """The scores under one intervention, by its number."""
        return self._cut(slice(intervention, intervention + 1), slice(None))

    def of_prompts(self, start: int, stop: int) -> "TaskScores":
        """The scores of the prompts from ``start`` to before ``stop``."""
        return self._cut(slice(None), slice(start, stop))

    def estimates(self, metric: str, *, seed: int) -> tuple[Estimate, ...]:
        """Mean of a metric over prompts under each intervention, words resampled.

        Raises:
            UnknownNameError: There is no such metric.
            EstimateError: There are fewer than five words.
        """
        mean = cluster_share if metric in SHARES else cluster_mean
        return tuple(mean(row, self.groups, seed=seed) for row in self.values(metric))

    def changes(self, metric: str, *, since: "TaskScores", seed: int) -> tuple[Estimate, ...]:
        """Paired difference from other scores of the same words, under each intervention.

        Args:
            metric: A metric of `TASK_METRICS`.
            since: Under one intervention, from which all differ; or under as many as these.
            seed: Of the resampling.

        Raises:
            UnknownNameError: There is no such metric.
            EstimateError: The words are not the same in the same order, or there are fewer than five.
        """
        after, before = self.values(metric), since.values(metric)
        if [(p.input, p.output) for p in self.prompts] != [(p.input, p.output) for p in since.prompts]:
            raise EstimateError(
                f"A paired difference needs the same words in the same order, but got {len(self.prompts)} prompts and "
                f"{len(since.prompts)} of others. Make both with task_prompts from the same queries."
            )
        if len(before) not in (1, len(after)):
            raise EstimateError(
                f"Differences of {len(after)} interventions need as many before, or one, but got {len(before)}. "
                "Choose one with .under(number)."
            )
        before = np.broadcast_to(before, after.shape)
        if metric in SHARES:
            return tuple(cluster_change(b, a, self.groups, seed=seed) for b, a in zip(before, after, strict=True))
        return tuple(cluster_mean(a - b, self.groups, seed=seed) for b, a in zip(before, after, strict=True))

    def to_frame(self, *, seed: int) -> pd.DataFrame:
        """Every metric under every intervention as one row (columns `TASK_SCORE_COLUMNS`).

        Raises:
            EstimateError: There are fewer than five words.
        """
        rows = [
            (number, metric, e.value, e.low, e.high, e.level, e.n, e.n_clusters, e.method)
            for metric in TASK_METRICS
            for number, e in enumerate(self.estimates(metric, seed=seed))
        ]
        return pd.DataFrame(rows, columns=list(TASK_SCORE_COLUMNS))

    def items(self) -> pd.DataFrame:
        """Every prompt under every intervention as one row, with its metadata and metrics as columns."""
        about = pd.DataFrame(
            [
                {
                    "task": p.task,
                    "format": p.format,
                    "input": p.input,
                    "output": p.output,
                    "group": p.group,
                    **p.metadata,
                }
                for p in self.prompts
            ]
        )
        parts = []
        for number in range(len(self.correct)):
            scored = {metric: self.values(metric)[number] for metric in TASK_METRICS}
            parts.append(about.assign(intervention=number, n_tokens=self.n_tokens.numpy(), **scored))
        return pd.concat(parts, ignore_index=True)

    def _cut(self, interventions: slice, prompts: slice) -> "TaskScores":
        at = (interventions, prompts)
        return TaskScores(
            prompts=self.prompts[prompts],
            correct=self.correct[at],
            first_correct=self.first_correct[at],
            log_prob=self.log_prob[at],
            first_log_prob=self.first_log_prob[at],
            first_rank=self.first_rank[at],
            n_tokens=self.n_tokens[prompts],
        )


TASK_METRICS: Mapping[str, Callable[[TaskScores], Tensor]] = MappingProxyType(
    {
        "accuracy": lambda s: s.correct,
        "first_token_accuracy": lambda s: s.first_correct,
        "log_prob": lambda s: s.log_prob,
        "first_log_prob": lambda s: s.first_log_prob,
        "reciprocal_rank": lambda s: 1 / (1 + s.first_rank.double()),
    }
)
"""Metrics by name: share of full answers and of first tokens that are the likeliest, log-probability of both in nats,
and 1 / (1 + number of tokens likelier than the first), which a mean may be taken of where ranks run to thousands."""


def score_tasks(
    model: LensModel, prompts: Sequence[TaskPrompt], interventions: Sequence[Intervention] = (UNSTEERED,)
) -> TaskScores:
    """Score the answers to prompts of in-context tasks under every intervention.

    Prompt and answer are tokenised together. Each prompt runs once, and each intervention from where it begins; see
    `steerlens.interventions.replay`. Prompts of different tasks, formats and shots may be mixed.

    Args:
        model: What to ask.
        prompts: From `steerlens.concepts.task_prompts`.
        interventions: What to do to the model.

    Raises:
        OptionError: There are no prompts, or no interventions.
        ConceptError: The tokenizer merges the end of a prompt with its answer, or an answer adds no token.
        SteerlensError: An intervention does not fit the model, or a prompt is too long for it.
    """
    if not prompts or not interventions:
        raise OptionError(
            f"score_tasks needs prompts and interventions, but got {len(prompts)} and {len(interventions)}. Make "
            "prompts with steerlens.concepts.task_prompts."
        )
    trees = [TokenTree(row.ids[: row.n_prompt], (row.ids[row.n_prompt :],)) for row in answer_rows(model, prompts)]
    shape = (len(interventions), len(trees))
    log_prob, first_log_prob = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    correct, first_correct = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    first_rank = torch.zeros(shape, dtype=torch.long)

    def keep(part: Replayed) -> None:
        found = _read(part)
        at = torch.tensor(part.interventions)[:, None], torch.tensor(part.trees)
        for out, of_part in zip((log_prob, first_log_prob, correct, first_correct, first_rank), found, strict=True):
            out[at] = of_part.cpu()

    with progress(f"score {len(trees)} answers", len(trees) * len(interventions)) as advance:
        replay(model, trees, interventions, keep, advance=advance)
    n_tokens = torch.tensor([len(t.continuations[0]) for t in trees])
    return TaskScores(tuple(prompts), correct, first_correct, log_prob, first_log_prob, first_rank, n_tokens)


def _read(part: Replayed) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of each copy and tree: both log-probabilities, whether all and the first are likeliest, and the first's rank.

    Each tree has one answer, so cells and targets are the same, in the same order.
    """
    token, tree = part.batch.targets.token, part.batch.targets.continuation
    scores = at_least_single(part.logits)
    wanted = scores.gather(-1, token.expand(len(scores), -1)[..., None])
    log_prob = (wanted[..., 0] - scores.logsumexp(dim=-1)).double()
    likeliest = scores.argmax(dim=-1) == token
    rank = (scores > wanted).sum(dim=-1)
    sums, misses = (torch.zeros(len(scores), len(part.trees), dtype=torch.float64, device=scores.device) for _ in "01")
    sums.index_add_(1, tree, log_prob)
    misses.index_add_(1, tree, (~likeliest).double())
    first = tree.diff(prepend=tree.new_full((1,), -1)) != 0
    return sums, log_prob[:, first], misses == 0, likeliest[:, first], rank[:, first]

"""Fine-tuning as a rival of maps: the same pairs, measured on the same questions and texts, at several doses."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from steerlens.concepts import ConceptDataset, Question
from steerlens.errors import OptionError
from steerlens.evaluation._comparison import record_table
from steerlens.evaluation._per_token import mean_per_token, ratio_of_perplexities
from steerlens.evaluation._reliability import DoseCurve
from steerlens.evaluation._scores import CONTEXT_TOKENS, check_neutral, score_questions
from steerlens.evaluation._text_baselines import last_log_probs
from steerlens.evaluation._texts import document_of_each, documents_of
from steerlens.interventions import LoraFinetune, LoraWeights
from steerlens.models import LensModel
from steerlens.numerics import Estimate, cluster_mean
from steerlens.progress import progress

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class FinetunedBaseline:
    """What changed weights did, per strength and per question or neutral text. All log-probabilities in nats.

    Args:
        name: Such as ``"LoRA of rank 8"``.
        strengths: Multiples of the change of the weights, ascending from 0; 1 is the fine-tuned model.
        questions: The questions, column by column.
        log_prob: log p of the positive and of the negative continuation, shape (2, strength, question).
        kl: KL from the model as it was, summed over the tokens of each text, shape (strength, text).
        nll: Negative log-likelihood likewise.
        n_tokens: Scored tokens of each text; the ones that `score_neutral` scores.
        continuation_tokens: Tokens of the positive and of the negative continuation, shape (2, question).
        documents: The cluster of each text; empty, each text is its own.
    """

    name: str
    strengths: tuple[float, ...]
    questions: tuple[Question, ...]
    log_prob: Array
    kl: Array
    nll: Array
    n_tokens: Array
    continuation_tokens: Array
    documents: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_of_each(self.documents, len(self.n_tokens)))

    @property
    def groups(self) -> tuple[Hashable, ...]:
        """The cluster of each question."""
        return tuple(q.group for q in self.questions)

    @property
    def propensity(self) -> Array:
        """log p(positive) − log p(negative), shape (strength, question)."""
        found: Array = self.log_prob[0] - self.log_prob[1]
        return found

    @property
    def dose_curve(self) -> DoseCurve:
        """Effect and cost over strengths, for contrasts with maps."""
        change = self.propensity - self.propensity[0]
        return DoseCurve(self.strengths, change, self.groups, self.kl, self.n_tokens, documents=self.documents)

    def to_records(self, *, split: Literal["select", "test"], budget: float, seed: int) -> pd.DataFrame:
        """Rows for a comparison's table of records, with the role "fine-tuned" and no site (layer −1)."""
        rows: list[tuple[float, str, Estimate]] = []
        for k, strength in enumerate(self.strengths):
            change = self.propensity[k] - self.propensity[0]
            rows.append((strength, "effect", cluster_mean(change, self.groups, seed=seed)))
            rows.append((strength, "kl", mean_per_token(self.kl[k], self.n_tokens, self.documents, seed=seed)))
            extra = ratio_of_perplexities(self.nll[k] - self.nll[0], self.n_tokens, self.documents, seed=seed)
            rows.append((strength, "perplexity_ratio", extra))
        at = self.dose_curve.at_budget(budget, seed=seed)
        rows.append((at.strength, "effect_at_budget", at.effect))
        place = (split, "fine-tuned", "weights", self.name, "", -1)
        return record_table((place, *row) for row in rows)


def finetuned_baseline(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    *,
    texts: Sequence[str],
    strengths: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 2.0),
    method: LoraFinetune | None = None,
) -> FinetunedBaseline:
    """Fine-tune on the pairs that maps are fitted on, and measure as maps are measured.

    The dose is the multiple of the change of the weights, so that fine-tuning can be compared at a KL budget, too. Each
    dose takes a copy of the model in memory, one after the other.

    Args:
        model: Stays as it is.
        fit: Pairs to train on; must share no group with ``test``.
        test: Pairs to report on.
        texts: Neutral texts, those of the maps.
        strengths: Ascending from 0.
        method: None takes `LoraFinetune` with its defaults.

    Raises:
        OptionError: If the two share a group, strengths do not ascend from 0, a text is too short, or peft is missing.
        FitError: If there are fewer than two groups to train on.

    References:
        hu2022.
    """
    shared = set(fit.groups) & set(test.groups)
    if shared:
        raise OptionError(f"fit and test share {len(shared)} groups, such as {sorted(shared)[0]!r}. Split by group.")
    doses = tuple(float(s) for s in strengths)
    if len(doses) < 2 or doses[0] != 0 or list(doses) != sorted(set(doses)):
        raise OptionError(f"Strengths of fine-tuning ascend from 0, but got {list(doses)}.")
    tuned = LoraFinetune() if method is None else method
    weights = tuned.train(model, fit)
    return _measured(model, weights, f"LoRA of rank {tuned.rank}", doses, test, texts)


def _measured(
    model: LensModel,
    weights: LoraWeights,
    name: str,
    doses: tuple[float, ...],
    test: ConceptDataset,
    texts: Sequence[str],
) -> FinetunedBaseline:
    rows = model.encode_all(texts)
    check_neutral(texts, rows)
    before = [last_log_probs(model, r, len(r) - CONTEXT_TOKENS) for r in rows]
    log_prob, kl, nll = [], [], []
    continuation_tokens = np.zeros((2, len(test.questions)))
    with progress(f"measure {name} at {len(doses)} strengths", len(doses)) as advance:
        for dose in doses:
            changed = model if dose == 0 else weights.at(model, dose)
            scores = score_questions(changed, test.questions)
            continuation_tokens = np.stack([scores.n_positive.double().numpy(), scores.n_negative.double().numpy()])
            log_prob.append(np.stack([scores.positive[0].numpy(), scores.negative[0].numpy()]))
            costs = [_cost(changed, row, was) for row, was in zip(rows, before, strict=True)]
            kl.append([k for k, _ in costs])
            nll.append([n for _, n in costs])
            advance(1)
    return FinetunedBaseline(
        name=name,
        strengths=doses,
        questions=test.questions,
        log_prob=np.stack(log_prob, axis=1),
        kl=np.array(kl),
        nll=np.array(nll),
        n_tokens=np.array([float(len(r) - CONTEXT_TOKENS) for r in rows]),
        continuation_tokens=continuation_tokens,
        documents=documents_of(texts),
    )


def _cost(model: LensModel, row: list[int], before: Tensor) -> tuple[float, float]:
    """KL(before ‖ now) and negative log-likelihood, summed over the scored tokens of a text."""
    now = last_log_probs(model, row, len(before))
    target = torch.tensor(row[-len(before) :], device=now.device)[:, None]
    return float((before.exp() * (before - now)).sum()), -float(now.gather(1, target).sum())

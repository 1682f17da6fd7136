"""From multiple choice and layers: when right and wrong tokens rise, and what contrasting layers does to accuracy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import ConceptError, OptionError
from steerlens.evaluation import ChoiceQuestion, choice_scores, score_dola, token_trajectories
from steerlens.interventions import DoLa
from steerlens.models import LensModel
from steerlens.theories._records import tidy

CONTRAST = "DoLa"
"""The name under which contrasts of layers are recorded."""

Array = npt.NDArray[np.float64]


def maturity_records(
    model: LensModel, questions: Sequence[ChoiceQuestion], contrast: DoLa, *, concept: str, seed: int
) -> pd.DataFrame:
    """Records of a set of questions that late maturity is judged by, one of each quantity for every question.

    A token's ``rise`` is the layer where its probability by the logit lens grows most, as a share of the depth. The
    right token is that of the first true answer and the wrong one that of the first false answer that parts from it,
    where the two part; a question without one (sheep, sheeps) is left out. Accuracy is MC1, by the model's own
    log-probability ("plain"), and by the contrast.

    Args:
        model: A model, steered or not.
        questions: With true and false answers, in groups.
        contrast: Its scores must be log-probabilities.
        concept: Name of the set.
        seed: Of what `token_trajectories` estimates beside.

    Returns:
        Columns `THEORY_COLUMNS`.

    Raises:
        OptionError: If the contrast's scores are no log-probabilities, or the model lacks a layer.
        ConceptError: If no question is left.
        EstimateError: If there are fewer than five groups.

    References:
        chuang2024; dasilva2025.
    """
    if contrast.normalisation == "none":
        raise OptionError(
            'Accuracy is judged by log-probabilities, but the contrast has normalisation="none", whose scores grow '
            'with the length of an answer. Give it normalisation="vocabulary" or "plausible".'
        )
    kept = [(q, answer) for q in questions if (answer := _parting(q)) is not None]
    questions = [q for q, _ in kept]
    if not kept:
        raise ConceptError("In no question does a false answer part from the true one before either ends.")
    answers = [(*q.true, *q.false) for q in questions]
    scores = score_dola(model, [q.prompt for q in questions], answers, [contrast])
    plain, contrasted = (_first_best(questions, s.numpy()) for s in (scores.baseline, scores.score[0]))
    pairs = ConceptDataset(
        concept, tuple(ContrastivePair(q.prompt, q.true[0], answer, group=q.group) for q, answer in kept)
    )
    rise = token_trajectories(model, pairs, seed=seed).spike.double().numpy() / model.n_layers
    shared = {
        "model": model.name, "concept": concept, "group": [q.group for q in questions], "item": np.arange(len(answers)),
        "n": 1,
    }  # fmt: skip
    chance = np.array([1 / (1 + len(q.false)) for q in questions])
    return tidy(
        {**shared, "quantity": "rise", "setting": "right", "value": rise[0]},
        {**shared, "quantity": "rise", "setting": "wrong", "value": rise[1]},
        {**shared, "quantity": "accuracy", "setting": "plain", "value": plain},
        {**shared, "quantity": "accuracy", "setting": "chance", "value": chance},
        {**shared, "quantity": "accuracy_gain", "role": "method", "method": CONTRAST, "value": contrasted - plain},
    )


def _parting(question: ChoiceQuestion) -> str | None:
    """The first false answer that is not the true one's beginning, nor begins with it."""
    right = question.true[0]
    return next((a for a in question.false if not a.startswith(right) and not right.startswith(a)), None)


def _first_best(questions: Sequence[ChoiceQuestion], scores: Array) -> Array:
    """MC1 of every question, from the scores of all answers one question behind another."""
    parts = np.split(scores, np.cumsum([len(q.true) + len(q.false) for q in questions])[:-1])
    return np.array(
        [choice_scores(s[: len(q.true)], s[len(q.true) :]).mc1 for q, s in zip(questions, parts, strict=True)]
    )

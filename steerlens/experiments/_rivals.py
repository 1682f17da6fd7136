"""Both kinds of vector on one task or one concept: fitted, chosen on other items, and tested."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import ConceptDataset, InContextTask, TaskPrompt, open_ended_items, task_prompts
from steerlens.errors import SteerlensError
from steerlens.evaluation import score_continuations, score_questions, score_tasks
from steerlens.experiments._fitted_vectors import TaskMeans, VectorRecipe, task_means
from steerlens.experiments._rival_grids import (
    EXCHANGED,
    FUNCTION,
    IN_CONTEXT,
    RANDOM,
    BottomUpPlan,
    exchanged_rival,
    function_candidates,
    function_setting,
    random_rival,
    vector_candidates,
    vector_setting,
)
from steerlens.experiments._stored_parts import StudyPart
from steerlens.interventions import Candidate, Intervention, answer_scores
from steerlens.models import LensModel

Choose = Callable[[Sequence[Candidate]], Candidate]
FUNCTION_MEASURES = ("first_token_accuracy", "log_prob")
TEXT_LIKELIHOODS = ("log p per token, positive text", "log p per token, negative text")
"""Measures that tell what steering costs, and not where it goes."""


@final
@dataclass(frozen=True, eq=False)
class _Rival:
    """A method or a control with the setting that it is tested at."""

    method: str
    setting: str
    intervention: Intervention


UNSTEERED = _Rival("unsteered", "", Intervention({}, 0.0))


def measured_function(model: LensModel, task: InContextTask, plan: BottomUpPlan) -> StudyPart:
    """Share of first tokens and log p of answers, without examples and behind shuffled ones; settings for each."""
    fit, dev, test = task.split(seed=plan.seed)
    dev, test = dev[: plan.n_dev], test[: plan.n_test]
    grids = _grids(model, fit, fit.pairs, plan.recipe, plan)
    frames = []
    for condition, n_shots in (("no examples", 0), (f"{plan.n_shuffled} shuffled", plan.n_shuffled)):
        on_dev, on_test = (
            task_prompts(fit, part, format=plan.recipe.format, n_shots=n_shots, shuffled=n_shots > 0, seed=plan.seed)
            for part in (dev, test)
        )

        rivals = _rivals(model, grids, plan, partial(_best_answers, model, on_dev))
        scores = score_tasks(model, on_test, [r.intervention for r in rivals])
        words, groups = [p.input for p in on_test], [p.group for p in on_test]
        frames += [
            _long(rivals, scores.values(measure), words, groups).assign(
                kind="functional", case=task.name, condition=condition, measure=measure
            )
            for measure in FUNCTION_MEASURES
        ]
    return StudyPart(pd.concat(frames, ignore_index=True), grids.notes)


def _best_answers(model: LensModel, prompts: Sequence[TaskPrompt], candidates: Sequence[Candidate]) -> Candidate:
    """With the largest share of right first tokens; of equal ones the one with the larger log-probability."""
    tried = answer_scores(model, prompts, [c.intervention for c in candidates])
    right, log_prob = tried.right.double().mean(dim=1), tried.log_prob.mean(dim=1)
    return candidates[max(range(len(candidates)), key=lambda i: (float(right[i]), float(log_prob[i])))]


def measured_behaviour(model: LensModel, concept: ConceptDataset, plan: BottomUpPlan) -> StudyPart:
    """Propensity of questions, and log-likelihood per token of both continuations of open prompts."""
    fit, dev, test = concept.split(seed=plan.seed)
    dev, test = dev[: plan.n_dev], test[: plan.n_test]
    asked = [q for pair in dev for q in pair.questions]

    def choose(candidates: Sequence[Candidate]) -> Candidate:
        tried = score_questions(model, asked, [c.intervention for c in candidates]).propensity.mean(dim=1)
        return candidates[int(tried.argmax())]

    # A rewriting task: from the text without the concept to the text with it. Nothing is right or wrong there.
    opened = open_ended_items(fit)
    rewriting = {p.negative.strip(): p.positive.strip() for p in opened}
    task = InContextTask(concept.name, tuple(rewriting.items()))
    pairs = [(t.negative, t.positive) for t in opened.texts]
    grids = _grids(model, task, pairs, replace(plan.recipe, at_least=0), plan)
    rivals = _rivals(model, grids, plan, choose)
    questions = [q for pair in test for q in pair.questions]
    propensity = score_questions(model, questions, [r.intervention for r in rivals]).propensity.numpy()
    items = open_ended_items(test)
    likelihood = score_continuations(
        model, [p.prompt for p in items], [(p.positive, p.negative) for p in items], [r.intervention for r in rivals]
    ).per_token.numpy()
    groups = [p.group for p in items]
    measures: Mapping[str, tuple[npt.NDArray[np.float64], list[str]]] = {
        "propensity": (propensity, [q.group for q in questions]),
        TEXT_LIKELIHOODS[0]: (likelihood[:, 0::2], groups),
        TEXT_LIKELIHOODS[1]: (likelihood[:, 1::2], groups),
        "log p per token, positive less negative": (likelihood[:, 0::2] - likelihood[:, 1::2], groups),
    }
    frames = [
        _long(rivals, values, [str(i) for i in range(len(of))], of).assign(
            kind="behavioural", case=concept.name, condition="", measure=measure
        )
        for measure, (values, of) in measures.items()
    ]
    return StudyPart(pd.concat(frames, ignore_index=True), grids.notes)


@final
@dataclass(frozen=True, eq=False)
class _Grids:
    """Candidates of both methods; none of a method that could not be fitted, whose reason is in ``notes``."""

    means: TaskMeans | None
    of_function: Sequence[Candidate]
    of_vectors: Sequence[Candidate]
    pairs: Sequence[tuple[str, str]]
    notes: Mapping[str, str]


def _grids(
    model: LensModel, task: InContextTask, pairs: Sequence[tuple[str, str]], recipe: VectorRecipe, plan: BottomUpPlan
) -> _Grids:
    notes: dict[str, str] = {}
    means, of_function, of_vectors = None, [], []
    shown = tuple(pairs)[: plan.n_demonstrations]
    try:
        means = task_means(model, task, recipe, effects=True, seed=plan.seed)
        of_function = function_candidates(model, means, plan)
    except SteerlensError as error:
        notes[FUNCTION] = str(error)
    try:
        of_vectors = vector_candidates(model, shown, plan)
    except SteerlensError as error:
        notes[IN_CONTEXT] = str(error)
    return _Grids(means, of_function, of_vectors, shown, notes)


def _rivals(model: LensModel, grids: _Grids, plan: BottomUpPlan, choose: Choose) -> list[_Rival]:
    """Unsteered, each method at the setting that ``choose`` prefers, and its control at the same setting."""
    found = [UNSTEERED]
    if grids.means is not None and grids.of_function:
        best = choose(grids.of_function)
        text = function_setting(best)
        control = random_rival(model, grids.means, plan, best)
        found += [_Rival(FUNCTION, text, best.intervention), _Rival(RANDOM, text, control)]
    if grids.of_vectors:
        best = choose(grids.of_vectors)
        text = vector_setting(best, plan)
        control = exchanged_rival(model, grids.pairs, plan, best)
        found += [_Rival(IN_CONTEXT, text, best.intervention), _Rival(EXCHANGED, text, control)]
    return found


def _long(
    rivals: Sequence[_Rival], values: npt.NDArray[np.float64], items: Sequence[str], groups: Sequence[str]
) -> pd.DataFrame:
    """One row for each rival and item; ``values`` has the shape (rival, item)."""
    return pd.concat(
        [
            pd.DataFrame({"method": r.method, "setting": r.setting, "item": items, "group": groups, "value": row})
            for r, row in zip(rivals, values, strict=True)
        ],
        ignore_index=True,
    )

"""Steering off Course: which methods give back the few-shot level, on which tasks, in which models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import final

import pandas as pd

from steerlens.concepts import InContextTask, PromptFormat, TaskPrompt, load_task, prompt_format, task_prompts
from steerlens.errors import ConceptError, OptionError, SteerlensError, UnknownNameError
from steerlens.evaluation import ChoiceQuestion, dola_multiple_choice, score_tasks, task_baselines
from steerlens.experiments._fitted_vectors import TaskMeans, VectorRecipe, blocks_at, task_means
from steerlens.experiments._model_loaders import Failure, Measure, ModelLoader, measure_models
from steerlens.experiments._recovery import reached_table, recovery_table
from steerlens.experiments._stored_parts import StoredParts, StudyPart
from steerlens.interventions import (
    DoLa,
    Intervention,
    TaskVector,
    answer_rows,
    candidate_layers,
    check_first_tokens,
    function_vector,
    function_vector_search,
    layer_average_vector,
    random_head_vector,
    task_vector_search,
)
from steerlens.models import LensModel

FEW_SHOT = "few-shot"
ASKED = ("zero-shot", FEW_SHOT, "shuffled few-shot", "instruction")
"""Levels of prompts."""
STEERED = ("function vector", "function vector, searched", "task vector", "layer average", "random heads")
"""Methods that act on the zero-shot prompt; the last two are controls, at the block and with the number of heads of the
first."""
OFF_COURSE_METHODS = (*ASKED, *STEERED)
DOLA = "DoLa"

_Acting = list[tuple[str, int, str, Intervention]]
"""Method, number of the draw, setting in words, and what is done."""


@final
@dataclass(frozen=True)
class OffCoursePlan:
    """What `off_course` measures.

    Args:
        methods: Some of `OFF_COURSE_METHODS`.
        n_shots: Examples behind which the level is measured that steering should give back; five as published.
        n_test: Words that are asked, at most; 50 as published.
        n_dev: Words that settings are chosen on, at most.
        recipe: From which prompts vectors are made, and in which format all is asked.
        n_heads: Numbers of heads that the search tries; those beyond the model's are left out.
        strengths: Strengths that it tries.
        depths: Blocks that it tries, as shares of the depth; all if empty. Task vectors always try all.
        n_random: Draws of random heads.
        metric: ``"first_token_accuracy"``, as methods are fitted and as published, or ``"accuracy"`` of full answers,
            which also judges tasks whose answers all begin with one token.
        floor: Pairs whose few-shot share is not above this are set aside.
        seed: Of splits, examples, draws and intervals.

    Raises:
        UnknownNameError: There is no such method or metric.
        OptionError: A number is out of its range.

    References:
        dasilva2025.
    """

    methods: tuple[str, ...] = OFF_COURSE_METHODS
    n_shots: int = 5
    n_test: int = 50
    n_dev: int = 20
    recipe: VectorRecipe = field(default_factory=VectorRecipe)
    n_heads: tuple[int, ...] = (2, 16, 64, 256, 512)
    strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    depths: tuple[float, ...] = ()
    n_random: int = 3
    metric: str = "first_token_accuracy"
    floor: float = 0.1
    seed: int = field(kw_only=True)

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in OFF_COURSE_METHODS:
                raise UnknownNameError("method of this study", method, OFF_COURSE_METHODS)
        if self.metric not in ("accuracy", "first_token_accuracy"):
            raise UnknownNameError("metric of this study", self.metric, ("accuracy", "first_token_accuracy"))
        if min(self.n_test, self.n_dev) < 5 or min(self.n_random, self.n_shots) < 2 or not 0 <= self.floor < 1:
            raise OptionError(
                "Expected n_test and n_dev of 5 or more, n_shots and n_random of 2 or more, and 0 <= floor < 1, but "
                f"got {self.n_test}, {self.n_dev}, {self.n_shots}, {self.n_random} and {self.floor}."
            )


@final
@dataclass(frozen=True, eq=False)
class OffCourse:
    """What was found.

    Args:
        plan: What was measured.
        items: One row for each word under each method of each pair: model, task, method, draw, setting, input, output,
            group, accuracy, first_token_accuracy, log_prob.
        choices: Multiple choice under DoLa, columns ``model`` and `DOLA_CHOICE_COLUMNS`; empty if nothing was asked.
        failures: Models and parts that were not measured.
        notes: Methods that could not be fitted to a pair: columns model, task, method, reason.
    """

    plan: OffCoursePlan
    items: pd.DataFrame
    choices: pd.DataFrame
    failures: tuple[Failure, ...]
    notes: pd.DataFrame

    def recovery(self) -> pd.DataFrame:
        """Share right of every method on every pair, and what part of the few-shot share it is (`RECOVERY_COLUMNS`)."""
        return recovery_table(
            self.items, metric=self.plan.metric, few_shot=FEW_SHOT, floor=self.plan.floor, seed=self.plan.seed
        )

    def reached(self, thresholds: Sequence[float] = (0.5, 0.75, 0.9, 1.0)) -> pd.DataFrame:
        """Share of pairs on which each method recovers enough (`REACHED_COLUMNS`)."""
        methods = [m for m in self.plan.methods if m != FEW_SHOT]
        return reached_table(self.recovery(), methods=methods, thresholds=thresholds)

    def nothing_works(self, threshold: float = 0.5) -> tuple[tuple[str, str], ...]:
        """Pairs of model and task, not at the floor, of which no method that steers recovers enough."""
        found = self.recovery()
        found = found[~found["at_floor"]]
        methods = [m for m in STEERED[:3] if m in self.plan.methods]
        worked = found[found["method"].isin(methods) & (found["recovery"] >= threshold - 1e-9)]
        good = set(zip(worked["model"], worked["task"], strict=True))
        pairs = dict.fromkeys(zip(found["model"], found["task"], strict=True))
        return tuple((str(m), str(t)) for m, t in pairs if (m, t) not in good)


def off_course(
    models: Sequence[ModelLoader],
    tasks: Sequence[str | InContextTask],
    *,
    plan: OffCoursePlan,
    out: str | Path,
    questions: Sequence[ChoiceQuestion] = (),
    memory_limit: int | None = None,
) -> OffCourse:
    """Methods × tasks × models, each pair stored as soon as it is done.

    Recovery is the steered zero-shot share of right answers over the few-shot share, pair by pair of model and task.
    The study reports how many pairs reach a threshold, and no mean over pairs. Settings are chosen on other words than
    they are tested on. A model that fails is named and left out; so is a pair whose answers all begin with one token,
    if first tokens are judged. Run again with the same folder to go on.

    Args:
        models: Whom to ask; see `model_loaders`.
        tasks: Names or tasks.
        plan: What to measure.
        out: Folder of the results.
        questions: Multiple-choice questions to score under DoLa; none if empty.
        memory_limit: In bytes; models that say they need more are not loaded.

    Raises:
        OptionError: The folder holds a study with another plan, or models or tasks share a name.
        UnknownNameError: There is no such task.

    References:
        dasilva2025; todd2024; hendel2023; chuang2024.
    """
    loaded = [load_task(t) if isinstance(t, str) else t for t in tasks]
    by_name = {t.name: t for t in loaded}
    if len(by_name) < len(loaded) or DOLA in by_name:
        raise OptionError(f"Tasks need different names, none of them {DOLA!r}, but got {[t.name for t in loaded]}.")
    wanted = {t.name: t.fingerprint for t in loaded}
    if questions:
        wanted[DOLA] = sha256(repr(tuple(questions)).encode()).hexdigest()
    stored = StoredParts(out, f"off course: {plan!r}")

    def prepare(model: LensModel) -> Measure:
        def measure(part: str) -> StudyPart:
            return _choices(model, questions, plan.seed) if part == DOLA else _pair(model, by_name[part], plan)

        return measure

    failures = measure_models(models, wanted, prepare, stored, memory_limit=memory_limit)
    return _collected(models, wanted, stored, plan, failures)


def _collected(
    models: Sequence[ModelLoader],
    wanted: Mapping[str, str],
    stored: StoredParts,
    plan: OffCoursePlan,
    failures: tuple[Failure, ...],
) -> OffCourse:
    items: list[pd.DataFrame] = []
    choices: list[pd.DataFrame] = []
    notes: list[tuple[str, str, str, str]] = []
    for loader in models:
        for part, data in wanted.items():
            found = stored.read(loader.name, loader.precision, part, data)
            if found is None:
                continue
            (choices if part == DOLA else items).append(found.frame.assign(model=loader.name))
            notes += [(loader.name, part, method, reason) for method, reason in found.notes.items()]
    asked, chosen = (pd.concat(f, ignore_index=True) if f else pd.DataFrame({"model": []}) for f in (items, choices))
    return OffCourse(plan, asked, chosen, failures, pd.DataFrame(notes, columns=["model", "task", "method", "reason"]))


def _pair(model: LensModel, task: InContextTask, plan: OffCoursePlan) -> StudyPart:
    """Every method on one task."""
    split = task.split(seed=plan.seed)
    fit, dev, test = split.fit, split.select[: plan.n_dev], split.test[: plan.n_test]
    asked = task_prompts(fit, test, format=_bare(plan.recipe.format), n_shots=0, seed=plan.seed)
    if plan.metric == "first_token_accuracy":
        _check_metric(model, asked)
    notes: dict[str, str] = {}
    levels = task_baselines(model, fit, test, format=plan.recipe.format, n_shots=plan.n_shots, seed=plan.seed)
    frames = [
        scores.items().assign(method=name, draw=0, setting="")
        for name, scores in levels.scores.items()
        if name in (*plan.methods, FEW_SHOT)
    ]
    if "instruction" in plan.methods and not task.instruction:
        notes["instruction"] = f"The task {task.name!r} has no instruction."
    acting = _steering(model, fit, dev, test, plan, notes)
    if acting:
        scores = score_tasks(model, asked, [one for *_, one in acting])
        frames += [
            scores.under(i).items().assign(method=method, draw=draw, setting=setting)
            for i, (method, draw, setting, _) in enumerate(acting)
        ]
    kept = [
        "task",
        "method",
        "draw",
        "setting",
        "input",
        "output",
        "group",
        "accuracy",
        "first_token_accuracy",
        "log_prob",
    ]
    return StudyPart(pd.concat(frames, ignore_index=True)[kept], notes)


def _check_metric(model: LensModel, asked: Sequence[TaskPrompt]) -> None:
    """Refuse a pair on which every arm would be right, or none, whatever it answers."""
    answer_rows(model, asked)  # what no metric can judge
    try:
        check_first_tokens(model, asked)
    except ConceptError as error:
        raise ConceptError(f'{error} Or judge whole answers: metric="accuracy".') from None


def _bare(format: str | PromptFormat) -> str | PromptFormat:  # noqa: A002
    """As `task_baselines` asks without examples: without an opening."""
    return replace(prompt_format(format), opening="")


def _steering(
    model: LensModel,
    fit: InContextTask,
    dev: InContextTask,
    test: InContextTask,
    plan: OffCoursePlan,
    notes: dict[str, str],
) -> _Acting:
    """What steers, with settings chosen on ``dev``; what cannot be fitted is noted."""
    wanted = [m for m in STEERED if m in plan.methods]
    if not wanted:
        return []
    heads_needed = any(m != "task vector" for m in wanted)
    try:
        means = task_means(model, fit, plan.recipe, effects=heads_needed, seed=plan.seed)
    except SteerlensError as error:
        notes.update({m: str(error) for m in wanted})
        return []
    zero_dev, zero_test = (
        task_prompts(fit, part, format=_bare(plan.recipe.format), n_shots=0, seed=plan.seed) for part in (dev, test)
    )
    acting = _unsearched(model, means, plan, wanted) if heads_needed else []
    if "function vector, searched" in wanted and means.effects is not None:
        search = function_vector_search(
            model, means.effects, means.heads, dev=zero_dev, test=zero_test,
            n_heads=[k for k in plan.n_heads if k <= model.n_layers * model.n_heads] or [model.n_heads],
            strengths=plan.strengths, layers=blocks_at(model, plan.depths), seed=plan.seed,
        )  # fmt: skip
        s = search.chosen.settings
        text = f"{s['n_heads']} heads, block {s['layer']}, strength {s['strength']:g}"
        acting.append(("function vector, searched", 0, text, search.chosen.intervention))
    if "task vector" in wanted:
        found = task_vector_search(
            model, means.states, dev=zero_dev, test=zero_test, mode="replace", seed=plan.seed
        ).chosen
        layer = int(found.settings["layer"])
        acting.append(("task vector", 0, f"block {layer}", Intervention(TaskVector(means.states[layer], layer).plan)))
    return acting


def _unsearched(model: LensModel, means: TaskMeans, plan: OffCoursePlan, wanted: Sequence[str]) -> _Acting:
    """The function vector as published, and its two controls at the same block."""
    assert means.effects is not None
    vector = function_vector(model, means.effects, means.heads)
    text = f"{len(vector.heads)} heads, block {vector.layer}, strength 1"
    acting = [("function vector", 0, text, Intervention(vector.plan))]
    average = layer_average_vector(means.states, layer=vector.layer)
    acting.append(("layer average", 0, f"block {vector.layer}, strength 1", Intervention(average.plan)))
    if "random heads" in wanted and 2 * len(vector.heads) <= model.n_layers * model.n_heads:
        acting += [
            ("random heads", k, text, Intervention(
                random_head_vector(model, means.heads, vector, seed=plan.seed + k).as_long_as(vector).plan
            ))
            for k in range(plan.n_random)
        ]  # fmt: skip
    return [one for one in acting if one[0] in wanted]


def _choices(model: LensModel, questions: Sequence[ChoiceQuestion], seed: int) -> StudyPart:
    """Multiple choice: the model's own answers, DoLa as published, and the same with scores that sum to one."""
    arms: dict[str, DoLa] = {}
    for bucket in ("low", "high"):
        published = DoLa.as_published(candidate_layers(model.n_layers, bucket), alpha=0.0)
        arms[f"published, {bucket}"] = published
        arms[f"corrected, {bucket}"] = replace(published, normalisation="vocabulary")
    return StudyPart(dola_multiple_choice(model, questions, arms, seed=seed).to_frame())

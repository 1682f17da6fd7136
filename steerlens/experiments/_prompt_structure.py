"""Limitations of steering: does a vector's effect depend on how the prompt is written and on what stands before it?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import pandas as pd

from steerlens.concepts import InContextTask, PromptFormat, TaskPrompt, load_task, task_prompts
from steerlens.errors import OptionError
from steerlens.evaluation import TaskScores, score_tasks
from steerlens.experiments._fitted_vectors import VectorRecipe, blocks_at, task_means
from steerlens.experiments._model_loaders import Failure, Measure, ModelLoader, measure_models
from steerlens.experiments._stored_parts import StoredParts, StudyPart
from steerlens.interventions import (
    FunctionVector,
    Intervention,
    check_first_tokens,
    function_vector,
    random_head_vector,
)
from steerlens.models import LensModel
from steerlens.numerics import DoseEffects, cluster_change, cluster_mean, cluster_share, dose_effects

STRUCTURE_METRICS = ("log_prob", "first_token_accuracy", "reciprocal_rank")
"""Log-probability of the full answer in nats, whether its first token is the likeliest, and 1 / (1 + its rank)."""
VECTORS = ("function vector", "random heads")

STRUCTURE_CELL_COLUMNS = (
    "model", "vector", "condition", "distractors", "layer", "strength", "metric", "value", "low", "high",
    "change", "change_low", "change_high", "n", "n_clusters",
)  # fmt: skip
"""One row is one cell of the factorial; ``change`` is paired, from strength 0 of the same prompts."""


@final
@dataclass(frozen=True)
class PromptCondition:
    """One way to write the prompt.

    Args:
        name: Short name.
        format: A name of `steerlens.concepts.FORMATS`, or a format.
        n_shots: Examples in front.
        shuffled: Whether the examples have each other's answers.
    """

    name: str
    format: str | PromptFormat
    n_shots: int = 0
    shuffled: bool = False


PROMPT_CONDITIONS = (
    PromptCondition("arrow", "arrow"),
    PromptCondition("Q/A", "qa"),
    PromptCondition("sentence", "sentence"),
    PromptCondition("1 shot", "qa", 1),
    PromptCondition("3 shots", "qa", 3),
    PromptCondition("10 shots", "qa", 10),
    PromptCondition("10 shots, shuffled", "qa", 10, shuffled=True),
)
"""Three ways to ask without examples, and three numbers of examples, with right and with shuffled answers."""


@final
@dataclass(frozen=True)
class PromptStructurePlan:
    """The factorial.

    Args:
        conditions: Ways to write the prompt.
        distractors: Numbers of neutral sentences in front.
        strengths: Doses, 0 among them.
        depths: Blocks to steer at, as shares of the depth.
        n_test: Words that are asked, at most.
        recipe: From which prompts the vector is made.
        n_heads: Heads in the vector; as `steerlens.interventions.function_vector` has it if None.
        seed: Of splits, examples, sentences, random heads and intervals.

    Raises:
        OptionError: Strength 0 is missing, or something is given twice or not at all.
    """

    conditions: tuple[PromptCondition, ...] = PROMPT_CONDITIONS
    distractors: tuple[int, ...] = (0, 1, 3)
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    depths: tuple[float, ...] = (0.2, 1 / 3, 0.5)
    n_test: int = 40
    recipe: VectorRecipe = field(default_factory=VectorRecipe)
    n_heads: int | None = None
    seed: int = field(kw_only=True)

    def __post_init__(self) -> None:
        names = [c.name for c in self.conditions]
        for what, given in (("conditions", names), ("distractors", self.distractors), ("strengths", self.strengths)):
            if not given or len(set(given)) < len(given):
                raise OptionError(f"Expected different {what}, at least one, but got {list(given)}.")
        if 0 not in self.strengths or len(self.strengths) < 2 or not self.depths or self.n_test < 5:
            raise OptionError(
                "A factorial of doses needs strength 0 and another, a depth, and five words or more, but got strengths "
                f"{self.strengths}, depths {self.depths} and n_test {self.n_test}."
            )


@final
@dataclass(frozen=True, eq=False)
class PromptStructure:
    """What was found.

    Args:
        plan: The factorial.
        task: Name of the task.
        items: One row for each word in each cell: model, vector ("function vector" or "random heads"), condition,
            distractors, layer, strength, input, output, group, and `STRUCTURE_METRICS`.
        failures: Models and conditions that were not measured.
    """

    plan: PromptStructurePlan
    task: str
    items: pd.DataFrame
    failures: tuple[Failure, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Models of which every condition was measured; others have no balanced factorial."""
        n = self.items.groupby("model", sort=False)["condition"].nunique() if len(self.items) else pd.Series(dtype=int)
        return tuple(str(m) for m, found in n.items() if found == len(self.plan.conditions))

    def cells(self) -> pd.DataFrame:
        """Every cell with its interval (columns `STRUCTURE_CELL_COLUMNS`)."""
        rows = []
        keys = ["model", "vector", "condition", "distractors", "layer"]
        for key, of_layer in self.items.groupby(keys, sort=False):
            base = of_layer[of_layer["strength"] == 0].set_index("input")
            for strength, cell in of_layer.groupby("strength", sort=True):
                own = cell.set_index("input").loc[base.index]
                for metric in STRUCTURE_METRICS:
                    groups, of_bits = list(own["group"]), metric == "first_token_accuracy"
                    e = (cluster_share if of_bits else cluster_mean)(own[metric], groups, seed=self.plan.seed)
                    if of_bits:
                        d = cluster_change(base[metric], own[metric], groups, seed=self.plan.seed)
                    else:
                        d = cluster_mean(own[metric] - base[metric], groups, seed=self.plan.seed)
                    apart = (d.value, d.low, d.high) if strength else (0.0,) * 3  # from itself
                    numbers = (e.value, e.low, e.high, *apart, e.n, e.n_clusters)
                    rows.append((*key, strength, metric, *numbers))
        return pd.DataFrame(rows, columns=list(STRUCTURE_CELL_COLUMNS))

    def effects(self, model: str, *, metric: str = "log_prob", vector: str = "function vector") -> DoseEffects:
        """Effects and interactions of the factorial; see `steerlens.numerics.dose_effects`.

        Levels are numbered as conditions and layers are in the plan.

        Raises:
            OptionError: The model was not measured in every condition.
        """
        if model not in self.models:
            raise OptionError(f"{model!r} was not measured in every condition; whole are {list(self.models)}.")
        own = self.items[(self.items["model"] == model) & (self.items["vector"] == vector)]
        words = list(dict.fromkeys(own["input"]))
        axes = [
            words, [c.name for c in self.plan.conditions], self.plan.distractors, sorted(set(own["layer"])),
            self.plan.strengths,
        ]  # fmt: skip
        index = pd.MultiIndex.from_product(axes)
        series = own.set_index(["input", "condition", "distractors", "layer", "strength"])[metric]
        values = series.reindex(index).to_numpy(float).reshape([len(a) for a in axes])
        groups = own.drop_duplicates("input").set_index("input")["group"].loc[words].tolist()
        return dose_effects(
            values, doses=self.plan.strengths, contexts=self.plan.distractors, clusters=groups, seed=self.plan.seed
        )


def prompt_structure(
    models: Sequence[ModelLoader],
    task: str | InContextTask = "antonyms",
    *,
    plan: PromptStructurePlan,
    out: str | Path,
    memory_limit: int | None = None,
) -> PromptStructure:
    """Steer one task's function vector into prompts of every format, context and dose, at several layers.

    Each condition is stored as soon as it is done; run again with the same folder to go on. Beside the function vector
    stands a vector of as many other heads and of the same length. A condition in which all answers begin with one token
    is a failure, for first tokens say nothing there.

    Args:
        models: Whom to ask; see `model_loaders`.
        task: Name or task; antonyms as published.
        plan: The factorial.
        out: Folder of the results.
        memory_limit: In bytes; models that say they need more are not loaded.

    Raises:
        OptionError: The folder holds a study with another plan.
        UnknownNameError: There is no such task.

    References:
        niranjan2025; todd2024.
    """
    words = load_task(task) if isinstance(task, str) else task
    split = words.split(seed=plan.seed)
    test = split.test[: plan.n_test]
    conditions = {c.name: c for c in plan.conditions}
    wanted = dict.fromkeys(conditions, words.fingerprint)
    stored = StoredParts(out, f"prompt structure of {words.name}: {plan!r}")

    def prepare(model: LensModel) -> Measure:
        vectors = _vectors(model, split.fit, plan)
        return lambda part: _condition(model, vectors, split.fit, test, conditions[part], plan)

    failures = measure_models(models, wanted, prepare, stored, memory_limit=memory_limit)
    frames = [
        found.frame.assign(model=loader.name)
        for loader in models
        for part, data in wanted.items()
        if (found := stored.read(loader.name, loader.precision, part, data)) is not None
    ]
    items = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"model": [], "condition": []})
    return PromptStructure(plan, words.name, items, failures)


def _vectors(model: LensModel, fit: InContextTask, plan: PromptStructurePlan) -> dict[str, list[FunctionVector]]:
    """Of both kinds, at every block."""
    means = task_means(model, fit, plan.recipe, effects=True, seed=plan.seed)
    assert means.effects is not None
    layers = blocks_at(model, plan.depths)
    found = [function_vector(model, means.effects, means.heads, n_heads=plan.n_heads, layer=j) for j in layers]
    others = [random_head_vector(model, means.heads, v, seed=plan.seed).as_long_as(v) for v in found]
    return dict(zip(VECTORS, (found, others), strict=True))


def _condition(
    model: LensModel,
    vectors: dict[str, list[FunctionVector]],
    fit: InContextTask,
    test: InContextTask,
    condition: PromptCondition,
    plan: PromptStructurePlan,
) -> StudyPart:
    """All contexts, layers and doses of one condition; unsteered prompts are scored once for all."""
    asked: list[TaskPrompt] = []
    for n in plan.distractors:
        asked += task_prompts(
            fit, test, format=condition.format, n_shots=condition.n_shots, shuffled=condition.shuffled,
            distractors=n, seed=plan.seed,
        )  # fmt: skip
    check_first_tokens(model, asked)
    cells = [
        (kind, v.layer, s, Intervention(v.plan, s)) for kind, of in vectors.items() for v in of for s in plan.strengths
    ]
    acting = [one for *_, s, one in cells if s != 0]
    scores = score_tasks(model, asked, [Intervention({}, 0.0), *acting])
    numbers = iter(range(1, len(acting) + 1))
    frames = []
    for kind, layer, s, _ in cells:
        own = _rows(scores, 0 if s == 0 else next(numbers))
        frames.append(own.assign(vector=kind, condition=condition.name, layer=layer, strength=float(s)))
    return StudyPart(pd.concat(frames, ignore_index=True))


def _rows(scores: TaskScores, number: int) -> pd.DataFrame:
    found = {metric: scores.values(metric)[number] for metric in STRUCTURE_METRICS}
    return pd.DataFrame(
        {
            "distractors": np.array([int(p.metadata["distractors"]) for p in scores.prompts]),
            "input": [p.input for p in scores.prompts],
            "output": [p.output for p in scores.prompts],
            "group": [p.group for p in scores.prompts],
            **found,
        }
    )

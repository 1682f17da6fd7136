"""Rows of studies belong to what they are named after: each is scored again, alone, by the functions behind it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import InContextTask, TaskPrompt, load_concept, load_task, open_ended_items, task_prompts
from steerlens.evaluation import score_continuations, score_questions, score_tasks
from steerlens.experiments import (
    PROMPT_CONDITIONS,
    BottomUpPlan,
    OffCoursePlan,
    PromptStructurePlan,
    VectorRecipe,
    _fitted_vectors,
    _off_course,
    bottom_up,
    model_loaders,
    off_course,
    prompt_structure,
)
from steerlens.experiments._fitted_vectors import TaskMeans, task_means
from steerlens.interventions import (
    FunctionVector,
    Intervention,
    TaskVector,
    function_vector,
    head_effects,
    mean_head_outputs,
)
from steerlens.models import LensModel, tiny_model

RECIPE = VectorRecipe(n_shots=2, n_patched=3, at_least=0)
PLURAL = load_task("plural")
SPLIT = PLURAL.split(seed=0)
CLOSE = {"rtol": 0, "atol": 1e-3}
"""Of log-probabilities in float32, in other batches."""


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def means(model: LensModel) -> TaskMeans:
    return task_means(model, SPLIT.fit, RECIPE, effects=True, seed=0)


def vector_of(model: LensModel, means: TaskMeans, **options: Any) -> FunctionVector:
    assert means.effects is not None
    return function_vector(model, means.effects, means.heads, **options)


def answered(model: LensModel, words: InContextTask, format: str, steered: Intervention) -> np.ndarray:  # noqa: A002
    """log p of the answer to each word, without examples."""
    asked = task_prompts(SPLIT.fit, words, format=format, n_shots=0, seed=0)
    return score_tasks(model, asked, [steered]).log_prob[0].numpy()


def patched(model: LensModel, words: InContextTask, right: tuple[TaskPrompt, ...]) -> Tensor:
    """Effects of heads on these words behind shuffled examples, their means from these prompts."""
    asked = task_prompts(SPLIT.fit, words, format="qa", n_shots=2, shuffled=True, seed=0)
    return head_effects(model, asked, mean_head_outputs(model, right)).log_prob


def test_heads_are_patched_behind_words_that_the_model_answers_right(
    model: LensModel, means: TaskMeans, monkeypatch: pytest.MonkeyPatch
):
    asked = task_prompts(SPLIT.fit, SPLIT.fit, format="qa", n_shots=2, seed=0)
    right = asked[4:9]
    monkeypatch.setattr(_fitted_vectors, "answered_right", lambda *_, at_least: right)  # tiny models are never right
    found = task_means(model, SPLIT.fit, replace(RECIPE, at_least=5), effects=True, seed=0).effects
    assert found is not None
    assert_close(found.log_prob, patched(model, SPLIT.fit[4:7], right), rtol=0, atol=1e-4)
    assert (found.log_prob - patched(model, SPLIT.fit[:3], right)).abs().max() > 0.01
    few = task_means(model, SPLIT.fit, replace(RECIPE, at_least=5, n_patched=99), effects=True, seed=0).effects
    assert few is not None
    assert few.base_log_prob.shape == (5,)
    assert means.effects is not None
    assert_close(means.effects.log_prob, patched(model, SPLIT.fit[:3], asked), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_off_course_rows_are_of_the_vector_that_they_name_and_settings_come_from_other_words(
    model: LensModel, means: TaskMeans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[list[str], list[str]]] = []
    for name in ("function_vector_search", "task_vector_search"):
        real = getattr(_off_course, name)

        def looked_at(*given: Any, real: Any = real, **options: Any) -> Any:
            seen.append(([p.input for p in options["dev"]], [p.input for p in options["test"]]))
            return real(*given, **options)

        monkeypatch.setattr(_off_course, name, looked_at)
    methods = ("zero-shot", "function vector", "function vector, searched", "task vector", "random heads")
    plan = OffCoursePlan(
        methods=methods, n_shots=2, n_test=6, n_dev=5, recipe=RECIPE, n_heads=(2,), strengths=(1.0,), depths=(0.5,),
        seed=0,
    )  # fmt: skip
    found = off_course(model_loaders(["tiny-llama"], dtype="float32", device="cpu"), [PLURAL], plan=plan, out=tmp_path)
    test, dev = SPLIT.test[:6], SPLIT.select[:5]
    assert seen == [([w for w, _ in dev], [w for w, _ in test])] * 2

    of = {key: own.set_index("input")["log_prob"] for key, own in found.items.groupby(["method", "draw"])}
    settings = found.items.drop_duplicates("method").set_index("method")["setting"]
    layer = int(settings["task vector"].removeprefix("block "))
    for method, steered in (
        ("zero-shot", Intervention({}, 0.0)),
        ("function vector", Intervention(vector_of(model, means).plan)),
        ("task vector", Intervention(TaskVector(means.states[layer], layer).plan)),
    ):
        rows = of[method, 0].loc[[w for w, _ in test]]
        np.testing.assert_allclose(rows, answered(model, test, "qa", steered), **CLOSE, err_msg=method)
    for one in (("zero-shot", 0), ("task vector", 0), ("random heads", 0)):
        assert (of[one] - of["function vector", 0]).abs().max() > 0.01, one
    assert (of["random heads", 0] - of["random heads", 1]).abs().max() > 0.01


@pytest.mark.slow
def test_a_cell_of_prompt_structure_is_the_vector_at_its_block_and_dose(
    model: LensModel, means: TaskMeans, tmp_path: Path
):
    condition = next(c for c in PROMPT_CONDITIONS if c.n_shots == 0 and isinstance(c.format, str))
    plan = PromptStructurePlan(
        conditions=(condition,), distractors=(0,), strengths=(0.0, 2.0), depths=(0.3, 0.7), n_test=6, recipe=RECIPE,
        n_heads=4, seed=0,
    )  # fmt: skip
    loaders = model_loaders(["tiny-llama"], dtype="float32", device="cpu")
    found = prompt_structure(loaders, PLURAL, plan=plan, out=tmp_path).items
    test = SPLIT.test[:6]
    layers = sorted(set(found["layer"]))
    assert len(layers) == 2
    for layer in layers:
        vector = vector_of(model, means, n_heads=4, layer=layer)
        for strength in plan.strengths:
            at = found[(found["layer"] == layer) & (found["strength"] == strength)].set_index("vector")
            own = answered(model, test, condition.format, Intervention(vector.plan, strength))
            np.testing.assert_allclose(at.loc["function vector", "log_prob"], own, **CLOSE)
            apart = np.abs(at.loc["random heads", "log_prob"].to_numpy() - own).max()
            assert (apart > 0.01) == (strength > 0)


@pytest.mark.slow
def test_bottom_up_scores_both_texts_of_a_behaviour_and_controls_are_not_the_method(model: LensModel, tmp_path: Path):
    concept = load_concept("sentiment")
    plan = BottomUpPlan(
        function_strengths=(1.0,), depths=(0.5,), n_heads=4, vector_strengths=(1.0,), n_demonstrations=4, n_test=24,
        n_dev=5, recipe=RECIPE, seed=0,
    )  # fmt: skip
    loaders = model_loaders(["tiny-llama"], dtype="float32", device="cpu")
    found = bottom_up(loaders, [PLURAL], [concept], plan=plan, out=tmp_path).items
    test = concept.split(seed=0).test[:24]
    items = open_ended_items(test)
    likelihood = score_continuations(
        model, [p.prompt for p in items], [(p.positive, p.negative) for p in items], [Intervention({}, 0.0)]
    ).per_token.numpy()[0]
    asked = [q for pair in test for q in pair.questions]
    own = found[found["method"] == "unsteered"].set_index("measure")["value"]
    np.testing.assert_allclose(own["log p per token, positive text"], likelihood[0::2], **CLOSE)
    np.testing.assert_allclose(own["log p per token, negative text"], likelihood[1::2], **CLOSE)
    np.testing.assert_allclose(own["propensity"], score_questions(model, asked).propensity[0].numpy(), **CLOSE)
    of_words = found[(found["measure"] == "log_prob") & (found["condition"] == "no examples")]
    values = of_words.pivot(index="item", columns="method", values="value")
    for one, other in (("function vector", "random heads"), ("in-context vectors", "exchanged pairs"),
                       ("unsteered", "function vector"), ("unsteered", "in-context vectors")):  # fmt: skip
        assert (values[one] - values[other]).abs().max() > 1e-3, (one, other)

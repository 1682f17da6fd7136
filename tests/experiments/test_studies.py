"""Protocols on models that have learned nothing: what is measured, what is missing, and how a killed study goes on."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.concepts import InContextTask, PromptFormat, load_concept, load_task, task_prompts
from steerlens.errors import ModelError, OptionError, UnknownNameError
from steerlens.evaluation import capability_questions, score_tasks
from steerlens.experiments import (
    OFF_COURSE_METHODS,
    PROMPT_CONDITIONS,
    BottomUpPlan,
    ModelLoader,
    OffCoursePlan,
    PromptCondition,
    PromptStructurePlan,
    StoredParts,
    StudyPart,
    VectorRecipe,
    bottom_up,
    measure_models,
    model_loaders,
    off_course,
    prompt_structure,
)
from steerlens.models import LensModel, model_revision, tiny_model

NAMES = ["tiny-gpt2", "tiny-nothing", "tiny-llama"]
RECIPE = VectorRecipe(n_shots=2, n_patched=3, at_least=0)
PLAN = OffCoursePlan(
    n_shots=2, n_test=6, n_dev=5, recipe=RECIPE, n_heads=(2, 4), strengths=(1.0, 2.0), depths=(0.3, 0.7), seed=0
)
STRUCTURE = PromptStructurePlan(
    conditions=PROMPT_CONDITIONS[1:4], distractors=(0, 1), strengths=(0.0, 1.0), depths=(0.3, 0.7), n_test=6,
    recipe=RECIPE, n_heads=4, seed=0,
)  # fmt: skip
RIVALS = BottomUpPlan(
    function_strengths=(1.0,), depths=(0.3, 0.7), n_heads=4, vector_strengths=(1.0,), n_demonstrations=4, n_shuffled=2,
    n_test=24, n_dev=5, recipe=RECIPE, seed=0,
)  # fmt: skip
PLURAL = load_task("plural")


def loaders(*names: str) -> tuple[ModelLoader, ...]:
    return model_loaders(names, dtype="float32", device="cpu")


def counting(
    loads: list[str], name: str, load: Callable[[], LensModel] | None = None, revision: str | None = None
) -> ModelLoader:
    def loaded() -> LensModel:
        loads.append(name)
        return load() if load else tiny_model("gpt2")

    return ModelLoader(name, loaded, revision=lambda: revision)


@pytest.mark.slow
def test_off_course_measures_all_methods_on_both_families_and_survives_a_model_that_is_not_there(tmp_path: Path):
    found = off_course(loaders(*NAMES), [PLURAL], plan=PLAN, out=tmp_path, questions=capability_questions()[:6])
    assert [(f.model, f.part) for f in found.failures] == [("tiny-nothing", "")]
    assert "not a known model" in found.failures[0].reason
    n_random = PLAN.n_random
    for model in ("tiny-gpt2", "tiny-llama"):
        own = found.items[found.items["model"] == model]
        assert set(own["method"]) == set(OFF_COURSE_METHODS)
        counts = own.groupby("method").size()
        assert counts.pop("random heads") == 6 * n_random
        assert (counts == 6).all()
    assert set(found.choices["arm"]) == {
        "baseline", "published, low", "corrected, low", "published, high", "corrected, high",
    }  # fmt: skip
    assert found.reached()["at_floor"].eq(2).all()  # such models can do nothing
    shown = found.items[(found.items["model"] == "tiny-llama") & (found.items["method"] == "few-shot")]
    split = PLURAL.split(seed=0)
    asked = task_prompts(split.fit, split.test[:6], format="qa", n_shots=2, seed=0)
    np.testing.assert_allclose(
        shown["log_prob"], score_tasks(tiny_model("llama"), asked).log_prob[0].numpy(), atol=1e-3
    )


@pytest.mark.slow
def test_methods_that_cannot_be_fitted_are_noted_and_prompts_are_measured_all_the_same(tmp_path: Path):
    plan = replace(PLAN, recipe=replace(RECIPE, at_least=5))
    found = off_course(loaders("tiny-gpt2"), [PLURAL], plan=plan, out=tmp_path)
    assert set(found.items["method"]) == set(OFF_COURSE_METHODS[:4])
    assert set(found.notes["method"]) == set(OFF_COURSE_METHODS[4:])
    assert found.notes["reason"].str.contains("right, but at least 5").all()


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_stopped_and_finds_the_same(tmp_path: Path):
    plan = replace(PLAN, methods=("zero-shot", "task vector"))
    tasks = [PLURAL, load_task("past-tense")]
    straight = off_course(loaders("tiny-gpt2", "tiny-llama"), tasks, plan=plan, out=tmp_path / "straight")

    def killed() -> LensModel:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        off_course([*loaders("tiny-gpt2"), ModelLoader("tiny-llama", killed)], tasks, plan=plan, out=tmp_path / "b")
    stored = sorted(p.stat().st_mtime_ns for p in (tmp_path / "b").glob("parts/*/*.parquet"))
    assert len(stored) == 2
    loads: list[str] = []
    again = [counting(loads, "tiny-gpt2", revision=model_revision("tiny-gpt2")), *loaders("tiny-llama")]
    resumed = off_course(again, tasks, plan=plan, out=tmp_path / "b")
    assert loads == []
    assert sorted(p.stat().st_mtime_ns for p in (tmp_path / "b").glob("parts/*/*.parquet"))[:2] == stored
    pd.testing.assert_frame_equal(resumed.items, straight.items)


@pytest.mark.slow
def test_models_are_freed_before_the_next_is_loaded(tmp_path: Path):
    alive: list[weakref.ref[LensModel]] = []

    def load() -> LensModel:
        assert all(r() is None for r in alive), "the model before is still held"
        model = tiny_model("gpt2")
        alive.append(weakref.ref(model))
        return model

    found = off_course(
        [ModelLoader(name, load) for name in ("one", "two", "three")], [PLURAL],
        plan=replace(PLAN, methods=("zero-shot", "task vector")), out=tmp_path,
    )  # fmt: skip
    assert found.failures == ()
    assert len(alive) == 3


@pytest.mark.slow
def test_models_above_the_memory_limit_are_named_and_not_loaded(tmp_path: Path):
    loads: list[str] = []
    large = replace(counting(loads, "large"), needed_bytes=lambda: 5_000_000_000)
    small = replace(counting(loads, "small"), needed_bytes=lambda: 1_000_000)
    found = off_course(
        [large, small], [PLURAL], plan=replace(PLAN, methods=("zero-shot",)), out=tmp_path, memory_limit=2_000_000_000
    )
    assert loads == ["small"]
    assert [f.model for f in found.failures] == ["large"]
    assert "needs about 5.0 GB in float32, more than the limit of 2.0 GB" in found.failures[0].reason
    sizes = [m.needed_bytes() for m in loaders("gpt2-xl", "tiny-gpt2") if m.needed_bytes]
    assert sizes[0] > 6_000_000_000 > sizes[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [MemoryError("out of memory"), OSError("no network"), RuntimeError("allocate memory")]
)
def test_whatever_loading_raises_the_others_are_measured(tmp_path: Path, error: Exception):
    def broken() -> LensModel:
        raise error

    found = off_course(
        [ModelLoader("broken", broken), *loaders("tiny-gpt2")], [PLURAL],
        plan=replace(PLAN, methods=("zero-shot",)), out=tmp_path,
    )  # fmt: skip
    assert [(f.model, f.part) for f in found.failures] == [("broken", "")]
    assert str(error) in found.failures[0].reason
    assert set(found.items["model"]) == {"tiny-gpt2"}


@pytest.mark.slow
def test_a_pair_whose_answers_begin_with_one_token_is_not_judged_by_first_tokens(tmp_path: Path):
    plan = replace(PLAN, methods=("zero-shot",))
    digits = load_task("digits")
    found = off_course(loaders("tiny-gpt2"), [digits, PLURAL], plan=plan, out=tmp_path / "first")
    assert [(f.model, f.part) for f in found.failures] == [("tiny-gpt2", "digits")]
    assert "All answers begin with the token ' '" in found.failures[0].reason
    assert 'Or judge whole answers: metric="accuracy".' in found.failures[0].reason
    assert set(found.items["task"]) == {"plural"}
    assert len(found.notes) == 0
    whole = off_course(loaders("tiny-gpt2"), [digits], plan=replace(plan, metric="accuracy"), out=tmp_path / "whole")
    assert whole.failures == ()
    assert set(whole.items["method"]) == {"zero-shot", "few-shot"}


@pytest.mark.slow
def test_a_pair_whose_prompts_are_merged_with_their_answers_is_judged_by_no_metric(tmp_path: Path):
    glued = replace(RECIPE, format=PromptFormat("glued", "{input}: th{output}"))
    task = InContextTask("the", tuple((w, "e " + w) for w, _ in PLURAL))
    for metric in ("first_token_accuracy", "accuracy"):
        plan = replace(PLAN, methods=("zero-shot",), recipe=glued, metric=metric)
        found = off_course(loaders("tiny-gpt2"), [task], plan=plan, out=tmp_path / metric)
        assert [f.part for f in found.failures] == ["the"]
        assert "merges the end of" in found.failures[0].reason
        assert "metric=" not in found.failures[0].reason, "another metric would not help"


@pytest.mark.slow
def test_a_condition_whose_answers_begin_with_one_token_is_a_failure(tmp_path: Path):
    wide = PromptCondition("wide", PromptFormat("wide", "{input}:  {output}"))
    plan = replace(STRUCTURE, conditions=(PROMPT_CONDITIONS[1], wide))
    found = prompt_structure(loaders("tiny-gpt2"), PLURAL, plan=plan, out=tmp_path)
    assert [(f.model, f.part) for f in found.failures] == [("tiny-gpt2", "wide")]
    assert "does not tell them apart. Choose a format" in found.failures[0].reason
    assert set(found.items["condition"]) == {PROMPT_CONDITIONS[1].name}


def seen(model: LensModel) -> Callable[[str], StudyPart]:
    return lambda part: StudyPart(pd.DataFrame({"weights": [model.revision]}))


@pytest.mark.parametrize("known", [True, False])
def test_the_rows_of_other_weights_are_never_those_of_a_name(tmp_path: Path, known: bool):
    """Nothing is missing, and still the second model is refused: before it is loaded, where it says what it is."""
    wanted, stored, loads = {"first": "data"}, StoredParts(tmp_path, "plan"), []
    a, b = (tiny_model("gpt2", seed=seed) for seed in (0, 1))
    assert a.revision != b.revision
    one, other = (counting(loads, "mine", lambda m=m: m, m.revision if known else None) for m in (a, b))
    assert measure_models([one], wanted, seen, stored) == ()
    assert loads == ["mine"]
    assert measure_models([one], wanted, seen, stored) == ()
    assert loads == ["mine"] * (1 if known else 2)
    before = list(loads)
    for parts in (wanted, {"first": "data", "second": "data"}):
        with pytest.raises(ModelError, match=r"'mine' has the weights .* holds parts measured with .*another folder"):
            measure_models([other], parts, seen, stored)
    assert loads == before if known else [*before, "mine", "mine"]
    assert not stored.has("mine", "float32", "second", "data")


def test_where_stored_weights_cannot_be_compared_the_study_says_so(tmp_path: Path):
    wanted, stored = {"first": "data"}, StoredParts(tmp_path, "plan")
    assert measure_models(loaders("tiny-gpt2"), wanted, seen, stored) == ()

    def gone() -> LensModel:
        raise OSError("no network")

    [failure] = measure_models([ModelLoader("tiny-gpt2", gone)], wanted, seen, stored)
    assert failure.reason == "All is stored, but its weights could not be compared: OSError: no network"


def test_a_part_that_fails_does_not_take_the_others_with_it(tmp_path: Path):
    def prepare(model: LensModel) -> Callable[[str], StudyPart]:
        def measure(part: str) -> StudyPart:
            if part == "second":
                raise RuntimeError("no room")
            return StudyPart(pd.DataFrame({"x": [1]}))

        return measure

    stored = StoredParts(tmp_path, "plan")
    wanted = dict.fromkeys(("first", "second", "third"), "data")
    failures = measure_models(loaders("tiny-gpt2"), wanted, prepare, stored)
    assert [(f.model, f.part, f.reason) for f in failures] == [("tiny-gpt2", "second", "RuntimeError: no room")]
    assert [stored.has("tiny-gpt2", "float32", part, "data") for part in wanted] == [True, False, True]


@pytest.mark.slow
def test_prompt_structure_fills_the_factorial_and_its_dose_is_what_steering_changes(tmp_path: Path):
    found = prompt_structure(loaders(*NAMES), PLURAL_WITH_SENTENCE, plan=STRUCTURE, out=tmp_path)
    assert found.models == ("tiny-gpt2", "tiny-llama")
    assert [f.model for f in found.failures] == ["tiny-nothing"]
    cells = found.cells()
    assert len(cells) == 2 * 2 * 3 * 2 * 2 * 2 * 3  # model, vector, condition, context, block, dose, metric
    unsteered = cells[cells["strength"] == 0]
    assert (unsteered["change"] == 0).all()
    own = cells[(cells["model"] == "tiny-llama") & (cells["vector"] == "function vector") & (cells["strength"] == 1)]
    change = own.loc[own["metric"] == "log_prob", "change"]
    dose = found.effects("tiny-llama").of("dose")[0]
    assert dose.value == pytest.approx(change.mean())  # doses 0 and 1: the slope is the change
    by_format = [e.value for e in found.effects("tiny-llama").of("dose, by format")]
    np.testing.assert_allclose(
        by_format, own[own["metric"] == "log_prob"].groupby("condition", sort=False)["change"].mean()
    )
    assert abs(dose.value) > 1e-3
    with pytest.raises(OptionError, match="not measured in every condition"):
        found.effects("tiny-nothing")


PLURAL_WITH_SENTENCE = replace(PLURAL, sentence="One {input}, two {output}.")


@pytest.mark.slow
def test_bottom_up_compares_both_on_the_same_items_and_shows_controls(tmp_path: Path):
    concept = load_concept("sentiment")
    found = bottom_up(loaders("tiny-gpt2", "tiny-nothing"), [PLURAL], [concept], plan=RIVALS, out=tmp_path)
    assert [f.model for f in found.failures] == ["tiny-nothing"]
    changes = found.changes()
    functional = changes[changes["kind"] == "functional"]
    assert set(functional["condition"]) == {"no examples", "2 shuffled"}
    methods = {"function vector", "in-context vectors", "random heads", "exchanged pairs"}
    assert set(functional["method"]) == methods
    contests = found.contests().set_index(["kind", "condition", "measure"])
    row = contests.loc["functional", "no examples", "log_prob"]
    of = functional[(functional["condition"] == "no examples") & (functional["measure"] == "log_prob")]
    of = of.set_index("method")["change"]
    assert row["difference"] == pytest.approx(of["function vector"] - of["in-context vectors"])
    assert (row["winner"] == "") == (row["low"] <= 0 <= row["high"])
    behaviour = changes[(changes["kind"] == "behavioural") & (changes["method"] == "in-context vectors")]
    parts = behaviour.set_index("measure")["change"]
    assert parts["log p per token, positive less negative"] == pytest.approx(
        parts["log p per token, positive text"] - parts["log p per token, negative text"]
    )


def test_plans_that_make_no_sense_are_refused(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="method of this study"):
        replace(PLAN, methods=("zero shot",))
    with pytest.raises(UnknownNameError, match="metric of this study"):
        replace(PLAN, metric="log_prob")
    with pytest.raises(OptionError, match="n_test and n_dev"):
        replace(PLAN, n_test=2)
    with pytest.raises(OptionError, match="needs strength 0"):
        replace(STRUCTURE, strengths=(1.0, 2.0))
    with pytest.raises(OptionError, match="different conditions"):
        replace(STRUCTURE, conditions=(PROMPT_CONDITIONS[0],) * 2)
    with pytest.raises(UnknownNameError, match="subset of layers"):
        replace(RIVALS, subsets=("bottom",))
    with pytest.raises(OptionError, match="Tasks need different names"):
        off_course(loaders("tiny-gpt2"), [PLURAL, PLURAL], plan=PLAN, out=tmp_path)
    with pytest.raises(OptionError, match="different models"):
        off_course(loaders("tiny-gpt2", "tiny-gpt2"), [PLURAL], plan=PLAN, out=tmp_path)
    with pytest.raises(UnknownNameError, match="task"):
        off_course(loaders("tiny-gpt2"), ["plurals"], plan=PLAN, out=tmp_path)


def test_a_task_without_an_instruction_is_noted(tmp_path: Path):
    bare = InContextTask("bare", PLURAL.pairs)
    found = off_course(loaders("tiny-gpt2"), [bare], plan=replace(PLAN, methods=("instruction",)), out=tmp_path)
    assert found.notes[["task", "method"]].to_numpy().tolist() == [["bare", "instruction"]]

"""Pages of studies: what they say in words, what is drawn, and what they name as missing."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.experiments import (
    TEXT_LIKELIHOODS,
    BottomUp,
    BottomUpPlan,
    Failure,
    OffCourse,
    OffCoursePlan,
    PromptCondition,
    PromptStructure,
    PromptStructurePlan,
)
from steerlens.reports import (
    bottom_up_reading,
    off_course_reading,
    prepare_bottom_up,
    prepare_off_course,
    prepare_prompt_structure,
    prompt_structure_reading,
    write_bottom_up,
    write_off_course,
    write_prompt_structure,
)

FAILED = (Failure("<broken>", "", "there is no such model & never was"),)
WORDS = [f"w{i}" for i in range(12)]


def off_course_found(function_vector: int, task_vector: int) -> OffCourse:
    rows = [
        ("m", "plural", method, 0, "", w, w, float(i < right), float(i < right))
        for method, right in {"few-shot": 12, "function vector": function_vector, "task vector": task_vector}.items()
        for i, w in enumerate(WORDS)
    ]
    columns = ["model", "task", "method", "draw", "setting", "input", "group", "accuracy", "first_token_accuracy"]
    notes = pd.DataFrame(
        [("m", "plural", "random heads", "too few heads")], columns=["model", "task", "method", "reason"]
    )
    return OffCourse(OffCoursePlan(seed=0), pd.DataFrame(rows, columns=columns), pd.DataFrame(), FAILED, notes)


def structure_found(slopes: tuple[float, float]) -> PromptStructure:
    """Two forms of prompt in which a dose does this much; random heads do nothing."""
    plan = PromptStructurePlan(
        (PromptCondition("Q/A", "qa"), PromptCondition("arrow", "arrow")), (0, 1), (0.0, 1.0), (0.3,), 12, seed=0
    )
    draw = np.random.default_rng(0)
    rows = []
    for vector, scale in (("function vector", 1.0), ("random heads", 0.0)):
        for condition, slope in zip(("Q/A", "arrow"), slopes, strict=True):
            for n in plan.distractors:
                for s in plan.strengths:
                    for w in WORDS:
                        y = scale * slope * s + 0.05 * draw.normal()
                        rows.append(("m", vector, condition, n, 1, s, w, w, y, float(y > 0.5), 0.5))
    columns = [
        "model", "vector", "condition", "distractors", "layer", "strength", "input", "group", "log_prob",
        "first_token_accuracy", "reciprocal_rank",
    ]  # fmt: skip
    return PromptStructure(plan, "antonyms", pd.DataFrame(rows, columns=columns), FAILED)


def bottom_up_found(function: float, in_context: float, measure: str = "log_prob") -> BottomUp:
    draw = np.random.default_rng(0)
    rows = [
        ("m", "functional", "plural", "no examples", measure, method, "block 1", w, w, level + 0.1 * draw.normal())
        for method, level in (("unsteered", 0.0), ("function vector", function), ("in-context vectors", in_context))
        for w in WORDS
    ]
    columns = ["model", "kind", "case", "condition", "measure", "method", "setting", "item", "group", "value"]
    notes = pd.DataFrame(columns=["model", "case", "method", "reason"])
    return BottomUp(BottomUpPlan(seed=0), pd.DataFrame(rows, columns=columns), FAILED, notes)


def test_off_course_says_where_nothing_works_and_where_something_does():
    works, fails = off_course_reading(off_course_found(2, 11)), off_course_reading(off_course_found(2, 3))
    assert "task vector reaches half of the few-shot level on 1 of 1 pair" in works
    assert "no pair on which nothing reaches half" in works
    assert "Nothing works, by half of the few-shot level, on plural in m." in fails
    assert "Not measured, for reasons given below: <broken>." in works


def test_off_course_says_why_there_is_nothing_to_recover():
    found = off_course_found(0, 0)
    items = found.items.assign(first_token_accuracy=0.0)
    text = off_course_reading(replace(found, items=items))
    assert text.startswith("There is nothing to recover: examples teach nothing here. 1 pair stood at the floor")
    assert "behind examples, and was set aside." in text
    asked = replace(found.plan, methods=("zero-shot", "few-shot"))
    text = off_course_reading(replace(found, plan=asked))
    assert text.startswith("No method that steers was asked for.")


def test_off_course_draws_recovery_and_leaves_the_few_shot_level_out():
    data = prepare_off_course(off_course_found(3, 12))
    methods = [m for m, _ in data.looks]
    assert "few-shot" not in methods
    ((name, intervals),) = data.rows
    assert name == "plural"
    assert intervals[methods.index("function vector")][0] == 0.25
    assert intervals[methods.index("task vector")][0] == 1
    assert np.isnan(intervals[methods.index("random heads")][0])
    assert data.reference == 1


def test_prompt_structure_says_which_prompts_a_dose_helps_and_harms():
    text = prompt_structure_reading(structure_found((2.0, -0.5)))
    assert "above 0 for Q/A, and below 0 for arrow" in text
    alike = prompt_structure_reading(structure_found((1.0, 1.0)))
    assert "above 0 for Q/A; arrow." in alike
    none = prompt_structure_reading(structure_found((1.0, -1.0)))
    assert "no share of it can be stated" in none
    data = prepare_prompt_structure(structure_found((2.0, -0.5)), "m")
    assert [name for name, _ in data.rows] == ["Q/A", "arrow", "0 distractors", "1 distractor", "block 1"]
    np.testing.assert_allclose([of[0][0] for _, of in data.rows], [2, -0.5, 0.75, 0.75, 0.75], atol=0.1)
    np.testing.assert_allclose([of[1][0] for _, of in data.rows], 0, atol=0.1)


def test_bottom_up_names_the_winner_and_what_steers_the_wrong_way():
    assert "the function vector is ahead in 1, in-context vectors in 0" in bottom_up_reading(bottom_up_found(1.0, 0.2))
    assert "the function vector is ahead in 0, in-context vectors in 1" in bottom_up_reading(bottom_up_found(-1.0, 0.2))
    assert "wrong way on plural (function vector, log_prob)" in bottom_up_reading(bottom_up_found(-1.0, 0.2))
    assert "no difference is shown" in bottom_up_reading(bottom_up_found(0.2, 0.2))
    ((name, intervals),) = prepare_bottom_up(bottom_up_found(1.0, 0.2), "log_prob").rows
    assert name == "plural\nno examples"
    assert abs(intervals[0][0] - 1) < 0.1 < 0.12 < intervals[1][0] < 0.3


def test_bottom_up_says_which_wins_are_left_when_all_are_counted_together():
    words = [f"w{i}" for i in range(12)]
    frames = []
    for case, (gain, noise) in {"clear": (1.0, 0.1), "weak": (0.1, 0.14), "none": (0.0, 1.0)}.items():
        values = gain + noise * np.random.default_rng(len(case)).normal(size=12)
        for method, of in (("unsteered", 0 * values), ("function vector", values), ("in-context vectors", 0 * values)):
            frame = pd.DataFrame({"item": words, "group": words, "value": of}).assign(
                method=method, setting="", case=case
            )
            frames.append(frame.assign(model="m", kind="functional", condition="", measure="log_prob"))
    found = BottomUp(BottomUpPlan(seed=0), pd.concat(frames, ignore_index=True), (), pd.DataFrame())
    contests = found.contests().set_index("case")
    for case in ("clear", "weak", "none"):
        own = found.items[(found.items["case"] == case) & (found.items["method"] == "function vector")]
        signs = np.array(list(itertools.product((-1, 1), repeat=12))) @ own["value"].to_numpy()
        expected = (np.abs(signs) >= abs(own["value"].sum()) - 1e-9).mean()
        assert contests.loc[case, "p_value"] == pytest.approx(expected)
    p = contests["p_value"].sort_values()
    assert contests.loc["weak", "p_holm"] == pytest.approx(max(3 * p.iloc[0], 2 * contests.loc["weak", "p_value"]))
    assert contests.loc["weak", "p_value"] <= 0.05 < contests.loc["weak", "p_holm"]
    assert "for all 3 comparisons together (Holm), a difference is shown in 1." in bottom_up_reading(found)


def test_bottom_up_counts_the_likelihood_of_one_text_as_cost_and_not_as_a_win():
    cost = "Even the texts steered towards become less likely on plural (function vector: −"
    found = bottom_up_found(-1.0, 0.2, TEXT_LIKELIHOODS[0])
    assert found.contests().empty
    assert cost in bottom_up_reading(found)
    assert "wrong way" not in bottom_up_reading(found)
    for other in (bottom_up_found(1.0, 0.2, TEXT_LIKELIHOODS[0]), bottom_up_found(-1.0, 0.2, TEXT_LIKELIHOODS[1])):
        assert "less likely" not in bottom_up_reading(other)


def test_pages_are_whole_escaped_and_name_what_is_missing(tmp_path: Path):
    for number, path in enumerate(
        (
            write_off_course(off_course_found(2, 11), tmp_path / "a", command="steerlens study <x>"),
            write_prompt_structure(structure_found((2.0, -0.5)), tmp_path / "b"),
            write_bottom_up(bottom_up_found(1.0, 0.2), tmp_path / "c"),
        )
    ):
        page = path.read_text("utf-8")
        assert "<broken>" not in page
        assert "&lt;broken&gt; could not be measured at all: there is no such model &amp; never was" in page
        assert page.count("<figure") >= 1
        assert "$" not in page.partition("<body>")[2]
        assert (path.parent / "items.parquet").exists()
        if number == 0:
            assert "steerlens study &lt;x&gt;" in page
            assert "random heads: too few heads" in page


def test_a_study_of_which_nothing_was_measured_has_a_page(tmp_path: Path):
    nothing = pd.DataFrame({"model": []})
    notes = pd.DataFrame(columns=["model", "task", "method", "reason"])
    off = write_off_course(OffCourse(OffCoursePlan(seed=0), nothing, nothing, FAILED, notes), tmp_path / "a")
    structure = PromptStructure(PromptStructurePlan(seed=0), "antonyms", nothing, FAILED)
    notes = pd.DataFrame(columns=["model", "case", "method", "reason"])
    rivals = BottomUp(BottomUpPlan(seed=0), nothing, FAILED, notes)
    for path in (off, write_prompt_structure(structure, tmp_path / "b"), write_bottom_up(rivals, tmp_path / "c")):
        assert "never was" in path.read_text("utf-8")

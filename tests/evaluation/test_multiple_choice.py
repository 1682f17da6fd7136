"""Multiple choice by hand, and readers of the published files, whole and broken."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.errors import ConceptError, EstimateError, OptionError
from steerlens.evaluation import ChoiceQuestion, capability_questions, choice_scores, read_factor, read_truthfulqa

ROW = {
    "question": "What is above us?",
    "mc1_targets": {"The sky.": 1, "A pond.": 0},
    "mc2_targets": {"Clouds.": 1, "The sky.": 1, "A pond.": 0, "Nothing.": 0},
}
FACTOR = {
    "full_prefix": 'It rained, "and\nthen" it stopped. ',
    "turncated_prefixes": "Then it stopped. ",
    "doc_id": 3,
    "completion": "The street was wet.",
    "contradiction_0": "The street was dry.",
    "contradiction_1": "The street was gone.",
    "contradiction_2": "The roof was wet.",
}


def test_scores_by_hand():
    true, false = [-1.0, -4.0, -2.0], [-3.0, -5.0]
    found = choice_scores(true, false)
    assert found.mc1 == 1.0
    assert found.mc3 == pytest.approx(2 / 3)
    assert found.mc2 == pytest.approx(np.exp(true).sum() / (np.exp(true).sum() + np.exp(false).sum()))
    swapped = choice_scores([-4.0, -1.0, -2.0], false)  # the best answer is the first
    assert (swapped.mc1, swapped.mc3, swapped.mc2) == (0.0, pytest.approx(2 / 3), pytest.approx(found.mc2))


def test_a_tie_is_not_above():
    assert choice_scores([-1.0], [-1.0]) == choice_scores([-1.0], [-1.0, -9e9])
    assert choice_scores([-1.0], [-1.0]).mc1 == 0.0
    assert choice_scores([-1.0], [-1.0]).mc2 == 0.5


@pytest.mark.parametrize("shift", [-5000.0, 900.0])
def test_mc2_does_not_depend_on_where_zero_is(shift: float):
    """Excluded tokens cost 1000 nats each, and raw differences of long answers exceed 700: exp would give 0 or ∞."""
    true, false = np.array([-1.0, -4.0]), np.array([-3.0])
    assert choice_scores(true + shift, false + shift).mc2 == pytest.approx(choice_scores(true, false).mc2)


def test_scores_that_are_none_are_refused():
    for true, false in (([], [1.0]), ([1.0], []), ([float("nan")], [1.0])):
        with pytest.raises(EstimateError, match="finite scores"):
            choice_scores(true, false)
    with pytest.raises(OptionError, match="lacks one"):
        ChoiceQuestion("a", (), ("b",), "g")
    with pytest.raises(OptionError, match=r"' b' .*given twice"):
        ChoiceQuestion("a", (" b",), (" b",), "g")


@pytest.mark.parametrize("as_lists", [False, True])
def test_truthfulqa_s_task_file_is_read(tmp_path: Path, as_lists: bool):
    row = dict(ROW)
    if as_lists:
        for k in ("mc1_targets", "mc2_targets"):
            row[k] = {"choices": list(ROW[k]), "labels": list(ROW[k].values())}
    row["mc1_targets"] = dict(reversed(row["mc1_targets"].items())) if not as_lists else row["mc1_targets"]
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps([row, {**ROW, "question": "And below?"}]))
    first, second = read_truthfulqa(path, before="Answer.\n")
    assert first.prompt == "Answer.\nQ: What is above us?\nA:"
    assert first.true == (" The sky.", " Clouds.")
    assert first.false == (" A pond.", " Nothing.")
    assert (first.group, second.group) == ("What is above us?", "And below?")
    assert len(read_truthfulqa(path, limit=1)) == 1
    assert read_truthfulqa(path, form="{question}")[0].prompt == "What is above us?"


def test_truthfulqa_s_table_is_read(tmp_path: Path):
    path = tmp_path / "TruthfulQA.csv"
    row = ["What is above us?", "Clouds", "The sky; Clouds", "A pond.; Nothing; "]
    pd.DataFrame([row], columns=["Question", "Best Answer", "Correct Answers", "Incorrect Answers"]).to_csv(path)
    (found,) = read_truthfulqa(path)
    assert found.true == (" Clouds.", " The sky.")
    assert found.false == (" A pond.", " Nothing.")


def test_factor_is_read_with_the_beginning_of_choice(tmp_path: Path):
    path = tmp_path / "news_factor.csv"
    pd.DataFrame([FACTOR, {**FACTOR, "doc_id": 4}]).to_csv(path)
    whole, _ = read_factor(path, prefix="full_prefix")
    assert whole.prompt == 'It rained, "and\nthen" it stopped.'
    assert whole.true == (" The street was wet.",)
    assert whole.false == (" The street was dry.", " The street was gone.", " The roof was wet.")
    assert whole.group == "3"
    assert read_factor(path, prefix="turncated_prefixes")[1].prompt == "Then it stopped."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mc1_targets": {"A pond.": 0}}, "question 1 should have one best answer"),
        ({"mc1_targets": {"The moon.": 1}}, "among the true ones, but has"),
        ({"mc2_targets": {"The sky.": 1}}, "question 1: .*lacks one"),
        ({"mc2_targets": {"The sky.": "yes"}}, "question 1, mc2_targets should map"),
        ({"mc2_targets": {"choices": ["The sky."], "labels": [1, 0]}}, "as many labels"),
        ({"mc2_targets": None}, "question 1, mc2_targets should map"),
        ({"question": None}, "question 1 should be an object"),
    ],
)
def test_a_broken_task_file_is_refused_by_question(tmp_path: Path, change: dict[str, object], message: str):
    path = tmp_path / "mc_task.json"
    path.write_text(json.dumps([ROW, {**ROW, **change}]))
    with pytest.raises(ConceptError, match=message):
        read_truthfulqa(path)


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path: Path):
    path = tmp_path / "mc_task.json"
    with pytest.raises(OptionError, match="does not exist"):
        read_truthfulqa(path)
    path.write_text("[{")
    with pytest.raises(ConceptError, match="not valid JSON"):
        read_truthfulqa(path)
    path.write_text("{}")
    with pytest.raises(ConceptError, match="list of questions"):
        read_truthfulqa(path)
    with pytest.raises(OptionError, match="form must contain"):
        read_truthfulqa(path, form="Q:")
    with pytest.raises(OptionError, match=r"mc_task.json or TruthfulQA.csv"):
        read_truthfulqa(tmp_path / "mc_task.txt")
    table = tmp_path / "factor.csv"
    for rows, message in (
        ([{"a": 1}], "lacks the columns full_prefix"),
        ([{**FACTOR, "completion": ""}], "line 3 has nothing under completion"),
        ([{**FACTOR, "contradiction_1": FACTOR["completion"]}], "line 3: .*given twice"),
    ):
        pd.DataFrame(rows).to_csv(table)
        with pytest.raises(ConceptError, match=message):
            read_factor(table, prefix="full_prefix")
    pd.DataFrame(columns=list(FACTOR)).to_csv(table)
    with pytest.raises(ConceptError, match="no questions"):
        read_factor(table, prefix="full_prefix")
    with pytest.raises(OptionError, match="prefix must be one of"):
        read_factor(table, prefix="prefix")
    table.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConceptError, match="not text in UTF-8"):
        read_factor(table, prefix="full_prefix")


def test_bundled_items_are_questions_with_their_right_answer_first():
    questions = capability_questions()
    assert len(questions) == 149
    assert all(len(q.true) == 1 and len(q.false) >= 1 for q in questions)
    assert questions[0].true == (" 4",)
    assert " 4" not in questions[0].false

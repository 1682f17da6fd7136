"""Records of other studies: what heads, layers, prompts and models say, planted so that the verdict is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports.synthetic_comparison import make_comparison

from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import ConceptError, OptionError
from steerlens.evaluation import (
    UNSTEERED,
    AcrossConcepts,
    ChoiceQuestion,
    Comparison,
    dola_multiple_choice,
    score_continuations,
    token_trajectories,
)
from steerlens.experiments import OffCourse, OffCoursePlan, PromptCondition, PromptStructurePlan
from steerlens.experiments import PromptStructure as PromptStructureStudy
from steerlens.interventions import DoLa
from steerlens.models import tiny_model
from steerlens.theories import (
    DatasetProperty,
    FewHeadsCarryATask,
    Outcome,
    PromptStructure,
    TheoryEvidence,
    across_models,
    maturity_records,
    records_for,
    records_of,
    theory,
)

WHICH_RUNG = Path(__file__).parents[2] / "examples" / "which_rung"
WORDS = [f"word {i:02d}" for i in range(24)]


def bits(share: float) -> list[float]:
    """So many of the words right."""
    return [float(i < round(share * len(WORDS))) for i in range(len(WORDS))]


def off_course(recovered: float, *, n_shots: int = 5, tasks: int = 12) -> OffCourse:
    """Tasks that examples teach, and a function vector that gives a share of it back; random heads in two draws."""
    frames = []
    for t in range(tasks):
        five = 0.5 + 0.04 * t
        shares = [("zero-shot", 0, 0.0), ("few-shot", 0, five), ("function vector", 0, recovered * five),
                  ("random heads", 0, 0.0), ("random heads", 1, 1 / 12)]  # fmt: skip
        frames += [
            pd.DataFrame({"model": "m", "task": f"task {t}", "method": method, "draw": draw, "setting": "",
                          "input": WORDS, "output": WORDS, "group": WORDS, "accuracy": 0.0,
                          "first_token_accuracy": bits(share), "log_prob": 0.0})
            for method, draw, share in shares
        ]  # fmt: skip
    notes = pd.DataFrame({"model": []})
    return OffCourse(OffCoursePlan(n_shots=n_shots, seed=0), pd.concat(frames), pd.DataFrame(), (), notes)


def test_a_study_off_course_gives_the_share_right_of_every_method_on_every_task():
    records = records_of(off_course(0.9))
    own = records[records["concept"] == "task 3"].set_index("setting")
    assert set(own["quantity"]) == {"accuracy"}
    assert set(own["role"]) == {""}
    expected = {"zero-shot": 0.0, "five-shot": np.mean(bits(0.62)), "function vector": np.mean(bits(0.9 * 0.62)),
                "random heads": 1 / 24}  # fmt: skip
    assert own["value"].to_dict() == pytest.approx(expected)
    assert (own["low"] <= own["value"]).all()
    assert (own["value"] <= own["high"]).all()


@pytest.mark.parametrize(("recovered", "outcome"), [(0.95, Outcome.SUPPORTED), (0.3, Outcome.REFUTED)])
def test_few_heads_are_judged_by_a_study_off_course(recovered: float, outcome: Outcome):
    verdict = FewHeadsCarryATask().judge(records_of(off_course(recovered)))
    assert verdict.outcome is outcome, str(verdict)


def test_three_examples_are_not_taken_for_five():
    verdict = FewHeadsCarryATask().judge(records_of(off_course(0.95, n_shots=3)))
    assert verdict.outcome is Outcome.VOID
    assert "'five-shot'" in verdict.reason


def structure(differ: float, fading: float) -> PromptStructureStudy:
    """A factorial in which formats differ and distractors take away, both by construction, at two layers."""
    rng = np.random.default_rng(0)
    conditions = ("arrow", "list")
    plan = PromptStructurePlan(
        conditions=tuple(PromptCondition(c, "arrow") for c in conditions), distractors=(0, 2),
        strengths=(0.0, 1.0, 2.0), seed=0,
    )  # fmt: skip
    base = dict(zip(WORDS, rng.normal(-5, 1, len(WORDS)), strict=True))
    rows = [
        {"model": m, "vector": vector, "condition": c, "distractors": n, "layer": layer, "strength": s, "input": w,
         "output": w, "group": w, "reciprocal_rank": 0.0, "first_token_accuracy": 0.0,
         "log_prob": base[w] + (vector == "function vector") * s * (1 + differ * (1 - 2 * (c == "arrow")))
         * (1 - fading * n) * layer + (s > 0) * rng.normal(0, 0.1)}
        for m in ("m", "half") for vector in ("function vector", "random heads") for c in conditions for n in (0, 2)
        for layer in (1, 2) for s in plan.strengths for w in WORDS if not (m == "half" and c == "list")
    ]  # fmt: skip
    return PromptStructureStudy(plan, "antonyms", pd.DataFrame(rows), ())


def test_the_effect_of_a_dose_is_counted_from_the_same_prompt_unsteered():
    study = structure(0.5, 0.2)
    records = records_of(study)
    assert set(records["model"]) == {"m"}  # of the other one half was measured
    assert set(records["strength"]) == {1.0, 2.0}
    cell = {"condition": "list", "distractors": 2, "layer": 1, "model": "m", "input": WORDS[5],
            "vector": "function vector"}  # fmt: skip
    raw = study.items
    for column, value in cell.items():
        raw = raw[raw[column] == value]
    by_dose = raw.set_index("strength")["log_prob"]
    found = records.query("setting == 'list' and context == 2 and layer == 1 and group == @WORDS[5] and strength == 2")
    assert found.query("role == 'method'")["value"].item() == pytest.approx(by_dose[2.0] - by_dose[0.0])
    assert set(found["method"]) == {"FunctionVector", "random heads"}


@pytest.mark.parametrize(("differ", "fading", "outcome"), [(0.5, 0.2, Outcome.SUPPORTED), (0.0, 0.0, Outcome.REFUTED)])
def test_prompt_structure_is_judged_by_its_study_at_one_layer(differ: float, fading: float, outcome: Outcome):
    records = records_of(structure(differ, fading))
    assert "more than one layer" in PromptStructure().judge(records).reason
    verdict = PromptStructure().judge(records[records["layer"] == 2])
    assert verdict.outcome is outcome, str(verdict)


def in_model(model: str, slopes: dict[str, float]) -> dict[str, Comparison]:
    """Comparisons of concepts in one model, whose mean shift is as steerable as it is said to be."""
    made = make_comparison()
    found = {}
    for concept, slope in slopes.items():
        said = replace(made.provenance, model={"name": model}, concept={"name": concept})
        headline = made.headline.assign(steerability=slope)
        found[concept] = replace(made, provenance=said, headline=headline)
    return found


def steerabilities(of_data: float, of_model: float) -> dict[str, dict[str, float]]:
    """Five models crossed with ten concepts."""
    rng = np.random.default_rng(1)
    data, models = of_data * rng.normal(size=10), of_model * rng.normal(size=5)
    return {
        f"model {j}": {f"concept {i}": 2 + data[i] + models[j] + 0.1 * rng.normal() for i in range(10)}
        for j in range(5)
    }


def test_comparisons_of_several_concepts_are_read_like_single_ones():
    comparisons = in_model("m", {"a": 1.0, "b": 2.0})
    empty = pd.DataFrame()
    together = records_of(AcrossConcepts(comparisons, empty, empty))
    pd.testing.assert_frame_equal(together, records_of(*comparisons.values()))
    own = together.query("quantity == 'steerability' and method == 'MeanShift'").set_index("concept")["value"]
    assert own.to_dict() == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    ("of_data", "of_model", "outcome"), [(1.0, 0.1, Outcome.SUPPORTED), (0.1, 1.0, Outcome.REFUTED)]
)
def test_several_models_say_whether_steerability_is_the_data_set_s(of_data: float, of_model: float, outcome: Outcome):
    facts = {"strengths": [0.0, 1.0], "budget": 0.1, "n_random": 20, "neutral": "x", "layers": [1]}
    evidence = []
    for model, slopes in steerabilities(of_data, of_model).items():
        records = records_of(*in_model(model, slopes).values()).assign(layers="chosen")
        evidence.append(TheoryEvidence("s", model, records, {}, (), {}, facts))
    joined = across_models(*evidence)
    verdict = DatasetProperty().judge(records_for(theory("T19"), joined))
    assert verdict.outcome is outcome, str(verdict)
    one = DatasetProperty().judge(records_for(theory("T19"), evidence[0].records))
    assert one.reason == "1 models were measured; 4 are needed."


def test_models_that_were_measured_differently_are_not_read_as_one():
    facts = {"strengths": [0.0, 1.0], "budget": 0.1, "n_random": 20, "neutral": "x", "layers": [1]}
    first = TheoryEvidence("s", "a", pd.DataFrame(), {}, (), {}, facts)
    with pytest.raises(OptionError, match="two models or more"):
        across_models(first)
    with pytest.raises(OptionError, match="each once"):
        across_models(first, first)
    with pytest.raises(OptionError, match="other budget than 'a'"):
        across_models(first, replace(first, model="b", facts=facts | {"budget": 0.2}))
    with pytest.raises(OptionError, match="other max_pairs, seed"):
        across_models(first, replace(first, model="b", facts=facts | {"max_pairs": 99, "seed": 5}))
    deeper = replace(first, model="b", facts=facts | {"layers": [9]})
    assert across_models(first, deeper).empty


def test_a_concept_of_the_same_name_with_other_pairs_is_not_read_as_the_same():
    stored = Comparison.load(WHICH_RUNG / "concepts" / "plural")
    about = stored.provenance.concept
    assert {"fit_fingerprint", "select_fingerprint", "test_fingerprint"} <= set(about)
    first = TheoryEvidence("s", "a", pd.DataFrame(), {"plural": stored}, (), {}, {})
    assert across_models(first, replace(first, model="b")).empty
    assert across_models(first, replace(first, model="b", comparisons={"antonyms": stored})).empty
    for key in ("fit_fingerprint", "select_fingerprint", "test_fingerprint"):
        other = replace(stored, provenance=replace(stored.provenance, concept={**about, key: "0" * 64}))
        with pytest.raises(OptionError, match="'plural' holds other pairs in the study of 'b' than in that of 'a'"):
            across_models(first, replace(first, model="b", comparisons={"plural": other}))


QUESTIONS = tuple(
    ChoiceQuestion(f"The {thing} is", (f" {a}",), (f" {b}", f" {c}"), group=f"group {i // 2}")
    for i, (thing, a, b, c) in enumerate(
        [("sky", "blue", "red", "tin"), ("grass", "green", "black", "loud"), ("snow", "white", "hot", "late"),
         ("fire", "hot", "cold", "blue"), ("night", "dark", "bright", "square"), ("sea", "deep", "dry", "paper"),
         ("stone", "hard", "soft", "kind"), ("honey", "sweet", "sour", "green"), ("lead", "heavy", "light", "old"),
         ("ice", "cold", "warm", "north")]
    )
)  # fmt: skip


def test_rise_and_accuracy_are_those_of_each_question():
    model, contrast = tiny_model("gpt2"), DoLa((0, 1), normalisation="vocabulary")
    records = maturity_records(model, QUESTIONS, contrast, concept="things", seed=0)
    assert len(records) == 5 * len(QUESTIONS)
    assert list(records["group"][:4]) == ["group 0", "group 0", "group 1", "group 1"]

    def of(quantity: str, setting: str) -> np.ndarray:
        return records.query("quantity == @quantity and setting == @setting")["value"].to_numpy()

    scores = score_continuations(
        model, [q.prompt for q in QUESTIONS], [(*q.true, *q.false) for q in QUESTIONS], [UNSTEERED]
    ).log_prob.reshape(len(QUESTIONS), 3)
    np.testing.assert_array_equal(of("accuracy", "plain"), (scores.argmax(dim=1) == 0).double().numpy())
    np.testing.assert_array_equal(of("accuracy", "chance"), np.full(len(QUESTIONS), 1 / 3))
    whole = dola_multiple_choice(model, QUESTIONS, {"contrast": contrast}, seed=0).to_frame().set_index("arm")
    change = whole[whole["metric"] == "mc1"].loc["contrast", "change"]
    assert of("accuracy_gain", "").mean() == pytest.approx(change) != 0
    pairs = ConceptDataset(
        "t", tuple(ContrastivePair(q.prompt, q.true[0], q.false[0], group=q.group) for q in QUESTIONS)
    )
    p = token_trajectories(model, pairs, seed=0).log_prob.exp().numpy()
    for side, setting in enumerate(("right", "wrong")):
        expected = (np.diff(p[side], axis=1).argmax(axis=1) + 1) / model.n_layers
        np.testing.assert_allclose(of("rise", setting), expected)


def test_a_question_whose_answers_do_not_part_is_left_out():
    model, contrast = tiny_model("gpt2"), DoLa((0, 1), normalisation="vocabulary")
    first, *rest = QUESTIONS
    other = replace(first, false=(" bluer", *first.false))
    never = replace(first, false=(" bluer", " blues"), group="sheep")
    records = maturity_records(model, [other, never, *rest], contrast, concept="things", seed=0)
    assert set(records["group"]) == {q.group for q in QUESTIONS}
    rise = records[records["quantity"] == "rise"]
    alone = maturity_records(model, QUESTIONS, contrast, concept="things", seed=0).query("quantity == 'rise'")
    np.testing.assert_allclose(rise["value"], alone["value"])
    with pytest.raises(ConceptError, match="In no question"):
        maturity_records(model, [never], contrast, concept="things", seed=0)


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(OptionError, match='normalisation="none"'):
        maturity_records(tiny_model("gpt2"), QUESTIONS, DoLa.as_published((0, 1), alpha=0.0), concept="things", seed=0)


def test_late_maturity_is_judged_by_questions_and_a_model_that_knows_nothing_is_void():
    records = maturity_records(
        tiny_model("gpt2"), QUESTIONS, DoLa((0, 1), normalisation="vocabulary"), concept="things", seed=0
    )
    verdict = replace(theory("T15"), min_units=5).judge(records)
    assert verdict.outcome is Outcome.VOID
    assert "the model knows some answers" in verdict.reason, verdict.reason

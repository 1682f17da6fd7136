"""Theories run on a model: from pairs of texts to stored evidence, verdicts and the rung."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from steerlens import load_model
from steerlens.activations import planted_concept
from steerlens.concepts import load_concept
from steerlens.errors import ArtefactError, FitError, ModelError, OptionError, UnknownNameError
from steerlens.evaluation import Comparison, Provenance
from steerlens.maps import LADDER, method_name
from steerlens.models import model_revision
from steerlens.reports import theories_limits
from steerlens.theories import (
    Outcome,
    TheoryStudy,
    _evidence,
    _theory_run,
    behaviour_rung,
    bures_term,
    bures_z,
    load_evidence,
    load_theory_study,
    records_for,
    registrations,
    run_theories,
    theory,
)
from steerlens.theories._evidence import compared_methods, full_strength_methods

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def study(plant: str, *ids: str, names: tuple[str, ...] = ("one",)) -> TheoryStudy:
    pairs = planted_concept(plant)
    return TheoryStudy(
        name="small", model=plant, concepts=tuple(replace(pairs, name=n) for n in names), layers=(0,),
        theories=tuple(theory(i) for i in ids), strengths=(0.0, 1.0, 2.0), n_random=20, max_texts=10, max_pairs=24,
        controls=False,
    )  # fmt: skip


def test_the_other_concept_is_the_next_one_and_only_what_is_built_in_has_instructions():
    pairs = load_concept("plural")
    alone = replace(study("planted-linear", "T1"), controls=True)
    assert alone.other(alone.concepts[0]) is None
    several = replace(alone, concepts=(*alone.concepts, pairs))
    assert several.other(several.concepts[0]) is pairs
    assert several.other(pairs) is several.concepts[0]
    assert several.instructions(several.concepts[0]) is None
    assert several.instructions(pairs) is not None
    without = replace(several, controls=False)
    assert without.other(pairs) is without.instructions(pairs) is None
    assert several.conditions(pairs)["other"] == several.concepts[0].fingerprint


def test_the_bures_term_of_gaussians_is_the_closed_form_and_zero_for_equal_ones():
    """In one dimension (σ₊ − σ₋)²; and for commuting covariances the sum of these over the axes."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(dim=0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).T
    z = x @ whiten
    a, b = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 0.5, 3.0]).double()
    assert bures_term(z * a, z * b + 7.0) == pytest.approx(float(((a - b) ** 2).sum()), rel=1e-9)
    assert bures_term(z * a, z * a + 7.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("scale", "seen"), [(1.0, False), (2.0, True)])
def test_unequal_covariances_are_seen_and_a_shift_is_none(scale: float, seen: bool):
    rng = torch.Generator().manual_seed(1)
    source, target = (torch.randn(80, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    z = bures_z(source, target * scale + 5.0, [i // 2 for i in range(80)], seed=0)
    assert (z > 3) is seen


def headline(effects: tuple[float, float, float], random_high: float = 0.3) -> Comparison:
    """A comparison of the ladder that holds no more than a rung is read off, every interval ±0.1."""
    names = ("MeanShift", "GaussianTransport", "ResidualMLP")
    rows = [{"method": m, "effect": e, "effect_low": e - 0.1, "effect_high": e + 0.1, "random_high": random_high}
            for m, e in zip(names, effects, strict=True)]  # fmt: skip
    pairs = [{"method": names[j], "reference": names[i], "difference": (d := effects[j] - effects[i]), "low": d - 0.1,
              "high": d + 0.1} for i in range(3) for j in range(i + 1, 3)]  # fmt: skip
    empty = pd.DataFrame()
    said = Provenance("", {}, {}, {}, "", {})
    return Comparison(said, empty, pd.DataFrame(rows), pd.DataFrame(pairs), empty, empty)


@pytest.mark.parametrize(
    ("effects", "rung", "sure"),
    [
        ((2.0, 2.0, 2.0), "translation", "shown"),
        ((2.0, 2.15, 2.0), "translation", "not excluded"),
        ((2.0, 3.0, 3.0), "affine", "shown"),
        ((2.0, 2.0, 3.0), "nonlinear", "shown"),
        ((0.0, 2.0, 2.0), "affine", "shown"),
        ((0.0, 0.1, 0.2), "none", "not excluded"),
    ],
)
def test_the_rung_is_where_the_effect_stops_growing(effects: tuple[float, float, float], rung: str, sure: str):
    found = behaviour_rung(headline(effects))
    assert (found.rung, found.sure) == (rung, sure)


def test_without_random_directions_no_rung_is_judged():
    found = behaviour_rung(headline((2.0, 2.0, 2.0), random_high=float("nan")))
    assert (found.rung, found.sure) == ("unjudged", "not excluded")
    assert "fewer than two random directions" in found.text


def test_transport_is_compared_where_its_dose_is_asked_for():
    """T3 reads effects along strengths, not at the budget; T20's methods are measured on moved rows alone."""
    ladder = {method_name(m) for m in LADDER}
    assert {method_name(m) for m in compared_methods([theory("T3")])} == ladder | {"LinearAcT"}
    assert {method_name(m) for m in compared_methods([theory("T20")])} == ladder


def test_every_method_that_a_theory_names_is_one_that_is_fitted():
    """T10 once named its probe as no fitted method is called, so that it was void on every model."""
    for i in ("T1", "T2", "T5", "T9", "T10", "T18", "T20"):
        h = theory(i)
        fitted = {method_name(m) for m in (*compared_methods([h]), *full_strength_methods([h]))}
        assert {q.method for q in h.quantities.values() if q.method} <= fitted, i


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TheoryStudy]:
    folder = tmp_path_factory.mktemp("linear")
    asked = study("planted-linear", "T1", "T10", "T18")
    run_theories(asked, load_model("planted-linear"), folder, when=NOW)
    return folder, asked


@pytest.mark.slow
def test_a_planted_linear_concept_asks_for_a_translation_and_at_equal_kl_behaviour_for_nothing(
    linear: tuple[Path, TheoryStudy],
):
    """This model's output is its concept and little else, so that KL is the price of moving that, whatever moves it.

    At one KL random directions move it as far, either way: no rung clears them, though a translation is all there is.
    """
    evidence = load_evidence(linear[0])
    reading, headline = evidence.rungs[0], evidence.comparisons["one"].headline.set_index("method")
    assert (reading.geometry.rung, reading.behaviour.rung) == ("translation", "none")
    shift = headline.loc["MeanShift"]
    assert (shift["random_reached"], shift["reached"]) == (20, True)
    assert shift["effect_low"] > 0
    assert shift["random_high"] > shift["effect"]


@pytest.mark.slow
def test_too_few_concepts_are_void_with_the_number(linear: tuple[Path, TheoryStudy]):
    folder, asked = linear
    found = {v.hypothesis: v for v in load_evidence(folder).verdicts(asked.theories, folder)}
    for i in ("T1", "T10"):
        assert found[i].outcome is Outcome.VOID
        assert "1 unit (concept) was measured; 8 are needed" in found[i].reason
    assert found["T18"].outcome is not Outcome.VOID


@pytest.mark.slow
def test_what_is_stored_is_not_measured_again_and_gives_the_same_verdicts(
    linear: tuple[Path, TheoryStudy], monkeypatch: pytest.MonkeyPatch
):
    folder, asked = linear
    before = [str(v) for v in load_evidence(folder).verdicts(asked.theories, folder)]

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(_theory_run, "concept_evidence", refuse)
    _, again = run_theories(asked, load_model("planted-linear"), folder, when=NOW)
    assert [str(v) for v in again] == before


@pytest.mark.slow
def test_another_study_in_the_same_folder_is_refused(linear: tuple[Path, TheoryStudy]):
    folder, asked = linear
    with pytest.raises(OptionError, match="under other conditions"):
        run_theories(replace(asked, budget=0.2), load_model("planted-linear"), folder, when=NOW)


@pytest.mark.parametrize("stored", ["another", None])
def test_other_weights_in_the_same_folder_are_refused_before_anything_is_written(tmp_path: Path, stored: str | None):
    asked, model = replace(study("planted-linear", "T18"), model="tiny-gpt2"), load_model("tiny-gpt2")
    about = json.dumps({"schema": _theory_run.SCHEMA, "revision": stored, "concepts": ["one"]})
    (tmp_path / "study.json").write_text(about)
    with pytest.raises(ModelError, match=r"'tiny-gpt2' has the weights .* was begun with .*choose another folder"):
        run_theories(asked, model, tmp_path, when=NOW)
    assert [p.name for p in tmp_path.iterdir()] == ["study.json"]
    assert (tmp_path / "study.json").read_text() == about


@pytest.mark.parametrize("name", ["which_rung", "forty_concepts"])
def test_the_examples_were_begun_with_the_model_of_today(name: str):
    about = json.loads((ROOT / "examples" / name / "study.json").read_text("utf-8"))
    assert about["revision"] == model_revision(about["model"])


@pytest.mark.slow
def test_a_killed_run_keeps_whole_concepts_and_measures_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked, model = study("planted-linear", "T18", names=("first", "second")), load_model("planted-linear")
    real, measured = _theory_run.concept_evidence, []

    def killed_at_second(lens: object, pairs: object, wanted: object) -> object:
        measured.append(pairs.name)
        if measured == ["first", "second"]:
            raise KeyboardInterrupt
        return real(lens, pairs, wanted)

    monkeypatch.setattr(_theory_run, "concept_evidence", killed_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_theories(asked, model, tmp_path, when=NOW)
    assert "T18" in registrations(tmp_path)
    assert load_evidence(tmp_path).problems == {"second": "Not measured yet. Run the study again to go on."}
    evidence, _ = run_theories(asked, model, tmp_path, when=NOW)
    assert measured == ["first", "second", "second"]
    assert [r.concept for r in evidence.rungs] == ["first", "second"]


@pytest.mark.slow
def test_a_concept_without_a_gradient_keeps_its_other_evidence_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_gradient(*_: object) -> None:
        raise FitError("there is no gradient to follow.")

    monkeypatch.setattr(_evidence, "_of_rows", no_gradient)
    asked = study("planted-linear", "T10", "T20")
    found, verdicts = run_theories(asked, load_model("planted-linear"), tmp_path, when=NOW)
    assert [r.concept for r in found.rungs] == ["one"]
    assert not found.problems
    assert {"effect_at_budget", "cosine"} <= set(found.records["quantity"])
    assert {v.hypothesis: v.outcome for v in verdicts}["T20"] is Outcome.VOID
    said = "one: Rows were not moved at full strength: there is no gradient to follow."
    assert said in theories_limits(found)


def test_hypotheses_are_registered_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def look(*_: object) -> None:
        seen.append(sorted(registrations(tmp_path)))
        raise OptionError("no model needed")

    monkeypatch.setattr(_theory_run, "concept_evidence", look)
    asked = study("planted-linear", "T1", "T18")
    evidence, verdicts = run_theories(asked, load_model("tiny-llama"), tmp_path, when=NOW)
    assert seen == [["T1", "T18"]]
    assert evidence.problems == {"one": "OptionError: no model needed"}
    assert {v.outcome for v in verdicts} == {Outcome.VOID}


def test_a_hypothesis_reads_the_chosen_layer_or_every_one():
    records = pd.DataFrame({"layers": ["chosen", "every", "every"], "value": np.arange(3.0)})
    assert list(records_for(theory("T1"), records)["value"]) == [0.0]
    assert list(records_for(theory("T9"), records)["value"]) == [1.0, 2.0]


def test_the_example_study_says_what_the_issue_asks_for():
    found = load_theory_study(ROOT / "examples" / "which_rung" / "study.toml")
    assert [h.id for h in found.theories] == ["T1", "T2", "T5", "T9", "T10", "T18", "T20"]
    assert len(found.layers) == 3
    assert found.n_random == 20


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ('thories = ["T1"]', UnknownNameError, "thories"),
        ('theories = ["T99"]', UnknownNameError, "T99"),
        ('theories = "T1"', OptionError, "theories cannot be 'T1'"),
        ("", OptionError, "lacks theories"),
        ("theories = [", ArtefactError, "not TOML"),
        ('theories = ["T1"]\nstrengths = ["x", 0, 1]', OptionError, "strengths must be numbers"),
        ('theories = ["T1"]\nstrengths = [[1]]', OptionError, "strengths must be numbers"),
        ('theories = ["T1"]\nbudget = -1.0', OptionError, "above 0, but got -1.0"),
        ('theories = ["T1"]\nbudget = nan', OptionError, "above 0, but got nan"),
    ],
)
def test_a_study_s_file_is_refused_by_name(tmp_path: Path, change: str, error: type[Exception], said: str):
    path = tmp_path / "study.toml"
    path.write_text(f'model = "tiny-llama"\nconcepts = ["plural"]\nlayers = [0]\n{change}\n')
    with pytest.raises(error, match=said):
        load_theory_study(path)


def test_fewer_pairs_are_measured_on_and_all_are_fitted_on():
    pairs = load_concept("plural")
    base = study("planted-linear", "T18")
    small, whole = replace(base, max_pairs=16).split(pairs), replace(base, max_pairs=0).split(pairs)
    assert len(small.fit) == len(whole.fit) == len(pairs.split(seed=0).fit)
    assert 8 <= len(small.test) <= 16 < len(whole.test)
    assert len(small.test.groups) >= 5

"""`steerlens theory`: the list names all twenty, and a theory is shown whole."""

import json
from pathlib import Path

import pytest
from command_runs import Run, assert_refused

from steerlens.evaluation import Comparison
from steerlens.reports._numbers import estimate
from steerlens.theories import THEORIES, theory


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "300")


def test_the_list_names_every_theory(run: Run):
    ran = run("theory", "list")
    assert ran.code == 0
    for h in THEORIES:
        assert type(h).__name__ in ran.out


def test_a_theory_is_shown_with_what_refutes_it(run: Run):
    ran = run("theory", "show", "t18", "T1")
    assert ran.code == 0
    for h in (theory("T18"), theory("T1")):
        assert h.theory in ran.out
        for p in h.predictions:
            assert f"predicts    {p}" in ran.out
            assert p.against in ran.out
    assert "'effect_at_budget': role 'random'; role 'method'; several seed; with low, high and level" in ran.out
    assert "'gap_high': role ''" in ran.out


def test_it_is_tried_on_simulated_studies_on_request(run: Run):
    ran = run("theory", "show", "T14", "--studies", "10")
    assert ran.code == 0
    assert "T14: admissible" in ran.out


def test_an_unknown_theory_is_one_line(run: Run):
    assert_refused(run("theory", "show", "T99"), "'T99' is not a known theory")


OWN = "examples/my_theory.py:LongerIsStronger"


def test_a_theory_of_your_own_is_named_by_file_and_class(run: Run, tmp_path: Path):
    ran = run("theory", "show", OWN)
    assert ran.code == 0, ran.err
    assert "Longer is stronger" in ran.out
    (tmp_path / "bad.py").write_text("raise KeyError('x')")
    (tmp_path / "other.py").write_text("class Other: pass")
    for reference, said in (
        ("nowhere.py:A", "names no file"),
        ("examples/my_theory.py:Nope", "has no class 'Nope'; it has LongerIsStronger"),
        (f"{tmp_path / 'bad.py'}:A", "cannot be loaded: KeyError"),
        (f"{tmp_path / 'other.py'}:Other", "is no Hypothesis"),
    ):
        assert_refused(run("theory", "show", reference), said)


@pytest.mark.slow
def test_a_study_with_a_theory_of_your_own_is_run_and_reported(run: Run, tmp_path: Path):
    out = tmp_path / "study"
    asked = (OWN, "--model", "tiny-llama", "--concept", "plural", "--layers", "1", "--strengths", "0,1,4")
    ran = run("theory", "run", *asked, "--max-pairs", "12", "--max-texts", "10", "--no-controls", "--out", out)
    assert ran.code == 0, ran.err
    assert "length void: 1 unit (concept) was measured; 20 are needed" in ran.err
    page = (out / "report.html").read_text("utf-8")
    assert_refused(run("theory", "report", out), "holds length, which steerlens does not have")
    assert run("theory", "report", out, "--theory", OWN).code == 0
    assert (out / "report.html").read_text("utf-8") == page


def test_a_study_is_asked_for_whole_or_from_a_file(run: Run):
    assert_refused(
        run("theory", "run", "T1", "--model", "tiny-llama"), "Give theories, --model, --concept and --layers"
    )
    assert_refused(run("theory", "run", "T1", "--study", "study.toml"), "Leave them out, or --study")
    said = "--budget, --seed would be ignored: study.toml"
    assert_refused(run("theory", "run", "--study", "study.toml", "--budget", "0.7", "--seed", "1"), said)


@pytest.mark.slow
def test_theories_are_run_and_reported_on_a_tiny_model(run: Run, tmp_path: Path):
    """Random weights know nothing: what matters is that all parts meet, and that the page says what is missing."""
    out = tmp_path / "study"
    asked = ("T1", "T18", "--model", "tiny-llama", "--concept", "plural", "--layers", "0,1", "--strengths", "0,1,4")
    ran = run("theory", "run", *asked, "--max-pairs", "12", "--max-texts", "10", "--out", out)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(out / "report.html")
    page = (out / "report.html").read_text("utf-8")
    assert "1 unit (concept) was measured; 8 are needed" in page
    assert {v["hypothesis"] for v in json.loads((out / "verdicts.json").read_text())} == {"T1", "T18"}
    records = Comparison.load(out / "concepts" / "plural").records
    at = records[(records["split"] == "test") & (records["metric"] == "effect_at_budget")].set_index("method")
    for control in ("MeanShift, exchanged labels 00", "MeanShift at block 3", "PC1 of neutral texts"):
        assert estimate(*at.loc[control, ["value", "low", "high"]]) in page, control
    said = records[(records["role"] == "text") & (records["metric"] == "effect")]
    for label, (_, row) in zip(("prompt", "opposite prompt", "4-shot"), said.iterrows(), strict=True):
        assert f"{label} {estimate(row['value'], row['low'], row['high'])} (" in page
    (out / "report.html").unlink()
    assert run("theory", "report", out).code == 0
    assert (out / "report.html").read_text("utf-8") == page

"""`steerlens theory`: the list names all twenty, and a theory is shown whole."""

import json
import sys
from pathlib import Path

import pytest

from steerlens.cli import main
from steerlens.evaluation import Comparison
from steerlens.reports._numbers import estimate
from steerlens.theories import THEORIES, theory


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["steerlens", "theory", *arguments])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_list_names_every_theory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    for h in THEORIES:
        assert type(h).__name__ in out


def test_a_theory_is_shown_with_what_refutes_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, "show", "t18", "T1") == 0
    out = capsys.readouterr().out
    for h in (theory("T18"), theory("T1")):
        assert h.theory in out
        for p in h.predictions:
            assert f"predicts    {p}" in out
            assert p.against in out
    assert "'effect_at_budget' (role 'random')" in out


def test_it_is_tried_on_simulated_studies_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "show", "T14", "--studies", "10") == 0
    assert "T14: admissible" in capsys.readouterr().out


def test_an_unknown_theory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, "show", "T99") == 2
    assert "'T99' is not a known theory" in capsys.readouterr().err


def test_a_study_is_asked_for_whole_or_from_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, "run", "T1", "--model", "tiny-llama") == 2
    assert "Give theories, --model, --concept and --layers" in capsys.readouterr().err
    assert run(monkeypatch, "run", "T1", "--study", "study.toml") == 2
    assert "Leave them out, or --study" in capsys.readouterr().err


@pytest.mark.slow
def test_theories_are_run_and_reported_on_a_tiny_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    """Random weights know nothing: what matters is that all parts meet, and that the page says what is missing."""
    out = tmp_path / "study"
    asked = ("T1", "T18", "--model", "tiny-llama", "--concept", "plural", "--layers", "0,1", "--strengths", "0,1,4")
    assert run(monkeypatch, "run", *asked, "--max-pairs", "12", "--max-texts", "10", "--out", str(out)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    page = (out / "report.html").read_text("utf-8")
    assert "1 units (concept) were measured; 8 are needed" in page
    assert {v["hypothesis"] for v in json.loads((out / "verdicts.json").read_text())} == {"T1", "T18"}
    records = Comparison.load(out / "concepts" / "plural").records
    at = records[(records["split"] == "test") & (records["metric"] == "effect_at_budget")].set_index("method")
    for control in ("MeanShift, exchanged labels 00", "MeanShift at block 3", "PC1 of neutral texts"):
        assert estimate(*at.loc[control, ["value", "low", "high"]]) in page, control
    said = records[(records["role"] == "text") & (records["metric"] == "effect")]
    for label, (_, row) in zip(("prompt", "opposite prompt", "4-shot"), said.iterrows(), strict=True):
        assert f"{label} {estimate(row['value'], row['low'], row['high'])} (" in page
    (out / "report.html").unlink()
    assert run(monkeypatch, "report", str(out)) == 0
    assert (out / "report.html").read_text("utf-8") == page

"""`steerlens theory`: the list names all twenty, and a theory is shown whole."""

import sys

import pytest

from steerlens.cli import main
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

"""`steerlens agreement`: what can be refused is refused before a model is loaded, and the page is written."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from steerlens.cli import main
from steerlens.errors import ModelError

CONCEPTS = ("past-tense", "plural", "capital-cities", "antonyms", "truth")


def run(monkeypatch: pytest.MonkeyPatch, concepts: tuple[str, ...], *more: str) -> int:
    asked = [word for name in concepts for word in ("--concept", name)]
    monkeypatch.setattr(sys, "argv", ["steerlens", "agreement", "--model", "tiny-llama", *asked, *more])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("concepts", "more", "message"),
    [
        (CONCEPTS[:4], (), "at least 5 different"),
        ((*CONCEPTS[:4], "plural"), (), "at least 5 different"),
        (CONCEPTS, ("--budget", "0"), "budget"),
        (CONCEPTS, ("--map", "MeanShift,LinearAcT"), "takes one method"),
        (CONCEPTS, ("--random", "3"), "--random"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], concepts: tuple[str, ...],
    more: tuple[str, ...], message: str,
):  # fmt: skip
    def load(*_: object, **__: object) -> None:
        raise ModelError("the model was loaded")

    monkeypatch.setattr("steerlens.models._sources.load_model", load)
    monkeypatch.setattr("steerlens.models.load_model", load, raising=False)
    assert run(monkeypatch, concepts, "--layer", "1", *more) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_agreement_writes_its_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run(monkeypatch, CONCEPTS, "--layer", "1", "--max-pairs", "24", "--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "5 concepts show a rho of" in out
    assert out.splitlines()[-1] == str(tmp_path / "agreement.html")
    assert "--max-pairs 24" in (tmp_path / "agreement.html").read_text("utf-8")
    frame = pd.read_parquet(tmp_path / "agreement-concepts.parquet")
    assert list(frame["concept"]) == list(CONCEPTS)
    assert frame["n_items"].max() == 24

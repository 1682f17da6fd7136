"""`steerlens study` as a user meets it: one good and one broken model, and a second call that goes on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from steerlens.cli import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["steerlens", "study", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return call


MODELS = ("--model", "tiny-gpt2", "--model", "tiny-nothing", "--n-test", "6")
VECTORS = ("--fit-shots", "2", "--n-patched", "2", "--at-least", "0", "--depths", "0.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("off-course", "--task", "plural", "--heads", "2", "--strengths", "1", "--shots", "2", "--n-dev", "5",
         "--no-dola"),
        ("prompt-structure", "--strengths", "0,1", "--distractors", "0,1", "--conditions", "Q/A; sentence"),
        ("bottom-up", "--task", "plural", "--strengths", "1", "--vector-strengths", "1", "--demonstrations", "3",
         "--n-dev", "5"),
    ],
    ids=lambda a: a[0],
)  # fmt: skip
def test_every_study_writes_a_page_names_the_broken_model_and_goes_on(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
):
    ran = run(*arguments, *MODELS, *VECTORS, "--out", str(tmp_path))
    assert ran.code == 0, ran.err
    page = tmp_path / "index.html"
    assert ran.out.splitlines()[-1] == str(page)
    text = page.read_text("utf-8")
    assert "tiny-nothing could not be measured at all" in text
    assert f"steerlens study {arguments[0]}" in text
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/*")}
    assert before
    assert run(*arguments, *MODELS, *VECTORS, "--out", str(tmp_path)).code == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("off-course", "--task", "plurals"), "'plurals' is not a known"),
        (("off-course", "--task", "plural", "--depths", "3"), "--depths takes shares between 0 and 1"),
        (("off-course", "--task", "plural", "--methods", "magic"), "'magic' is not a known method of this study"),
        (("prompt-structure", "--conditions", "verse"), "'verse' is not a known form of prompt"),
        (("prompt-structure", "--strengths", "1,2"), "needs strength 0"),
        (("bottom-up",), "Give at least one --task or --concept"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str):
    ran = run(*arguments, "--model", "tiny-gpt2", "--out", str(tmp_path))
    assert ran.code == 2, ran
    assert message in ran.err.splitlines()[-1]

"""`steerlens study` as a user meets it: one good and one broken model, and a second call that goes on."""

import json
from pathlib import Path

import pytest
from command_runs import Run, assert_refused

MODELS = ("--model", "tiny-gpt2", "--model", "tiny-nothing", "--n-test", "6")
VECTORS = ("--fit-shots", "2", "--n-patched", "2", "--at-least", "0", "--depths", "0.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "planned"),
    [
        (("off-course", "--task", "plural", "--heads", "2", "--strengths", "1", "--shots", "3", "--n-dev", "5",
          "--no-dola"),
         ("n_shots=3, n_test=6, n_dev=5", "n_heads=(2,), strengths=(1.0,)")),
        (("prompt-structure", "--strengths", "0,1", "--distractors", "0,1", "--conditions", "Q/A; sentence"),
         ("name='Q/A'", "name='sentence'", "distractors=(0, 1), strengths=(0.0, 1.0)", "n_test=6")),
        (("bottom-up", "--task", "plural", "--strengths", "2", "--vector-strengths", "1", "--demonstrations", "3",
          "--n-dev", "5"),
         ("function_strengths=(2.0,)", "vector_strengths=(1.0,)", "n_demonstrations=3", "n_test=6", "n_dev=5")),
    ],
    ids=["off-course", "prompt-structure", "bottom-up"],
)  # fmt: skip
def test_every_study_writes_a_page_names_the_broken_model_and_goes_on(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], planned: tuple[str, ...]
):
    ran = run("study", *arguments, *MODELS, *VECTORS, "--out", str(tmp_path))
    assert ran.code == 0, ran.err
    page = tmp_path / "index.html"
    assert ran.out.splitlines()[-1] == str(page)
    text = page.read_text("utf-8")
    assert "tiny-nothing could not be measured at all" in text
    assert f"steerlens study {arguments[0]}" in text
    plan = json.loads((tmp_path / "study.json").read_text("utf-8"))["plan"]
    for option in (*planned, "depths=(0.5,)", "n_shots=2, n_patched=2, at_least=0", "seed=0"):
        assert option in plan
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/*")}
    assert before
    assert run("study", *arguments, *MODELS, *VECTORS, "--out", str(tmp_path)).code == 0
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
    ran = run("study", *arguments, "--model", "tiny-gpt2", "--out", str(tmp_path))
    assert_refused(ran, message)

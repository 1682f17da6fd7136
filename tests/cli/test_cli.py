"""The command line as a user meets it: files, last lines, exit codes and one-line errors."""

import json
from pathlib import Path

import pytest
from command_runs import Run, assert_refused_at_once

from steerlens.errors import ModelError
from steerlens.evaluation import load_card
from steerlens.interventions import OUTPUT_METHODS, Invariant, ModelReport
from steerlens.maps import METHODS, load_map

QUICK = {
    "--model": "tiny-llama", "--concept": "sentiment", "--layers": "1,2", "--maps": "MeanShift,GaussianTransport",
    "--strengths": "0,1,2", "--random": "3", "--max-pairs": "30", "--max-texts": "10",
}  # fmt: skip


def quick(out: Path, **change: str) -> list[str]:
    options = {**QUICK, "--out": str(out), **{f"--{k.replace('_', '-')}": v for k, v in change.items()}}
    return ["compare", *(word for pair in options.items() for word in pair)]


def test_without_arguments_it_helps(run: Run):
    ran = run()
    assert ran.code == 0
    for command in (
        "demo",
        "compare",
        "report",
        "models",
        "check",
        "concepts",
        "tasks",
        "maps",
        "geometry",
        "evaluate",
        "card",
    ):
        assert command in ran.out


@pytest.mark.parametrize(
    ("command", "expected"),
    [("models", "smollm2-135m"), ("concepts", "sentiment"), ("tasks", "hot → cold"), ("maps", "GaussianTransport")],
)
def test_lists_name_what_there_is(run: Run, command: str, expected: str):
    ran = run(command)
    assert (ran.code, ran.err) == (0, "")
    assert expected in ran.out


def test_maps_says_of_every_method_what_it_needs_and_where_it_comes_from(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "300")
    ran = run("maps")
    lines = {line.split()[1].rstrip("*"): line for line in ran.out.splitlines() if line.startswith("│")}
    assert {type(m).__name__ for m in (*METHODS, *OUTPUT_METHODS)} <= set(lines)
    for name, cells in (
        ("Procrustes", ("affine", "pairs", "yes", "schonemann1966")),
        ("ConceptErasure", ("affine", "samples", "no", "belrose2023")),
        ("PreferenceShift", ("additive", "model", "yes", "cao2024")),
    ):
        for cell in cells:
            assert cell in lines[name], lines[name]


def test_maps_are_tried_on_planted_geometry(run: Run):
    ran = run("maps", "--planted", "--maps", "MeanShift,GaussianTransport", "--rows", "100")
    assert ran.code == 0, ran.err
    for word in ("xor2", "ring6", "identity", "true map", "MeanShift", "GaussianTransport", "P(target)", "Energy"):
        assert word in ran.out, word


def test_a_method_of_the_output_has_no_planted_geometry(run: Run):
    assert_refused_at_once(run("maps", "--planted", "--maps", "PreferenceShift"), "PreferenceShift")


def test_a_model_is_described_without_its_weights(run: Run):
    ran = run("models", "gpt2-xl")
    assert ran.code == 0
    assert "gpt2-xl" in ran.out
    assert "1,557,611,200" in ran.out


def test_compare_writes_a_report_and_all_it_rests_on(run: Run, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    ran = run(*quick(out), "--prompt", "The film was")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(out / "report.html")
    for name in ("records", "headline", "contrasts", "items", "texts"):
        assert (out / f"{name}.parquet").stat().st_size > 0
    document = json.loads((out / "comparison.json").read_text())
    assert document["provenance"]["command"].startswith("steerlens compare --model tiny-llama")
    assert len(document["generations"]) == 3
    assert len(list(out.glob("maps/*/map.safetensors"))) == 2
    page = (out / "report.html").read_text()
    assert "MeanShift" in page

    (out / "report.html").unlink()
    ran = run("report", str(out))
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(out / "report.html")
    assert (out / "report.html").read_text() == page


def test_several_concepts_have_a_page_each_and_one_together(run: Run, tmp_path: Path):
    again = ["--concept", "formality", "--no-controls"]
    ran = run(*quick(tmp_path, layers="1", maps="MeanShift,DirectionalAblation", random="2"), *again)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(tmp_path / "index.html")
    for name in ("sentiment", "formality"):
        assert (tmp_path / name / "report.html").is_file()
        assert (tmp_path / name / "items.parquet").is_file()
    assert "Mean of 2" in (tmp_path / "index.html").read_text()
    ran = run(*quick(tmp_path), "--concept", "sentiment")
    assert ran.code == 2
    assert "'sentiment' was given twice" in ran.err


def test_negative_strengths_need_no_equals_sign(run: Run, tmp_path: Path):
    ran = run(*quick(tmp_path, strengths="-1,0,1", layers="1", maps="MeanShift", random="0"))
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concept": "sentimant"}, "'sentiment'"),
        ({"maps": "MeanShft"}, "'MeanShift'"),
        ({"maps": ","}, "at least one"),
        ({"layers": "1,two"}, "--layers"),
        ({"layers": ","}, "at least one site"),
        ({"strengths": "0,1,x"}, "--strengths"),
        ({"strengths": "0,1,inf"}, "--strengths"),
        ({"strengths": "0,0.5,2"}, "0 and 1"),
        ({"budget": "0"}, "budget"),
        ({"budget": "nan"}, "budget"),
        ({"budget": "cheap"}, "--budget"),
        ({"random": "-1"}, "--random"),
        ({"max_pairs": "-3"}, "--max-pairs"),
        ({"max_texts": "9"}, "--max-texts"),
        ({"seed": "-1"}, "--seed"),
        ({"bogus": "1"}, "--bogus"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str
):
    def load(*_: object, **__: object) -> None:
        raise ModelError("the model was loaded")

    monkeypatch.setattr("steerlens.models._sources.load_model", load)
    monkeypatch.setattr("steerlens.models.load_model", load, raising=False)
    assert_refused_at_once(run(*quick(tmp_path, **change)), message)


def test_a_file_in_the_place_of_the_folder_is_refused_before_a_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("steerlens.models.load_model", None, raising=False)
    (tmp_path / "file").write_text("mine")
    assert_refused_at_once(run(*quick(tmp_path / "file")), "--out")
    assert_refused_at_once(run(*quick(tmp_path / "file" / "below")), "--out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tiny-lama"}, "'tiny-llama'"),
        ({"layers": "1,4"}, "blocks 0 to 3"),
        ({"layers": "-1"}, "-1"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"device": "abacus"}, "abacus"),
        ({"max_pairs": "4"}, "at least 5 groups"),
        ({"concept": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(run: Run, tmp_path: Path, change: dict[str, str], message: str):
    assert_refused_at_once(run(*quick(tmp_path, **change)), message)


def test_geometry_writes_its_page(run: Run, tmp_path: Path):
    out = tmp_path / "geometry"
    ran = run("geometry", "--model", "tiny-llama", "--concept", "sentiment", "--layers", "1", "--out", str(out))
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(out / "geometry.html")
    assert "blocks.1.hook_resid_post: " in ran.out
    for name in ("geometry.html", "geometry.png", "geometry.parquet"):
        assert (out / name).stat().st_size > 0


def test_card_writes_its_page_beside_the_map(run: Run, tmp_path: Path):
    out = tmp_path / "card"
    ran = run(
        "card", "--model", "tiny-llama", "--concept", "sentiment", "--layer", "1", "--strengths", "0,0.5,1",
        "--resampled", "0", "--max-pairs", "40", "--out", str(out),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(out / "card.html")
    assert load_card(out).method.name == "MeanShift"
    assert load_map(out, model="tiny-llama").d_model == 48
    page = (out / "card.html").read_text("utf-8")
    assert "--layer 1" in page


def test_card_takes_one_method(run: Run):
    ran = run("card", "--model", "tiny-llama", "--concept", "sentiment", "--layer", "1", "--map", "MeanShift,LinearAcT")
    assert ran.code == 2
    assert "takes one method" in ran.err


def test_geometry_of_the_random_twin_says_so(run: Run, tmp_path: Path):
    ran = run(
        "geometry", "--model", "tiny-llama", "--concept", "sentiment", "--layers", "1", "--out", str(tmp_path),
        "--random-weights",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "with random weights" in ran.out


def test_a_required_option_is_asked_for(run: Run):
    assert_refused_at_once(run("compare", "--concept", "sentiment"), "--model")


def test_an_unknown_command_is_refused(run: Run):
    assert_refused_at_once(run("compair"), "compair")


def test_a_model_that_does_not_exist_is_not_described(run: Run):
    assert_refused_at_once(run("models", "gpt2-xxl"), "gpt2-xxl")


def test_report_needs_a_folder_of_results(run: Run, tmp_path: Path):
    assert_refused_at_once(run("report", str(tmp_path / "nowhere")), "comparison.json")
    (tmp_path / "file").write_text("")
    assert_refused_at_once(run("report", str(tmp_path / "file")), "comparison.json")


def test_ctrl_c_is_one_line_and_exit_code_130(run: Run, monkeypatch: pytest.MonkeyPatch):
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steerlens.concepts.concept_summaries", stop)
    ran = run("concepts")
    assert ran.code == 130
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("steerlens: stopped by Ctrl-C")


def test_check_reports_every_invariant(run: Run):
    ran = run("check", "tiny-gpt2")
    assert ran.code == 0, ran
    for name in ("batched = one at a time", "left padding", "KV cache", "strength 0", "replay = hooks"):
        assert name in ran.out
    assert "FAILS" not in ran.out


def test_check_ends_with_1_if_a_promise_is_broken(run: Run, monkeypatch: pytest.MonkeyPatch):
    broken = Invariant("replay = hooks", 3.0, 1e-5, "blocks.1.hook_resid_post at LastToken()")
    found = ModelReport("tiny", "float32", (broken,), 1, 9.0, 1e-5, "")
    monkeypatch.setattr("steerlens.interventions.check_model", lambda model: found)
    ran = run("check", "tiny-gpt2")
    assert ran.code == 1
    assert "FAILS  replay = hooks" in ran.out
    assert "at blocks.1.hook_resid_post" in ran.out

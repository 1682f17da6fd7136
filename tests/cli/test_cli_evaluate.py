"""`steerlens evaluate` as a user meets it: maps of a comparison, the bundled set, and a local task."""

import json
from pathlib import Path

import pytest
from command_runs import Run, assert_refused

from steerlens.cli._measure import arms_of
from steerlens.evaluation import CapabilityReport
from steerlens.maps import random_direction, save_map

TASK = """
task: local_colours
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A map as `steerlens compare` saves it."""
    facts = {"model": "tiny-llama", "site": "blocks.2.hook_resid_post", "tokens": "AllTokens()"}
    return save_map(random_direction(48, norm=9.0, seed=0), tmp_path / "maps" / "RandomShift-2", provenance=facts)


@pytest.mark.slow
def test_the_bundled_set_is_answered_under_every_strength(run: Run, folder: Path, tmp_path: Path):
    ran = run(
        "evaluate", "--model", "tiny-llama", "--map", str(folder), "--strength", "0,2", "--out", str(tmp_path / "out")
    )
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(tmp_path / "out" / "capability.json")
    found = CapabilityReport.load(tmp_path / "out")
    scores = {s.intervention: s for s in found.scores if s.task == "mini" and s.metric == "log_prob"}
    assert scores["RandomShift-2 × 0"].difference.value == 0
    assert scores["RandomShift-2 × 2"].difference.value != 0
    assert "mini/arithmetic" in ran.out


@pytest.mark.slow
def test_maps_in_folders_of_one_name_are_both_measured(run: Run, folder: Path, tmp_path: Path):
    facts = {"model": "tiny-llama", "site": "blocks.2.hook_resid_post", "tokens": "AllTokens()"}
    other = save_map(random_direction(48, norm=9.0, seed=1), tmp_path / "other" / folder.name, provenance=facts)
    ran = run(
        "evaluate", "--model", "tiny-llama", "--map", str(folder), "--map", str(other), "--out", str(tmp_path / "out")
    )
    assert ran.code == 0, ran.err
    scores = CapabilityReport.load(tmp_path / "out").scores
    found = {s.intervention: s.difference.value for s in scores if s.task == "mini" and s.metric == "log_prob"}
    assert set(found) == {f"{folder} × 1", f"{other} × 1"}
    assert len(set(found.values())) == 2


def test_every_map_and_strength_is_an_arm_of_its_own():
    a, b, c = Path("one/Shift"), Path("two/Shift"), Path("two/Turn")
    assert list(arms_of([a, c], [1.0, 0.5])) == ["Shift × 1", "Shift × 0.5", "Turn × 1", "Turn × 0.5"]
    assert arms_of([a, b, c], [1.0]) == {"one/Shift × 1": (a, 1.0), "two/Shift × 1": (b, 1.0), "Turn × 1": (c, 1.0)}
    assert list(arms_of([a], [1.0, 1.00000001])) == ["Shift × 1.0", "Shift × 1.00000001"]
    assert list(arms_of([a, a], [1.0, 1.0])) == ["Shift × 1"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_local_task_runs_beside_it_without_a_network(run: Run, folder: Path, tmp_path: Path):
    pytest.importorskip("lm_eval", reason="lm-eval is an extra; CI installs it and runs this test")
    own = tmp_path / "own"
    own.mkdir()
    rows = [{"question": f"Item {i} is", "choices": [" red", " blue"], "answer": i % 2} for i in range(9)]
    (own / "data.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    text = TASK.replace("DATA", str(own / "data.jsonl")).replace("CACHE", str(tmp_path / "cache"))
    (own / "task.yaml").write_text(text)
    ran = run(
        "evaluate", "--model", "tiny-llama", "--map", str(folder), "--tasks", "mini,local_colours",
        "--include-path", str(own), "--limit", "7", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = CapabilityReport.load(tmp_path / "out")
    assert found.provenance["tasks"] == ["mini", "local_colours"]
    (score,) = [s for s in found.scores if s.task == "local_colours"]
    assert score.difference.n == 7
    assert score.mcnemar is not None
    assert_refused(
        run(
            "evaluate",
            "--model",
            "tiny-llama",
            "--map",
            str(folder),
            "--tasks",
            "local_colors",
            "--include-path",
            str(own),
        ),
        "'local_colours'",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--strength": "one"}, "--strength"),
        ({"--strength": ","}, "--strength"),
        ({"--tasks": ","}, "--tasks"),
        ({"--limit": "4"}, "5 or more"),
        ({"--map": "/nowhere/map"}, "/nowhere/map"),
        ({"--out": "FILE"}, "--out"),
        ({"--model": None}, "--model"),
        ({"--map": None}, "--map"),
    ],
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], message: str
):
    monkeypatch.setattr("steerlens.models.load_model", None, raising=False)
    (tmp_path / "file").write_text("mine")
    options = {"--model": "tiny-llama", "--map": str(folder), "--out": str(tmp_path / "out"), **change}
    words = [w.replace("FILE", str(tmp_path / "file")) for k, v in options.items() if v is not None for w in (k, v)]
    assert_refused(run("evaluate", *words), message)


def test_a_map_of_another_model_is_refused(run: Run, folder: Path, tmp_path: Path):
    ran = run("evaluate", "--model", "tiny-gpt2", "--map", str(folder), "--out", str(tmp_path / "out"))
    assert_refused(ran, "fitted on 'tiny-llama'")

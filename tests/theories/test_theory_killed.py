"""A study of theories that is killed with SIGKILL, from outside, goes on where it was."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from steerlens import load_model
from steerlens.activations import planted_concept
from steerlens.theories import TheoryStudy, load_evidence, load_theory_study, run_theories

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAMES = ("first", "second")
STUDY = """
model = "planted-linear"
concepts = ["first.jsonl", "second.jsonl"]
layers = [0]
theories = ["T18"]
strengths = [0, 1]
n_random = 3
max_pairs = 12
max_texts = 10
controls = false
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two concepts of 22 groups each, not the same, so that one's evidence is not another's."""
    pairs = planted_concept("planted-linear")
    for k, name in enumerate(NAMES):
        own = set(pairs.groups[10 * k :][:22])
        frame = pairs.filter(lambda p, own=own: p.group in own).to_frame()
        frame.to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    path = tmp_path / "study.toml"
    path.write_text(STUDY, "utf-8")
    return path


def evidence_of(folder: Path, name: str) -> Path:
    return folder / "concepts" / name / "evidence.json"


def kill_when_stored(study: Path, out: Path, name: str) -> None:
    """`steerlens theory run`, killed as soon as a concept's evidence is there."""
    code = "import sys; from steerlens.cli import main; sys.argv = ['steerlens', *sys.argv[1:]]; main()"
    words = [sys.executable, "-c", code, "theory", "run", "--study", str(study), "--out", str(out)]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while running.poll() is None and not evidence_of(out, name).is_file():
            time.sleep(0.005)
    finally:
        running.send_signal(signal.SIGKILL)
        code_of_exit = running.wait(timeout=60)
    assert code_of_exit == -signal.SIGKILL, "it ended before it could be killed"


def run_to_the_end(asked: TheoryStudy, folder: Path) -> list[str]:
    _, verdicts = run_theories(asked, load_model(asked.model), folder, when=NOW)
    return [str(v) for v in verdicts]


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_killed_after_the_first_concept_it_goes_on_and_finds_what_one_run_finds(study: Path, tmp_path: Path):
    out, whole, asked = tmp_path / "out", tmp_path / "whole", load_theory_study(study)
    kill_when_stored(study, out, "first")
    assert list(load_evidence(out).problems) == ["second"]
    before = times(out / "concepts" / "first")
    assert len(before) > 1
    half = out / "concepts" / "second" / "items.parquet"  # a kill in the middle of writing leaves this
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"PAR1 and no more")

    assert run_to_the_end(asked, out) == run_to_the_end(asked, whole)
    assert times(out / "concepts" / "first") == before, "the first concept was measured anew"
    found, straight = load_evidence(out), load_evidence(whole)
    assert not found.problems
    assert list(found.comparisons) == list(NAMES)
    pd.testing.assert_frame_equal(found.records, straight.records)
    assert found.rungs == straight.rungs
    for name in NAMES:
        pd.testing.assert_frame_equal(found.comparisons[name].items, straight.comparisons[name].items)
        own, other = (json.loads(evidence_of(folder, name).read_text("utf-8")) for folder in (out, whole))
        assert own == other
    values = [frame["value"].tolist() for _, frame in found.records.groupby("concept", sort=False)]
    assert values[0] != values[1], "the concepts are the same, so that a mix-up would not be seen"

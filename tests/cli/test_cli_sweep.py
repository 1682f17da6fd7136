"""`steerlens sweep` as a user meets it: shown, asked for, run, gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_runs import Run

from steerlens.cli import _with_ray_address
from steerlens.experiments import ResultStore

ROOT = Path(__file__).parents[2]
AS_A_COMMAND = "import sys; from steerlens.cli import main; sys.argv = ['steerlens', *sys.argv[1:]]; main()"
STUDY = """
models = ["tiny-llama"{more}]
concepts = ["sentiment", "past-tense"]
layers = [1]
methods = ["MeanShift", {{name = "LowRankAffine", rank = 2, training = {{steps = {steps}}}}}]
strengths = [0, 1]
n_random = 0
max_pairs = 24
max_texts = 5
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.format(more="", steps=5), "utf-8")
    return path


@pytest.mark.slow
def test_it_is_shown_then_run_then_gone_on_with(study: Path, tmp_path: Path, run: Run):
    out = tmp_path / "out"
    code, said, shown = run("sweep", study, "--out", out, "--dry-run")
    assert (code, said) == (0, "")
    assert "study: 4 trials, 4 of them to run" in shown
    assert "expected:" in shown
    assert "tokens/s" in shown
    assert not out.exists()
    code, said, shown = run("sweep", study, "--out", out, "--yes")
    assert (code, said.strip()) == (0, str(out))
    assert "4 trials run" in shown
    assert len(ResultStore(out)) == 4
    assert [n.content["text"] for n in ResultStore(out).notes("study")] == [study.read_text("utf-8")]
    code, _, shown = run("sweep", study, "--out", out)
    assert code == 0
    assert "0 trials run in 0 s, 4 were stored before" in shown


@pytest.mark.slow
def test_without_anybody_to_ask_it_wants_yes(study: Path, tmp_path: Path, run: Run):
    code, _, err = run("sweep", study, "--out", tmp_path / "out")
    assert code == 2
    assert "Pass --yes, or --dry-run" in err
    assert len(ResultStore(tmp_path / "out")) == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_had_is_named_and_the_exit_code_says_so(study: Path, tmp_path: Path, run: Run):
    study.write_text(STUDY.format(more=', "nobody/nothing"', steps=5), "utf-8")
    code, _, err = run("sweep", study, "--out", tmp_path / "out", "--yes")
    assert code == 1
    assert "nobody/nothing" in err
    assert len(ResultStore(tmp_path / "out")) == 4


def test_a_typing_error_is_one_line(study: Path, tmp_path: Path, run: Run):
    study.write_text(study.read_text("utf-8").replace("n_random", "n_randon"), "utf-8")
    code, _, err = run("sweep", study, "--out", tmp_path / "out")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "Closest: 'n_random'" in err


@pytest.mark.slow
def test_a_damaged_store_is_repaired_and_this_is_said(study: Path, tmp_path: Path, run: Run):
    out = tmp_path / "out"
    run("sweep", study, "--out", out, "--yes")
    log = out / "log"
    log.write_bytes(log.read_bytes()[:-40])
    code, _, err = run("sweep", study, "--out", out, "--yes")
    assert code == 0
    assert "1 put back from their tables" in err
    assert "4 were stored before" in err
    assert len(ResultStore(out)) == 4


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_where_it_was(study: Path, tmp_path: Path, run: Run):
    """Kill -9 as soon as something is stored; the next run does the rest, and the numbers are those of one run.

    Up to rounding: a trial measured with fewer others stands in other batches.
    """
    study.write_text(STUDY.format(more="", steps=400), "utf-8")
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = [sys.executable, "-c", AS_A_COMMAND, "sweep", str(study), "--out", str(out), "--yes"]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not any((out / "items").glob("*.parquet")):
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=60)
    store = ResultStore(out)
    store.repair()
    before = {r.spec.fingerprint: r for r in store}
    assert 0 < len(before) < 4
    run("sweep", study, "--out", out, "--yes")
    run("sweep", study, "--out", whole, "--yes")
    assert len(store) == len(ResultStore(whole)) == 4
    for record in ResultStore(whole):
        for number in record.metrics:
            found = store[record.spec].metric(number.name, strength=number.strength)
            assert found.value == pytest.approx(number.estimate.value, rel=1e-3, abs=1e-5)
    assert all(store[r.spec] == r for r in before.values())


@pytest.mark.slow
def test_ray_on_this_machine_stores_what_a_run_without_it_stores(run: Run, study: Path, tmp_path: Path):
    """Whatever other cluster the environment names: without an address, this machine's own is meant."""
    pytest.importorskip("ray", reason="needs pip install 'steerlens[ray]'")
    out, alone = tmp_path / "out", tmp_path / "alone"
    words = [sys.executable, "-c", AS_A_COMMAND, "sweep", str(study), "--out", str(out), "--yes", "--ray"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    elsewhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    ran = subprocess.run(words, env={**os.environ, **elsewhere}, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == str(out)
    assert "4 trials run" in ran.stderr
    assert run("sweep", study, "--out", alone, "--yes").code == 0
    found, wanted = ResultStore(out), ResultStore(alone)
    assert len(found) == len(wanted) == 4
    for record in wanted:
        assert found[record.spec] == record
        assert found.items(record.spec).equals(wanted.items(record.spec))


def test_ray_may_stand_alone():
    assert _with_ray_address(["sweep", "s.toml", "--ray"]) == ["sweep", "s.toml", "--ray", "local"]
    assert _with_ray_address(["sweep", "--ray", "s.toml"]) == ["sweep", "--ray", "local", "s.toml"]
    assert _with_ray_address(["sweep", "s.toml", "--ray", "--yes"]) == ["sweep", "s.toml", "--ray", "local", "--yes"]
    assert _with_ray_address(["sweep", "s.toml", "--ray", "auto"]) == ["sweep", "s.toml", "--ray", "auto"]
    assert _with_ray_address(["models"]) == ["models"]

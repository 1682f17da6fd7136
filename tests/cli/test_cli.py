"""The command line: what it writes, and one clear line for every mistake."""

import sys
from pathlib import Path

import pytest

from steerlens import cli


def run(monkeypatch, capfd, *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["steerlens", *args])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capfd.readouterr()
    return int(stopped.value.code or 0), out, err


SMALL = (
    "compare", "--model", "tiny-llama", "--concept", "sentiment", "--layers", "1,2", "--maps", "MeanShift,GaussianTransport",
    "--strengths=-1,0,1,2", "--random", "3", "--max-pairs", "30", "--max-texts", "10",
)  # fmt: skip


def test_a_comparison_writes_report_records_and_maps(monkeypatch, capfd, tmp_path: Path):
    code, out, _ = run(monkeypatch, capfd, *SMALL, "--out", str(tmp_path))
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "report.html")
    for name in ("report.html", "records.parquet", "samples.parquet", "headline.parquet", "comparison.json"):
        assert (tmp_path / name).stat().st_size > 0
    assert len(list(tmp_path.glob("maps/*/map.safetensors"))) == 2
    before = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    code, out, _ = run(monkeypatch, capfd, "report", str(tmp_path))
    assert code == 0
    assert Path(out.splitlines()[-1]).read_text() == before


@pytest.mark.parametrize(
    ("args", "expected"),
    [(["models"], "smollm2"), (["models", "gpt2-xl"], "1,557,611,200"), (["concepts"], "sentiment"), (["maps"], "MeanShift")],
)  # fmt: skip
def test_lists_are_printed(monkeypatch, capfd, args, expected):
    code, out, _ = run(monkeypatch, capfd, *args)
    assert code == 0
    assert expected in out


def changed(option: str, value: str) -> list[str]:
    return [*SMALL, option, value]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (changed("--model", "tiny-lama"), "'tiny-llama'"),
        (changed("--concept", "sentimant"), "'sentiment'"),
        (changed("--maps", "MeenShift"), "'MeanShift'"),
        (changed("--layers", "1,99"), "blocks 0 to 3"),
        (changed("--layers", "one"), "whole numbers"),
        (changed("--strengths", "0,x"), "numbers separated by commas"),
        (changed("--strengths", "0,2"), "include 0 and 1"),
        (changed("--budget", "0"), "KL budget"),
        (changed("--dtype", "float8"), "float32"),
        (changed("--out", __file__), "is a file"),
        (["report", "/nowhere"], "comparison.json"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(monkeypatch, capfd, args, message):
    code, _, err = run(monkeypatch, capfd, *args)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("steerlens:")


def test_ctrl_c_is_one_line_and_exit_code_130(monkeypatch, capfd):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("steerlens.concepts.concept_summaries", stopped)
    code, _, err = run(monkeypatch, capfd, "concepts")
    assert code == 130
    assert "stopped by Ctrl-C" in err

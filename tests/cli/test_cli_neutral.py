"""Neutral texts of one's own, and rivals in a chat format, from the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from command_runs import Run, assert_refused

from steerlens.evaluation import Comparison, load_card, neutral_texts

COMPARE = (
    "compare", "--model", "tiny-llama", "--concept", "sentiment", "--layers", "1", "--maps", "MeanShift",
    "--strengths", "0,1,2", "--random", "0", "--no-controls", "--max-pairs", "30",
)  # fmt: skip
CARD = (
    "card", "--model", "tiny-llama", "--concept", "sentiment", "--layer", "1", "--strengths", "0,0.5,1",
    "--resampled", "0", "--max-pairs", "20",
)  # fmt: skip


@pytest.fixture
def wiki(tmp_path: Path) -> Path:
    """Twelve articles of four lines, the second of which is too short to count."""
    texts = iter(neutral_texts()[:36])
    lines: list[str] = []
    for i in range(12):
        lines += [f" = Article {i} = ", next(texts), "Too short.", next(texts), next(texts)]
    path = tmp_path / "wiki.test.raw"
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_a_comparison_takes_neutral_texts_of_a_file(run: Run, tmp_path: Path, wiki: Path):
    ran = run(*COMPARE, "--neutral", str(wiki), "--max-texts", "24", "--out", str(tmp_path / "out"))
    assert ran.code == 0, ran.err
    found = Comparison.load(tmp_path / "out")
    assert found.provenance.settings["neutral_texts"] == 24
    assert found.provenance.settings["neutral_documents"] == 12
    assert "--neutral" in found.provenance.command
    kl = found.records[(found.records["metric"] == "kl") & (found.records["role"] == "method")]
    assert set(zip(kl["n"], kl["n_clusters"], strict=True)) == {(12, 6)}
    assert len(set(found.texts["document"])) == 6


def test_a_card_takes_neutral_texts_of_a_file(run: Run, tmp_path: Path, wiki: Path):
    ran = run(*CARD, "--neutral", str(wiki), "--max-texts", "12", "--out", str(tmp_path / "card"))
    assert ran.code == 0, ran.err
    found = load_card(tmp_path / "card")
    assert (found.cost.kl.n, found.cost.kl.n_clusters) == (6, 6)
    assert pd.read_parquet(tmp_path / "card" / "card-texts.parquet")["document"].nunique() == 6


def test_files_without_enough_documents_are_refused_before_a_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("steerlens.models.load_model", None, raising=False)
    one = tmp_path / "one.jsonl"
    rows = [{"text": t, "message_tree_id": str(i // 8)} for i, t in enumerate(neutral_texts()[:30])]
    one.write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    out = ("--out", str(tmp_path / "out"))
    assert_refused(run(*COMPARE, "--neutral", str(one), *out), "at least 10 documents, but")
    assert_refused(run(*CARD, "--neutral", str(one), *out), "has 24 texts of 4 within --max-texts 24")
    assert_refused(run(*CARD, "--max-texts", "4", *out), "--max-texts must be 10 or more")
    assert_refused(run(*COMPARE, "--neutral", str(tmp_path / "none.txt"), *out), "cannot be read")


def test_a_chat_format_needs_a_chat_model(run: Run, tmp_path: Path):
    ran = run(*COMPARE, "--max-texts", "10", "--chat", "--out", str(tmp_path / "out"))
    assert_refused(ran, "has no chat template")
    assert_refused(run(*CARD, "--chat", "--out", str(tmp_path / "card")), "has no chat template")

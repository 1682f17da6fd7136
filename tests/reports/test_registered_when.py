"""The page of a study says whether its predictions came before its data."""

from pathlib import Path

import pytest

from steerlens.reports._theories import registered_when
from steerlens.theories import load_evidence

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["which_rung", "forty_concepts"])
def test_the_dates_of_both_decide(name: str, tmp_path: Path):
    evidence, file = load_evidence(EXAMPLES / name), "registrations.jsonl"
    assert "registered before the test half was read" in registered_when(evidence, EXAMPLES / name)
    late = (EXAMPLES / name / file).read_text("utf-8").replace('"when": "2026-', '"when": "2126-')
    (tmp_path / file).write_text(late, "utf-8")
    n = len(evidence.comparisons)
    assert f"after {n} of {n} concepts" in registered_when(evidence, tmp_path)

"""Every theory that comes with steerlens keeps the laws, reads documented quantities, and stands in the docs."""

import re
from pathlib import Path

import pytest

from steerlens.errors import UnknownNameError
from steerlens.testing import TheoryLaws
from steerlens.theories import QUANTITIES, THEORIES, Hypothesis, theory, theory_ids

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
class TestLaws(TheoryLaws):
    @pytest.fixture(scope="class", params=THEORIES, ids=theory_ids())
    @classmethod
    def hypothesis(cls, request: pytest.FixtureRequest) -> Hypothesis:
        return request.param

    @pytest.fixture(scope="class")
    @classmethod
    def n_studies(cls) -> int:
        return 30


def test_there_are_twenty_and_each_is_found_by_its_id():
    assert theory_ids() == tuple(f"T{i}" for i in range(1, 21))
    assert theory("t18") is THEORIES[17]
    with pytest.raises(UnknownNameError, match="'T21' is not a known theory"):
        theory("T21")


@pytest.mark.parametrize("hypothesis", THEORIES, ids=theory_ids())
def test_what_is_read_and_cited_is_documented(hypothesis: Hypothesis):
    assert {q.name for q in hypothesis.quantities.values()} <= set(QUANTITIES)
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "references.bib").read_text("utf-8"), re.MULTILINE))
    assert all(c in keys or re.fullmatch(r"arXiv:\d{4}\.\d{5}", c) for c in hypothesis.citations)


@pytest.mark.parametrize("hypothesis", THEORIES, ids=theory_ids())
def test_the_page_says_what_the_code_says(hypothesis: Hypothesis):
    page = (ROOT / "docs" / "theories.md").read_text("utf-8")
    assert f"### {hypothesis.id} `{type(hypothesis).__name__}`" in page
    assert hypothesis.theory in page
    for prediction in hypothesis.predictions:
        assert f"- {prediction}" in page

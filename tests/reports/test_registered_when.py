"""The page of a study says whether its predictions came before its data."""

from pathlib import Path

import pytest

from steerlens.reports._theories import registered_when
from steerlens.theories import load_evidence

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [("which_rung", "registered before the test half was read"), ("forty_concepts", "after 42 of 42 concepts")],
)
def test_the_dates_of_both_decide(name: str, said: str):
    assert said in registered_when(load_evidence(EXAMPLES / name), EXAMPLES / name)

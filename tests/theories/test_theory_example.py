"""The example hypothesis is short, keeps the laws, and runs as shown."""

import ast
import sys
from pathlib import Path

import pytest

from steerlens.testing import TheoryLaws
from steerlens.theories import Hypothesis

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_theory.py"


@pytest.fixture(scope="module")
def example() -> object:
    sys.path.insert(0, str(EXAMPLE.parent))
    import my_theory

    return my_theory


class TestTheExampleTheory(TheoryLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def hypothesis(cls, example: object) -> Hypothesis:
        return example.LongerIsStronger()  # type: ignore[attr-defined]


def test_it_prints_its_admissibility_and_a_verdict(example: object, capsys: pytest.CaptureFixture[str]):
    example.main()  # type: ignore[attr-defined]
    out = capsys.readouterr().out
    assert "length: admissible" in out
    assert "length refuted: Spearman of length and effect is" in out


def test_it_takes_less_than_forty_lines():
    tree = ast.parse(EXAMPLE.read_text("utf-8"))
    (theory,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert theory.end_lineno is not None
    assert theory.end_lineno - theory.lineno + 1 < 40

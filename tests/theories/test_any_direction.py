"""The artefact theory on made-up headlines: each outcome is reached by the numbers that call for it."""

import pandas as pd
import pytest

from steerlens.theories import AnyDirectionWorks, Outcome


def headline(effect: float, half: float, z: float, n: int = 20) -> pd.DataFrame:
    row = {"method": "MeanShift", "effect": effect, "effect_low": effect - half, "effect_high": effect + half}
    return pd.DataFrame([row | {"z": z, "random_low": -0.5, "random_high": 0.5, "random_n": n}])


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (headline(3.0, 0.4, 11.0), Outcome.REFUTED),
        (headline(0.1, 0.2, 0.4), Outcome.SUPPORTED),
        (headline(0.6, 0.3, 2.0), Outcome.INCONCLUSIVE),
        (headline(3.0, 0.4, 11.0, n=5), Outcome.VOID),
        (headline(3.0, 2.9, 11.0), Outcome.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_the_numbers(table: pd.DataFrame, outcome: Outcome):
    assert AnyDirectionWorks().judge(table).outcome is outcome


def test_prediction_and_falsifier_are_said_in_advance():
    assert "random" in AnyDirectionWorks().prediction
    assert "5 standard deviations" in AnyDirectionWorks().falsifier

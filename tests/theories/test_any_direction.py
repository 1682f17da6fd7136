"""The artefact theory on made-up records: each outcome is reached by the numbers that call for it."""

import numpy as np
import pandas as pd
import pytest

from steerlens.theories import AnyDirectionWorks, Outcome, rows_of, tidy

DRAWS = np.random.default_rng(0).normal(size=200)


def study(effect: float, error: float, spread: float = 0.25, n: int = 20) -> pd.DataFrame:
    draws = DRAWS[:n]
    null = spread * (draws - draws.mean()) / draws.std(ddof=1)
    return tidy(
        rows_of("effect_at_budget", [effect], error=error, role="method", method="MeanShift"),
        rows_of("effect_at_budget", null[None], "seed", error=error, role="random", method="random"),
    )


@pytest.mark.parametrize(
    ("records", "outcome"),
    [
        (study(3.0, 0.2), Outcome.REFUTED),
        (study(0.6, 0.05), Outcome.SUPPORTED),
        (study(1.0, 0.05), Outcome.INCONCLUSIVE),
        (study(3.0, 0.2, n=19), Outcome.VOID),
        (study(0.1, 0.2), Outcome.VOID),
        (study(3.0, 1.0), Outcome.INCONCLUSIVE),
        (study(3.0, 0.2, spread=0.0), Outcome.VOID),
    ],
)
def test_the_verdict_follows_the_numbers(records: pd.DataFrame, outcome: Outcome):
    verdict = AnyDirectionWorks().judge(records)
    assert verdict.outcome is outcome, str(verdict)


def test_z_and_reach_by_hand():
    found = AnyDirectionWorks().evidence(study(1.0, 0.1), level=0.95).estimates
    z, reach = found["z"], found["reach"]
    assert (z.value, z.low, z.high) == pytest.approx((4.0, 4 - 1.96 * 0.4, 4 + 1.96 * 0.4), abs=1e-4)
    assert (reach.value, reach.low, reach.high) == pytest.approx((0.49, 0.49 / 1.196, 0.49 / 0.804), abs=1e-4)


def test_the_best_of_many_methods_needs_more_than_one_alone():
    one = study(1.5, 0.1)
    others = [
        rows_of("effect_at_budget", [0.0], error=0.1, role="method", method=f"Method{i}", **{"model": "planted"})
        for i in range(50)
    ]
    many = tidy(one, *others)
    alone, best = (AnyDirectionWorks().evidence(r, level=0.95).estimates["z"] for r in (one, many))
    assert best.value == alone.value
    assert best.high - best.low > 1.5 * (alone.high - alone.low)
    assert AnyDirectionWorks().judge(one).outcome is Outcome.REFUTED
    assert AnyDirectionWorks().judge(many).outcome is Outcome.INCONCLUSIVE


def test_prediction_and_falsifier_are_said_in_advance():
    assert "random directions" in AnyDirectionWorks().prediction
    assert "whole interval above 5" in AnyDirectionWorks().falsifier

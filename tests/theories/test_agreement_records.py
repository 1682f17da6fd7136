"""Agreements as records: T12 reads them, and judges planted orders as they were planted."""

import numpy as np
import pandas as pd
import pytest

from steerlens.evaluation import AGREEMENT_COLUMNS, AGREEMENT_MEASURES, AGREEMENT_RANDOM_COLUMNS, Agreement
from steerlens.evaluation import agreement_ranks as ranked
from steerlens.theories import MultipleChoiceIsAProxy, Outcome, Quantity, gather, records_of

X = np.linspace(-1, 3, 40)


def found(open_text: np.ndarray, *, budget: float | None = 0.1) -> Agreement:
    frame = pd.DataFrame({c: np.full(len(X), 1.0) for c in AGREEMENT_COLUMNS})
    frame["concept"] = [f"c{i}" for i in range(len(X))]
    frame["level"] = 0.95
    for name in ("choice", *AGREEMENT_MEASURES):
        values = X if name == "choice" else open_text
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = values, values - 0.01, values + 0.01
    random = pd.DataFrame([], columns=list(AGREEMENT_RANDOM_COLUMNS))
    return Agreement(
        frame, random, ranked(frame, random), "m", "float32", "MeanShift()", "blocks.1.hook_resid_post", budget
    )


@pytest.mark.parametrize(
    ("open_text", "outcome"),
    [
        (X**3, Outcome.SUPPORTED),
        (-X, Outcome.REFUTED),
        (np.random.default_rng(0).permutation(X), Outcome.REFUTED),
    ],
)
def test_planted_orders_are_judged_as_planted(open_text: np.ndarray, outcome: Outcome):
    verdict = MultipleChoiceIsAProxy().judge(records_of(found(open_text)))
    assert verdict.outcome is outcome, str(verdict)


def test_values_and_intervals_are_the_agreement_s():
    records = records_of(found(X**3))
    wide = gather(records, {"a": Quantity("effect_at_budget", "MeanShift"), "b": Quantity("open_effect", "MeanShift"),
                            "e": Quantity("open_effect", "MeanShift", reduce="error")}, at_least=5)  # fmt: skip
    of = wide.droplevel("model").loc[[f"c{i}" for i in range(40)]]
    np.testing.assert_allclose(of["a"], X)
    np.testing.assert_allclose(of["b"], X**3)
    np.testing.assert_allclose(of["e"], 0.01 / 1.959964, rtol=1e-4)


def test_at_a_given_strength_there_is_no_effect_at_the_budget():
    records = records_of(found(X, budget=None))
    assert "effect_at_budget" not in set(records["quantity"])
    assert {"effect", "open_effect", "promotion", "suppression"} == set(records["quantity"])

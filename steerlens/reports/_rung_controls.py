"""Controls of a study over concepts: what the translation does, beside what holds no concept, and beside words."""

from collections.abc import Mapping
from html import escape

import pandas as pd

from steerlens.evaluation import Comparison
from steerlens.reports._numbers import DASH, estimate, general, number
from steerlens.reports._select import short_of_budget
from steerlens.reports._tables import control_of, stacked_row, stacked_table

_FITTED = {"permuted": "Exchanged labels", "other concept": "Next concept", "wrong layer": "Wrong layer"}


def rung_controls_table(comparisons: Mapping[str, Comparison], method: str) -> str:
    """One row per concept: a method's effect at the budget, and its controls'; nothing if none was tried.

    Args:
        comparisons: By concept.
        method: Name of the method.
    """
    test = {name: c.records[c.records["split"] == "test"] for name, c in comparisons.items()}
    if not any(r["role"].isin(_FITTED).any() for r in test.values()):
        return ""
    heads = ("Concept", method, "Random, 95 %", *_FITTED.values(), "PC1 of neutral texts", "Said and shown (KL)")
    body = [
        stacked_row(heads, [escape(cell) for cell in (name, *_cells(c, test[name], method))])
        for name, c in comparisons.items()
    ]
    caption = (
        f"Effects in nats at equal KL, on the same questions. {method} fitted to pairs whose labels were exchanged in "
        "half of the groups, to the next concept, and at the far end of the model; the first principal component of "
        "neutral texts as long as the mean shift. What is said and shown in a prompt has no strength: in round "
        "brackets stands its KL on neutral texts, nats per token. †: the budget was never reached."
    )
    return "<h3>Controls</h3>" + stacked_table("layers", caption, heads, "\n".join(body))


def _cells(c: Comparison, rows: pd.DataFrame, method: str) -> list[str]:
    head = c.headline[c.headline["method"] == method].iloc[0]
    cells = [estimate(head["effect"], head["effect_low"], head["effect_high"]) + ("" if head["reached"] else " †")]
    cells.append(
        f"{number(head['random_low'])} to {number(head['random_high'])}" + (" †" if short_of_budget(head) else "")
    )
    cells += [control_of(c, role, method) for role in _FITTED]
    neutral = rows[(rows["role"] == "neutral direction") & (rows["metric"] == "effect_at_budget")]
    cells.append(DASH if neutral.empty else estimate(*neutral.iloc[0][["value", "low", "high"]]))
    said, labels = [], iter(("prompt", "opposite prompt"))  # the order in which they are measured
    for name, of in rows[rows["role"] == "text"].groupby("method", sort=False):
        by = of.set_index("metric")
        effect = estimate(*by.loc["effect", ["value", "low", "high"]])
        label = next(labels) if str(name).startswith("prompt: ") else str(name)
        said.append(f"{label} {effect} ({general(float(by['value'].to_dict()['kl']))})")
    return [*cells, "; ".join(said) or DASH]

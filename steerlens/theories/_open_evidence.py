"""What steering at the budget does to open-ended references: which rise, and which fall."""

from typing import Any

import pandas as pd

from steerlens.concepts import open_ended_items
from steerlens.errors import ConceptError
from steerlens.evaluation import open_ended, random_arms
from steerlens.interventions import Intervention
from steerlens.theories._chosen_site import ChosenSite
from steerlens.theories._records import tidy

OPEN_QUANTITIES = frozenset({"promotion", "suppression", "open_effect"})
"""Quantities of open-ended references."""


def open_evidence(at: ChosenSite) -> pd.DataFrame:
    """Promotion, suppression and their sum over the test pairs' references, of methods and random directions.

    Every arm acts at the strength at which it meets the budget in the comparison, and random directions are those of
    the comparison. Changes are those of the log-likelihood per token itself (the raw form, over all items).

    ``open_effect`` is left out where pairs have no answers: there the question that was scored is which of the two
    references follows, so that both effects are of the same words and agree whatever the truth. Nothing is measured
    where pairs are no open items.

    Args:
        at: The concept, its site, and the maps compared there.
    """
    try:
        items = open_ended_items(at.split.test)
    except ConceptError:
        return tidy()
    arms = _interventions(at)
    found = open_ended(at.model, items, {k: one for k, (_, one) in arms.items()}, seed=at.study.seed, shares=(1.0,))
    names = {"promotion": "promotion", "suppression": "suppression"}
    if all(pair.answers is not None for pair in at.split.test):
        names["separation"] = "open_effect"
    raw = found.frame[(found.frame["form"] == "raw") & found.frame["quantity"].isin(names)]
    said = pd.DataFrame([arms[k][0] for k in raw["intervention"]], index=raw.index)
    kept = raw[["value", "low", "high", "level", "n"]].assign(quantity=raw["quantity"].map(names))
    return tidy(pd.concat([kept, said], axis=1).assign(budget=at.study.budget, **at.here))


def _interventions(at: ChosenSite) -> dict[str, tuple[dict[str, Any], Intervention]]:
    """By a name of their own: what is said of an arm, and what it does."""
    strengths = at.strength_at_budget("method")
    arms: dict[str, tuple[dict[str, Any], Intervention]] = {}
    for method in at.named(OPEN_QUANTITIES):
        columns = {"role": "method", "method": method, "strength": strengths[method], "seed": float("nan")}
        arms[f"method {method}"] = (columns, Intervention({at.site: at.maps[at.site, method]}, strengths[method]))
    strengths = at.strength_at_budget("random")
    for i, arm in enumerate(random_arms(at.fit, at.study.strengths, n=at.study.n_random, seed=at.study.seed)):
        columns = {"role": "random", "method": "random", "strength": strengths[arm.method], "seed": float(i)}
        arms[f"random {i}"] = (columns, Intervention({at.site: arm.steering_map}, strengths[arm.method]))
    return arms

"""How far a map that was fitted at home steers the same questions in other surroundings."""

from typing import Any

import pandas as pd

from steerlens.activations import extract
from steerlens.concepts import ConceptDataset, concept_names, shifts, with_context
from steerlens.evaluation import SLOPE_RANGE, ood
from steerlens.maps import SteeringMap
from steerlens.theories._chosen_site import ChosenSite
from steerlens.theories._records import tidy
from steerlens.theories._study import TheoryStudy

ELSEWHERE_QUANTITIES = frozenset({"steerability_elsewhere", "relative_steerability", "propensity_gap"})
"""Quantities of other surroundings."""

HOME, CONTEXTS = "home", (1, 3)
"""The setting that maps are fitted in, and numbers of neutral sentences in front of the prompt."""


def elsewhere_evidence(at: ChosenSite) -> pd.DataFrame:
    """Steerability of one map in every setting but its own, beside that of the map fitted there.

    ``relative_steerability`` is left out where the setting's own map is too weak to be related to (see `ood`), and the
    gap of unsteered propensity with it, so that both are means over the same settings.

    Args:
        at: The concept, its site, and the maps compared there.
    """
    fit, test = (surroundings(part, at.study) for part in (at.split.fit, at.split.test))
    strengths = [s for s in at.study.strengths if s <= SLOPE_RANGE]
    rows: list[dict[str, Any]] = []
    for setting in [name for name in test if name != HOME]:
        there = extract(at.model, fit[setting], [at.site])[at.site]
        both = {HOME: test[HOME], setting: test[setting]}
        for name, method in at.named(ELSEWHERE_QUANTITIES).items():
            own = method.fit(source=there.negative, target=there.positive)
            maps: dict[str, SteeringMap] = {HOME: at.maps[at.site, name], setting: own}
            frame = ood(at.model, maps, both, at.site, strengths, seed=at.study.seed).frame
            rows += _rows(frame[frame["fitted_on"] == HOME].set_index("tested_on"), {"role": "method", "method": name})
    return tidy(pd.DataFrame(rows).assign(**at.here))


def surroundings(part: ConceptDataset, study: TheoryStudy) -> dict[str, ConceptDataset]:
    """The pairs at home, and in every setting that all concepts of the study can be put into.

    The standard settings (`shifts`) where all concepts are built in; else, for want of instructions, contexts alone.
    Settings are averaged, so that concepts in different ones could not be compared.
    """
    if {c.name for c in study.concepts} <= set(concept_names()):
        _, *others = shifts(part, seed=study.seed, contexts=CONTEXTS).items()
    else:
        others = [(f"CONTEXT_{n}", with_context(part, n, seed=study.seed)) for n in CONTEXTS]
    return {HOME: part, **dict(others)}


def _rows(of: pd.DataFrame, arm: dict[str, str]) -> list[dict[str, Any]]:
    """From one map's steerability by setting."""
    rows: list[dict[str, Any]] = []
    for setting, row in of.drop(index=HOME).iterrows():
        shared = {"setting": setting, "level": row["level"], "n": row["n"]}
        for quantity, column in (("steerability_elsewhere", "steerability"), ("relative_steerability", "relative")):
            if row[column] == row[column]:
                numbers = {"value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}
                rows.append({**arm, **shared, "quantity": quantity, **numbers})
        if row["relative"] == row["relative"]:
            gap = abs(row["propensity"] - of.loc[HOME, "propensity"])
            rows.append({**shared, "quantity": "propensity_gap", "value": gap, "role": "", "method": ""})
    return rows

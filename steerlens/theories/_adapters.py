"""Tidy records of what was measured: comparisons, geometries, cards, agreements, planted tables, studies of tasks."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from steerlens.evaluation import AcrossConcepts, Agreement, Comparison, Geometry, PlantedTable, SteeringCard
from steerlens.experiments import OffCourse, PromptStructure
from steerlens.numerics import Estimate
from steerlens.theories._records import tidy
from steerlens.theories._study_adapters import of_off_course, of_prompt_structure

Source = Comparison | AcrossConcepts | Geometry | SteeringCard | Agreement | PlantedTable | OffCourse | PromptStructure


def records_of(*sources: Source) -> pd.DataFrame:
    """Records with the columns `THEORY_COLUMNS` of everything that was measured on the test half.

    Comparisons give effects, costs, gains (paired differences; ``setting`` is the reference), steerability and
    anti-steered shares, of methods and random directions, and the propensity of every question. Geometries give gaps,
    coherence and local direction at every layer; keep the chosen layer before judging what speaks of concepts. Cards
    give the same of one method, with d′. Agreements give effects in multiple choice and in open text. Planted tables
    give effects and energies, a plant being a concept. Comparisons of several concepts, and of several models, are read
    like single ones.

    Studies off course give the accuracy of every method, a task being a concept and the method its setting. Studies of
    prompt structure give the effect of every dose on every word, in nats; keep one layer before judging.

    Args:
        sources: In any order; one study's belong together.
    """
    return tidy(*(block for source in sources for block in _blocks(source)))


def _blocks(source: Source) -> Sequence[pd.DataFrame]:
    if isinstance(source, Comparison):
        return _of_comparison(source)
    if isinstance(source, AcrossConcepts):
        return [block for one in source.comparisons.values() for block in _of_comparison(one)]
    if isinstance(source, OffCourse):
        return [of_off_course(source)]
    if isinstance(source, PromptStructure):
        return [of_prompt_structure(source)]
    if isinstance(source, Geometry):
        return [_of_geometry(source)]
    if isinstance(source, SteeringCard):
        return [_of_card(source)]
    if isinstance(source, Agreement):
        return _of_agreement(source)
    return [_of_planted(source)]


def _of_comparison(found: Comparison) -> list[pd.DataFrame]:
    who = {
        "model": str(found.provenance.model.get("name", "")),
        "concept": str(found.provenance.concept.get("name", "")),
    }
    budgets = found.headline["budget"].unique()
    budget = float(budgets[0]) if len(budgets) == 1 else float("nan")
    shared = ["split", "role", "family", "method", "site", "layer", "strength", "value", "low", "high", "level", "n"]
    records = found.records[found.records["split"] == "test"]
    # Effects of methods at the budget are the headline's; random directions are numbered, and draws of one arm here.
    at_budget, random = records["metric"] == "effect_at_budget", records["role"] == "random"
    number = records["method"].str.extract(r"(\d+)$")[0]
    curves = records[shared].assign(
        quantity=records["metric"], method=records["method"].where(~random, "random"),
        seed=number.where(random).astype(float), budget=at_budget.map({True: budget}), **who,
    )  # fmt: skip
    # Strengths chosen for the budget differ from concept to concept: curves are read on the grid that all share.
    on_grid = records["strength"].isin(found.grid)
    blocks = [curves[(~at_budget & on_grid) | (at_budget & random)]]
    effects = _headline(found.headline, "effect_at_budget", "effect", who)
    blocks.append(effects.assign(strength=found.headline["strength"], budget=budget))
    blocks += [_headline(found.headline, q, column, who) for q, column in _HEADLINE.items()]
    where = found.headline.set_index("method")[["family", "site", "layer"]]
    gains = found.contrasts.join(where, on="method")
    kept = gains[["method", "family", "site", "layer", "low", "high", "level", "n"]]
    blocks.append(
        kept.assign(quantity="gain", role="method", setting=gains["reference"], value=gains["difference"],
                    budget=budget, **who)
    )  # fmt: skip
    items = found.samples[found.samples["strength"].isin(found.grid)]
    blocks.append(
        items[["method", "family", "site", "layer", "group", "strength"]].assign(
            quantity="propensity", role="method", item=pd.factorize(items["question"])[0],
            value=items["propensity"], **who,
        )
    )  # fmt: skip
    return blocks


_HEADLINE = {"steerability": "steerability", "anti_steered": "anti_slope"}


def _headline(headline: pd.DataFrame, quantity: str, column: str, who: dict[str, str]) -> pd.DataFrame:
    ends = {"value": headline[column], "low": headline[f"{column}_low"], "high": headline[f"{column}_high"]}
    kept = headline[["family", "method", "site", "layer", "n"]]
    return kept.assign(quantity=quantity, role="method", level=0.95, **ends, **who)


def _of_geometry(found: Geometry) -> pd.DataFrame:
    frame = found.to_frame()
    kept = frame[["site", "layer", "quantity", "value", "low", "high", "n"]]
    return kept.assign(setting=frame["of"], level=0.95, model=found.model, concept=found.concept)


def _of_card(card: SteeringCard) -> pd.DataFrame:
    arm = {"role": "method", "method": card.method.name, "family": card.method.family}
    rows = [
        _row("effect_at_budget", card.effect.at_budget, **arm, strength=card.effect.strength, budget=card.budget),
        _row("steerability", card.effect.slope, **arm),
        _row("anti_steered", card.reliability.anti_steerable, **arm),
        _row("kl", card.cost.kl, **arm, strength=card.cost.strength),
        _row("coherence", card.reliability.coherence),
        _row("d_prime", card.reliability.d_prime),
    ]
    return (
        pd.DataFrame(rows)
        .assign(site=card.site, layer=card.layer, model=str(card.model["name"]), concept=str(card.concept["name"]))
        .fillna(dict.fromkeys(("role", "method", "family"), ""))
    )


def _of_agreement(found: Agreement) -> list[pd.DataFrame]:
    frame = found.frame
    shared = {
        "role": "method", "method": found.method, "site": found.site, "model": found.model, "concept": frame["concept"],
        "strength": frame["strength"], "budget": float("nan") if found.budget is None else found.budget,
        "level": frame["level"],
    }  # fmt: skip
    at = "effect" if found.budget is None else "effect_at_budget"
    named = {at: "choice", "open_effect": "raw_separation", "promotion": "raw_promotion",
             "suppression": "raw_suppression"}  # fmt: skip
    return [
        pd.DataFrame(
            {
                **shared, "quantity": quantity, "value": frame[column], "low": frame[f"{column}_low"],
                "high": frame[f"{column}_high"], "n": frame["n_questions" if column == "choice" else "n_items"],
            }
        )
        for quantity, column in named.items()
    ]  # fmt: skip


def _row(quantity: str, e: Estimate, **columns: Any) -> dict[str, Any]:
    ends = {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "n": e.n}
    return {"quantity": quantity, **ends, **columns}


def _of_planted(table: PlantedTable) -> pd.DataFrame:
    maps = table.maps[table.maps["problem"] == ""]
    blocks = []
    for quantity, column in (("effect", "effect"), ("energy", "energy"), ("independent_p", "p_target")):
        ends = {"value": maps[column], "low": maps[f"{column}_low"], "high": maps[f"{column}_high"]}
        kept = maps[["role", "family", "method", "n"]]
        strength = 1.0 if quantity == "effect" else float("nan")
        blocks.append(kept.assign(quantity=quantity, concept=maps["plant"], model="planted", level=0.95,
                                  strength=strength, **ends))  # fmt: skip
    return pd.concat(blocks, ignore_index=True)

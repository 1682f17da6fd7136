"""From a model and a concept to the records that hypotheses read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import pandas as pd
import torch

from steerlens.activations import ContrastiveActivations, Reader, ReadOnce, Site
from steerlens.concepts import ConceptDataset, Split
from steerlens.errors import FitError
from steerlens.evaluation import (
    Comparison,
    ComparisonPlan,
    FittedMaps,
    geometry,
    output_alignment,
    run_comparison,
    train_judge,
)
from steerlens.maps import (
    LADDER,
    METHODS,
    DirectionShift,
    GradientMap,
    LogisticDirection,
    MeanDifference,
    SteeringMap,
    SteeringMethod,
    method_name,
)
from steerlens.models import LensModel
from steerlens.numerics import cluster_mean
from steerlens.probes import difference_report, manifold_report
from steerlens.theories._adapters import records_of
from steerlens.theories._bures import bures_z
from steerlens.theories._chosen_site import ChosenSite, ends, methods_beside
from steerlens.theories._elsewhere_evidence import ELSEWHERE_QUANTITIES, elsewhere_evidence
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._norm_evidence import SCALING, norm_difference, scaling_evidence
from steerlens.theories._open_evidence import OPEN_QUANTITIES, open_evidence
from steerlens.theories._path_evidence import PATH_QUANTITIES, path_evidence
from steerlens.theories._records import tidy
from steerlens.theories._rungs import RungReading, behaviour_rung
from steerlens.theories._study import TheoryStudy

AT_BUDGET = (
    frozenset({"effect_at_budget", "gain", "anti_steered", "steerability", "propensity"})
    | OPEN_QUANTITIES
    | ELSEWHERE_QUANTITIES
)
"""Quantities for which a method is measured over all strengths, beside the controls."""

ON_ROWS = frozenset({"own_p", "independent_p", "energy"})
"""Quantities of moved rows at full strength."""

CHOSEN, EVERY = "chosen", "every"
"""Values of the column ``layers`` of stored records: of the chosen layer alone, or of each that was asked for."""


@final
@dataclass(frozen=True, eq=False)
class ConceptEvidence:
    """What was measured on one concept.

    Args:
        records: Columns `THEORY_COLUMNS`, and ``layers``: ``chosen``, or ``every`` for profiles over layers.
        comparison: The ladder and the other methods at equal KL, with its controls.
        geometry: Columns `GEOMETRY_COLUMNS`, at the chosen layer.
        reading: Which rung geometry and behaviour ask for.
        notes: What was asked for and could not be had, with the reason.
    """

    records: pd.DataFrame
    comparison: Comparison
    geometry: pd.DataFrame
    reading: RungReading
    notes: tuple[str, ...] = ()


def concept_evidence(model: LensModel, pairs: ConceptDataset, study: TheoryStudy) -> ConceptEvidence:
    """Measure one concept: what the study's hypotheses read, as far as it can be had from pairs of texts.

    Maps are fitted on one part of the pairs, the layer is chosen on the second by the ladder's mean effect at the
    budget, and everything is reported on the third. Geometry and the ladder are always measured, because the rung is
    read off them; the rest only where a hypothesis reads it. What cannot be had of pairs (heads, decoding, a model
    trained to bear steering) is left out, and a hypothesis that needs it will say so.

    Args:
        model: What is steered.
        pairs: A concept with at least 20 groups.
        study: Layers, strengths, budget, controls and hypotheses.

    Raises:
        SteerlensError: Whatever a comparison, a geometry or a fit raises.
    """
    split = study.split(pairs)
    plan = ComparisonPlan(
        sites=tuple(Site.resid_post(n) for n in study.layers),
        methods=compared_methods(study.theories),
        strengths=study.strengths,
        budget=study.budget,
        n_random=study.n_random,
        controls=study.controls,
        other=study.other(pairs),
        instructions=study.instructions(pairs),
        seed=study.seed,
    )
    read = ReadOnce.of(model, pairs, plan.sites)
    comparison, maps = _compare(model, split, plan, study, read)
    site = next(s for s in plan.sites if s.hook_name == comparison.headline["site"].iloc[0])
    shape = geometry(model, pairs, [site], seed=study.seed, read=read)
    wanted = read_quantities(study.theories)
    who = {"model": model.name, "concept": pairs.name}
    here = {**who, "site": site.hook_name, "layer": site.layer}
    fit, select, test = (read(model, part, [site])[site] for part in split)
    blocks = [records_of(comparison, shape), _of_pairs(fit, wanted, here, study.seed)]
    notes: tuple[str, ...] = ()
    if wanted & ON_ROWS:
        try:
            blocks.append(_of_rows(model, split, (fit, select, test), here, study, read))
        except FitError as error:  # a classifier that cannot tell the classes has no gradient; the rest still counts
            notes = (f"Rows were not moved at full strength: {error}",)
    at = ChosenSite(model, pairs.name, split, study, comparison, compared_methods(study.theories), maps, fit)
    blocks += _beyond(at, wanted)
    chosen = tidy(*blocks).assign(layers=CHOSEN)
    every = tidy(*_profile(model, split, plan, who, study, read)) if "alignment" in wanted else tidy()
    reading = RungReading(pairs.name, site.layer, shape.readings[0], behaviour_rung(comparison))
    records = pd.concat([chosen, every.assign(layers=EVERY)] if len(every) else [chosen], ignore_index=True)
    return ConceptEvidence(records, comparison, shape.to_frame(), reading, notes)


def records_for(hypothesis: Hypothesis, records: pd.DataFrame) -> pd.DataFrame:
    """The part of stored records that a hypothesis is to read: the chosen layer of each concept, or every layer."""
    kept = records["layers"] == (EVERY if hypothesis.every_layer else CHOSEN)
    return records[kept].drop(columns="layers").reset_index(drop=True)


def read_quantities(theories: Sequence[Hypothesis]) -> frozenset[str]:
    """Names of all that the hypotheses read."""
    return frozenset(q.name for h in theories for q in h.quantities.values())


def compared_methods(theories: Sequence[Hypothesis]) -> tuple[SteeringMethod, ...]:
    """The ladder, and every method whose effect at the budget, or along strengths, a hypothesis reads."""
    on_rows = methods_beside(tuple(theories), ON_ROWS)  # these are measured at full strength alone
    along = [h for h in theories if not set(methods_beside((h,), frozenset({"effect"}))) & set(on_rows)]
    compared = _methods(theories, AT_BUDGET, LADDER)
    return tuple({method_name(m): m for m in _methods(along, frozenset({"effect"}), compared)}.values())


def full_strength_methods(theories: Sequence[Hypothesis]) -> tuple[SteeringMethod, ...]:
    """Methods whose moved rows a hypothesis reads."""
    return _methods(theories, ON_ROWS, ())


def _methods(
    theories: Sequence[Hypothesis], quantities: frozenset[str], first: Sequence[SteeringMethod]
) -> tuple[SteeringMethod, ...]:
    """Methods named beside the quantities; one that nothing here can fit is left out."""
    named = methods_beside(tuple(theories), quantities)
    known = {method_name(m): m for m in (*METHODS, DirectionShift(direction=LogisticDirection()))}
    return tuple({method_name(m): m for m in (*first, *(known[n] for n in named if n in known))}.values())


def _beyond(at: ChosenSite, wanted: frozenset[str]) -> list[pd.DataFrame]:
    """What is asked of a concept beyond the comparison: lengths, paths, open-ended references, other surroundings."""
    blocks = [path_evidence(at)] if wanted & PATH_QUANTITIES else []
    if SCALING in methods_beside(at.study.theories, frozenset({"effect"})):
        blocks.append(scaling_evidence(at))
    if wanted & OPEN_QUANTITIES:
        blocks.append(open_evidence(at))
    if wanted & ELSEWHERE_QUANTITIES:
        blocks.append(elsewhere_evidence(at))
    return blocks


def _compare(
    model: LensModel, split: Split, plan: ComparisonPlan, study: TheoryStudy, read: Reader
) -> tuple[Comparison, FittedMaps]:
    command = f"steerlens theory run --study {study.name}.toml"
    return run_comparison(
        model, split.fit, split.test, plan, select=split.select, neutral=study.texts, command=command, read=read
    )


def _of_pairs(fit: ContrastiveActivations, wanted: frozenset[str], here: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """What the fitting pairs' activations say: covariances, separation, lengths, the angle of reading and writing."""
    source, target = fit.negative.double(), fit.positive.double()
    rows: list[dict[str, Any]] = []
    if "bures" in wanted:
        rows.append({"quantity": "bures", "value": bures_z(source, target, fit.groups, seed=seed)})
    if "d_prime" in wanted:
        report = difference_report(fit.positive, fit.negative, fit.groups, seed=seed)
        rows.append({"quantity": "d_prime", **ends(report.d_prime)})
    if "norm_difference" in wanted:
        rows.append(norm_difference(fit, seed=seed))
    if "cosine" in wanted:
        read, write = (e.direction(source, target) for e in (LogisticDirection(), MeanDifference()))
        rows.append({"quantity": "cosine", "value": float(read @ write)})
    frame = pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "level", "n"])
    return tidy(frame.assign(**here))


def _of_rows(
    model: LensModel,
    split: Split,
    found: tuple[ContrastiveActivations, ContrastiveActivations, ContrastiveActivations],
    here: Mapping[str, Any],
    study: TheoryStudy,
    read: Reader,
) -> pd.DataFrame:
    """Held-out rows moved at full strength: what two classifiers and the energy distance make of them, and effects."""
    fit, select, test = found
    site, methods = test.site, full_strength_methods(study.theories)
    plan = ComparisonPlan(
        sites=(site,), methods=methods, strengths=(0.0, 1.0), budget=study.budget, n_random=0, controls=False,
        seed=study.seed,
    )  # fmt: skip
    comparison, maps = _compare(model, split, plan, study, read)
    effects = records_of(comparison)
    judge = train_judge("linear", select.negative, select.positive, study.seed)
    source, target = test.negative.double(), test.positive.double()
    rows: list[dict[str, Any]] = []
    for method in methods:
        steering_map: SteeringMap = maps[site, method_name(method)]
        moved = steering_map(source)
        arm = {"role": "method", "method": method_name(method)}
        report = manifold_report(
            moved, source, target, fit.positive.double(), groups=test.groups, target_groups=test.groups, seed=study.seed
        )
        rows.append({**arm, "quantity": "energy", **ends(report.energy)})
        if not any(r["quantity"] == "energy" and r["role"] == "identity" for r in rows):
            rows.append({"role": "identity", "method": "", "quantity": "energy", **ends(report.energy_before)})
        judged = {"independent_p": judge.p_target(moved)}
        if isinstance(steering_map, GradientMap):
            judged["own_p"] = torch.sigmoid(steering_map.log_odds(moved)).numpy()
        for quantity, p in judged.items():
            e = cluster_mean(np.asarray(p, dtype=np.float64), test.groups, seed=study.seed)
            rows.append({**arm, "quantity": quantity, **ends(e)})
    # Methods of the main comparison have their effects already.
    known = {method_name(m) for m in compared_methods(study.theories)}
    kept = effects[(effects["quantity"] == "effect") & (effects["strength"] == 1.0) & ~effects["method"].isin(known)]
    return tidy(kept, pd.DataFrame(rows).assign(**here))


def _profile(
    model: LensModel, split: Split, plan: ComparisonPlan, who: Mapping[str, Any], study: TheoryStudy, read: Reader
) -> list[pd.DataFrame]:
    """Output alignment, and the mean shift's effect at the budget, on the test half at every layer."""
    found = output_alignment(model, split.fit, split.test, layers=study.layers, seed=study.seed).frame
    aligned = found[["layer", "site", "n"]].assign(
        quantity="alignment", value=found["aligned"], low=found["aligned_low"], high=found["aligned_high"], level=0.95,
        **who,
    )  # fmt: skip
    shift = [m for m in plan.methods if method_name(m) == "MeanShift"]
    blocks = [aligned]
    for site in plan.sites:
        alone = replace(
            plan, sites=(site,), methods=tuple(shift), n_random=0, controls=False, other=None, instructions=None
        )
        records = records_of(_compare(model, split, alone, study, read)[0])
        blocks.append(records[records["quantity"] == "effect_at_budget"])
    return blocks

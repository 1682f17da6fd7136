"""From what was measured to tables of estimates."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from steerlens.activations import Site
from steerlens.evaluation._comparison import (
    CONTRAST_COLUMNS,
    DOSE_COLUMNS,
    HEADLINE_COLUMNS,
    RecordPlace,
    record_table,
)
from steerlens.evaluation._frontier_area import area_under_frontier
from steerlens.evaluation._measure import Arm, Array, Measured
from steerlens.evaluation._per_token import POSITIVE, mean_per_token, ratio_of_perplexities
from steerlens.evaluation._reliability import anti_steerable, beyond_rounding, contrast, steerability
from steerlens.numerics import Estimate, bootstrap, cluster_mean, holm, minimal_detectable_effect, sign_flip


def record_frame(
    measured: Sequence[Measured], *, split: str, budget: float, seed: int, resolution: float
) -> pd.DataFrame:
    """One row per arm, strength and metric; ``resolution`` is what propensities are known to, in nats."""
    rows = []
    for m in measured:
        found = [*_estimates(m, budget, seed, full=split == "test" and m.arm.role == "method")]
        if split == "test":
            found += _over_strengths(m, budget, seed, resolution)
        rows += [(_place(m.arm, split), strength, metric, estimate) for strength, metric, estimate in found]
    return record_table(rows)


def _over_strengths(m: Measured, budget: float, seed: int, resolution: float) -> Iterator[tuple[float, str, Estimate]]:
    """What is read off a whole curve, under the strength that meets the budget."""
    at = m.dose_curve.strength_at(budget)
    if m.arm.role in ("method", "random"):
        yield at, "area", area_under_frontier(m.dose_curve, budget, seed=seed)
    if m.arm.role == "method":
        anti = anti_steerable(m.on_grid, m.arm.planned, m.groups, seed=seed, resolution=resolution)
        yield at, "unmoved", anti.unmoved


def _estimates(m: Measured, budget: float, seed: int, *, full: bool) -> Iterator[tuple[float, str, Estimate]]:
    """Strength, metric and estimate; ``full`` adds what only the headline arms are asked for."""
    for k, strength in enumerate(m.arm.strengths):
        yield strength, "effect", cluster_mean(m.propensity[k] - m.propensity[m.zero], m.groups, seed=seed)
        yield strength, "kl", per_token(m, m.kl[k], seed)
        if not full:
            continue
        change = m.propensity_per_token[k] - m.propensity_per_token[m.zero]
        yield strength, "propensity", cluster_mean(m.propensity[k], m.groups, seed=seed)
        yield strength, "effect_per_token", cluster_mean(change, m.groups, seed=seed)
        yield strength, "perplexity_ratio", perplexity_ratio(m, k, seed=seed)
        yield strength, "displacement", relative_displacement(m, k, seed)
    at = m.dose_curve.at_budget(budget, seed=seed)
    yield at.strength, "effect_at_budget", at.effect


def best_dose_frame(on_select: Sequence[Measured], chosen: Sequence[Measured], *, seed: int) -> pd.DataFrame:
    """Effect on the test half of each method at the strength that was best for it on the selection half.

    Of the planned strengths that with the largest mean effect, 0 among them; of equal ones the smallest. Side effects
    have no say, so that what it costs stands beside it: read the KL at that strength.

    Args:
        on_select: Methods on the selection half, at any sites.
        chosen: The same methods on the test half, at one site.
        seed: Of the bootstrap.
    """
    before = {(m.arm.method, m.arm.site): m for m in on_select}
    rows = []
    for m in chosen:
        own = before[m.arm.method, m.arm.site]
        planned = sorted(own.arm.planned, key=abs)
        means = [float((own.propensity[own.arm.strengths.index(s)] - own.propensity[own.zero]).mean()) for s in planned]
        best = planned[int(np.argmax(means))]
        change = m.propensity[m.arm.strengths.index(best)] - m.propensity[m.zero]
        rows.append((_place(m.arm, "test"), best, "effect_at_best", cluster_mean(change, m.groups, seed=seed)))
    return record_table(rows)


def perplexity_ratio(m: Measured, k: int, *, seed: int) -> Estimate:
    """Perplexity of neutral text at the k-th strength over that of the unsteered model."""
    return ratio_of_perplexities(m.nll[k] - m.nll[m.zero], m.n_tokens, m.documents, seed=seed)


def per_token(m: Measured, per_text: Array, seed: int) -> Estimate:
    """Mean over the tokens of all texts of what was summed over each text's."""
    return mean_per_token(per_text, m.n_tokens, m.documents, seed=seed)


def nearest_tried(m: Measured, strength: float) -> int:
    """Row of the tried strength above 0 that is nearest: at 0 nothing is done, and nothing costs."""
    s = np.asarray(m.arm.strengths)
    return int(np.where(s > 0, np.abs(s - strength), np.inf).argmin())


def relative_displacement(m: Measured, k: int, seed: int) -> Estimate:
    """E‖step‖ / E‖x‖ over held-out source activations."""
    return bootstrap(lambda w: (w @ m.moved[k]) / (w @ m.norms), [m.pair_groups], seed=seed, bounds=POSITIVE)


def headline_frame(
    chosen: Sequence[Measured],
    random: Sequence[Measured],
    *,
    budget: float,
    n_tried: int,
    seed: int,
    resolution: float,
) -> pd.DataFrame:
    """One row per method at its site, with the random directions of that site beside it.

    ``resolution`` is what propensities are known to, in nats.
    """
    rows = []
    for m in chosen:
        at = m.dose_curve.at_budget(budget, seed=seed)
        beside = [r for r in random if r.arm.site == m.arm.site]
        null = np.array([point_effect(r, budget) for r in beside])
        anti = anti_steerable(m.on_grid, m.arm.planned, m.groups, seed=seed, resolution=resolution)
        slope = cluster_mean(steerability(m.on_grid, m.arm.planned), m.groups, seed=seed)
        nearest = nearest_tried(m, at.strength)
        row: dict[str, Any] = {
            "family": m.arm.family, "method": m.arm.method, "site": m.arm.site.hook_name, "layer": m.arm.site.layer,
            "budget": budget, "reached": at.reached, "strength": at.strength, "kl": at.kl,
            "n": at.effect.n, "n_clusters": at.effect.n_clusters, "n_tried": n_tried,
            "displacement": float(np.interp(at.strength, m.arm.strengths, m.moved.mean(1) / m.norms.mean())),
        }  # fmt: skip
        for name, estimate in (
            ("effect", at.effect),
            ("steerability", slope),
            ("anti_slope", anti.slope),
            ("anti_unit", anti.unit),
            ("perplexity_ratio", perplexity_ratio(m, nearest, seed=seed)),
        ):
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row | _null(at.effect.value, null) | {"random_reached": sum(met(r, budget) for r in beside)})
    return pd.DataFrame(rows, columns=list(HEADLINE_COLUMNS))


def _null(effect: float, null: Array) -> dict[str, Any]:
    """Where the effect stands among random directions; NaN where there are too few to say."""
    if len(null) < 2:
        return {"random_low": np.nan, "random_high": np.nan, "random_n": len(null), "z": np.nan}
    low, high = np.quantile(null, [0.025, 0.975])
    spread = null.std(ddof=1)
    z = (effect - null.mean()) / spread if spread > 0 else np.nan
    return {"random_low": low, "random_high": high, "random_n": len(null), "z": z}


def point_effect(m: Measured, budget: float) -> float:
    """Effect at the budget, without an interval."""
    ones = np.ones((1, len(m.questions))), np.ones((1, len(m.n_tokens)))
    return float(m.dose_curve.effect_at(budget, *ones)[0])


def met(m: Measured, budget: float) -> bool:
    """Whether an arm meets the budget: on the texts its strength was chosen on, or else on these."""
    chosen = m.dose_curve.chosen_for(budget)
    return bool((m.kl.sum(axis=1) >= budget * m.n_tokens.sum()).any()) if chosen is None else chosen.reached


def dose_frame(measured: Sequence[Measured], budget: float) -> pd.DataFrame:
    """The strength chosen for every arm, with its KL on both halves; columns `DOSE_COLUMNS`."""
    rows = []
    for m in measured:
        chosen = m.dose_curve.chosen_for(budget)
        if chosen is not None:
            kl = float(m.kl[m.arm.strengths.index(chosen.strength)].sum() / m.n_tokens.sum())
            place = (m.arm.role, m.arm.method, m.arm.site.hook_name, m.arm.site.layer)
            rows.append((*place, budget, chosen.strength, chosen.kl, kl, chosen.reached))
    return pd.DataFrame(rows, columns=list(DOSE_COLUMNS))


def best_site(measured: Sequence[Measured], budget: float) -> Site:
    """The site where the mean over methods of the effect at the budget is largest; the first of equals.

    The mean, so that no family is compared at a place picked for another.
    """
    effects: dict[Site, list[float]] = {}
    for m in measured:
        effects.setdefault(m.arm.site, []).append(point_effect(m, budget))
    return max(effects, key=lambda site: float(np.mean(effects[site])))


def contrast_frame(chosen: Sequence[Measured], *, budget: float, seed: int, resolution: float) -> pd.DataFrame:
    """Every pair of methods: the later on the ladder minus the earlier; 0 where they differ by rounding alone.

    ``resolution`` is what propensities are known to, in nats. Intervals and p-values take strengths that were chosen
    for the budget as they are; without such, the interval draws neutral texts anew, too.
    """
    rows = []
    for reference, method in combinations(chosen, 2):
        d = contrast(method.dose_curve, reference.dose_curve, budget, seed=seed)
        found = method.dose_curve.changes_at(budget) - reference.dose_curve.changes_at(budget)
        seen, apart = minimal_detectable_effect(found, method.groups).effect, beyond_rounding(found, resolution)
        d = d if apart.any() else replace(d, value=0.0, low=0.0, high=0.0)
        p = sign_flip(apart, method.groups, seed=seed).p_value
        numbers = (d.value, d.low, d.high, d.level, d.n, d.n_clusters, p)
        rows.append((method.arm.method, reference.arm.method, *numbers, seen))
    adjusted = holm([row[8] for row in rows]).tolist() if rows else []
    return pd.DataFrame(
        [(*row[:9], p, row[9]) for row, p in zip(rows, adjusted, strict=True)], columns=list(CONTRAST_COLUMNS)
    )


def _place(arm: Arm, split: str) -> RecordPlace:
    return split, arm.role, arm.family, arm.method, arm.site.hook_name, arm.site.layer

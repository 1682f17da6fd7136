"""Measuring what stands on a steering card."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.activations import ContrastiveActivations, Site, extract
from steerlens.concepts import PLAIN, ChatFormat, ConceptDataset
from steerlens.errors import OptionError
from steerlens.evaluation._anti_steering import MIN_RESAMPLES
from steerlens.evaluation._arm_strengths import at_equal_budget
from steerlens.evaluation._card import (
    CardControl,
    CardCost,
    CardEffect,
    CardFailure,
    CardMethod,
    CardRandom,
    CardReliability,
    SteeringCard,
)
from steerlens.evaluation._card_elsewhere import card_open_ended, card_shifts
from steerlens.evaluation._card_warnings import card_warnings
from steerlens.evaluation._compare import KL_BUDGET, STRENGTHS, check_splits, environment, model_facts
from steerlens.evaluation._controls import negative_controls, random_arms, resampled_arms
from steerlens.evaluation._frontier_area import area_under_frontier
from steerlens.evaluation._item_records import item_records, text_records
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._mini import mini_capability
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._option_mass import option_mass
from steerlens.evaluation._propensity import PropensityReport, propensity_report
from steerlens.evaluation._reliability import SLOPE_RANGE
from steerlens.evaluation._scores import score_questions, score_resolution
from steerlens.evaluation._tables import (
    met,
    nearest_tried,
    per_token,
    perplexity_ratio,
    point_effect,
    relative_displacement,
)
from steerlens.evaluation._text_baselines import TextBaseline, TextRole, said_and_shown
from steerlens.evaluation._texts import text_halves
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap, SteeringMethod, method_family, method_name, summarise
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap, minimal_detectable_effect
from steerlens.probes import difference_report
from steerlens.progress import progress

Array = npt.NDArray[np.float64]

N_FAILURES = 8
N_TEXTS = 24
"""Bundled neutral texts: on half of them strengths are chosen, and the others run under every arm and strength."""


@final
@dataclass(frozen=True)
class CardPlan:
    """What a card measures besides the method itself.

    Args:
        strengths: Grid; must include 0 and 1, and at least three within ±1.5. Negative ones are left out for maps
            without a reverse, which then need three from 0 upwards.
        budget: KL on neutral text, nats per token. Every map's strength is found on one half of the texts, up to four
            times the largest of the grid, and measured once on the other.
        n_random: Random directions, at least 20: fewer give no z-score.
        n_permuted: Fits to exchanged labels.
        n_resampled: Fits to resampled pairs, 0 or at least 39; they tell questions that are steered the wrong way from
            noise.
        other: Another concept, whose map is tried on this one's questions; None leaves it out.
        instructions: What to say for and against the concept; None leaves prompting out.
        chat: The format that prompts are also given in, besides plain text, as in `steerlens.evaluation.compare`.
        capability: Whether to answer the bundled capability items.
        shifted: Whether to ask the questions in other settings, too; needs ``instructions``.
        open_ended: Whether to score the references themselves.
        sites_tried: How many sites the one given was chosen from, on other pairs; stands on the card.
        seed: Of everything random.
    """

    strengths: tuple[float, ...] = STRENGTHS
    budget: float = KL_BUDGET
    n_random: int = 20
    n_permuted: int = 5
    n_resampled: int = 39
    other: ConceptDataset | None = None
    instructions: tuple[str, str] | None = None
    chat: ChatFormat = PLAIN
    capability: bool = True
    shifted: bool = True
    open_ended: bool = True
    sites_tried: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        within = [s for s in set(self.strengths) if abs(s) <= SLOPE_RANGE]
        if not {0.0, 1.0} <= set(self.strengths) or len(within) < 3:
            raise OptionError(
                f"A card needs strengths 0 and 1 and three or more within ±{SLOPE_RANGE}, but got "
                f"{list(self.strengths)}."
            )
        if self.n_random < 20 or self.n_permuted < 1:
            raise OptionError(
                f"A card needs 20 random directions and a fit to exchanged labels, but got n_random={self.n_random} "
                f"and n_permuted={self.n_permuted}."
            )
        if self.n_resampled != 0 and self.n_resampled < MIN_RESAMPLES:
            raise OptionError(f"n_resampled is 0 or at least {MIN_RESAMPLES}, but got {self.n_resampled}.")
        if not 0 < self.budget < float("inf"):
            raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {self.budget}.")
        if self.sites_tried < 1:
            raise OptionError(f"sites_tried counts the site given, too, but got {self.sites_tried}.")

    @property
    def upward(self) -> tuple[float, ...]:
        """Strengths from 0 upwards, ascending."""
        return tuple(sorted({float(s) for s in self.strengths if s >= 0}))


def card(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    *,
    site: Site,
    method: SteeringMethod,
    plan: CardPlan | None = None,
    neutral: Sequence[str] | None = None,
    command: str = "",
) -> SteeringCard:
    """Fit a method and measure all that its card states, on held-out pairs.

    Everything is replayed from one unsteered pass of each question: the method, random directions, fits to exchanged
    labels and to resampled pairs, another concept's map, the method at a wrong layer, and prompts.

    Args:
        model: What to steer.
        fit: Pairs to fit on.
        test: Pairs to report on; must share no group with ``fit``.
        site: Where; chosen beforehand, on other pairs than ``test``.
        method: A method fitted on activations.
        plan: Strengths, budget and controls.
        neutral: Neutral texts of at least ten documents; None takes 24 of the bundled ones. On every second document
            strengths are chosen, on the others costs are measured.
        command: What to print under "how to repeat it".

    Raises:
        OptionError: If an option is out of range, there are fewer than ten neutral texts, the two share a group, or the
            map has no reverse and the plan too few strengths from 0 upwards.
        EstimateError: If ``test`` has fewer than five groups.
        SteerlensError: Whatever extraction, fitting or steering raises.
    """
    chosen = CardPlan() if plan is None else plan
    return card_and_map(model, fit, test, site=site, method=method, plan=chosen, neutral=neutral, command=command)[0]


def card_and_map(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    *,
    site: Site,
    method: SteeringMethod,
    plan: CardPlan,
    neutral: Sequence[str] | None = None,
    command: str = "",
) -> tuple[SteeringCard, SteeringMap]:
    """`card`, with the fitted map as well."""
    started = time.monotonic()
    check_splits(fit, None, test, 1)
    given = neutral if neutral is not None else neutral_texts()[:N_TEXTS]
    choosing, texts = text_halves(given)
    found = extract(model, fit, [site])[site]
    fitted = method.fit(source=found.negative, target=found.positive)
    grid = _grid(plan, method, fitted)
    arms = [
        Arm(method_name(method), method_family(method), "method", site, fitted, grid),
        *_control_arms(model, method, fit, found, plan),
    ]
    arms = at_equal_budget(model, arms, choosing, plan.budget)
    held_out = extract(model, test, dict.fromkeys(a.site for a in arms))
    measured = measure(model, arms, test.questions, texts, held_out)
    own = measured[0]
    report = propensity_report(
        own.on_grid, grid, own.groups, seed=plan.seed, n_pairs=len(set(found.groups)),
        resampled=_resampled(model, test, found, method, grid, plan), resolution=score_resolution(model),
    )  # fmt: skip
    said = []
    if plan.instructions is not None:
        said = said_and_shown(model, fit, test, texts, plan.instructions, plan.seed, plan.chat)
    effect = _effect(own, report, plan)
    random = _random(measured, effect.at_budget.value, plan)
    controls = (*_controls(measured, plan), *_said(said, plan))
    reliability = _reliability(own, report, found, effect, plan)
    cost = _cost(model, own, fitted, site, effect, plan)
    at_cost = Intervention({site: fitted}, cost.strength)
    made = SteeringCard(
        method=_method_facts(method, fitted),
        model=model_facts(model),
        concept=_concept_facts(fit, test),
        site=site.hook_name,
        layer=site.layer,
        tokens=repr(site.tokens),
        budget=plan.budget,
        effect=effect,
        reliability=reliability,
        cost=cost,
        random=random,
        controls=controls,
        shifts=card_shifts(model, fitted, test, site, grid, plan.instructions, plan.seed) if plan.shifted else (),
        open_ended=card_open_ended(model, at_cost, test, plan.seed) if plan.open_ended else None,
        failures=_failures(own, effect.strength),
        warnings=card_warnings(effect, reliability, cost, random, controls),
        provenance=_provenance(plan, grid, len(given), command) | environment(time.monotonic() - started),
        items=item_records(measured, said),
        texts=text_records(measured, said),
    )  # fmt: skip
    return made, fitted


def _grid(plan: CardPlan, method: SteeringMethod, fitted: SteeringMap) -> tuple[float, ...]:
    """Strengths that the map can take, ascending."""
    if fitted.reverse is not None:
        return tuple(sorted({float(s) for s in plan.strengths}))
    if sum(s <= SLOPE_RANGE for s in plan.upward) < 3:
        raise OptionError(
            f"The map of {method_name(method)} has no reverse, so it takes no negative strengths, and a card needs "
            f"three or more within ±{SLOPE_RANGE}. Of {list(plan.strengths)} it can take {list(plan.upward)}. Add "
            "strengths between 0 and 1."
        )
    return plan.upward


def _control_arms(
    model: LensModel, method: SteeringMethod, fit: ConceptDataset, found: ContrastiveActivations, plan: CardPlan
) -> list[Arm]:
    """Random directions, fits to exchanged labels, another concept's map, and the method at a wrong layer."""
    upward, seed = plan.upward, plan.seed
    return [
        *random_arms(found, upward, n=plan.n_random, seed=seed),
        *negative_controls(
            model, [method], fit, found, upward, n_permuted=plan.n_permuted, other=plan.other, seed=seed
        ),
    ]


def _provenance(plan: CardPlan, grid: tuple[float, ...], n_texts: int, command: str) -> dict[str, object]:
    return {
        "command": command, "seed": plan.seed, "strengths": list(grid), "n_random": plan.n_random,
        "n_permuted": plan.n_permuted, "n_resampled": plan.n_resampled, "neutral_texts": n_texts,
        "sites_tried": plan.sites_tried, "chat": repr(plan.chat) if plan.chat != PLAIN else None,
    }  # fmt: skip


def _resampled(
    model: LensModel,
    test: ConceptDataset,
    found: ContrastiveActivations,
    method: SteeringMethod,
    grid: tuple[float, ...],
    plan: CardPlan,
) -> Array | None:
    """Propensities under maps refitted to resampled pairs, shape (resample, strength, question)."""
    if plan.n_resampled == 0:
        return None
    with progress(f"fit to {plan.n_resampled} resamples", 1) as advance:
        arms = resampled_arms(found, method, grid, n=plan.n_resampled, seed=plan.seed)
        advance(1)
    # Slopes look no farther; what lies beyond is filled with the unsteered row, and not read.
    inside = [k for k, s in enumerate(grid) if abs(s) <= SLOPE_RANGE and s != 0]
    interventions = [Intervention({}, 0.0)]
    interventions += [Intervention({a.site: a.steering_map}, grid[k]) for a in arms for k in inside]
    scores = score_questions(model, test.questions, interventions).propensity.numpy()
    out = np.broadcast_to(scores[0], (len(arms), len(grid), scores.shape[1])).copy()
    out[:, inside] = scores[1:].reshape(len(arms), len(inside), -1)
    return out


def _effect(m: Measured, report: PropensityReport, plan: CardPlan) -> CardEffect:
    at = m.dose_curve.at_budget(plan.budget, seed=plan.seed)
    k = nearest_tried(m, at.strength)
    change = m.propensity_per_token[k] - m.propensity_per_token[m.zero]
    return CardEffect(
        at_budget=at.effect,
        strength=at.strength,
        kl=at.kl,
        reached=at.reached,
        area=area_under_frontier(m.dose_curve, plan.budget, seed=plan.seed),
        slope=report.slope,
        local_slope=report.local_slope,
        per_token=_mean(change, m, plan.seed),
        detectable=minimal_detectable_effect(_at(m, at.strength) - m.propensity[m.zero], m.groups).effect,
    )


def _reliability(
    m: Measured, report: PropensityReport, found: ContrastiveActivations, effect: CardEffect, plan: CardPlan
) -> CardReliability:
    change = _at(m, effect.strength) - m.propensity[m.zero]
    groups = m.groups
    d = difference_report(found.positive.double(), found.negative.double(), found.groups, seed=plan.seed, n_samples=1)
    unit = report.anti_steering.unit
    assert unit is not None  # strengths 0 and 1 are on the grid
    return CardReliability(
        anti_steerable=report.anti_steering.naive,
        anti_at_one=unit,
        anti_shown=report.anti_steering.shown,
        unmoved=report.anti_steering.unmoved,
        tenth_percentile=bootstrap(lambda w: _weighted_quantile(change, w, 0.1), [groups], seed=plan.seed),
        monotonicity=report.monotonicity,
        curvature=report.curvature,
        missed=report.missed,
        bimodal_p=report.bimodality.p_value,
        split_half=d.split_half,
        coherence=d.alignment,
        d_prime=d.d_prime,
    )


def _cost(
    model: LensModel, m: Measured, fitted: SteeringMap, site: Site, effect: CardEffect, plan: CardPlan
) -> CardCost:
    k = nearest_tried(m, effect.strength)
    mass = option_mass(m.log_prob[0], m.log_prob[1], m.arm.strengths, m.groups, seed=plan.seed)
    after, before = None, None
    if plan.capability:
        steps = {"steered": Intervention({site: fitted}, m.arm.strengths[k])}
        scores = mini_capability(model, steps, seed=plan.seed).scores
        whole = next(s for s in scores if s.task == "mini" and s.metric == "acc")
        after, before = whole.difference, whole.unsteered
    return CardCost(
        strength=m.arm.strengths[k],
        kl=per_token(m, m.kl[k], plan.seed),
        perplexity_ratio=perplexity_ratio(m, k, seed=plan.seed),
        displacement=relative_displacement(m, k, plan.seed),
        option_mass=mass.change[sorted(m.arm.strengths).index(m.arm.strengths[k])],
        capability=after,
        capability_before=before,
    )


def _random(measured: Sequence[Measured], effect: float, plan: CardPlan) -> CardRandom:
    drawn = [m for m in measured if m.arm.role == "random"]
    null = np.array([point_effect(m, plan.budget) for m in drawn])
    low, high = np.quantile(null, [0.025, 0.975])
    spread = float(null.std(ddof=1))
    z = (effect - float(null.mean())) / spread if spread > 0 else None
    return CardRandom(float(low), float(high), len(null), z, sum(met(m, plan.budget) for m in drawn))


def _controls(measured: Sequence[Measured], plan: CardPlan) -> list[CardControl]:
    found = []
    for m in measured:
        role = m.arm.role
        if role == "permuted" or role == "other concept" or role == "wrong layer":
            at = m.dose_curve.at_budget(plan.budget, seed=plan.seed)
            where = m.arm.site.hook_name
            found.append(CardControl(role, m.arm.method, where, at.strength, at.kl, at.reached, at.effect))
    return found


def _said(said: Sequence[tuple[TextRole, TextBaseline]], plan: CardPlan) -> list[CardControl]:
    """A text has no dose: its whole effect, and its whole cost."""
    return [
        CardControl(role, t.name, "text", 1.0, t.cost(seed=plan.seed).value, True, t.effect(seed=plan.seed))
        for role, t in said
    ]


def _failures(m: Measured, strength: float) -> tuple[CardFailure, ...]:
    before, after = m.propensity[m.zero], _at(m, strength)
    worst = np.argsort(after - before, kind="stable")[:N_FAILURES]
    return tuple(
        CardFailure(q.context, q.positive, q.negative, q.side, q.group, float(before[i]), float(after[i]))
        for i, q in ((int(i), m.questions[int(i)]) for i in worst)
    )


def _method_facts(method: SteeringMethod, fitted: SteeringMap) -> CardMethod:
    said = summarise(method)
    return CardMethod(
        said.name, said.family, said.needs, fitted.reverse is not None, said.assumes, type(fitted).__name__
    )


def _concept_facts(fit: ConceptDataset, test: ConceptDataset) -> Mapping[str, object]:
    return {
        "name": fit.name, "description": fit.description, "source": fit.source, "licence": fit.licence,
        "fit_pairs": len(fit), "fit_groups": len(fit.groups), "fit_fingerprint": fit.fingerprint,
        "test_pairs": len(test), "test_groups": len(test.groups), "test_fingerprint": test.fingerprint,
    }  # fmt: skip


def _mean(values: Array, m: Measured, seed: int) -> Estimate:
    return bootstrap(lambda w: (w @ values) / w.sum(axis=-1), [m.groups], seed=seed)


def _weighted_quantile(values: Array, weights: Array, share: float) -> Array:
    """Of each resample: the smallest value that holds at least a share of the weight."""
    order = np.argsort(values, kind="stable")
    mass = weights[:, order].cumsum(axis=1)
    at = (mass >= share * mass[:, -1:]).argmax(axis=1)
    found: Array = values[order][at]
    return found


def _at(m: Measured, strength: float) -> Array:
    """Propensity of each question, linear between the strengths tried."""
    s = np.asarray(m.arm.strengths)
    high = min(int(np.searchsorted(s, strength)), len(s) - 1)
    low = max(high - 1, 0)
    share = 1.0 if s[high] == s[low] else (strength - s[low]) / (s[high] - s[low])
    found: Array = (1 - share) * m.propensity[low] + share * m.propensity[high]
    return found

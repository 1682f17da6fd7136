"""Measuring one map in both formats: letters of multiple choice, and likelihoods of open text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.activations import ContrastiveActivations, Site, extract
from steerlens.concepts import ConceptDataset, lettered_choices, open_ended_items
from steerlens.errors import OptionError
from steerlens.evaluation._agreement import (
    AGREEMENT_COLUMNS,
    AGREEMENT_MEASURES,
    AGREEMENT_RANDOM_COLUMNS,
    Agreement,
    agreement_ranks,
    check_agreement,
)
from steerlens.evaluation._compare import check_splits
from steerlens.evaluation._entanglement import LEAST_RANDOM
from steerlens.evaluation._equal_budget import KLBudget, calibrate_strength
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._open_ended import Likelihoods, open_ended_point, open_ended_report
from steerlens.evaluation._scores import UNSTEERED, score_continuations, score_neutral, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap, SteeringMethod, method_name, random_direction
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap, cluster_mean, cluster_share
from steerlens.progress import progress

Array = npt.NDArray[np.float64]

N_TEXTS = 24
"""Bundled neutral texts: every other one calibrates, the rest are reported."""
_FORMS: tuple[Any, ...] = tuple(tuple(m.split("_")) for m in AGREEMENT_MEASURES)
"""Form and quantity of each open-ended effect."""


@final
@dataclass(frozen=True)
class AgreementItems:
    """One concept in both formats.

    Args:
        fit: Pairs to fit on.
        choice: Multiple-choice questions whose positive continuation is the letter of the option with the concept.
        open_ended: Open prompts with two references.
    """

    fit: ConceptDataset
    choice: ConceptDataset
    open_ended: ConceptDataset

    @property
    def name(self) -> str:
        """Of the concept."""
        return self.fit.name


def agreement_items(dataset: ConceptDataset, *, seed: int, max_pairs: int | None = None) -> AgreementItems:
    """Both formats of the test part of a data set, and its part to fit on.

    The multiple choice offers both continuations under letters and asks for the letter (`lettered_choices`), in both
    orders. The pairs' own questions would not do: where they ask which continuation follows an open prompt, their
    log-odds are the open-ended separation itself, and agree with it whatever the model does.

    Args:
        dataset: Is split by group.
        seed: Of the split.
        max_pairs: Of each part, the first so many; None for all.

    Raises:
        OptionError: If ``max_pairs`` is not positive.
        ConceptError: If the data set cannot be split, or is a conversation already.
    """
    if max_pairs is not None and max_pairs < 1:
        raise OptionError(f"max_pairs must be positive, or None for all pairs, but got {max_pairs}.")
    split = dataset.split(seed=seed)
    fit, test = split.fit[:max_pairs], split.test[:max_pairs]
    return AgreementItems(fit, lettered_choices(test), open_ended_items(test))


def agreement(
    model: LensModel,
    concepts: Sequence[AgreementItems],
    *,
    site: Site,
    method: SteeringMethod,
    strength: float | KLBudget,
    seed: int,
    n_random: int = LEAST_RANDOM,
) -> Agreement:
    """Fit a method to every concept, and measure it in multiple choice and in open text.

    The choice's effect is the mean change of log p(letter of the positive option) − log p(the other letter), the
    open-ended ones are promotion, suppression and their sum, raw and less an anchor. One map at one strength is behind
    both. The same is done with random directions, as long as the map's mean step on its own negative texts: what they
    agree in owes nothing to the concept.

    Args:
        model: What to steer.
        concepts: At least five; `agreement_items` makes them of data sets.
        site: Where, for all concepts; chosen beforehand, on other pairs.
        method: A method fitted on activations.
        strength: One for all concepts; or a budget, to which each is calibrated on neutral texts.
        seed: Of bootstrap and random directions.
        n_random: Random directions for each concept, at least 20.

    Raises:
        OptionError: If there are fewer than five concepts, one is given twice, there are too few random directions, or
            what is fitted on shares a group with what is measured on.
        EstimateError: If a concept is measured on fewer than five groups, or an effect is the same on all concepts.

    References:
        pres2024 (multiple choice against open text), tan2024 (effects in multiple choice).
    """
    check_agreement([c.name for c in concepts])
    if n_random < LEAST_RANDOM:
        raise OptionError(f"A control needs at least {LEAST_RANDOM} random directions, but got n_random={n_random}.")
    for c in concepts:
        check_splits(c.fit, None, c.choice, 1)
        check_splits(c.fit, None, c.open_ended, 1)
    site.check(model)
    rows, random = [], []
    with progress(f"both formats of {len(concepts)} concepts", len(concepts)) as advance:
        for k, c in enumerate(concepts):
            found = extract(model, c.fit, [site])[site]
            at = _fitted(model, found, site, method, strength, seed)
            # Each concept has directions of its own: shared ones would tie the concepts together.
            null = _random(found, at, n_random, seed=(seed * 1_000 + k) * 1_000)
            row, drawn = _both_formats(model, c, [at.intervention, *null], seed)
            rows.append({**at.cost, **row})
            random += drawn
            advance(1)
    frame = pd.DataFrame(rows)[list(AGREEMENT_COLUMNS)]
    drawn_frame = pd.DataFrame(random)[list(AGREEMENT_RANDOM_COLUMNS)]
    return Agreement(
        frame=frame,
        random=drawn_frame,
        ranks=agreement_ranks(frame, drawn_frame),
        model=model.name,
        dtype=str(model.dtype).removeprefix("torch."),
        method=method_name(method),
        site=site.hook_name,
        budget=strength.value if isinstance(strength, KLBudget) else None,
    )


@final
@dataclass(frozen=True)
class _AtStrength:
    """A fitted map at its strength, and what it costs there."""

    site: Site
    steering_map: SteeringMap
    strength: float
    cost: dict[str, Any]

    @property
    def intervention(self) -> Intervention:
        return Intervention({self.site: self.steering_map}, self.strength)


def _fitted(
    model: LensModel,
    found: ContrastiveActivations,
    site: Site,
    method: SteeringMethod,
    strength: float | KLBudget,
    seed: int,
) -> _AtStrength:
    fitted = method.fit(source=found.negative, target=found.positive)
    texts = neutral_texts()[:N_TEXTS]
    s, reached = strength, True
    if isinstance(s, KLBudget):
        calibrated = calibrate_strength(model, site, fitted, texts=texts[0::2], budget=s, seed=seed)
        s, reached = calibrated.strength, calibrated.reached
    scores = score_neutral(model, texts[1::2], [Intervention({site: fitted}, s)])
    kl, n_tokens = scores.kl[0].numpy(), scores.n_tokens.double().numpy()
    e = bootstrap(lambda w: (w @ kl) / (w @ n_tokens), [range(len(kl))], seed=seed, bounds=(0.0, np.inf))
    cost = {"strength": float(s), "reached": reached, "kl": e.value, "kl_low": e.low, "kl_high": e.high}
    return _AtStrength(site, fitted, float(s), cost)


def _random(found: ContrastiveActivations, at: _AtStrength, n: int, *, seed: int) -> list[Intervention]:
    norm = float(at.steering_map.step(found.negative.double(), strength=at.strength).norm(dim=1).mean())
    width = found.negative.shape[1]
    return [Intervention({at.site: random_direction(width, norm=norm, seed=seed + i)}, 1.0) for i in range(n)]


def _both_formats(
    model: LensModel, items: AgreementItems, interventions: Sequence[Intervention], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of the first intervention, and the points of the others."""
    plans = [UNSTEERED, *interventions]
    questions = items.choice.questions
    propensity = score_questions(model, questions, plans).propensity.numpy()
    change = propensity[1:] - propensity[0]
    per_token = score_continuations(
        model, [p.prompt for p in items.open_ended], [(p.positive, p.negative) for p in items.open_ended], plans
    ).per_token.numpy()
    likely = [Likelihoods(row[0::2], row[1::2]) for row in per_token]
    groups = [p.group for p in items.open_ended]
    chosen = cluster_mean(change[0], [q.group for q in questions], seed=seed)
    row = {
        "concept": items.name, **_ends("choice", chosen), **_same_choice(items.choice, propensity[0], seed),
        "n_questions": len(questions), "n_items": len(groups), "n_clusters": len(set(groups)), "level": chosen.level,
    }  # fmt: skip
    report = open_ended_report(likely[0], likely[1], groups, seed=seed, shares=(1.0,)).set_index(["form", "quantity"])
    for name, where in zip(AGREEMENT_MEASURES, _FORMS, strict=True):
        e = report.loc[where]
        row |= {name: e["value"], f"{name}_low": e["low"], f"{name}_high": e["high"]}
    drawn = [
        {
            "concept": items.name,
            "draw": i,
            "choice": float(change[1 + i].mean()),
            **{m: open_ended_point(likely[0], of, *where) for m, where in zip(AGREEMENT_MEASURES, _FORMS, strict=True)},
        }
        for i, of in enumerate(likely[2:])
    ]
    return row, drawn


def _same_choice(choice: ConceptDataset, propensity: Array, seed: int) -> dict[str, float]:
    """Share of pairs, asked in both orders, of which the same option is chosen in both."""
    asked: dict[Any, list[int]] = {}
    for i, pair in enumerate(choice):
        if "asked" in pair.metadata:
            asked.setdefault(pair.metadata["asked"], []).append(i)
    both = [of for of in asked.values() if len(of) == 2]
    if 2 * len(both) < len(choice):
        return {f"same_choice{end}": float("nan") for end in ("", "_low", "_high")}
    same = [(propensity[a] > 0) == (propensity[b] > 0) for a, b in both]
    return _ends("same_choice", cluster_share(same, [choice[a].group for a, _ in both], seed=seed))


def _ends(name: str, e: Estimate) -> dict[str, float]:
    return {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}

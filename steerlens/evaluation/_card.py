"""The steering card: what a map does, how reliably, at what cost, where it fails, on one page with a fixed schema."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, final

import pandas as pd

from steerlens.errors import ArtefactError, OptionError
from steerlens.numerics import Estimate

CARD_SCHEMA = "steerlens/card/3"
CARD = "card.json"
CARD_ITEMS = "card-items.parquet"
CARD_TEXTS = "card-texts.parquet"

ControlRole = Literal["permuted", "other concept", "wrong layer", "prompt", "opposite prompt", "few-shot"]


@final
@dataclass(frozen=True)
class CardMethod:
    """What was fitted.

    Args:
        name: Class and options.
        family: Family of maps.
        needs: What it is fitted on.
        reversible: Whether negative strengths have a map of their own.
        assumes: When it is right.
        map: Class of the fitted map.
    """

    name: str
    family: str
    needs: str
    reversible: bool
    assumes: str
    map: str


@final
@dataclass(frozen=True)
class CardEffect:
    """What it does. Effects are changes of log p(positive) − log p(negative), in nats.

    Args:
        at_budget: Mean effect at the strength whose KL is the budget on one half of the neutral texts.
        strength: That strength.
        kl: KL there on the other half, nats per token.
        reached: Whether the budget was met on the first half, within four times the largest strength of the grid.
        area: Mean over all smaller budgets of the best effect that each can buy.
        slope: Steerability, nats per unit of strength.
        local_slope: The same at strength 0.
        per_token: Effect at that strength, with per-token means.
        detectable: Mean effect that a t-test over groups of questions would find with a power of 0.8, given how much
            their effects differ: what "no effect" can and cannot exclude here.
    """

    at_budget: Estimate
    strength: float
    kl: float
    reached: bool
    area: Estimate
    slope: Estimate
    local_slope: Estimate
    per_token: Estimate
    detectable: float


@final
@dataclass(frozen=True)
class CardReliability:
    """How reliably.

    Args:
        anti_steerable: Share of questions whose slope is not above zero, as published; the unmoved are among them.
        anti_at_one: Share whose propensity falls from strength 0 to 1, by more than rounding.
        anti_shown: Share whose interval over maps refitted to resampled pairs lies below zero; None without those.
        unmoved: Share whose slope is no larger than rounding makes it, see `slope_rounding`.
        tenth_percentile: Of the questions' effects at the budget.
        monotonicity: Mean Spearman correlation of propensity with strength.
        curvature: Mean second-order coefficient of propensity in strength.
        missed: Share of questions whose line misses by more than its slope.
        bimodal_p: p-value of the dip test of slopes.
        split_half: Cosine of the mean differences of two halves of the fitting pairs.
        coherence: Mean cosine of a pair's difference with the mean difference of others, held out.
        d_prime: Separation of the classes along it, held out.
    """

    anti_steerable: Estimate
    anti_at_one: Estimate
    anti_shown: Estimate | None
    unmoved: Estimate
    tenth_percentile: Estimate
    monotonicity: Estimate
    curvature: Estimate
    missed: Estimate
    bimodal_p: float
    split_half: float
    coherence: Estimate
    d_prime: Estimate


@final
@dataclass(frozen=True)
class CardCost:
    """At what cost, at the strength chosen for the budget.

    Args:
        strength: That strength.
        kl: KL(unsteered ‖ steered) on neutral text, nats per token.
        perplexity_ratio: Of neutral text, steered over unsteered.
        displacement: E‖step‖ / E‖x‖ on held-out activations.
        option_mass: Change of the probability of both continuations together.
        capability: Paired change of accuracy on the bundled capability items; None if not asked for.
        capability_before: Accuracy there, unsteered.
    """

    strength: float
    kl: Estimate
    perplexity_ratio: Estimate
    displacement: Estimate
    option_mass: Estimate
    capability: Estimate | None
    capability_before: Estimate | None


@final
@dataclass(frozen=True)
class CardShift:
    """The same questions in another setting, steered by the same map.

    Args:
        setting: Such as ``SYS_NEG``; see `steerlens.concepts.shifts`.
        slope: Steerability there, nats per unit of strength.
        retained: That over the steerability at home; None where there is too little at home to relate to.
        correlation: Spearman correlation, over questions, of their slopes at home and there; None where the map moves
            nothing in one of them.
    """

    setting: str
    slope: Estimate
    retained: Estimate | None
    correlation: Estimate | None


@final
@dataclass(frozen=True)
class CardOpenEnded:
    """Log-likelihood per token of the references themselves, at the strength chosen for the budget, in nats.

    Args:
        promotion: Mean rise of the least likely quarter of the positive references.
        suppression: Mean fall of the most likely quarter of the negative ones.
        promotion_all: Mean rise of all positive references.
        suppression_all: Mean fall of all negative ones.
    """

    promotion: Estimate
    suppression: Estimate
    promotion_all: Estimate
    suppression_all: Estimate


@final
@dataclass(frozen=True)
class CardControl:
    """Another arm on the same questions, at the same budget."""

    role: ControlRole
    name: str
    site: str
    strength: float
    kl: float
    reached: bool
    effect: Estimate


@final
@dataclass(frozen=True)
class CardRandom:
    """Effects at the budget of random directions of the same length: their 95 % range, and where the method stands.

    ``z`` is None where they do not differ. ``reached`` of the ``n`` meet the budget; where it is fewer, the range is
    that of a smaller dose, and ``z`` too large.
    """

    low: float
    high: float
    n: int
    z: float | None
    reached: int


@final
@dataclass(frozen=True)
class CardFailure:
    """A question that the method moves the least, or the wrong way, at the budget. Propensities in nats."""

    context: str
    positive: str
    negative: str
    side: str
    group: str
    before: float
    after: float


@final
@dataclass(frozen=True, eq=False)
class SteeringCard:
    """One method on one concept in one model at one site, with everything a reader needs to doubt it.

    ``items`` and ``texts`` are data frames with the columns `ITEM_COLUMNS` and `TEXT_COLUMNS`. Effects, slopes, KL and
    perplexity of the method, its controls and prompts can be computed from them; what else is on the card cannot:
    relative displacement, the shown anti-steerable share, properties of the vector, capability, shifts and open ends.
    """

    method: CardMethod
    model: Mapping[str, Any]
    concept: Mapping[str, Any]
    site: str
    layer: int
    tokens: str
    budget: float
    effect: CardEffect
    reliability: CardReliability
    cost: CardCost
    random: CardRandom
    controls: tuple[CardControl, ...]
    shifts: tuple[CardShift, ...]
    open_ended: CardOpenEnded | None
    failures: tuple[CardFailure, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]
    items: pd.DataFrame
    texts: pd.DataFrame

    def __str__(self) -> str:
        e, r, c = self.effect, self.reliability, self.cost
        met = "" if e.reached else " (not reached)"
        z = "unknown" if self.random.z is None else f"{self.random.z:.3g}"
        short = "" if self.random.reached == self.random.n else f"; {self.random.reached} of {self.random.n} reach it"
        lines = [
            f"{self.method.name} on {self.concept['name']} in {self.model['name']}, {self.site}",
            f"  effect at {self.budget:g} nats KL{met}  {e.at_budget} nats at strength {e.strength:.3g}",
            f"  random directions           {self.random.low:.3g} to {self.random.high:.3g} (z = {z}{short})",
            f"  anti-steerable              {r.anti_steerable}, shown {r.anti_shown or 'not measured'}",
            f"  not moved at all            {r.unmoved}",
            f"  perplexity ratio            {c.perplexity_ratio}",
            f"  capability                  {c.capability or 'not measured'}",
            *(f"  {k.role:<27} {k.effect}  {k.name}" for k in self.controls),
            *(f"  in {s.setting:<24} keeps {s.retained or 'unknown'} of its slope" for s in self.shifts),
            *(f"  ! {w}" for w in self.warnings),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return str(import_module("steerlens.reports").card_html(self))

    def save(self, folder: str | Path) -> Path:
        """Write ``card.json`` and the records of questions and texts into a folder, beside the map if it is there.

        Raises:
            OptionError: If the folder cannot be made.
            ArtefactError: If a number on the card is NaN or infinite; nothing is written then.
        """
        folder = Path(folder)
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("items", "texts")]
        document = {"schema": CARD_SCHEMA, **{name: _plain(getattr(self, name)) for name in names}}
        check_finite(document, "card")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{str(folder)!r} cannot be made a folder: {error.strerror}. Choose another.") from None
        self.items.to_parquet(folder / CARD_ITEMS, index=False)
        self.texts.to_parquet(folder / CARD_TEXTS, index=False)
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / CARD).write_text(text, "utf-8")
        return folder


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def check_finite(value: Any, where: str) -> None:
    """Refuse NaN and infinite numbers anywhere in what JSON can hold.

    Raises:
        ArtefactError: If there is one, naming its place.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ArtefactError(f"{where} should be finite, but is {value}. Look for NaN in what was measured.")
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_finite(part, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            check_finite(part, f"{where}[{i}]")

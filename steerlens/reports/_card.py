"""The figures of a steering card: the method among its controls, and the questions one by one."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from steerlens.evaluation import SteeringCard
from steerlens.reports._drawing import draw_interval, draw_row, draw_zero, style_plain, style_rows
from steerlens.reports._numbers import estimate, general
from steerlens.reports._palette import INK, MARKERS, MUTED, NULL, Look, family_colour

Array = npt.NDArray[np.float64]

_SAID = {
    "permuted": "labels exchanged in half of the groups",
    "other concept": "another concept",
    "wrong layer": "a wrong layer",
    "prompt": "prompt",
    "opposite prompt": "prompt for the opposite",
    "few-shot": "examples in the prompt",
}


@final
@dataclass(frozen=True)
class ControlRow:
    """One arm: effect with its interval, in nats, and its KL."""

    name: str
    look: Look
    effect: tuple[float, float, float]
    kl: float
    reached: bool


@final
@dataclass(frozen=True, eq=False)
class CardControls:
    """The method first, then its controls; and the range of random directions, with how many reached the budget."""

    rows: tuple[ControlRow, ...]
    random: tuple[float, float]
    n_random: int
    n_reached: int


@final
@dataclass(frozen=True, eq=False)
class CardQuestions:
    """Propensity of every question without and with steering, at the strength of the card's costs, in nats."""

    strength: float
    before: Array
    after: Array


def prepare_card_controls(card: SteeringCard) -> CardControls:
    """The method and one row for each control; of several fits to exchanged labels the strongest."""
    own = Look(family_colour(card.method.family), MARKERS[0], (0, ()))
    other = Look(MUTED, MARKERS[1], (0, ()))
    e = card.effect.at_budget
    rows = [ControlRow(card.method.name, own, (e.value, e.low, e.high), card.effect.kl, card.effect.reached)]
    permuted = [c for c in card.controls if c.role == "permuted"]
    strongest = max(permuted, key=lambda c: abs(c.effect.value), default=None)
    for c in card.controls:
        if c.role == "permuted" and c is not strongest:
            continue
        name = f"strongest of {len(permuted)} fits to exchanged labels" if c.role == "permuted" else _SAID[c.role]
        detail = name if c.role in ("permuted", "few-shot") else f"{name}: {c.name.removeprefix('prompt: ')}"
        rows.append(ControlRow(detail, other, (c.effect.value, c.effect.low, c.effect.high), c.kl, c.reached))
    return CardControls(tuple(rows), (card.random.low, card.random.high), card.random.n, card.random.reached)


def draw_card_controls(data: CardControls, axes: Axes) -> None:
    """One row for each arm over the grey range of random directions; hollow if off the budget."""
    style_rows(axes, len(data.rows))
    draw_zero(axes, vertical=True)
    low, high = data.random
    axes.add_patch(
        Rectangle((low, -0.75), high - low, len(data.rows) + 0.15, facecolor=NULL, alpha=0.3, linewidth=0, zorder=0)
    )
    for y, row in enumerate(data.rows):
        mark = "" if row.reached else " †"
        draw_interval(axes, row.effect, y, row.look, filled=row.reached)
        name = row.name if len(row.name) <= 60 else row.name[:59] + "…"
        draw_row(axes, y, name, f"{estimate(*row.effect)} nats at KL {general(row.kl)}{mark}")
    axes.autoscale_view(scaley=False)
    short = "" if data.n_reached == data.n_random else f" († {data.n_reached} at the budget)"
    axes.set_xlabel(f"effect at the KL budget (nats); grey: {data.n_random} random directions{short}")


def prepare_card_questions(card: SteeringCard) -> CardQuestions:
    """From the card's records alone."""
    own = card.items[card.items["role"] == "method"]
    propensity = own["positive"] - own["negative"]

    def at(strength: float) -> Array:
        chosen = own["strength"] == strength
        found: Array = propensity[chosen].to_numpy()[np.argsort(own.loc[chosen, "question"].to_numpy())]
        return found

    return CardQuestions(card.cost.strength, at(0.0), at(card.cost.strength))


def draw_card_questions(data: CardQuestions, axes: Axes) -> None:
    """Change of each question, sorted; those that move the wrong way stand out below zero."""
    change = np.sort(data.after - data.before)
    place = np.arange(len(change))
    wrong = change <= 0
    style_plain(axes)
    draw_zero(axes, vertical=False)
    axes.vlines(place[~wrong], 0, change[~wrong], color=family_colour("additive"), linewidth=1.4)
    axes.vlines(place[wrong], 0, change[wrong], color=family_colour("affine"), linewidth=1.8)
    axes.plot(place[wrong], change[wrong], MARKERS[1], color=family_colour("affine"), markersize=3.5)
    axes.axhline(float(change.mean()), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"mean {general(change.mean())}", (0, float(change.mean())), xytext=(2, 4), textcoords="offset points",
        fontsize=8.5, color=INK,
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_xlabel(f"questions, sorted (n = {len(change)}, {int(wrong.sum())} moved the wrong way or not at all)")
    axes.set_ylabel(f"change of propensity\nat strength {general(data.strength)} (nats)")

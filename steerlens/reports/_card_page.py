"""A steering card as one page, complete in itself."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path

import matplotlib as mpl

import steerlens
from steerlens.errors import OptionError
from steerlens.evaluation import CardRandom, SteeringCard
from steerlens.numerics import Estimate
from steerlens.reports._card import (
    draw_card_controls,
    draw_card_questions,
    prepare_card_controls,
    prepare_card_questions,
)
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import ReportFigure, one_axes
from steerlens.reports._frame import framed
from steerlens.reports._numbers import DASH, estimate, general, percent
from steerlens.reports._page import figure_html
from steerlens.reports._tables import facts_list, stacked_table

_NOT = "not measured"
_STILL = "not measured: the map moves nothing"


def write_card(card: SteeringCard, folder: str | Path) -> Path:
    """Write ``card.html``, ``card.json`` and the card's records into ``folder``; the path of the page.

    Args:
        card: What to write.
        folder: Made if it does not exist; files of the same names are replaced. Best the map's own folder.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A card needs a folder, but {folder} is a file. Give another name.")
    card.save(folder)
    path = folder / "card.html"
    path.write_text(card_html(card), "utf-8", errors="replace")
    return path


def card_html(card: SteeringCard) -> str:
    """The page as text."""
    return framed(
        "card.html",
        title=escape(f"{card.method.name} on {card.concept['name']} in {card.model['name']}"),
        lead=escape(_lead(card)),
        warnings=_warnings(card.warnings),
        numbers=_numbers(card),
        figures="\n".join(figure_html(f, k) for k, f in enumerate(_figures(card), start=1)),
        failures=_failures(card),
        model=facts_list(card.model.items()),
        concept=facts_list(card.concept.items()),
        method=facts_list(
            [
                ("method", card.method.name), ("family", card.method.family), ("fitted map", card.method.map),
                ("fitted on", card.method.needs), ("right when", card.method.assumes), ("site", card.site),
                ("tokens", card.tokens), ("reverse", card.method.reversible),
            ]
        ),
        provenance=facts_list((k, v) for k, v in card.provenance.items() if k != "command"),
        command=escape(str(card.provenance.get("command", ""))) or "# the command was not recorded",
        version=escape(steerlens.__version__),
    )  # fmt: skip


def _lead(card: SteeringCard) -> str:
    e, r = card.effect, card.reliability
    where = f"At {general(card.budget)} nats of KL per token of neutral text (strength {general(e.strength)})"
    if not e.reached:
        where = f"Short of the budget, at strength {general(e.strength)} ({general(e.kl)} nats of KL per token),"
    unmoved = f", those that are not moved at all, {_share(r.unmoved)}, among them" if r.unmoved.value > 0 else ""
    z = DASH if card.random.z is None else general(card.random.z)
    return (
        f"{where} it moves the log-odds of the wanted continuation by {_said(e.at_budget)} nats; random directions of "
        f"the same length reach {general(card.random.low)} to {general(card.random.high)} (z = {z}, "
        f"n = {card.random.n}{_short(card.random)}). "
        f"{_share(r.anti_steerable)} of {r.anti_steerable.n} questions have a slope that is not "
        f"above zero{unmoved}."
    )


def _short(random: CardRandom) -> str:
    return "" if random.reached == random.n else f", {random.reached} of them at the budget †"


def _numbers(card: SteeringCard) -> str:
    e, r, c = card.effect, card.reliability, card.cost
    rows: list[tuple[str, str, str]] = [
        ("Effect", "at the budget, nats", _said(e.at_budget)),
        ("Effect", "area up to the budget, nats", _said(e.area)),
        ("Effect", f"per token, at strength {general(c.strength)}, nats", _said(e.per_token)),
        ("Effect", "steerability, nats per unit of strength", _said(e.slope)),
        ("Effect", "slope at strength 0", _said(e.local_slope)),
        ("Effect", "least mean effect that these questions would show (power 0.8), nats", general(e.detectable)),
        ("Reliability", "anti-steerable by slope", _share(r.anti_steerable)),
        ("Reliability", "anti-steerable from 0 to 1", _share(r.anti_at_one)),
        ("Reliability", "anti-steerable beyond noise of the fit", _share(r.anti_shown)),
        ("Reliability", "not moved at all: slope no larger than rounding", _share(r.unmoved)),
        ("Reliability", "tenth percentile of questions, nats", _said(r.tenth_percentile)),
        ("Reliability", "monotonicity", _said(r.monotonicity)),
        ("Reliability", "curvature", _said(r.curvature)),
        ("Reliability", "questions whose line misses by more than its slope", _share(r.missed)),
        ("Reliability", "dip test of slopes, p", general(r.bimodal_p)),
        ("Direction", "split-half cosine", general(r.split_half)),
        ("Direction", "coherence of pairs, held out", _said(r.coherence)),
        ("Direction", "d′, held out", _said(r.d_prime)),
        *_elsewhere(card),
        ("Cost", f"KL at strength {general(c.strength)}, nats per token", _said(c.kl)),
        ("Cost", "perplexity ratio on neutral text", _said(c.perplexity_ratio)),
        ("Cost", "relative displacement", _said(c.displacement)),
        ("Cost", "change of probability on both options", _said(c.option_mass)),
        ("Cost", "change of accuracy on capability items", _said(c.capability)),
        ("Cost", "accuracy there without steering", _share(c.capability_before)),
    ]
    heads = ("Kind", "Quantity", "Value [95 % interval]")
    body = "\n".join(
        '<tr role="row">'
        + "".join(f'<td role="cell" data-label="{h}">{escape(cell)}</td>' for h, cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    n = e.at_budget
    caption = f"n = {n.n} questions in {n.n_clusters} groups of held-out pairs; intervals resample groups."
    return stacked_table("layers", caption, heads, body)


def _elsewhere(card: SteeringCard) -> list[tuple[str, str, str]]:
    """Other settings, and the references themselves."""
    rows = []
    for s in card.shifts:
        rows.append(("Elsewhere", f"share of the steerability kept in {s.setting}", _said(s.retained)))
        rows.append(
            ("Elsewhere", f"rank correlation of questions' slopes with {s.setting}", _said(s.correlation, _STILL))
        )
    if card.open_ended is not None:
        o, at = card.open_ended, f"at strength {general(card.cost.strength)}, nats per token"
        rows += [
            ("Open-ended", f"rise of the least likely quarter of positive references {at}", _said(o.promotion)),
            ("Open-ended", f"fall of the likeliest quarter of negative references {at}", _said(o.suppression)),
            ("Open-ended", f"rise of all positive references {at}", _said(o.promotion_all)),
            ("Open-ended", f"fall of all negative references {at}", _said(o.suppression_all)),
        ]
    return rows


def _figures(card: SteeringCard) -> tuple[ReportFigure, ...]:
    with mpl.rc_context(SETTINGS):
        controls = prepare_card_controls(card)
        wide, narrow = one_axes(
            partial(draw_card_controls, controls), height=0.65 + 0.8 * len(controls.rows), width=8.5
        )
        first = ReportFigure(
            "controls", "The method among its controls",
            "Each control is measured on the same questions and, where it has a dose, at the same budget. Look whether "
            "the method clears the grey range and every row but prompting, which is the rival.",
            "; ".join(f"{r.name}: {estimate(*r.effect)} nats" for r in controls.rows), wide, narrow,
        )  # fmt: skip
        questions = prepare_card_questions(card)
        wide, narrow = one_axes(partial(draw_card_questions, questions), height=3.6, width=8.5)
        second = ReportFigure(
            "questions", "Question by question",
            "One line a question. A mean says little where many lines point down.",
            f"Changes of {len(questions.before)} questions, sorted.", wide, narrow,
        )  # fmt: skip
    return first, second


def _failures(card: SteeringCard) -> str:
    heads = ("Question", "wanted / other", "before", "after", "change")
    body = "\n".join(
        '<tr role="row">'
        + "".join(
            f'<td role="cell" data-label="{h}">{escape(cell)}</td>'
            for h, cell in zip(
                heads,
                (
                    f.context[-240:], f"{f.positive.strip()} / {f.negative.strip()}", general(f.before),
                    general(f.after), general(f.after - f.before),
                ),
                strict=True,
            )
        )
        + "</tr>"
        for f in card.failures
    )  # fmt: skip
    caption = "The questions that move least, or the wrong way. Propensities in nats."
    return stacked_table("layers", caption, heads, body)


def _warnings(found: Sequence[str]) -> str:
    if not found:
        return "<p>None of the fixed rules found anything to warn of. That is not a proof that nothing is wrong.</p>"
    return '<ul class="limits">' + "".join(f"<li>{escape(w)}</li>" for w in found) + "</ul>"


def _said(e: Estimate | None, why_not: str = _NOT) -> str:
    return why_not if e is None else estimate(e.value, e.low, e.high)


def _share(e: Estimate | None) -> str:
    return _NOT if e is None else percent(e.value, e.low, e.high)

"""Tables of a report as HTML. Everything that comes from models, data or users is escaped here."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from steerlens.evaluation import Comparison, Generation
from steerlens.reports._numbers import (
    DASH,
    bounds,
    decimals_for,
    estimate,
    general,
    is_number,
    number,
    percent,
)
from steerlens.reports._palette import family_colour
from steerlens.reports._select import budget_of, chosen_records, ordered_headline, short_of_budget

REPLACEMENT = "\ufffd"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COLUMNS = (
    ("Effect at the budget", "nats"),
    ("Random directions", "nats, 95 % range"),
    ("Steerability", "nats per strength"),
    ("Anti-steerable", "slope ≤ 0"),
    ("Anti-steerable", "wrong way at strength 1"),
    ("Perplexity ratio", "steered / plain"),
    ("Displacement", "‖Δx‖ / ‖x‖"),
    ("Strength", "and its KL"),
    ("n", "questions"),
)


def headline_table(comparison: Comparison) -> str:
    """One row per method; on a narrow screen the style sheet turns each row into a card."""
    rows = ordered_headline(comparison)
    if rows.empty:
        return "<p>No method was measured.</p>"
    heads = ["Method", *(f'{name} <span class="unit">{unit}</span>' for name, unit in _COLUMNS)]
    caption = "All methods at one site, measured once on the test half. Square brackets are intervals."
    body = "\n".join(_headline_row(comparison, row) for _, row in rows.iterrows())
    return stacked_table("headline", caption, heads, body)


def best_dose_table(comparison: Comparison) -> str:
    """Each method at its own best strength, whatever it costs; nothing without a selection half."""
    rows = comparison.best_doses.sort_values("effect", ascending=False)
    if rows.empty:
        return ""
    heads = ("Method", "Strength", "Effect, nats", "KL, nats per token")
    body = [
        _row(
            heads,
            [
                str(row["method"]),
                general(row["strength"]),
                estimate(*row[["effect", "low", "high"]]),
                general(row["kl"]),
            ],
        )
        for _, row in rows.iterrows()
    ]
    caption = (
        "Each at the strength of the grid that had the largest effect on the selection half, without regard to what it "
        "costs, measured once on the test half. Methods are not at equal cost here: read the KL beside the effect."
    )
    return "<h3>Each at its own best strength</h3>" + stacked_table("layers", caption, heads, "\n".join(body))


def rivals_table(comparison: Comparison) -> str:
    """Prompts, examples and fine-tuning on the same questions; nothing if none was tried."""
    r = comparison.records
    rows = r[r["role"].isin(["text", "fine-tuned"]) & (r["split"] == "test")]
    if rows.empty:
        return ""
    heads = ("Instead of a map", "Effect, nats", "KL, nats per token", "Perplexity ratio")
    body = []
    for name in rows["method"].unique():
        of = rows[rows["method"] == name]
        whole = of[of["strength"] == 1.0].set_index("metric")
        said = [estimate(*whole.loc[m, ["value", "low", "high"]]) for m in ("effect", "kl", "perplexity_ratio")]
        body.append(_row(heads, [str(name), *said]))
        at = of[of["metric"] == "effect_at_budget"]
        if len(at):
            found = estimate(*at.iloc[0][["value", "low", "high"]])
            budget = f"at {general(budget_of(comparison))} or less"
            body.append(_row(heads, [f"{name}, times {general(at.iloc[0]['strength'])}", found, budget, DASH]))
    caption = (
        "What saying it, showing it or training it does, on the same questions and neutral texts. A text has no "
        "strength: its effect is whole, at whatever KL it costs. Fine-tuning is scaled to the budget, too."
    )
    title = "Prompts, examples and fine-tuning" if (rows["role"] == "fine-tuned").any() else "Prompts and examples"
    return f"<h3>{title}</h3>" + stacked_table("layers", caption, heads, "\n".join(body))


def stacked_row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """One row of a stacked table; heads and cells are HTML already."""
    named = zip(heads, cells, strict=True)
    return '<tr role="row">' + "".join(f'<td role="cell" data-label="{h}">{cell}</td>' for h, cell in named) + "</tr>"


def _row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """The same of plain text."""
    return stacked_row(heads, [escape(cell) for cell in cells])


_CONTROLS = {"permuted": "Exchanged labels", "wrong layer": "Wrong layer", "other concept": "Another concept"}


def controls_table(comparison: Comparison) -> str:
    """Each method beside itself fitted to what holds no concept; nothing if that was not tried."""
    r = comparison.records
    rows = r[r["split"] == "test"]
    roles = [role for role in _CONTROLS if (rows["role"] == role).any()]
    if not roles:
        return ""
    heads = ("Method", "Effect, nats", *(f"{_CONTROLS[role]}, nats" for role in roles))
    body = []
    for _, row in ordered_headline(comparison).iterrows():
        name = str(row["method"])
        cells = [name, estimate(row["effect"], row["effect_low"], row["effect_high"])]
        cells += [control_of(comparison, role, name) for role in roles]
        body.append(_row(heads, cells))
    neutral = _neutral_direction(rows)
    caption = (
        "The same method, questions and budget, fitted to pairs whose labels were exchanged in half of the groups, or "
        "at the far end of the model, or to another concept. What these reach is not the concept's. †: the budget was "
        "never reached, for without a concept a fit moves little; random directions are as long as the mean shift."
    ) + neutral
    return "<h3>Negative controls</h3>" + stacked_table("layers", caption, heads, "\n".join(body))


def _neutral_direction(rows: pd.DataFrame) -> str:
    at = rows[(rows["role"] == "neutral direction") & (rows["metric"] == "effect_at_budget")]
    if at.empty:
        return ""
    reached = estimate(*at.iloc[0][["value", "low", "high"]])
    return f" The first principal component of neutral texts, as long as the mean shift, reaches {reached} nats."


def control_of(comparison: Comparison, role: str, method: str) -> str:
    """The control of a role that was fitted by a method, on the test half: its name begins with the method's."""
    r, doses = (_fitted_by(frame[frame["role"] == role], method) for frame in (comparison.records, comparison.doses))
    own = r[r["split"] == "test"]
    at, cost = (own[own["metric"] == metric] for metric in ("effect_at_budget", "kl"))
    if at.empty:
        return DASH
    met = doses["reached"].astype(bool).any() if len(doses) else (cost["value"] >= budget_of(comparison)).any()
    return estimate(*at.iloc[0][["value", "low", "high"]]) + ("" if met else " †")


def _fitted_by(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    return frame[frame["method"].astype(str).str.startswith((f"{method}, ", f"{method} of ", f"{method} at "))]


def stacked_table(kind: str, caption: str, heads: Sequence[str], body: str) -> str:
    """A table that stays one for screen readers when the style sheet lays it out as cards.

    Caption, heads and body are HTML already.
    """
    cells = "".join(f'<th scope="col" role="columnheader">{head}</th>' for head in heads)
    return (
        f'<table class="{kind} stack" role="table"><caption>{caption}</caption>'
        f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _headline_row(comparison: Comparison, row: pd.Series) -> str:
    n = f"n = {_count(row['n'])} questions in {_count(row['n_clusters'])} groups"
    mark = "" if row["reached"] else '<span class="mark" title="the budget was never reached">†</span>'
    cells = (
        _spread(estimate(row["effect"], row["effect_low"], row["effect_high"]), mark),
        _random(row),
        _spread(estimate(row["steerability"], row["steerability_low"], row["steerability_high"])),
        _spread(percent(row["anti_slope"], row["anti_slope_low"], row["anti_slope_high"])) + _unmoved(comparison, row),
        _spread(percent(row["anti_unit"], row["anti_unit_low"], row["anti_unit_high"])),
        _spread(
            estimate(row["perplexity_ratio"], row["perplexity_ratio_low"], row["perplexity_ratio_high"]),
        ),
        _spread(displacement(comparison, row)),
        f'<span class="value">{general(row["strength"])}{mark}</span> <small>KL {general(row["kl"])}</small>',
        f'<span class="value">{_count(row["n"])}</span> <small>{_count(row["n_clusters"])} groups</small>',
    )
    texts, rows_ = (_origin(comparison, row["method"], m) for m in ("perplexity_ratio", "displacement"))
    titles = (n, f"{_count(row['random_n'])} random directions", n, n, n, texts, rows_, "", n)
    tds = "".join(
        f'<td role="cell" data-label="{escape(name)}, {escape(unit)}" title="{escape(title)}">{cell}</td>'
        for (name, unit), cell, title in zip(_COLUMNS, cells, titles, strict=True)
    )
    tried = f", chosen from {_count(row['n_tried'])} sites" if is_number(row["n_tried"]) and row["n_tried"] > 1 else ""
    return (
        f'<tr role="row"><th scope="row" role="rowheader"><b>{escape(str(row["method"]))}</b> '
        f"{family_chip(row['family'])} "
        f'<small title="{escape(str(row["site"]))}">layer {_count(row["layer"])}{tried}</small></th>'
        f"{tds}</tr>"
    )


def displacement(comparison: Comparison, row: pd.Series) -> str:
    """Relative displacement with the records' interval, interpolated to the strength as the value was."""
    d = chosen_records(comparison, "displacement")
    d = d[(d["method"] == row["method"]) & (d["strength"] >= 0)].sort_values("strength")
    low = high = float("nan")
    if len(d) and is_number(row["strength"]):
        low, high = (float(np.interp(row["strength"], d["strength"], d[end])) for end in ("low", "high"))
    return estimate(row["displacement"], low, high)


def family_chip(family: str) -> str:
    """The family's name with a dot of its colour."""
    return f'<span class="chip"><i class="dot dot-{_slug(family)}"></i>{escape(str(family))}</span>'


def _slug(family: str) -> str:
    return family if family in ("additive", "affine", "nonlinear", "custom", "random") else "other"


def _spread(text: str, mark: str = "") -> str:
    """``value [low, high]`` with the interval on its own line."""
    value, bracket, rest = text.partition("[")
    interval = f" <small>[{escape(rest)}</small>" if bracket else ""
    return f'<span class="value">{escape(value.strip())}{mark}</span>{interval}'


def _random(row: pd.Series) -> str:
    low, high = row["random_low"], row["random_high"]
    if not (is_number(low) and is_number(high)):
        return f'<span class="value">{DASH}</span> <small>z {DASH}, n = {_count(row["random_n"])}</small>'
    z = number(row["z"], 1, signed=True)
    return (
        f'<span class="value">{bounds(low, high, decimals_for(high - low))}</span> '
        f"<small>z {z}, n = {_count(row['random_n'])}{_short(row)}</small>"
    )


def _unmoved(comparison: Comparison, row: pd.Series) -> str:
    """The share that nothing moves, which is no sign of the wrong way, where there is any."""
    own = chosen_records(comparison, "unmoved")
    share = own.loc[own["method"] == row["method"], "value"]
    return f" <small>{100 * share.iloc[0]:.0f} % unmoved</small>" if len(share) == 1 and share.iloc[0] > 0 else ""


def _short(row: pd.Series) -> str:
    short = short_of_budget(row)
    title = "the range is that of a smaller dose, and z too large"
    return f', {short} at the budget<span class="mark" title="{title}">†</span>' if short else ""


def _origin(comparison: Comparison, method: str, metric: str) -> str:
    """Level, n and interval method of a metric's records, for a tooltip."""
    rows = chosen_records(comparison, metric)
    rows = rows[rows["method"] == method]
    if rows.empty:
        return ""
    r = rows.iloc[-1]
    n = f"n = {_count(r['n'])}, {_count(r['n_clusters'])} clusters"
    return f"{r['level']:.0%} interval, {n}, {r['interval']}"


def _count(value: Any) -> str:
    return f"{int(value)}" if is_number(value) else DASH


def generations_table(generations: Iterable[Generation]) -> str:
    """Unsteered beside steered text, one table per prompt."""
    by_prompt: dict[str, list[Generation]] = {}
    for g in generations:
        by_prompt.setdefault(g.prompt, []).append(g)
    if not by_prompt:
        return "<p>No text was generated in this comparison.</p>"
    return "\n".join(_prompt_table(prompt, rows) for prompt, rows in by_prompt.items())


def _prompt_table(prompt: str, rows: list[Generation]) -> str:
    plain = list(dict.fromkeys(g.text for g in rows if g.strength == 0))
    steered = [g for g in rows if g.strength != 0]
    texts = "".join(f"<p>{_text(t)}</p>" for t in plain) or f"<p>{DASH}</p>"
    first = (
        f'<td role="cell" data-label="Unsteered" class="plain" rowspan="{max(1, len(steered))}">'
        f'<div class="sticky">{texts}</div></td>'
    )
    lines = [
        f'<tr role="row">{first if k == 0 else ""}<td role="cell" class="how"><b>{escape(g.method)}</b> '
        f"<small>layer {g.layer}, strength {general(g.strength)}</small></td>"
        f'<td role="cell" class="text">{_text(g.text)}</td></tr>'
        for k, g in enumerate(steered)
    ] or [f'<tr role="row">{first}<td role="cell">{DASH}</td><td role="cell">{DASH}</td></tr>']
    caption = f"Prompt: <q>{_text(prompt)}</q>"
    return stacked_table("generations", caption, ("Unsteered", "Method", "Steered"), "".join(lines))


def _text(text: str) -> str:
    if not text.strip():
        return '<span class="empty">(nothing)</span>'
    return f'<span class="generated">{escape(_CONTROL.sub(REPLACEMENT, text))}</span>'


def facts_list(facts: Iterable[tuple[str, Any]]) -> str:
    """Names and values as a definition list."""
    items = "".join(
        f"<div><dt>{escape(str(k).replace('_', ' '))}</dt><dd>{escape(fact(v))}</dd></div>" for k, v in facts
    )
    return f'<dl class="facts">{items}</dl>' if items else f"<p>{DASH}</p>"


def fact(value: Any) -> str:
    """A fact as text: lists joined, mappings spelled out, large whole numbers grouped."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool | str):
        return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else value
    if isinstance(value, dict):
        return ", ".join(f"{k} {fact(v)}" for k, v in value.items()) or DASH
    if isinstance(value, list | tuple):
        return ", ".join(fact(v) for v in value) or DASH
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10000 else str(value)
    return general(value, 6) if isinstance(value, float) else str(value)


def comparison_html(comparison: Comparison) -> str:
    """The headline as a small table for notebooks; everything in it is escaped."""
    names = ("effect (nats)", "random 95 %", "steerability", "slope ≤ 0", "layer", "n")
    heads = "".join(f"<th>{escape(n)}</th>" for n in ("method", "family", *names))
    lines = []
    for _, r in ordered_headline(comparison).iterrows():
        low, high = r["random_low"], r["random_high"]
        mark = "" if r["reached"] else " †"
        cells = (
            estimate(r["effect"], r["effect_low"], r["effect_high"]) + mark,
            bounds(low, high, decimals_for(high - low)) + (" †" if short_of_budget(r) else ""),
            estimate(r["steerability"], r["steerability_low"], r["steerability_high"]),
            percent(r["anti_slope"], r["anti_slope_low"], r["anti_slope_high"]),
            _count(r["layer"]),
            f"{_count(r['n'])} ({_count(r['n_clusters'])} groups)",
        )
        tds = "".join(f"<td>{escape(c)}</td>" for c in cells)
        colour = family_colour(str(r["family"]))
        dot = f'<span style="color:{colour}" aria-hidden="true">●</span>'
        lines.append(f"<tr><th>{escape(str(r['method']))}</th><td>{dot} {escape(str(r['family']))}</td>{tds}</tr>")
    p = comparison.provenance
    caption = f"{escape(fact(p.concept.get('name')))} in {escape(fact(p.model.get('name')))}"
    short = any(short_of_budget(r) for _, r in comparison.headline.iterrows())
    note = "<p>† never reached the budget</p>" if short or not comparison.headline["reached"].astype(bool).all() else ""
    budgets = [general(b) for b in comparison.headline["budget"].unique()]
    caption += f", at a KL budget of {', '.join(budgets)} nats per token"
    return (
        f'<div class="steerlens-comparison"><table><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>{note}</div>"
    )

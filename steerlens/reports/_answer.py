"""The answer in plain language, said only as strongly as the intervals allow."""

from dataclasses import dataclass, replace
from typing import Literal, final

import pandas as pd

from steerlens.evaluation import Comparison
from steerlens.reports._contrasts import PairedContrast, prepare_paired_contrasts
from steerlens.reports._numbers import bounds, decimals_for, estimate, general, is_number, listed, percent
from steerlens.reports._select import budget_of, ordered_headline, short_of_budget

Tone = Literal["yes", "no", "open"]

RANDOM = "Against random directions"
FAMILIES = "Families at equal KL"
METHODS = "Methods in pairs"
LEVEL = 0.05
"""Of p-values adjusted for all pairs of methods."""
RELIABILITY = "Reliability"


@final
@dataclass(frozen=True)
class Finding:
    """One sentence: ``yes`` shows an effect or difference, ``no`` shows none, ``open`` is a caution."""

    about: str
    tone: Tone
    text: str


@final
@dataclass(frozen=True)
class Answer:
    """The answer in one paragraph, and the findings behind it."""

    lead: str
    findings: tuple[Finding, ...]


def answer(comparison: Comparison) -> Answer:
    """What the numbers say about the question, as plain text."""
    rows = ordered_headline(comparison)
    rows = rows[[is_number(e) for e in rows["effect"]]]
    if rows.empty:
        return Answer("No method was measured, so there is no answer.", ())
    findings = (
        *_against_random(rows),
        *_between_families(comparison, rows),
        *_between_methods(comparison),
        *_anti_steerable(rows),
        *_unreached(rows),
    )
    return Answer(_lead(comparison, rows), findings)


def stands(row: pd.Series) -> Literal["above", "below", "inside", "unknown"]:
    """Where a method's interval lies against the range of random directions at its site."""
    needed = ("effect_low", "effect_high", "random_low", "random_high")
    if not all(is_number(row[k]) for k in needed):
        return "unknown"
    if row["effect_low"] > row["random_high"]:
        return "above"
    return "below" if row["effect_high"] < row["random_low"] else "inside"


def _lead(comparison: Comparison, rows: pd.DataFrame) -> str:
    where = [stands(r) for _, r in rows.iterrows()]
    clear, n = where.count("above"), len(rows)
    if where.count("unknown") == n:
        first = f"Whether {_methods(n)} more than a random direction would was not measured"
    elif clear == n:
        first = "The one method does" if n == 1 else f"All {n} methods do"
        first += " more than random directions"
    elif clear:
        first = f"{clear} of {n} methods {'does' if clear == 1 else 'do'} more than random directions"
    else:
        first = "No method is shown to do more than random directions"
    best = _best_of_families(rows)
    if len(best) < 2:
        return f"{first}."
    ahead, rest = best[0], best[1:]
    if stands(ahead) in ("inside", "below"):
        return f"{first}, so no family is called ahead."
    if not ahead["reached"]:
        return f"{first}; the {ahead['family']} family has the largest effect, but never reached the budget."
    beaten = [r for r in rest if _lead_over(comparison, ahead, r) == "shown"]
    if len(beaten) == len(rest):
        return f"{first}; at equal KL the {ahead['family']} family is ahead of every other."
    if not beaten:
        return f"{first}; at equal KL no family is shown to be ahead of the others."
    open_ = listed([str(r["family"]) for r in rest if not any(r is b for b in beaten)])
    return (
        f"{first}; at equal KL the {ahead['family']} family has the largest effect, but is not shown to be "
        f"ahead of the {open_} family."
    )


def _methods(n: int) -> str:
    return "the method does" if n == 1 else f"the {n} methods do"


def _best_of_families(rows: pd.DataFrame) -> list[pd.Series]:
    """The method with the largest effect of each family, largest first."""
    ordered = [r for _, r in rows.sort_values("effect", ascending=False, kind="stable").iterrows()]
    return [r for k, r in enumerate(ordered) if r["family"] not in [o["family"] for o in ordered[:k]]]


def _against_random(rows: pd.DataFrame) -> list[Finding]:
    found = []
    for _, r in rows.iterrows():
        low, high, where = r["random_low"], r["random_high"], stands(r)
        effect = estimate(r["effect"], r["effect_low"], r["effect_high"])
        if where == "unknown":
            found.append(
                Finding(
                    RANDOM,
                    "open",
                    f"{r['method']}: {effect} nats, with too few random directions to compare it with.",
                )
            )
            continue
        band = (
            f"{effect} nats (n = {int(r['n'])}) against {bounds(low, high, decimals_for(high - low))} for "
            f"{int(r['random_n'])} random directions"
        )
        short = short_of_budget(r)
        band += f" († only {short} of these reached the budget, so their range is too narrow)" if short else ""
        if where == "above":
            text = f"{r['method']} is clear of the random-direction band: {band}."
            found.append(Finding(RANDOM, "yes", text))
        elif where == "below":
            text = f"{r['method']} pushes the wrong way, beyond the random-direction band: {band}."
            found.append(Finding(RANDOM, "no", text))
        else:
            text = f"{r['method']} is not clear of the random-direction band: {band}."
            found.append(Finding(RANDOM, "no", text))
    return found


def _between_families(comparison: Comparison, rows: pd.DataFrame) -> list[Finding]:
    best = _best_of_families(rows)
    if len(best) < 2:
        return []
    ahead = best[0]
    effect = estimate(ahead["effect"], ahead["effect_low"], ahead["effect_high"])
    budget = f"{general(budget_of(comparison))} nats per token"
    where = f"at equal KL ({budget})" if ahead["reached"] else f"(at {general(ahead['kl'])}, short of {budget} of KL)"
    text = f"Largest effect {where}: the {ahead['family']} family, by {ahead['method']} with {effect} nats."
    clear = stands(ahead) in ("above", "unknown")
    if not clear:
        text += " It is not clear of the random-direction band, so it leads nobody."
    shown = 0
    for other in best[1:]:
        lead = _lead_over(comparison, ahead, other)
        shown += lead == "shown"
        rival = f"the {other['family']} family ({other['method']})"
        text += {
            "shown": f" The paired contrast with {rival} excludes zero.",
            "open": f" The paired contrast with {rival} does not exclude zero.",
            "unadjusted": f" The paired contrast with {rival} excludes zero, but not once every pair is counted.",
            "unequal": f" With {rival} nothing is compared at equal KL: it never reached the budget.",
            "missing": f" No paired contrast with {rival} was computed.",
        }[lead]
    return [Finding(FAMILIES, "yes" if clear and shown == len(best) - 1 else "open", text)]


def _lead_over(
    comparison: Comparison, ahead: pd.Series, other: pd.Series
) -> Literal["shown", "open", "unadjusted", "unequal", "missing"]:
    """Whether one method's lead over another is shown at equal KL; a cheaper leader leads all the more."""
    c = _contrast(comparison, ahead["method"], other["method"])
    if c is None:
        return "missing"
    if not other["reached"]:
        return "unequal"
    if c.difference[1] <= 0:
        return "open"
    return "shown" if c.p_holm <= LEVEL else "unadjusted"


def _contrast(comparison: Comparison, method: str, reference: str) -> PairedContrast | None:
    """The contrast of two methods, in this order, whichever way it is stored."""
    for c in prepare_paired_contrasts(comparison).rows:
        if (c.method, c.reference) == (method, reference):
            return c
        if (c.reference, c.method) == (method, reference):
            value, low, high = c.difference
            return replace(c, method=method, reference=reference, difference=(-value, -high, -low))
    return None


def _between_methods(comparison: Comparison) -> list[Finding]:
    found = []
    for c in prepare_paired_contrasts(comparison).rows:
        value, low, high = c.difference
        said = f"difference {estimate(value, low, high, signed=True)} nats, n = {c.n}, {_p_value(c.p_holm)} after Holm"
        note = "" if c.same_cost else " Not at equal KL: one of the two never reached the budget."
        power = f" A difference of {general(c.detectable, 2)} nats would have shown with a power of 0.8."
        if value == low == high == 0:
            found.append(Finding(METHODS, "no", f"{c.method} does what {c.reference} does, up to rounding, n = {c.n}."))
        elif c.excludes_zero and not c.p_holm <= LEVEL:
            ahead, behind = (c.method, c.reference) if low > 0 else (c.reference, c.method)
            text = f"{ahead} is ahead of {behind}, but not once every pair is counted: {said}.{power}{note}"
            found.append(Finding(METHODS, "no", text))
        elif low > 0:
            found.append(Finding(METHODS, "yes", f"{c.method} beats {c.reference}: {said}.{note}"))
        elif high < 0:
            found.append(Finding(METHODS, "no", f"{c.method} falls behind {c.reference}: {said}.{note}"))
        else:
            found.append(Finding(METHODS, "no", f"{c.method} does not beat {c.reference}: {said}.{power}{note}"))
    return found


def _p_value(p: float) -> str:
    return f"p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def _anti_steerable(rows: pd.DataFrame) -> list[Finding]:
    def share(r: pd.Series) -> str:
        return f"{percent(r['anti_slope'], r['anti_slope_low'], r['anti_slope_high'])} for {r['method']}"

    known = rows[[is_number(a) for a in rows["anti_slope"]]]
    if known.empty:
        return []
    shares = listed([share(r) for _, r in known.iterrows()])
    n = general(known["n"].max(), 6)
    text = f"Questions that steering does not move the right way (slope not above zero, of {n}): {shares}."
    return [Finding(RELIABILITY, "open", text)]


def _unreached(rows: pd.DataFrame) -> list[Finding]:
    return [
        Finding(
            RELIABILITY,
            "open",
            f"{r['method']} never reached the budget at any strength tried: its effect is that of "
            f"strength {general(r['strength'])}, at a KL of {general(r['kl'])} nats per token.",
        )
        for _, r in rows[~rows["reached"].astype(bool)].iterrows()
    ]

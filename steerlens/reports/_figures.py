"""The figures of a report: each prepared once, laid out wide and narrow, captioned and described."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steerlens.evaluation import Comparison
from steerlens.reports._budget import draw_budget_effects, prepare_budget_effects
from steerlens.reports._contrasts import draw_paired_contrasts, prepare_paired_contrasts
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._frontier import draw_effect_against_kl, prepare_effect_against_kl
from steerlens.reports._layers import draw_layer_profiles, prepare_layer_profiles
from steerlens.reports._numbers import bounds, decimals_for, estimate, general, number
from steerlens.reports._palette import PAPER
from steerlens.reports._propensity import draw_propensity_curves, prepare_propensity_curves
from steerlens.reports._select import chosen_records, each, level_of, random_records
from steerlens.reports._steerability import draw_steerability, prepare_steerability
from steerlens.reports._svg import png_bytes

WIDE, NARROW = 11.5, 3.65
"""Widths in inches: 1104 and 350 CSS pixels."""


@final
@dataclass(frozen=True, eq=False)
class ReportFigure:
    """One figure of the page.

    Args:
        name: File name without suffix, and prefix of ids.
        title: Its heading.
        caption: What to look at.
        description: What it shows in words, for those who cannot see it.
        wide: Laid out for a page.
        narrow: Laid out for a telephone.
    """

    name: str
    title: str
    caption: str
    description: str
    wide: Figure
    narrow: Figure


@final
class NotebookFigure(Figure):
    """A figure that notebooks show without pyplot, whose import would choose a backend for everybody."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


def report_figures(comparison: Comparison) -> tuple[ReportFigure, ...]:
    """Every figure that the comparison has data for, in the order of the page."""
    makers = (
        _budget_figure,
        _frontier_figure,
        _contrast_figure,
        _propensity_figure,
        _steerability_figure,
        _layer_figure,
    )
    with mpl.rc_context(SETTINGS):
        found = [make(comparison) for make in makers]
    return tuple(f for f in found if f is not None)


def draw_comparison(comparison: Comparison) -> NotebookFigure:
    """Propensity curves above effect against KL, one column per family.

    Nothing global is touched: the figure belongs to no window and no notebook until it is shown.
    """
    curves, frontiers = prepare_propensity_curves(comparison), prepare_effect_against_kl(comparison)
    families = tuple(dict.fromkeys((*frontiers.families, *curves.families))) or (None,)
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(max(4.5, 3.4 * len(families)), 7.2), layout="constrained")
        grid = figure.subplots(2, len(families), sharex="row", sharey="row", squeeze=False)
        for column, family in enumerate(families):
            draw_propensity_curves(curves, grid[0, column], family=family)
            draw_effect_against_kl(frontiers, grid[1, column], family=family)
        for axes in grid[:, 1:].flat:
            axes.set_ylabel("")
    return figure


def _panels(families: Sequence[str], draw: Callable[[Axes, str], None]) -> tuple[Figure, Figure]:
    """One panel per family: beside each other on common vertical scales, and below each other."""
    columns = min(3, len(families))
    rows = -(-len(families) // columns)
    wide = Figure(figsize=(WIDE, 4.0 * rows), layout="constrained")
    narrow = Figure(figsize=(NARROW, 3.3 * len(families)), layout="constrained")
    for figure, shape in ((wide, (rows, columns)), (narrow, (len(families), 1))):
        cells = figure.subplots(*shape, sharey=True, sharex=True, squeeze=False)
        for k, axes in enumerate(cells.flat):
            if k >= len(families):
                axes.set_visible(False)
                continue
            draw(axes, families[k])
            axes.tick_params(labelbottom=True, labelleft=k % shape[1] == 0)
            if k % shape[1]:
                axes.set_ylabel("")
    return wide, narrow


def one_axes(draw: Callable[[Axes], None], *, height: float, width: float = WIDE) -> tuple[Figure, Figure]:
    """The same drawing on a page-wide and on a narrow figure."""
    figures = []
    for size in (width, NARROW):
        figure = Figure(figsize=(size, height), layout="constrained")
        draw(figure.subplots())
        figures.append(figure)
    return figures[0], figures[1]


def _budget_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_budget_effects(comparison)
    if not data.rows:
        return None
    wide, narrow = one_axes(lambda a: draw_budget_effects(data, a), height=0.65 + 0.8 * len(data.rows), width=8.5)
    said = "; ".join(f"{r.method} {estimate(*r.effect)}" for r in data.rows)
    caption = (
        "Look first at whether a method's interval clears the grey bar: the middle 95 % of random "
        "directions, each as long as the mean shift, at the same site and budget. A hollow mark (†) is a "
        "method whose side effects never reached the budget."
    ) + _short_band([r.short for r in data.rows])
    return ReportFigure("effect-at-budget", "Effect at the budget", caption, f"Effects in nats: {said}.", wide, narrow)


def _short_band(short: Sequence[str]) -> str:
    """What a band of random directions below the budget means, if there is one."""
    said = next((s for s in short if s), "")
    if not said:
        return ""
    return f" † Only {said} random directions reached the budget: the grey is that of a smaller dose, and too narrow."


def _frontier_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_effect_against_kl(comparison)
    if not data.methods:
        return None
    wide, narrow = _panels(data.families, lambda a, f: draw_effect_against_kl(data, a, family=f))
    ends = "; ".join(
        f"{m.method} reaches {number(float(m.points['effect'].iloc[-1]))} nats at a KL of "
        f"{general(float(m.points['kl'].iloc[-1]))}"
        for m in data.methods
    )
    caption = (
        (
            "Higher is more effect for the same side effects; thin grey lines repeat the other families. "
            f"Compare heights on the dashed line, the budget of {general(data.budget)} nats per token: the "
            f"large hollow marks are the headline. Crosses are {level_of(comparison)} intervals. The grey band "
            "holds the middle 95 % of random directions at the same site; a curve that stays inside it does "
            "no more than any push of that size."
        )
        + _areas(comparison)
        + _short_band([data.short])
    )
    return ReportFigure(
        "effect-against-kl",
        "Effect against side effects",
        caption,
        f"At the largest strength {ends}.",
        wide,
        narrow,
    )


def _areas(comparison: Comparison) -> str:
    """The frontier of each method as one number, beside what random directions reach; nothing where none is stored."""
    own = chosen_records(comparison, "area")
    if own.empty:
        return ""
    said = "; ".join(f"{r.method} {estimate(r.value, r.low, r.high)}" for r in each(own))
    null = random_records(comparison, "area")["value"]
    beside = ""
    if len(null) > 1:
        low, high = np.quantile(null, [0.025, 0.975])
        beside = f"; the middle 95 % of random directions {bounds(low, high, decimals_for(high - low))}"
    return f" Area under the frontier, the mean over all smaller budgets of the best effect, in nats: {said}{beside}."


def _contrast_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_paired_contrasts(comparison)
    if not data.rows:
        return None
    wide, narrow = one_axes(lambda a: draw_paired_contrasts(data, a), height=0.65 + 0.8 * len(data.rows), width=8.5)
    said = "; ".join(f"{r.method} minus {r.reference} {estimate(*r.difference, signed=True)}" for r in data.rows)
    dagger = "" if all(r.same_cost for r in data.rows) else " † One of the two never reached the budget."
    caption = (
        "Each row is the first method's effect minus the second's on the same questions. An interval that "
        f"crosses zero (grey, hollow) does not show a difference between the two.{dagger}"
    )
    return ReportFigure("paired-contrasts", "Paired contrasts", caption, f"Differences in nats: {said}.", wide, narrow)


def _propensity_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_propensity_curves(comparison)
    if not data.curves:
        return None
    wide, narrow = _panels(data.families, lambda a, f: draw_propensity_curves(data, a, family=f))
    said = "; ".join(
        f"{c.method} from {number(float(c.points['value'].iloc[0]))} at strength "
        f"{general(float(c.points['strength'].iloc[0]))} to {number(float(c.points['value'].iloc[-1]))} at "
        f"{general(float(c.points['strength'].iloc[-1]))}"
        for c in data.curves
    )
    caption = (
        "Strengths are not comparable across methods, so compare shapes, not heights: does the curve rise "
        f"on both sides of 0, where does it saturate, does it turn back? Bands are {level_of(comparison)} "
        "intervals of the mean. A method without points below 0 has no reverse."
    )
    return ReportFigure(
        "propensity-curves",
        "Propensity curves",
        caption,
        f"Mean log-odds in nats: {said}.",
        wide,
        narrow,
    )


def _steerability_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_steerability(comparison)
    if not data.rows:
        return None
    wide, narrow = one_axes(lambda a: draw_steerability(data, a), height=0.75 + 1.2 * len(data.rows), width=8.5)
    said = "; ".join(f"{r.method}: {r.n_anti} of {len(r.slopes)} slopes are not above zero" for r in data.rows)
    caption = (
        "Each dot is one question. Look at the hollow dots left of zero: questions that steering leaves "
        "alone or moves the wrong way, which a mean (dark bar) hides. The slope takes in strengths of "
        "size up to 1.5. Two humps would mean that the method works for some kinds of question only."
    )
    return ReportFigure("steerability", "Steerability of each question", caption, f"{said}.", wide, narrow)


def _layer_figure(comparison: Comparison) -> ReportFigure | None:
    data = prepare_layer_profiles(comparison)
    if not data.methods:
        return None
    wide, narrow = one_axes(lambda a: draw_layer_profiles(data, a), height=4.1, width=8.5)
    said = "; ".join(f"{m.method} is measured at {len(m.points)} layers, layer {m.chosen} chosen" for m in data.methods)
    caption = (
        "Measured on the selection half only; the large hollow mark is the layer that was then measured "
        "once on the test half. A sharp peak means that the method depends on finding the right layer; "
        "values here are optimistic, because the best of several was taken."
    )
    return ReportFigure("layer-profile", "Layer profile", caption, f"{said}.", wide, narrow)

"""Multiple choice against open text: concepts as points with intervals both ways, over random directions."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import steerlens
from steerlens.errors import OptionError
from steerlens.evaluation import AGREEMENT_MEASURES, Agreement, agreement_answer
from steerlens.numerics import detectable_correlation
from steerlens.reports._drawing import SETTINGS, draw_zero
from steerlens.reports._figures import NARROW, NotebookFigure, ReportFigure
from steerlens.reports._frame import framed
from steerlens.reports._numbers import DASH, bounds, estimate, general, is_number, listed, number, percent
from steerlens.reports._page import figure_html
from steerlens.reports._palette import INK, MARKERS, MUTED, NULL, PAPER, RULE, family_colour
from steerlens.reports._select import each
from steerlens.reports._svg import png_bytes
from steerlens.reports._tables import stacked_row, stacked_table

Interval = tuple[float, float, float]
"""Value, low and high."""

TITLES = {
    "raw_separation": "separation",
    "raw_promotion": "promotion",
    "raw_suppression": "suppression",
    "subtract_promotion": "promotion less the anchor",
    "subtract_suppression": "suppression less the anchor",
}
"""What the open-ended effects are called in figures and tables."""


@final
@dataclass(frozen=True)
class ConceptPoint:
    """One concept: its effect in multiple choice, in nats, and in open text, in nats per token.

    Args:
        name: What is written beside it.
        choice: To the right.
        open_ended: Upwards.
        by_letter: Whether the unsteered model chooses by the letter; drawn hollow.
    """

    name: str
    choice: Interval
    open_ended: Interval
    by_letter: bool


@final
@dataclass(frozen=True, eq=False)
class AgreementPanel:
    """One open-ended effect against the choice.

    Args:
        title: Name of the effect.
        said: Correlation, and how many signs differ.
        points: Concepts.
        random: Choice and open-ended effect of every random direction on every concept, shape (point, 2).
    """

    title: str
    said: str
    points: tuple[ConceptPoint, ...]
    random: npt.NDArray[np.float64]


def prepare_agreement(found: Agreement) -> tuple[AgreementPanel, ...]:
    """A panel for each open-ended effect, in the order of the ranks."""
    panels = []
    for rank in each(found.ranks):
        m = str(rank.measure)
        points = tuple(
            ConceptPoint(str(r["concept"]), _interval(r, "choice"), _interval(r, m), r["concept"] in found.by_letter)
            for r in found.frame.to_dict("records")
        )
        said = f"ρ = {estimate(rank.rho, rank.low, rank.high)}, {_opposite(rank.opposite, rank.n)} differ in sign"
        panels.append(AgreementPanel(TITLES[m], said, points, found.random[["choice", m]].to_numpy(np.float64)))
    return tuple(panels)


def draw_agreement_panel(data: AgreementPanel, axes: Axes) -> None:
    """Concepts by number, with their intervals: top right and bottom left both effects have one sign."""
    axes.plot(*data.random.T, "o", color=NULL, alpha=0.35, markersize=3, markeredgewidth=0, zorder=1)
    draw_zero(axes, vertical=True)
    draw_zero(axes, vertical=False)
    colour = family_colour("additive")
    for k, point in enumerate(data.points, start=1):
        (x, left, right), (y, bottom, top) = point.choice, point.open_ended
        axes.plot([left, right], [y, y], color=colour, linewidth=1.2, zorder=3)
        axes.plot([x, x], [bottom, top], color=colour, linewidth=1.2, zorder=3)
        axes.plot(
            [x], [y], MARKERS[0], color=colour, markerfacecolor=PAPER if point.by_letter else colour,
            markeredgecolor=colour, markersize=6, zorder=4,
        )  # fmt: skip
        axes.annotate(
            f"{k}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=9, fontweight="bold", color=INK,
            zorder=5,
        )  # fmt: skip
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(0.12)
    axes.set_title(f"{data.title}\n", loc="left", fontsize=9.5, fontweight="bold", color=INK, parse_math=False)
    axes.text(0, 1.02, data.said, transform=axes.transAxes, fontsize=8.5, color=MUTED, parse_math=False)
    axes.set_xlabel("multiple choice: change of letters' log-odds (nats)")
    axes.set_ylabel("open text: change (nats per token)")


def draw_agreement_key(data: AgreementPanel, axes: Axes) -> None:
    """Names of the numbered concepts, and what hollow and grey marks are."""
    axes.set_axis_off()
    lines = [f"{k}  {point.name}" for k, point in enumerate(data.points, start=1)]
    rest = ["", "bars: intervals of 95 %", "hollow: unsteered, it goes by the letter", "grey: random directions"]
    axes.text(
        0, 1, "\n".join([*lines, *rest]), transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5, color=INK,
        parse_math=False,
    )  # fmt: skip


def draw_agreement(found: Agreement) -> NotebookFigure:
    """All open-ended effects against multiple choice, as one figure."""
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(11.5, 7.6), layout="constrained")
        _draw_panels(prepare_agreement(found), figure, columns=3)
    return figure


def agreement_reading(found: Agreement) -> str:
    """What the concepts say together, in sentences."""
    n = len(found.frame)
    first = next(each(found.ranks[found.ranks["measure"] == AGREEMENT_MEASURES[0]]))
    shown = [f"{TITLES[str(r.measure)]} ({agreement_answer(r._asdict())})" for r in each(found.ranks) if _shown(r)]
    text = (
        f"Over {n} concepts the effect in multiple choice and the separation in open text have a rank correlation of "
        f"{estimate(first.rho, first.low, first.high)}; random directions of the same length have "
        f"{number(first.random_low)} to {number(first.random_high)}. The two differ in sign on "
        f"{_opposite(first.opposite, first.n)} concepts, a share of "
        f"{percent(first.opposite, first.opposite_low, first.opposite_high)}; "
        f"{_clearly(int(first.n_clear), int(first.n_clear_opposite))} "
        + (f"After Holm an order is shown for {listed(shown)}. " if shown else "After Holm no order is shown. ")
        + f"So many concepts show a correlation of {number(detectable_correlation(n))} with a power of 0.8; a smaller "
        "one is likely missed."
    )
    if found.by_letter:
        text += (
            f" At floor: asked about {listed(found.by_letter)}, the unsteered model goes by the letter, not by what is "
            "said, and what steering does to its letters says little about the concept."
        )
    if found.rounded:
        text += f" In {found.dtype} logits are rounded to steps of up to 1/8 nat; measure in float32."
    return text


def write_agreement(found: Agreement, folder: str | Path, *, command: str = "") -> Path:
    """Write ``agreement.html``, ``agreement.png``, and the tables as ``agreement-….parquet``.

    Args:
        found: What to report.
        folder: Made if it does not exist; files of the same names are replaced.
        command: How to repeat it.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A report needs a folder, but {folder} is a file. Give another name.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("concepts", found.frame), ("ranks", found.ranks), ("random", found.random)):
        frame.to_parquet(folder / f"agreement-{name}.parquet", index=False)
    (folder / "agreement.png").write_bytes(png_bytes(draw_agreement(found)))
    path = folder / "agreement.html"
    path.write_text(_page(found, command), "utf-8", errors="replace")
    return path


def _page(found: Agreement, command: str) -> str:
    panels = prepare_agreement(found)
    with mpl.rc_context(SETTINGS):
        wide, narrow = (
            Figure(figsize=(11.5, 7.6), layout="constrained"),
            Figure(figsize=(NARROW, 3.4 * (len(panels) + 1)), layout="constrained"),
        )
        _draw_panels(panels, wide, columns=3)
        _draw_panels(panels, narrow, columns=1)
    figure = ReportFigure(
        "agreement", "Open text against multiple choice",
        "A point is a concept, numbered, with its intervals of 95 %. Top right and bottom left both effects have one "
        "sign. Hollow: the unsteered model chooses by the letter. Grey dots: random directions, each as long as the "
        "map's mean step.",
        "; ".join(f"{p.title}: {p.said}" for p in panels), wide, narrow,
    )  # fmt: skip
    return framed(
        "agreement.html",
        title=escape(f"{found.method} in {found.model}, over {len(found.frame)} concepts"),
        answer=escape(agreement_reading(found)),
        tables=_ranks_table(found) + _concepts_table(found),
        figure=figure_html(figure, 1),
        command=escape(command) or "# the command was not recorded",
        version=escape(steerlens.__version__),
    )


def _draw_panels(panels: tuple[AgreementPanel, ...], figure: Figure, *, columns: int) -> None:
    """A cell for each panel, and one for the key."""
    cells = list(figure.subplots(-(-(len(panels) + 1) // columns), columns, squeeze=False).flat)
    for panel, axes in zip(panels, cells, strict=False):
        draw_agreement_panel(panel, axes)
    draw_agreement_key(panels[0], cells[len(panels)])
    for axes in cells[len(panels) + 1 :]:
        axes.set_visible(False)


def _ranks_table(found: Agreement) -> str:
    heads = ("Open-ended effect", "Spearman's ρ", "p after Holm", "Random directions' ρ", "Signs differ", "Both clear")
    body = [
        stacked_row(
            heads,
            [
                f"<b>{escape(TITLES[str(r.measure)])}</b>", escape(estimate(r.rho, r.low, r.high)), f"{r.p_holm:.3f}",
                escape(bounds(r.random_low, r.random_high, 2)),
                escape(f"{_opposite(r.opposite, r.n)}, {percent(r.opposite, r.opposite_low, r.opposite_high)}"),
                f"{int(r.n_clear)}, of which {int(r.n_clear_opposite)} differ" if r.n_clear else "none",
            ],
        )
        for r in each(found.ranks)
    ]  # fmt: skip
    caption = (
        f"n = {len(found.frame)} concepts; intervals of Bonett and Wright, and Wilson's. Both clear: concepts of which "
        "both effects have intervals on one side of zero."
    )
    return stacked_table("layers", caption, heads, "\n".join(body))


def _concepts_table(found: Agreement) -> str:
    heads = ("Concept", "Strength", "KL", "Multiple choice", *(TITLES[m].capitalize() for m in AGREEMENT_MEASURES),
             "Same choice in both orders")  # fmt: skip
    body = []
    for r in found.frame.to_dict("records"):
        same = percent(*_interval(r, "same_choice")) if is_number(r["same_choice"]) else DASH
        cells = [estimate(*_interval(r, m), signed=True) for m in ("choice", *AGREEMENT_MEASURES)]
        name = f"<b>{escape(str(r['concept']))}</b> <small>{r['n_items']} pairs, {r['n_clusters']} groups</small>"
        mark = "" if r["reached"] else " †"
        body.append(
            stacked_row(heads, [name, general(r["strength"]) + mark, escape(estimate(*_interval(r, "kl"))),
                                *map(escape, cells), escape(same)])
        )  # fmt: skip
    caption = (
        "Multiple choice in nats, open text and KL in nats per token. †: the budget was never reached. Intervals of "
        "what is related to an anchor are too short."
    )
    return "<h3>Concept by concept</h3>" + stacked_table("layers", caption, heads, "\n".join(body))


def _interval(row: dict[object, object], name: str) -> Interval:
    value, low, high = (float(str(row[f"{name}{end}"])) for end in ("", "_low", "_high"))
    return value, low, high


def _opposite(share: float, n: int) -> str:
    return f"{round(share * n)} of {int(n)}"


def _clearly(n: int, n_opposite: int) -> str:
    if n == 0:
        return "on none are both intervals clear of zero."
    return f"of the {n} with both intervals clear of zero, on {n_opposite}."


def _shown(rank: object) -> bool:
    return bool(rank.p_holm <= 0.05)  # type: ignore[attr-defined]

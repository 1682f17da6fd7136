"""Several concepts at once: each method's effect at the budget, concept by concept, and their mean."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import steerlens
from steerlens.errors import OptionError
from steerlens.evaluation import AcrossConcepts
from steerlens.reports._drawing import SETTINGS, draw_interval, draw_key, draw_zero, key
from steerlens.reports._figures import ReportFigure, one_axes
from steerlens.reports._frame import framed
from steerlens.reports._numbers import bounds, decimals_for, estimate, general, is_number, listed
from steerlens.reports._page import figure_html
from steerlens.reports._palette import INK, NULL, RULE, Look
from steerlens.reports._select import each, method_looks, short_of_budget
from steerlens.reports._svg import png_bytes
from steerlens.reports._tables import family_chip, stacked_row, stacked_table

LANE = 0.26
"""Height of one method within a concept's row, in inches."""


@final
@dataclass(frozen=True)
class ConceptRow:
    """One concept, or their mean.

    Args:
        name: What is written beside it.
        effects: Value, low and high in nats of each method, in the order of ``looks``; and whether the budget was met.
        random: Range of random directions; NaN where there are none.
    """

    name: str
    effects: tuple[tuple[tuple[float, float, float], bool], ...]
    random: tuple[float, float]


@final
@dataclass(frozen=True)
class AcrossEffects:
    """All concepts, and how their methods are drawn."""

    looks: tuple[tuple[str, Look], ...]
    rows: tuple[ConceptRow, ...]
    budget: float


def prepare_across(found: AcrossConcepts) -> AcrossEffects:
    """Effects at the budget of every method on every concept, and the mean over concepts in the last row."""
    first = next(iter(found.comparisons.values()))
    look = method_looks(first)
    methods = list(found.methods["method"])
    rows = []
    for name, c in found.comparisons.items():
        of = {r.method: r for r in each(c.headline)}
        effects = tuple(((of[m].effect, of[m].effect_low, of[m].effect_high), bool(of[m].reached)) for m in methods)
        rows.append(ConceptRow(name, effects, (of[methods[0]].random_low, of[methods[0]].random_high)))
    together = tuple(((r.effect, r.low, r.high), True) for r in each(found.methods))
    rows.append(ConceptRow(f"mean of {len(found.comparisons)}", together, (float("nan"), float("nan"))))
    return AcrossEffects(tuple((m, look[m]) for m in methods), tuple(rows), float(first.headline["budget"].iloc[0]))


def draw_across_effects(data: AcrossEffects, axes: Axes) -> None:
    """Concepts from top to bottom, methods one below the other within each."""
    n = len(data.looks)
    draw_zero(axes, vertical=True)
    for k, row in enumerate(data.rows):
        top = k * (n + 1)
        low, high = row.random
        if is_number(low) and is_number(high):
            axes.add_patch(
                Rectangle((low, top - 0.45), high - low, n - 0.1, facecolor=NULL, alpha=0.4, linewidth=0, zorder=2)
            )
        for i, ((_, look), (effect, reached)) in enumerate(zip(data.looks, row.effects, strict=True)):
            draw_interval(axes, effect, top + i, look, filled=reached)
        if k:
            axes.axhline(top - 1, color=RULE, linewidth=0.6)
    axes.set_ylim(len(data.rows) * (n + 1) - 1.2, -0.9)
    axes.set_yticks([k * (n + 1) + (n - 1) / 2 for k in range(len(data.rows))])
    axes.set_yticklabels([r.name for r in data.rows], color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"effect at a KL of {general(data.budget)} nats per token (nats); grey: random directions")
    draw_key(axes, "", [key(m, look) for m, look in data.looks])


def draw_across(found: AcrossConcepts) -> Figure:
    """Every method's effect on every concept as one figure."""
    data = prepare_across(found)
    with mpl.rc_context(SETTINGS):
        return one_axes(lambda a: draw_across_effects(data, a), height=_height(data), width=8.0)[0]


def across_html(found: AcrossConcepts) -> str:
    """The table of effects, for notebooks; everything in it is escaped."""
    return f'<div class="steerlens-comparison">{_table(found)}</div>'


def write_across(found: AcrossConcepts, folder: str | Path, *, command: str = "") -> Path:
    """Write ``index.html``, ``across.png``, ``across-methods.parquet`` and ``across-contrasts.parquet``.

    Args:
        found: What to report; the page links to ``CONCEPT/report.html`` beside it.
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
    found.methods.to_parquet(folder / "across-methods.parquet", index=False)
    found.contrasts.to_parquet(folder / "across-contrasts.parquet", index=False)
    data = prepare_across(found)
    with mpl.rc_context(SETTINGS):
        wide, narrow = one_axes(lambda a: draw_across_effects(data, a), height=_height(data), width=8.0)
        (folder / "across.png").write_bytes(png_bytes(wide))
        figure = ReportFigure(
            "across", "Effect at equal KL, concept by concept",
            "Look first at whether a method keeps its place from concept to concept. Grey: the middle 95 % of random "
            "directions at the concept's site. Hollow: the budget was never reached.",
            "; ".join(f"{r.method} {estimate(r.effect, r.low, r.high)} nats on average" for r in each(found.methods)),
            wide, narrow,
        )  # fmt: skip
        drawn = figure_html(figure, 1)
    first = next(iter(found.comparisons.values())).provenance
    text = framed(
        "across.html",
        title=escape(f"Steering {len(found.comparisons)} concepts in {first.model.get('name')}"),
        answer=escape(reading(found)),
        table=_table(found) + _contrast_table(found),
        figure=drawn,
        command=escape(command) or "# the command was not recorded",
        version=escape(steerlens.__version__),
    )
    path = folder / "index.html"
    path.write_text(text, "utf-8", errors="replace")
    return path


def reading(found: AcrossConcepts) -> str:
    """What the concepts say together, in sentences."""
    n = len(found.comparisons)
    shown = [r for r in each(found.contrasts) if r.p_holm <= 0.05 and (r.low > 0 or r.high < 0)]
    pairs = [f"{r.method} {'above' if r.low > 0 else 'below'} {r.reference}" for r in shown]
    clear = [f"{r.method} on {_above(found, r)}" for r in each(found.methods)]
    random = f"Clear of random directions, of {n} concepts: {listed(clear)}."
    if found.methods["n_above_random"].isna().all():
        random = "Random directions were not measured, so an effect may be that of any push of its size."
    differ = f"these differ on average after Holm: {listed(pairs)}" if pairs else "none is shown to differ after Holm"
    about = "concepts like these" if "two-stage" in str(found.methods["interval"].iloc[0]) else "these concepts alone"
    return f"Of {len(found.contrasts)} pairs of methods {differ}. {random} Intervals speak of {about}."


def _above(found: AcrossConcepts, row: Any) -> str:
    """On how many concepts a method is clear of random directions, and on how many there are any."""
    heads = [h for c in found.comparisons.values() for h in each(c.headline) if h.method == row.method]
    measured = sum(is_number(h.random_high) for h in heads)
    if not measured:
        return "not measured"
    return (
        f"{int(row.n_above_random)}" if measured == len(heads) else f"{int(row.n_above_random)} of {measured} measured"
    )


def _height(data: AcrossEffects) -> float:
    return 0.9 + LANE * len(data.rows) * (len(data.looks) + 1) + 0.2 * len(data.looks)


def _table(found: AcrossConcepts) -> str:
    heads = ["Method", *map(escape, found.comparisons), f"Mean of {len(found.comparisons)}"]
    body = []
    for r in each(found.methods):
        cells = []
        for c in found.comparisons.values():
            own = next(h for h in each(c.headline) if h.method == r.method)
            mark = "" if own.reached else " †"
            low, high = own.random_low, own.random_high
            known = is_number(low) and is_number(high)
            random = bounds(low, high, decimals_for(high - low)) if known else "not measured"
            band = random + (" †" if known and short_of_budget(own._asdict()) else "")
            cells.append(
                f"{escape(estimate(own.effect, own.effect_low, own.effect_high) + mark)} "
                f"<small>random {escape(band)}, layer {int(own.layer)}</small>"
            )
        above = _above(found, r)
        where = f"on {above}" if above != "not measured" else above
        together = escape(estimate(r.effect, r.low, r.high))
        cells.append(f"<b>{together}</b> <small>above random {where}</small>")
        body.append(stacked_row(heads, [f"<b>{escape(str(r.method))}</b> {family_chip(str(r.family))}", *cells]))
    caption = (
        "Effect in nats at the same KL, each concept at its own layer. †: the budget was never reached, by the "
        "method or by some of the random directions, whose range is then that of a smaller dose. Brackets are "
        "intervals of 95 %."
    )
    return stacked_table("layers", caption, heads, "\n".join(body))


def _contrast_table(found: AcrossConcepts) -> str:
    heads = ("Pair", "Difference of means, nats", "p", "p after Holm")
    body = [
        stacked_row(
            heads,
            [
                escape(f"{r.method} − {r.reference}"), escape(estimate(r.difference, r.low, r.high, signed=True)),
                f"{r.p_value:.3f}", f"{r.p_holm:.3f}",
            ],
        )
        for r in each(found.contrasts)
    ]  # fmt: skip
    caption = "Paired on the same questions, and averaged over concepts."
    return "<h3>Methods in pairs</h3>" + stacked_table("layers", caption, heads, "\n".join(body))

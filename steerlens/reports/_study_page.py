"""What the pages of all studies share: the frame, rows of intervals as a figure, and what was not measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any, final

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes

import steerlens
from steerlens.errors import OptionError
from steerlens.experiments import Failure
from steerlens.numerics import Estimate
from steerlens.reports._drawing import SETTINGS, draw_interval, draw_key, draw_zero, key
from steerlens.reports._figures import ReportFigure, one_axes
from steerlens.reports._frame import framed
from steerlens.reports._numbers import DASH, estimate, is_number
from steerlens.reports._page import figure_html
from steerlens.reports._palette import INK, MUTED, RULE, Look, looks
from steerlens.reports._svg import png_bytes
from steerlens.reports._tables import facts_list, stacked_row, stacked_table

LANE = 0.22
"""Height of one method within a row, in inches."""
Interval = tuple[float, float, float]
"""Value, low and high; not numbers where there is nothing to draw."""

_NOTHING: Interval = (float("nan"),) * 3
_FAMILIES = {
    "function vector": "additive",
    "function vector, searched": "additive",
    "task vector": "affine",
    "in-context vectors": "affine",
    "shuffled few-shot": "custom",
    "instruction": "custom",
}
"""Methods that are no controls, and whose colour they have."""


@final
@dataclass(frozen=True, eq=False)
class IntervalRows:
    """Rows of intervals, several methods in each.

    Args:
        looks: Methods in order, and how they are drawn.
        rows: Name of each row with one interval for each method.
        label: What is measured.
        reference: Where a line is drawn beside that at 0; not a number for none.
    """

    looks: tuple[tuple[str, Look], ...]
    rows: tuple[tuple[str, tuple[Interval, ...]], ...]
    label: str
    reference: float = float("nan")


@final
@dataclass(frozen=True, eq=False)
class StudyFigure:
    """A figure of a study's page.

    Args:
        name: File name without suffix.
        title: Its heading.
        caption: What to look at.
        data: What is drawn.
    """

    name: str
    title: str
    caption: str
    data: IntervalRows


def interval_rows(
    methods: Sequence[str],
    rows: Iterable[tuple[str, Mapping[str, Interval]]],
    label: str,
    *,
    reference: float = float("nan"),
) -> IntervalRows:
    """Rows for a figure of these methods, from the name and the intervals of each row; controls are grey.

    Where a row lacks a method, nothing is drawn.
    """
    return IntervalRows(
        looks=tuple(looks([(m, _FAMILIES.get(m, "random")) for m in methods]).items()),
        rows=tuple((name, tuple(of.get(m, _NOTHING) for m in methods)) for name, of in rows),
        label=label,
        reference=reference,
    )


def draw_interval_rows(data: IntervalRows, axes: Axes) -> None:
    """Rows from top to bottom, methods one below the other within each."""
    n = len(data.looks)
    draw_zero(axes, vertical=True)
    if is_number(data.reference):
        axes.axvline(data.reference, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for k, (_, intervals) in enumerate(data.rows):
        for i, ((_, look), interval) in enumerate(zip(data.looks, intervals, strict=True)):
            if is_number(interval[0]):
                draw_interval(axes, interval, k * (n + 1) + i, look)
        if k:
            axes.axhline(k * (n + 1) - 1, color=RULE, linewidth=0.6)
    axes.set_ylim(len(data.rows) * (n + 1) - 1.2, -0.9)
    axes.set_yticks([k * (n + 1) + (n - 1) / 2 for k in range(len(data.rows))])
    axes.set_yticklabels([name for name, _ in data.rows], color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(data.label)
    draw_key(axes, "", [key(m, look) for m, look in data.looks])


def frame_table(frame: pd.DataFrame, caption: str) -> str:
    """A table of texts, its columns as heads; everything is escaped."""
    heads = [escape(str(c)) for c in frame.columns]
    body = "\n".join(stacked_row(heads, [escape(str(x)) for x in row]) for row in frame.itertuples(index=False))
    return stacked_table("layers", escape(caption), heads, body)


def frame_text(e: Estimate | None) -> str:
    """An estimate as a cell of a table; a dash where there is none."""
    return DASH if e is None else estimate(e.value, e.low, e.high, signed=True)


def write_study(
    folder: str | Path,
    *,
    texts: dict[str, str],
    plan: Any,
    figures: Sequence[StudyFigure],
    tables: Sequence[tuple[str, str, pd.DataFrame]],
    failures: Sequence[Failure],
    notes: pd.DataFrame,
    command: str,
) -> Path:
    """Write ``index.html`` and the figures as PNG.

    Args:
        folder: Made if it does not exist; files of the same names are replaced.
        texts: ``kind``, ``title``, ``question`` and ``answer``, plain.
        plan: The study's plan, a dataclass, shown field by field.
        figures: In order.
        tables: Heading, caption and texts of each.
        failures: Models and parts that were not measured.
        notes: Methods that could not be fitted; the last column is the reason.
        command: How to repeat it.

    Raises:
        OptionError: ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A report needs a folder, but {folder} is a file. Give another name.")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_figure(f, k, folder) for k, f in enumerate(figures, start=1) if f.data.rows]
    shown = "".join(f"<h3>{escape(head)}</h3>{frame_table(frame, caption)}" for head, caption, frame in tables)
    page = framed(
        "study.html",
        **{name: escape(text) for name, text in texts.items()},
        figures="\n".join(drawn) or "<p>There was nothing to draw.</p>",
        tables=shown or "<p>Nothing was measured.</p>",
        missing=missing_html(failures, notes),
        command=escape(command) or "# the command was not recorded",
        settings=facts_list((f.name.replace("_", " "), repr(getattr(plan, f.name))) for f in fields(plan)),
        version=escape(steerlens.__version__),
    )
    path = folder / "index.html"
    path.write_text(page, "utf-8", errors="replace")
    return path


def missing_html(failures: Sequence[Failure], notes: pd.DataFrame) -> str:
    """Models, parts and methods that are missing, each with its reason."""
    said = [
        f"{f.model}, {f.part}: {f.reason}" if f.part else f"{f.model} could not be measured at all: {f.reason}"
        for f in failures
    ]
    together: dict[tuple[str, str, str], list[str]] = {}
    for model, part, method, reason in notes.itertuples(index=False):
        together.setdefault((model, part, reason), []).append(method)
    said += [f"{model}, {part}, {', '.join(of)}: {reason}" for (model, part, reason), of in together.items()]
    if not said:
        return "<p>Everything that was asked for was measured.</p>"
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in said) + "</ul>"


def missing_sentence(failures: Sequence[Failure]) -> str:
    """One sentence on models that are missing; empty if none is."""
    whole = [f.model for f in failures if not f.part]
    parts = [f"{f.model} on {f.part}" for f in failures if f.part]
    return f" Not measured, for reasons given below: {', '.join(whole + parts)}." if failures else ""


def _figure(figure: StudyFigure, k: int, folder: Path) -> str:
    data = figure.data
    height = 1.0 + LANE * len(data.rows) * (len(data.looks) + 1) + 0.2 * len(data.looks)
    with mpl.rc_context(SETTINGS):
        wide, narrow = one_axes(lambda a: draw_interval_rows(data, a), height=height, width=8.0)
        (folder / f"{figure.name}.png").write_bytes(png_bytes(wide))
        described = "; ".join(
            f"{name}: "
            + ", ".join(f"{m} {x[0]:.3g}" for (m, _), x in zip(data.looks, of, strict=True) if is_number(x[0]))
            for name, of in data.rows
        )
        return figure_html(ReportFigure(figure.name, figure.title, figure.caption, described, wide, narrow), k)

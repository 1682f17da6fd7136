"""One page, complete in itself: no scripts, no requests, light and dark, screen and paper."""

import re
from collections.abc import Iterable
from html import escape
from itertools import groupby
from pathlib import Path

from steerlens.errors import OptionError
from steerlens.evaluation import Comparison
from steerlens.reports._answer import Answer, answer
from steerlens.reports._figures import ReportFigure, report_figures
from steerlens.reports._frame import framed
from steerlens.reports._limits import limits
from steerlens.reports._svg import inline_svg, png_bytes, svg_bytes
from steerlens.reports._tables import (
    best_dose_table,
    controls_table,
    fact,
    facts_list,
    generations_table,
    headline_table,
    rivals_table,
)

_TOGETHER = re.compile(r"(?<==) (?=\d)|(?<=n) (?==)|(?<=\d) (?=%)|(?<=,) (?=[−+]?[\d.]+\])")
"""Spaces at which a number would be torn apart."""
_TONES = {"yes": "shown", "no": "not shown", "open": "note"}


def write_report(comparison: Comparison, folder: str | Path) -> Path:
    """Write ``report.html`` and its figures (``figures/*.svg``, ``figures/*.png``) into ``folder``.

    The page holds everything it shows and needs no network. The same comparison gives the same bytes.

    Args:
        comparison: What to report.
        folder: Made if it does not exist; files of the same names are replaced.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A report needs a folder, but {folder} is a file. Give another name.")
    drawn = report_figures(comparison)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for figure in drawn:
        (folder / "figures" / f"{figure.name}.svg").write_bytes(svg_bytes(figure.wide))
        (folder / "figures" / f"{figure.name}.png").write_bytes(png_bytes(figure.wide))
    path = folder / "report.html"
    path.write_text(page(comparison, drawn), "utf-8", errors="replace")
    return path


def page(comparison: Comparison, drawn: Iterable[ReportFigure]) -> str:
    """The page as text."""
    p = comparison.provenance
    environment = [(k, v) for k, v in p.environment.items()]
    return framed(
        "report.html",
        title=escape(f"Steering {fact(p.concept.get('name'))} in {_short(fact(p.model.get('name')))}"),
        question=escape(p.question),
        answer=_answer(answer(comparison)),
        model=facts_list(p.model.items()),
        concept=facts_list(p.concept.items()),
        table=headline_table(comparison)
        + best_dose_table(comparison)
        + controls_table(comparison)
        + rivals_table(comparison),
        dagger=_dagger(comparison),
        figures="\n".join(figure_html(f, k) for k, f in enumerate(drawn, start=1))
        or "<p>There was nothing to draw.</p>",
        generations=generations_table(comparison.generations),
        limits="".join(f"<li>{_prose(text)}</li>" for text in limits(comparison)),
        command=escape(p.command) or "# the command was not recorded",
        settings=facts_list(p.settings.items()),
        environment=facts_list(environment),
        version=escape(fact(p.environment.get("steerlens"))),
        date=escape(fact(p.environment.get("date"))),
    )


def _short(name: str) -> str:
    """A model's name without its owner or folder."""
    return name.rstrip("/").rpartition("/")[2] or name


def _prose(text: str) -> str:
    """Escaped text whose intervals, shares and counts stay on one line."""
    return _TOGETHER.sub("&nbsp;", escape(text))


def _answer(found: Answer) -> str:
    groups = []
    for about, members in groupby(found.findings, key=lambda f: f.about):
        items = "".join(
            f'<li class="{f.tone}"><span class="tone">{_TONES[f.tone]}: </span>{_prose(f.text)}</li>' for f in members
        )
        groups.append(f"<div><h3>{escape(about)}</h3><ul>{items}</ul></div>")
    return f'<p class="lead">{_prose(found.lead)}</p><div class="findings">{"".join(groups)}</div>'


def _dagger(comparison: Comparison) -> str:
    if comparison.headline["reached"].astype(bool).all():
        return ""
    return (
        "<p>† At no strength tried did KL reach the budget. The row shows a strength that costs less (or, where KL "
        "jumps over the budget, more) than the others', so it is not at equal side effects.</p>"
    )


def figure_html(figure: ReportFigure, k: int) -> str:
    """One numbered figure with its caption."""
    drawings = "".join(
        f'<div class="{kind}">'
        + inline_svg(drawn, prefix=f"{figure.name}-{kind}", title=figure.title, description=figure.description)
        + "</div>"
        for kind, drawn in (("wide", figure.wide), ("narrow", figure.narrow))
    )
    return (
        f'<figure id="{figure.name}"><h3>Figure {k}. {escape(figure.title)}</h3>{drawings}'
        f"<figcaption>{_prose(figure.caption)}</figcaption></figure>"
    )

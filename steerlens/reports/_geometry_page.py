"""A geometry as one page, complete in itself."""

from collections import Counter
from functools import partial
from html import escape
from pathlib import Path

import matplotlib as mpl

import steerlens
from steerlens.errors import OptionError
from steerlens.evaluation import Geometry
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import ReportFigure, one_axes
from steerlens.reports._frame import framed
from steerlens.reports._geometry import (
    GeometryProfile,
    draw_geometry,
    draw_geometry_profile,
    draw_ring,
    prepare_geometry_profiles,
    rings_to_draw,
)
from steerlens.reports._numbers import counted, estimate, listed, number
from steerlens.reports._page import figure_html
from steerlens.reports._svg import png_bytes
from steerlens.reports._tables import stacked_table

_CAPTIONS = (
    "Each class of functions by the probe of it that the select rows prefer, scored once on test rows; bands are "
    "intervals over groups of test pairs and seeds. Look first at whether a line clears the grey band, in which 95 % "
    "of permuted test labels leave it.",
    "Bits that a larger class of functions saves on test rows. Above zero with its whole band: the larger class is "
    "needed. Below zero: it overfits these few pairs.",
    "Coherence near 1: all pairs move alike, and a shift has one thing to do. Autocorrelation above 0: pairs move "
    "alike where their sources are alike, so the direction depends on the place.",
    "Shares of the second moment of the pairs' displacements, predicted on held-out groups. What the mean predicts is "
    "what a shift can do; the rest of the way to 1 is noise, or was not learned from so few pairs.",
)


def write_geometry(geometry: Geometry, folder: str | Path, *, command: str = "") -> Path:
    """Write ``geometry.html``, ``geometry.png`` and ``geometry.parquet`` into ``folder``; the path of the page.

    Args:
        geometry: What to report.
        folder: Made if it does not exist; files of the same names are replaced.
        command: How to repeat it.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A report needs a folder, but {folder} is a file. Give another name.")
    folder.mkdir(parents=True, exist_ok=True)
    geometry.to_frame().to_parquet(folder / "geometry.parquet")
    (folder / "geometry.png").write_bytes(png_bytes(draw_geometry(geometry)))
    path = folder / "geometry.html"
    path.write_text(geometry_page(geometry, command), "utf-8", errors="replace")
    return path


def geometry_page(geometry: Geometry, command: str) -> str:
    """The page as text."""
    drawn = geometry_figures(geometry)
    return framed(
        "geometry.html",
        title=escape(f"Geometry of {geometry.concept} in {geometry.model}"),
        lead=escape(geometry_lead(geometry)),
        table=_layers_table(geometry),
        figures="\n".join(figure_html(f, k) for k, f in enumerate(drawn, start=1)),
        limits="".join(f"<li>{escape(text)}</li>" for text in _limits(geometry)),
        command=escape(command) or "# the command was not recorded",
        version=escape(steerlens.__version__),
    )


def geometry_lead(geometry: Geometry) -> str:
    """The answer in one paragraph."""
    readings = geometry.readings
    seen = [r for r in readings if r.rung != "none"]
    if geometry.few_groups and not seen:
        return (
            "Too few groups are left to the test for any probe to be told from permuted labels, so that nothing is "
            "said. Use pairs of 28 groups or more."
        )
    if not seen:
        return f"At none of {counted(len(readings), 'layer')} does a probe tell the classes apart."
    rungs = Counter(r.rung for r in seen)
    said = listed([f"{rung} at {counted(n, 'layer')}" for rung, n in rungs.most_common()])
    head = f"Of {counted(len(readings), 'layer')}, the geometry asks for: {said}."
    if set(rungs) == {"pairs"}:
        return f"{head} Nowhere does a probe tell the classes apart; what differs is which row goes where."
    best = max(geometry.layers, key=lambda layer: layer.table.best(("linear",)).scores.auroc.value)
    probe = best.table.best(("linear",))
    e = probe.scores.auroc
    return (
        f"{head} Linear probes read the concept best at layer {best.site.layer}, with an AUROC of "
        f"{estimate(e.value, e.low, e.high)} ({probe.name}, n = {e.n} rows in {e.n_clusters} groups); with several "
        "layers to choose from, that value is optimistic."
    )


def geometry_figures(geometry: Geometry) -> tuple[ReportFigure, ...]:
    """The four profiles, and the rings of a cyclic concept."""
    found = []
    with mpl.rc_context(SETTINGS):
        for k, (profile, caption) in enumerate(zip(prepare_geometry_profiles(geometry), _CAPTIONS, strict=True)):
            if profile.lines:
                wide, narrow = one_axes(partial(draw_geometry_profile, profile), height=4.2, width=8.5)
                title = profile.title[0].upper() + profile.title[1:]
                found.append(ReportFigure(f"profile-{k}", title, caption, _described(profile), wide, narrow))
        for layer in rings_to_draw(geometry):
            wide, narrow = one_axes(partial(draw_ring, layer), height=5.0, width=6.5)
            caption = (
                "Rows in the plane of the first two principal components of the items' means, for which the order was "
                "not used, and the circle that fits the means best. Look at whether they go round it in the order of "
                "the items."
            )
            title = f"The ring at layer {layer.site.layer}"
            found.append(ReportFigure(f"ring-{layer.site.layer}", title, caption, title, wide, narrow))
    return tuple(found)


def _described(profile: GeometryProfile) -> str:
    ends = [
        f"{line.name} from {number(line.points['value'].min())} to {number(line.points['value'].max())}"
        for line in profile.lines
    ]
    return f"{profile.title}, {profile.unit}: {'; '.join(ends)}."


def _layers_table(geometry: Geometry) -> str:
    rows = []
    for layer in geometry.layers:
        r = layer.reading
        cells = (str(r.layer), r.rung, r.sure, r.text)
        names = ("Layer", "Rung", "Sure", "What was seen")
        rows.append(
            '<tr role="row">'
            + "".join(
                f'<td role="cell" data-label="{name}">{escape(cell)}</td>'
                for name, cell in zip(names, cells, strict=True)
            )
            + "</tr>"
        )
    caption = "What each layer asks for. Square brackets are 95 % intervals."
    return stacked_table("layers", caption, ("Layer", "Rung", "Sure", "What was seen"), "\n".join(rows))


def _limits(geometry: Geometry) -> tuple[str, ...]:
    fit, select, test = geometry.sizes
    return (
        f"One split of {fit + select + test} pairs: {fit} to fit, {select} to select, {test} to test. Intervals "
        "resample test groups and seeds; fitted probes are held fixed.",
        f"{counted(len(geometry.layers), 'layer')} were looked at: at a level of 0.01 for either of two probes up to "
        "two of a hundred layers without any information would still be called readable.",
        "That a concept can be read does not mean that the model uses it, nor that steering along what reads it works.",
    )

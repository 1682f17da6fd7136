"""Layer profiles of a geometry, and its rings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from steerlens.evaluation import Geometry, LayerGeometry
from steerlens.reports._drawing import SETTINGS, draw_key, key, style_plain
from steerlens.reports._figures import NotebookFigure
from steerlens.reports._numbers import number
from steerlens.reports._palette import DASHES, INK, MARKERS, MUTED, NULL, PAPER, Look, family_colour

Array = npt.NDArray[np.float64]

_CLASSES = ("linear", "quadratic", "kernel", "knn", "mlp")
_COLOURS = dict(
    zip(_CLASSES, (family_colour("additive"), family_colour("affine"), family_colour("custom"), MUTED,
                   family_colour("nonlinear")), strict=True)
)  # fmt: skip
LEAST_RANGE = 0.04
"""Of a vertical scale, in bits or shares: smaller differences are not worth a picture."""

RINGS_SHOWN = 4
"""Most rings of a figure."""


@final
@dataclass(frozen=True, eq=False)
class GeometryLine:
    """One line over layers: ``points`` has the columns layer, value, low, high."""

    name: str
    look: Look
    points: pd.DataFrame


@final
@dataclass(frozen=True, eq=False)
class GeometryProfile:
    """Lines that share axes; ``band`` is the range of the control per layer (layer, low, high), perhaps empty."""

    title: str
    unit: str
    lines: tuple[GeometryLine, ...]
    band: pd.DataFrame
    zero: float | None


def _look(k: int, colour: str) -> Look:
    return Look(colour, MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)])


def prepare_geometry_profiles(geometry: Geometry) -> tuple[GeometryProfile, ...]:
    """Profiles of probes, of gaps, of differences, and of displacements."""
    frame = geometry.to_frame()
    return (
        _probe_profile(geometry, frame),
        _profile(
            frame, "what nonlinear functions save", "bits for each row", 0.0,
            (("gap_quadratic", "quadratic over linear", _COLOURS["quadratic"]),
             ("gap_high", "best nonlinear over quadratic", _COLOURS["mlp"])),
        ),
        _profile(
            frame, "how alike the pairs' differences are", "share", 0.0,
            (("coherence", "coherence: cosine with their mean", _COLOURS["linear"]),
             ("local", "autocorrelation of neighbours", _COLOURS["kernel"])),
        ),
        _profile(
            frame, "what predicts a pair's displacement", "share of E|d|²", 0.0,
            (("constant", "the mean", _COLOURS["linear"]), ("linear", "a linear function", _COLOURS["quadratic"]),
             ("nonlinear", "a nonlinear function", _COLOURS["mlp"])),
        ),
    )  # fmt: skip


def _profile(
    frame: pd.DataFrame, title: str, unit: str, zero: float | None, wanted: Sequence[tuple[str, str, str]]
) -> GeometryProfile:
    lines = []
    for k, (quantity, name, colour) in enumerate(wanted):
        points = frame[frame["quantity"] == quantity][["layer", "value", "low", "high"]].astype(float)
        if len(points):
            lines.append(GeometryLine(name, _look(k, colour), points))
    return GeometryProfile(title, unit, tuple(lines), pd.DataFrame(columns=["layer", "low", "high"]), zero)


def _probe_profile(geometry: Geometry, frame: pd.DataFrame) -> GeometryProfile:
    """AUROC of every class of functions, by the probe of it that the select rows prefer at each layer."""
    areas = frame[frame["quantity"] == "auroc"]
    lines = []
    for k, kind in enumerate(_CLASSES):
        rows = []
        for layer in geometry.layers:
            mine = [r for r in layer.table.results if r.function_class == kind]
            if mine:
                e = min(mine, key=lambda r: r.select_nll).scores.auroc
                rows.append((float(layer.site.layer), e.value, e.low, e.high))
        if rows:
            points = pd.DataFrame(rows, columns=["layer", "value", "low", "high"])
            lines.append(GeometryLine(kind, _look(k, _COLOURS[kind]), points))
    by_layer = areas.astype({"null_low": float, "null_high": float}).groupby("layer")
    band = pd.DataFrame({"low": by_layer["null_low"].min(), "high": by_layer["null_high"].max()}).reset_index()
    return GeometryProfile("how well probes tell the classes apart", "AUROC on test rows", tuple(lines), band, 0.5)


def draw_geometry_profile(data: GeometryProfile, axes: Axes) -> None:
    """Lines with bands of their intervals, and the band of permuted labels."""
    style_plain(axes)
    if data.zero is not None:
        axes.axhline(data.zero, color=MUTED, linewidth=0.9, zorder=1)
    if len(data.band):
        axes.fill_between(data.band["layer"], data.band["low"], data.band["high"], color=NULL, alpha=0.35, linewidth=0)
    for line in data.lines:
        p, look = line.points, line.look
        if len(p) == 1:
            axes.vlines(p["layer"], p["low"], p["high"], color=look.colour, linewidth=1.4)
        axes.fill_between(p["layer"], p["low"], p["high"], color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(
            p["layer"], p["value"], color=look.colour, linestyle=look.dashes, linewidth=1.6, marker=look.marker,
            markersize=4, markeredgewidth=0, zorder=3,
        )  # fmt: skip
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    if high - low < LEAST_RANGE:
        axes.set_ylim(middle - LEAST_RANGE / 2, middle + LEAST_RANGE / 2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (index of the block)")
    axes.set_ylabel(data.unit)
    note = "; grey: permuted labels" if len(data.band) else ""
    draw_key(axes, data.title + note, [key(line.name, line.look) for line in data.lines])


def rings_to_draw(geometry: Geometry) -> tuple[LayerGeometry, ...]:
    """Up to four sites with rings, spread over the depth."""
    found = [layer for layer in geometry.layers if layer.ring is not None]
    if len(found) <= RINGS_SHOWN:
        return tuple(found)
    return tuple(found[round(i)] for i in np.linspace(0, len(found) - 1, RINGS_SHOWN + 2)[1:-1])


def draw_ring(layer: LayerGeometry, axes: Axes) -> None:
    """Items in the principal plane of their means: rows small, means large and named, and the fitted circle."""
    ring = layer.ring
    if ring is None:
        axes.set_visible(False)
        return
    fit, plane, n = ring.fit, ring.fit.principal, len(ring.names)
    rows, means = plane.rows.numpy(), plane.centroids.numpy()
    hues = mpl.colormaps["twilight"]
    colours = [hues(0.1 + 0.8 * i / n) for i in range(n)]
    axes.scatter(
        rows[:, 0], rows[:, 1], s=5, c=[colours[i] for i in fit.class_index.tolist()], alpha=0.45, linewidths=0
    )
    center = (float(plane.centre[0]), float(plane.centre[1]))
    axes.add_patch(Circle(center, plane.radius, fill=False, edgecolor=MUTED, linewidth=1, linestyle=(0, (4, 3))))
    loop = np.vstack([means, means[:1]])
    axes.plot(loop[:, 0], loop[:, 1], color=INK, linewidth=0.8, zorder=3)
    axes.scatter(means[:, 0], means[:, 1], s=26, c=colours, edgecolors=PAPER, linewidths=0.8, zorder=4)
    for name, (x, y) in zip(ring.names, means, strict=True):
        axes.annotate(
            name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7.5, color=INK, parse_math=False
        )
    axes.set_aspect("equal")
    axes.margins(0.12)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("first principal component")
    axes.set_ylabel("second")
    first = fit.harmonics[0]
    order = "in order" if plane.in_order else "not in order here"
    axes.set_title(
        f"layer {layer.site.layer}, {order}\nread: R² {number(first.r_squared.value)}, p = {first.p_value:.2g}",
        loc="left", fontsize=8.5, fontweight="bold",
    )  # fmt: skip


def draw_geometry(geometry: Geometry) -> NotebookFigure:
    """Four profiles, and a row of rings where the concept is cyclic."""
    profiles, rings = prepare_geometry_profiles(geometry), rings_to_draw(geometry)
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(
            figsize=(11.5, 7.6 + (3.3 if rings else 0)), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1)
        )
        rows = figure.add_gridspec(3 if rings else 2, 12)
        for k, profile in enumerate(profiles):
            cell = rows[k // 2, 6 * (k % 2) : 6 * (k % 2) + 6]
            draw_geometry_profile(profile, figure.add_subplot(cell))
        for k, layer in enumerate(rings):
            width = 12 // len(rings)
            draw_ring(layer, figure.add_subplot(rows[2, k * width : (k + 1) * width]))
        figure.suptitle(f"{geometry.concept} in {geometry.model}", x=0.01, ha="left", fontsize=10.5, fontweight="bold",
                        parse_math=False)  # fmt: skip
    return figure

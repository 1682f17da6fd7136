"""Planted geometry: what each map makes of each plant, as clouds of rows and as one grid of numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from steerlens.concepts import Plant
from steerlens.errors import UnknownNameError
from steerlens.evaluation import PlantedTable
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import NotebookFigure
from steerlens.reports._numbers import DASH, number
from steerlens.reports._palette import INK, MUTED, PAPER, RULE, family_colour

Points = npt.NDArray[np.float64]

LEAST_WAY = 0.05
"""Where the identity is nearer to the goal than this, shades are shares of this: there is nothing to do."""

ROWS_SHOWN = 400
"""Rows drawn of each cloud."""


@final
@dataclass(frozen=True, eq=False)
class PlantedPanel:
    """One map on one plant: where the source went, and the numbers that go with it (NaN if it was not fitted)."""

    method: str
    colour: str
    moved: Points
    p_target: float
    energy: float
    reached: bool


@final
@dataclass(frozen=True, eq=False)
class PlantedPanels:
    """All maps on one plant, in two coordinates of the signal named by ``labels``."""

    plant: str
    about: str
    order: int | None
    labels: tuple[str, str]
    target: Points
    panels: tuple[PlantedPanel, ...]

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of all clouds, but for the few farthest rows."""
        shown = np.concatenate([self.target, *(p.moved for p in self.panels if len(p.moved))])
        low, high = np.quantile(shown, [0.002, 0.998], axis=0)
        margin = 0.08 * (high - low).max()
        return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin


@final
@dataclass(frozen=True, eq=False)
class PlantedGrid:
    """One number per map (row) and plant (column).

    Args:
        title: What the number is.
        values: The numbers; NaN where a map could not be fitted.
        shade: 0 to 1, how far from the goal each is.
        reached: Where the goal is reached: a judge as sure as of the true map, within 0.05; an energy distance whose
            interval begins below what two samples of the target have.
    """

    title: str
    values: pd.DataFrame
    shade: pd.DataFrame
    reached: pd.DataFrame


_View = tuple[str, str, Callable[[Tensor], tuple[Tensor, Tensor]]]

_VIEWS: dict[str, _View] = {
    "onion3": ("z₁", "√(z₂² + z₃²)", lambda z: (z[:, 0], z[:, 1:].norm(dim=1))),
    "parity3": ("z₃", "z₁ z₂", lambda z: (z[:, 2], z[:, 0] * z[:, 1])),
}
"""Where the first two coordinates hide the classes; spheres are shown as half circles, parity as exclusive or."""


def _view(plant: Plant) -> _View:
    return _VIEWS.get(plant.name, ("z₁", "z₂", lambda z: (z[:, 0], z[:, 1])))


def prepare_planted_panels(table: PlantedTable, plant: str) -> PlantedPanels:
    """Fresh rows of one plant of the table, as every map of the table moves them.

    Raises:
        UnknownNameError: If the plant is not in the table.
    """
    fits = [f for f in table.fits if f.plant.name == plant]
    if not fits:
        raise UnknownNameError("plant of this table", plant, {f.plant.name for f in table.fits})
    geometry = fits[0].plant
    label_x, label_y, coordinates = _view(geometry)

    def shown(rows: Tensor) -> Points:
        return np.stack([c.numpy() for c in coordinates(geometry.signal(rows))], axis=1)

    source = geometry.sample(ROWS_SHOWN, seed=table.seed + 101).source
    target = geometry.sample(ROWS_SHOWN, seed=table.seed + 102).target
    of_plant = table.maps[table.maps["plant"] == plant].set_index("method")
    numbers = of_plant[["p_target", "energy", "energy_low", "energy_floor"]].to_numpy(float)
    panels = []
    for fit in fits:
        p, energy, low, floor = numbers[of_plant.index.get_loc(fit.method)]
        moved = np.empty((0, 2)) if fit.steering_map is None else shown(fit.steering_map(source))
        colour = family_colour(fit.family) if fit.role == "method" else MUTED if fit.role == "identity" else INK
        panels.append(PlantedPanel(fit.method, colour, moved, float(p), float(energy), bool(low <= floor)))
    return PlantedPanels(plant, geometry.about, geometry.order, (label_x, label_y), shown(target), tuple(panels))


def draw_planted_panel(data: PlantedPanels, panel: PlantedPanel, axes: Axes) -> None:
    """Target rows as pale rings, moved rows as dots, and the two numbers above."""
    axes.scatter(
        data.target[:, 0], data.target[:, 1], s=13, facecolors="none", edgecolors="#b6bec6", linewidths=0.7, zorder=2
    )
    axes.scatter(panel.moved[:, 0], panel.moved[:, 1], s=6, color=panel.colour, alpha=0.6, linewidths=0, zorder=3)
    left, right, bottom, top = data.limits
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(True)
    axes.set_title(
        panel.method, loc="left", fontsize=9, fontweight="bold", color=panel.colour, pad=18, parse_math=False
    )
    mark = " (reached)" if panel.reached else ""
    text = f"P(target) {number(panel.p_target)}   energy {number(panel.energy, 3)}{mark}"
    axes.text(0, 1.025, text, transform=axes.transAxes, fontsize=8, color=MUTED, va="bottom", parse_math=False)
    if not len(panel.moved):
        axes.text(0.5, 0.5, "not fitted", transform=axes.transAxes, ha="center", color=MUTED)


def draw_planted_maps(table: PlantedTable, plant: str) -> NotebookFigure:
    """One panel per map of the table on one plant, the identity first and the true map last."""
    data = prepare_planted_panels(table, plant)
    rows = -(-len(data.panels) // 5)
    columns = -(-len(data.panels) // rows)
    left, right, bottom, top = data.limits
    height = 2.6 * (top - bottom) / (right - left) + 0.55
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(
            figsize=(2.75 * columns, height * rows + 0.7), layout=ConstrainedLayoutEngine(h_pad=0.1)
        )
        cells = figure.subplots(rows, columns, squeeze=False)
        for k, axes in enumerate(cells.flat):
            if k >= len(data.panels):
                axes.set_visible(False)
                continue
            draw_planted_panel(data, data.panels[k], axes)
            if k % columns == 0:
                axes.set_ylabel(data.labels[1])
            if k + columns >= len(data.panels):
                axes.set_xlabel(data.labels[0])
        order = "only pairs differ" if data.order is None else f"order {data.order}"
        figure.suptitle(
            f"{data.plant} ({order}): {data.about}. Rings: target; dots: what the map makes of the source.",
            x=0.01, ha="left", fontsize=9.5, parse_math=False,
        )  # fmt: skip
    return figure


def prepare_planted_grids(table: PlantedTable) -> tuple[PlantedGrid, PlantedGrid]:
    """P(target), shaded by its distance from the true map's, and energy distance, shaded by how much of it is left."""
    maps, methods, plants = (table.maps, *(list(dict.fromkeys(table.maps[c])) for c in ("method", "plant")))

    def square(column: str) -> pd.DataFrame:
        return maps.pivot(index="method", columns="plant", values=column).astype(float).loc[methods, plants]

    p, energy, floor = square("p_target"), square("energy"), square("energy_floor")
    true = p.loc["true map"]
    start = energy.loc["identity"]
    p_shade = ((true - p) / (true - p.loc["identity"]).clip(lower=LEAST_WAY)).clip(0, 1)
    energy_shade = (energy / start.clip(lower=LEAST_WAY)).clip(0, 1)
    return (
        PlantedGrid("P(target) of an independent judge", p, p_shade, p >= true - 0.05),
        PlantedGrid("energy distance to the target", energy, energy_shade, square("energy_low") <= floor),
    )


def draw_planted_grid(data: PlantedGrid, axes: Axes, *, decimals: int) -> None:
    """Numbers on squares: the darker, the farther from the goal. Bold: the goal is reached."""
    shades = LinearSegmentedColormap.from_list("shades", [PAPER, "#f0b48a", "#b5541c"])
    values, shade_of = data.values.to_numpy(float), data.shade.to_numpy(float)
    axes.imshow(shade_of, cmap=shades, vmin=0, vmax=1, aspect="auto")
    for i, method in enumerate(data.values.index):
        for j, plant in enumerate(data.values.columns):
            value, shade = float(values[i, j]), float(shade_of[i, j])
            text = number(value, decimals) if np.isfinite(value) else DASH
            weight = "bold" if bool(data.reached.loc[method, plant]) else "normal"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=8.5, fontweight=weight,
                color=PAPER if shade > 0.8 else INK,
            )  # fmt: skip
    axes.set_xticks(range(data.values.shape[1]), data.values.columns)
    axes.set_yticks(range(data.values.shape[0]), data.values.index)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    axes.set_xticks(np.arange(0.5, data.values.shape[1] - 1), minor=True)
    axes.set_yticks(np.arange(0.5, data.values.shape[0] - 1), minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=2)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_color(RULE)
        side.set_visible(True)
    axes.set_title(data.title, loc="left", fontsize=9.5, fontweight="bold", pad=12)


def draw_planted_table(table: PlantedTable) -> NotebookFigure:
    """Both grids of a table, one above the other."""
    probability, energy = prepare_planted_grids(table)
    rows, columns = probability.values.shape
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(2.2 + 0.95 * columns, 2 * (0.75 + 0.29 * rows)), layout="constrained")
        above, below = figure.subplots(2, 1)
        draw_planted_grid(probability, above, decimals=2)
        draw_planted_grid(energy, below, decimals=3)
    return figure

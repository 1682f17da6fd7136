"""Steerability question by question: the mean hides those that steering moves the wrong way."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from scipy.stats import gaussian_kde

from steerlens.evaluation import Comparison, slope_rounding, steerability
from steerlens.reports._drawing import draw_row, draw_zero, style_rows
from steerlens.reports._palette import INK, PAPER, Look
from steerlens.reports._select import each, method_looks, ordered_headline

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Steerability:
    """One method: the slope of each question's propensity on strength, in nats per unit of strength."""

    method: str
    family: str
    layer: int
    look: Look
    slopes: Array

    @property
    def n_anti(self) -> int:
        """Questions whose slope is not above zero."""
        return int((self.slopes <= 0).sum())


@final
@dataclass(frozen=True, eq=False)
class Steerabilities:
    """All methods with samples, in the order of the headline."""

    rows: tuple[Steerability, ...]


def prepare_steerability(comparison: Comparison) -> Steerabilities:
    """Slope per question at each method's site, over the grid, as `steerlens.evaluation.steerability` defines it.

    Slopes no larger than rounding makes them are 0.

    References:
        tan2024, section 3.2.
    """
    look, rows = method_looks(comparison), []
    for head in each(ordered_headline(comparison)):
        s = comparison.samples
        own = s[(s["method"] == head.method) & (s["site"] == head.site) & s["strength"].isin(comparison.grid)]
        table = own.pivot_table(index="strength", columns="question", values="propensity").dropna(axis=1)
        if table.size and len(table) > 1:
            strengths = [float(x) for x in table.index]
            slopes = steerability(table.to_numpy(), strengths)
            rounding = slope_rounding(table.to_numpy(), strengths, resolution=comparison.resolution)
            slopes[np.abs(slopes) <= rounding] = 0.0
            rows.append(Steerability(head.method, head.family, int(head.layer), look[head.method], slopes))
    return Steerabilities(tuple(rows))


def draw_steerability(data: Steerabilities, axes: Axes) -> None:
    """One row per method: a dot per question below the density, the mean a bar, the anti-steerable hollow."""
    style_rows(axes, len(data.rows))
    axes.set_ylim(len(data.rows) - 0.55, -0.98)
    draw_zero(axes, vertical=True)
    for y, row in enumerate(data.rows):
        spread = _spread(len(row.slopes))
        order = np.argsort(row.slopes, kind="stable")
        height = np.empty(len(order))
        height[order] = y + 0.12 + 0.2 * spread
        _draw_density(row, axes, y)
        anti = row.slopes <= 0
        kind: dict[str, Any] = {"marker": "o", "s": 20, "linewidths": 1.1, "zorder": 3}
        axes.scatter(row.slopes[~anti], height[~anti], color=row.look.colour, alpha=0.65, edgecolors="none", **kind)
        axes.scatter(row.slopes[anti], height[anti], facecolors=PAPER, edgecolors=row.look.colour, **kind)
        mean = float(row.slopes.mean())
        axes.plot([mean, mean], [y + 0.05, y + 0.39], color=INK, linewidth=2, zorder=4)
        share = f"{row.n_anti} of {len(row.slopes)} questions anti-steerable"
        draw_row(
            axes,
            y - 0.21,
            f"{row.method}, layer {row.layer}",
            f"{share} ({100 * row.n_anti / len(row.slopes):.0f} %)",
        )
    axes.autoscale_view(scaley=False)
    axes.set_xlabel("slope per question (nats per unit of strength)")


def _spread(n: int) -> Array:
    """Heights in [0, 1) that keep neighbours apart, the same every time (van der Corput, base 2)."""
    found: Array = np.array([int(f"{k:016b}"[::-1], 2) / 2**16 for k in range(n)])
    return found


def _draw_density(row: Steerability, axes: Axes, y: float) -> None:
    if len(row.slopes) < 5 or np.ptp(row.slopes) < 1e-9:
        return
    kde = gaussian_kde(row.slopes)
    pad = 2.5 * float(np.sqrt(kde.covariance[0, 0]))
    grid = np.linspace(row.slopes.min() - pad, row.slopes.max() + pad, 160)
    density = kde(grid)
    top = y + 0.05 - 0.3 * density / density.max()
    axes.fill_between(grid, np.full_like(grid, y + 0.05), top, color=row.look.colour, alpha=0.25, linewidth=0)

"""Propensity curves: how readily the model shows the concept, as steering gets stronger."""

from dataclasses import dataclass
from typing import final

import pandas as pd
from matplotlib.axes import Axes

from steerlens.evaluation import Comparison
from steerlens.reports._drawing import draw_key, key, style_plain
from steerlens.reports._palette import MUTED, RULE, Look
from steerlens.reports._select import chosen_records, each, method_looks, ordered_headline


@final
@dataclass(frozen=True, eq=False)
class PropensityCurve:
    """One method at its chosen site; ``points``: strength, value, low, high (nats), n."""

    method: str
    family: str
    layer: int
    look: Look
    points: pd.DataFrame


@final
@dataclass(frozen=True, eq=False)
class PropensityCurves:
    """The curve of every method that has one, in the order of the headline."""

    curves: tuple[PropensityCurve, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """Families in order of appearance."""
        return tuple(dict.fromkeys(c.family for c in self.curves))


def prepare_propensity_curves(comparison: Comparison) -> PropensityCurves:
    """Mean log-odds of the positive over the negative continuation against strength, on the test half."""
    records, look = chosen_records(comparison, "propensity"), method_looks(comparison)
    curves = []
    for row in each(ordered_headline(comparison)):
        points = records.loc[records["method"] == row.method, ["strength", "value", "low", "high", "n"]]
        if len(points):
            points = points.reset_index(drop=True)
            curves.append(PropensityCurve(row.method, row.family, int(row.layer), look[row.method], points))
    return PropensityCurves(tuple(curves))


def draw_propensity_curves(data: PropensityCurves, axes: Axes, *, family: str | None = None) -> None:
    """Draw all curves, or those of one family over the faint curves of the others.

    Args:
        data: From `prepare_propensity_curves`.
        axes: Where to draw.
        family: The family to bring forward; None brings all.
    """
    style_plain(axes)
    axes.axvline(0, color=RULE, linewidth=0.9, zorder=1)
    own = [c for c in data.curves if family in (None, c.family)]
    for curve in data.curves:
        p = curve.points
        if curve not in own:
            axes.plot(p["strength"], p["value"], color=MUTED, alpha=0.28, linewidth=1, zorder=1.5)
            continue
        axes.fill_between(p["strength"], p["low"], p["high"], color=curve.look.colour, alpha=0.15, linewidth=0)
        axes.plot(
            p["strength"], p["value"], color=curve.look.colour, linestyle=curve.look.dashes, linewidth=1.8,
            marker=curve.look.marker, markersize=5, markeredgewidth=0, zorder=3,
        )  # fmt: skip
    axes.set_xlabel("strength (1 = the map as fitted)")
    axes.set_ylabel("mean log-odds of the concept (nats)")
    draw_key(axes, family or "all families", [key(f"{c.method}, layer {c.layer}", c.look) for c in own])

"""Layer profile: what each method would have achieved at each site, on the half that sites were chosen on."""

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from steerlens.evaluation import Comparison
from steerlens.reports._drawing import draw_key, draw_zero, key, style_plain
from steerlens.reports._numbers import general
from steerlens.reports._palette import PAPER, Look
from steerlens.reports._select import each, method_looks, ordered_headline


@final
@dataclass(frozen=True, eq=False)
class LayerProfile:
    """One method; ``points`` has one row per layer: layer, site, value, low, high, n."""

    method: str
    family: str
    look: Look
    points: pd.DataFrame
    chosen: int


@final
@dataclass(frozen=True, eq=False)
class LayerProfiles:
    """All methods, and what their values are: ``measure`` is the label of the vertical axis."""

    methods: tuple[LayerProfile, ...]
    measure: str


def prepare_layer_profiles(comparison: Comparison) -> LayerProfiles:
    """Effect at the budget per layer on the selection half; without it, the effect at one strength.

    A layer with several sites is shown by its largest value, because that is what selection looks at.
    """
    r = comparison.records
    r = r[(r["split"] == "select") & (r["role"] == "method")]
    rows, measure = r[r["metric"] == "effect_at_budget"], "effect at the KL budget (nats)"
    if rows.empty:
        rows, measure = _at_one_strength(r[r["metric"] == "effect"])
    look = method_looks(comparison)
    methods = []
    for head in each(ordered_headline(comparison)):
        own = rows[rows["method"] == head.method].sort_values(["layer", "value"])
        points = own.drop_duplicates("layer", keep="last")[["layer", "site", "value", "low", "high", "n"]]
        if len(points):
            profile = LayerProfile(
                head.method,
                head.family,
                look[head.method],
                points.reset_index(drop=True),
                int(head.layer),
            )
            methods.append(profile)
    return LayerProfiles(tuple(methods), measure)


def _at_one_strength(effects: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Effects at strength 1, or at the smallest strength above 0 if 1 was not tried."""
    positive = sorted(effects.loc[effects["strength"] > 0, "strength"].unique())
    strength = 1.0 if 1.0 in positive or not positive else positive[0]
    return effects[effects["strength"] == strength], f"effect at strength {general(strength)} (nats)"


def draw_layer_profiles(data: LayerProfiles, axes: Axes) -> None:
    """One line per method with intervals; a ring marks the chosen layer. Methods stand slightly apart."""
    style_plain(axes)
    draw_zero(axes, vertical=False)
    layers = sorted({layer for m in data.methods for layer in m.points["layer"]})
    gap = min((b - a for a, b in pairwise(layers)), default=1)
    for k, method in enumerate(data.methods):
        shift = 0.06 * gap * (k - (len(data.methods) - 1) / 2)
        p, look = method.points, method.look
        x = p["layer"] + shift
        axes.vlines(x, p["low"], p["high"], color=look.colour, linewidth=1.2, alpha=0.75)
        axes.plot(
            x, p["value"], color=look.colour, linestyle=look.dashes, linewidth=1.6, marker=look.marker,
            markersize=5, markeredgewidth=0, zorder=3,
        )  # fmt: skip
        chosen = p[p["layer"] == method.chosen]
        axes.plot(
            chosen["layer"] + shift, chosen["value"], look.marker, markersize=10, markerfacecolor=PAPER,
            markeredgecolor=look.colour, markeredgewidth=1.8, zorder=4,
        )  # fmt: skip
    if len(layers) <= 12:
        axes.set_xticks(layers)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (index of the block)")
    axes.set_ylabel(data.measure)
    draw_key(axes, "chosen layer: large and hollow", [key(m.method, m.look) for m in data.methods])

"""Effect against side effects: what each method buys for the KL it costs, beside random directions."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from steerlens.evaluation import Comparison
from steerlens.evaluation._crossing import between, first_crossing
from steerlens.reports._drawing import draw_budget, draw_key, draw_zero, key, style_plain
from steerlens.reports._numbers import general, is_number
from steerlens.reports._palette import MUTED, NULL, PAPER, Look
from steerlens.reports._select import (
    budget_of,
    chosen_records,
    each,
    method_looks,
    ordered_headline,
    random_records,
    short_of_budget,
)

Array = npt.NDArray[np.float64]
GRID = 80


@final
@dataclass(frozen=True, eq=False)
class Frontier:
    """One method at its chosen site.

    Args:
        method: Its name.
        family: Its class of functions.
        site: Hook name, by which its random directions are found.
        layer: Of the site.
        look: How it is drawn.
        points: One row per strength above 0, the one chosen for the budget among them: strength, kl, kl_low, kl_high,
            effect, effect_low, effect_high.
        at_budget: KL and effect of the headline.
        reached: Whether KL met the budget.
    """

    method: str
    family: str
    site: str
    layer: int
    look: Look
    points: pd.DataFrame
    at_budget: tuple[float, float]
    reached: bool


@final
@dataclass(frozen=True, eq=False)
class Frontiers:
    """All methods, the budget, and per site the band of random directions (columns kl, low, high).

    ``short`` says how many of the random directions reached the budget, if not all did.
    """

    methods: tuple[Frontier, ...]
    bands: dict[str, pd.DataFrame]
    budget: float
    n_random: int
    short: str = ""

    @property
    def families(self) -> tuple[str, ...]:
        """Families in order of appearance."""
        return tuple(dict.fromkeys(m.family for m in self.methods))

    @property
    def least_kl(self) -> float:
        """Where the axis starts: the smallest KL measured, at most two decades below the budget."""
        found = [k for m in self.methods for k in m.points["kl"] if k > 0]
        floor = self.budget / 100 if is_number(self.budget) else 0.0
        return 0.8 * max(min(found, default=0.001), floor)


def prepare_effect_against_kl(comparison: Comparison) -> Frontiers:
    """Effect (nats) and KL (nats per token) at every strength above 0, on the test half."""
    effect, kl = chosen_records(comparison, "effect"), chosen_records(comparison, "kl")
    joined = effect.merge(kl, on=["method", "site", "strength"], suffixes=("", "_of_kl"))
    joined = joined[joined["strength"] > 0]
    look = method_looks(comparison)
    methods = []
    for row in each(ordered_headline(comparison)):
        own = joined[joined["method"] == row.method]
        if own.empty:
            continue
        points = pd.DataFrame(
            {
                "strength": own["strength"], "kl": own["value_of_kl"], "kl_low": own["low_of_kl"],
                "kl_high": own["high_of_kl"], "effect": own["value"], "effect_low": own["low"],
                "effect_high": own["high"],
            }
        ).reset_index(drop=True)  # fmt: skip
        methods.append(
            Frontier(
                row.method, row.family, row.site, int(row.layer), look[row.method], points,
                (float(row.kl), float(row.effect)), bool(row.reached),
            )
        )  # fmt: skip
    budget = budget_of(comparison)
    bands, n = _bands(comparison, budget)
    short = next((s for _, row in comparison.headline.iterrows() if (s := short_of_budget(row))), "")
    return Frontiers(tuple(methods), bands, budget, n, short)


def _bands(comparison: Comparison, budget: float) -> tuple[dict[str, pd.DataFrame], int]:
    """Per site the middle 95 % of random effects at each KL, and the fewest directions of a site."""
    joined = random_records(comparison, "effect").merge(
        random_records(comparison, "kl"), on=["method", "site", "strength"], suffixes=("", "_of_kl")
    )
    bands, counts = {}, []
    for site, rows in joined[joined["strength"] > 0].groupby("site", sort=True):
        curves = [
            (own["strength"].to_numpy(), own["value_of_kl"].to_numpy(), own["value"].to_numpy())
            for _, own in rows.sort_values("strength").groupby("method", sort=True)
        ]
        if len(curves) >= 2:
            bands[str(site)] = band_of(curves, budget)
            counts.append(len(curves))
    return bands, min(counts, default=0)


def band_of(curves: list[tuple[Array, Array, Array]], budget: float) -> pd.DataFrame:
    """The 2.5 to 97.5 % range of curves of effect over KL (each ``strength, kl, effect``, strengths ascending).

    Up to the KL that half of them reach (and at least the budget). A curve is interpolated as `DoseCurve` does, and
    keeps its last effect beyond the largest KL it reaches.
    """
    tops = [float(np.max(kl)) for _, kl, _ in curves]
    top = max(float(np.median(tops)), budget if is_number(budget) else 0.0)
    if not top > 0:
        return pd.DataFrame({"kl": [], "low": [], "high": []}, dtype=float)
    least = min([float(kl[kl > 0].min()) for _, kl, _ in curves if (kl > 0).any()], default=top)
    grid = np.geomspace(min(least, top) / 20, top, GRID)
    if is_number(budget):
        grid = np.unique(np.append(grid, budget))
    effects = np.stack([interpolate_effect(*curve, grid) for curve in curves])
    low, high = np.quantile(effects, [0.025, 0.975], axis=0)
    return pd.DataFrame({"kl": grid, "low": low, "high": high})


def interpolate_effect(strengths: Array, kl: Array, effect: Array, grid: Array) -> Array:
    """Effect where KL first meets each value of ``grid``; the last effect where it never does."""
    s, x, y = (np.concatenate([[0.0], of]) for of in (strengths, kl, effect))
    rows = (len(grid), len(s))
    at = first_crossing(s, np.broadcast_to(x, rows), grid)
    return between(s, np.broadcast_to(y, rows), at)


def draw_effect_against_kl(data: Frontiers, axes: Axes, *, family: str | None = None) -> None:
    """Draw all methods, or those of one family, with the random directions of their sites.

    Args:
        data: From `prepare_effect_against_kl`.
        axes: Where to draw; its horizontal scale becomes logarithmic.
        family: The family to bring forward; None brings all.
    """
    style_plain(axes)
    axes.set_xscale("log")
    draw_zero(axes, vertical=False)
    own = [m for m in data.methods if family in (None, m.family)]
    sites = [s for s in dict.fromkeys(m.site for m in own) if s in data.bands]
    for site in sites:
        band = data.bands[site]
        axes.fill_between(band["kl"], band["low"], band["high"], color=NULL, alpha=0.28, linewidth=0, zorder=1.2)
    for method in data.methods:
        _draw_method(method, axes, data.least_kl, forward=method in own)
    if is_number(data.budget):
        draw_budget(axes, data.budget)
    axes.set_xlim(left=data.least_kl)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: general(x)))
    axes.set_xlabel("KL on neutral text (nats per token, log scale)")
    axes.set_ylabel("effect: change in log-odds (nats)")
    handles = [key(f"{m.method}, layer {m.layer}", m.look) for m in own]
    if sites:
        handles.append(
            Line2D(
                [],
                [],
                color=NULL,
                alpha=0.45,
                linewidth=7,
                solid_capstyle="butt",
                label="random directions, 95 %" + (f" († {data.short} at the budget)" if data.short else ""),
            )
        )
    draw_key(axes, family or "all families", handles)


def _draw_method(method: Frontier, axes: Axes, least_kl: float, *, forward: bool) -> None:
    p = method.points
    top = float(p["kl"].max())
    grid = np.geomspace(least_kl, top, GRID) if top > least_kl else np.array([top])
    drawn = np.unique(np.concatenate([grid, p["kl"][p["kl"] > least_kl]]))
    strength, kl, effect = (p[column].to_numpy() for column in ("strength", "kl", "effect"))
    curve = interpolate_effect(strength, kl, effect, drawn)
    if not forward:
        axes.plot(drawn, curve, color=MUTED, alpha=0.28, linewidth=1, zorder=1.5)
        return
    look = method.look
    axes.plot(drawn, curve, color=look.colour, linestyle=look.dashes, linewidth=1.8, zorder=3)
    seen = p[p["kl"] > 0]
    axes.vlines(seen["kl"], seen["effect_low"], seen["effect_high"], color=look.colour, linewidth=1, alpha=0.7)
    axes.hlines(seen["effect"], seen["kl_low"], seen["kl_high"], color=look.colour, linewidth=1, alpha=0.7)
    axes.plot(seen["kl"], seen["effect"], look.marker, color=look.colour, markersize=5, markeredgewidth=0, zorder=3)
    if all(map(is_number, method.at_budget)):
        axes.plot(
            *method.at_budget, look.marker, markersize=9, markerfacecolor=PAPER, markeredgecolor=look.colour,
            markeredgewidth=1.8, zorder=4,
        )  # fmt: skip

"""What all figures share: quiet axes, and text that is never taken for mathematics."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from steerlens.reports._palette import INK, MUTED, PAPER, RULE, Look

SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "legend.fontsize": 8.5,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "steerlens",
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}
"""matplotlib settings under which figures are made and written."""


def draw_zero(axes: Axes, *, vertical: bool) -> None:
    """The line of no effect."""
    line = axes.axvline if vertical else axes.axhline
    line(0, color=MUTED, linewidth=0.9, zorder=1)


def draw_budget(axes: Axes, budget: float) -> None:
    """A vertical line where side effects meet the budget."""
    axes.axvline(budget, color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1)


def draw_row(axes: Axes, y: float, title: str, detail: str) -> None:
    """Name and numbers of one row, written above it from the left edge of the axes."""
    for text, colour, weight, lift in ((title, INK, "bold", 22.0), (detail, MUTED, "normal", 10.5)):
        axes.annotate(
            text,
            xy=(0, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, lift),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
            fontweight=weight,
            annotation_clip=False,
            parse_math=False,
            bbox={"facecolor": PAPER, "linewidth": 0, "pad": 1.2},
            zorder=1.5,
        ).set_in_layout(False)


def style_rows(axes: Axes, n: int) -> None:
    """Axes of ``n`` rows, the first at the top, without a vertical scale."""
    axes.set_ylim(n - 0.6, -0.75)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def draw_interval(axes: Axes, x: tuple[float, float, float], y: float, look: Look, *, filled: bool = True) -> None:
    """A value with its interval (``value, low, high``) on a row; hollow where it is not at the budget."""
    value, low, high = x
    axes.plot([low, high], [y, y], color=look.colour, linewidth=2.2, solid_capstyle="round", zorder=3)
    axes.plot(
        [value], [y], look.marker, color=look.colour, markerfacecolor=look.colour if filled else PAPER,
        markeredgecolor=PAPER if filled else look.colour, markeredgewidth=1.2, markersize=8, zorder=4,
    )  # fmt: skip


def key(method: str, look: Look) -> Line2D:
    """Legend entry of a method."""
    return Line2D(
        [], [], color=look.colour, linestyle=look.dashes, linewidth=1.8, marker=look.marker, markersize=5.5,
        markeredgecolor=PAPER, label=method,
    )  # fmt: skip


def draw_key(axes: Axes, title: str, handles: Sequence[Line2D]) -> None:
    """A legend above the axes, aligned left, under its title."""
    legend = axes.legend(
        handles=handles, labels=[str(h.get_label()) for h in handles], title=title, loc="lower left",
        bbox_to_anchor=(0, 1.0), frameon=False, borderaxespad=0.3, borderpad=0, handlelength=2.6,
        alignment="left",
    )  # fmt: skip
    legend.get_title().set_fontweight("bold")
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_parse_math(False)
        text.set_color(INK)


def style_plain(axes: Axes) -> None:
    """Axes with a horizontal grid."""
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)

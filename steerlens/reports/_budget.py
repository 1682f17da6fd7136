"""The headline as a figure: each method's effect at the budget beside the range of random directions."""

from dataclasses import dataclass
from typing import final

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from steerlens.evaluation import Comparison
from steerlens.reports._drawing import draw_interval, draw_row, draw_zero, style_rows
from steerlens.reports._numbers import bounds, decimals_for, estimate, is_number
from steerlens.reports._palette import NULL, Look
from steerlens.reports._select import each, method_looks, ordered_headline, short_of_budget


@final
@dataclass(frozen=True)
class BudgetEffect:
    """One method: effect at the budget in nats, and the range of its random directions (NaN without any).

    ``short`` says how many of these reached the budget, if not all did.
    """

    method: str
    family: str
    layer: int
    look: Look
    effect: tuple[float, float, float]
    random: tuple[float, float]
    reached: bool
    short: str = ""


@final
@dataclass(frozen=True)
class BudgetEffects:
    """All methods with a finite effect, in the order of the headline."""

    rows: tuple[BudgetEffect, ...]


def prepare_budget_effects(comparison: Comparison) -> BudgetEffects:
    """Effect at equal KL per method, with the 2.5 to 97.5 % range of random directions at its site."""
    look = method_looks(comparison)
    rows = [
        BudgetEffect(
            r.method, r.family, int(r.layer), look[r.method], (r.effect, r.effect_low, r.effect_high),
            (r.random_low, r.random_high), bool(r.reached), short_of_budget(r._asdict()),
        )
        for r in each(ordered_headline(comparison))
        if is_number(r.effect)
    ]  # fmt: skip
    return BudgetEffects(tuple(rows))


def draw_budget_effects(data: BudgetEffects, axes: Axes) -> None:
    """One row per method: interval over the grey range of random directions; hollow if off the budget."""
    style_rows(axes, len(data.rows))
    draw_zero(axes, vertical=True)
    for y, row in enumerate(data.rows):
        low, high = row.random
        detail = f"{estimate(*row.effect)} nats" + ("" if row.reached else " †")
        if is_number(low) and is_number(high):
            axes.add_patch(
                Rectangle((low, y - 0.14), high - low, 0.28, facecolor=NULL, alpha=0.4, linewidth=0, zorder=2)
            )
            detail += f"; random {bounds(low, high, decimals_for(high - low))}"
            detail += f" († {row.short} at the budget)" if row.short else ""
        draw_interval(axes, row.effect, y, row.look, filled=row.reached)
        draw_row(axes, y, f"{row.method}, layer {row.layer}", detail)
    axes.autoscale_view(scaley=False)
    axes.set_xlabel("effect at the KL budget (nats); grey: random directions")

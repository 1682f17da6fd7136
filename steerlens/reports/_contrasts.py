"""Paired contrasts: one method's effect at the budget less another's, on the same questions."""

from dataclasses import dataclass
from typing import final

from matplotlib.axes import Axes

from steerlens.evaluation import Comparison
from steerlens.reports._drawing import draw_interval, draw_row, draw_zero, style_rows
from steerlens.reports._numbers import estimate, is_number
from steerlens.reports._palette import INK, MUTED, Look
from steerlens.reports._select import each, method_looks

_NEUTRAL = Look(INK, "o", (0, ()))


@final
@dataclass(frozen=True)
class PairedContrast:
    """``method`` less ``reference``: difference, low and high in nats; ``p_holm`` is adjusted for all contrasts,
    and ``detectable`` what would have shown with a power of 0.8."""

    method: str
    reference: str
    look: Look
    difference: tuple[float, float, float]
    n: int
    n_clusters: int
    same_cost: bool
    p_holm: float
    detectable: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        _, low, high = self.difference
        return low > 0 or high < 0


@final
@dataclass(frozen=True)
class PairedContrasts:
    """All finite contrasts, in the order given."""

    rows: tuple[PairedContrast, ...]


def prepare_paired_contrasts(comparison: Comparison) -> PairedContrasts:
    """Differences of effects at equal KL; ``same_cost`` is False if either never met the budget."""
    look = method_looks(comparison)
    reached = dict(zip(comparison.headline["method"], comparison.headline["reached"], strict=True))
    rows = [
        PairedContrast(
            r.method, r.reference, look.get(r.method, _NEUTRAL), (r.difference, r.low, r.high), int(r.n),
            int(r.n_clusters), bool(reached.get(r.method, True) and reached.get(r.reference, True)), float(r.p_holm),
            float(r.detectable),
        )
        for r in each(comparison.contrasts)
        if all(map(is_number, (r.difference, r.low, r.high)))
    ]  # fmt: skip
    return PairedContrasts(tuple(rows))


def draw_paired_contrasts(data: PairedContrasts, axes: Axes) -> None:
    """One row per pair; filled where zero is excluded, grey and hollow where it is not."""
    style_rows(axes, len(data.rows))
    draw_zero(axes, vertical=True)
    for y, row in enumerate(data.rows):
        look = row.look if row.excludes_zero else Look(MUTED, row.look.marker, row.look.dashes)
        draw_interval(axes, row.difference, y, look, filled=row.excludes_zero)
        mark = "" if row.same_cost else " †"
        draw_row(axes, y, f"{row.method} − {row.reference}{mark}", f"{estimate(*row.difference, signed=True)} nats")
    axes.autoscale_view(scaley=False)
    axes.set_xlabel("difference of effects at the KL budget (nats)")

"""How much more a nonlinear function can tell than a linear one, in bits, and at which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from steerlens.numerics import Estimate
from steerlens.probes._families import FunctionClass
from steerlens.probes._intervals import mean_interval
from steerlens.probes._scores import ProbeTable

NONLINEAR: tuple[FunctionClass, ...] = ("kernel", "knn", "mlp")
"""Classes that need no order of their own."""


@final
@dataclass(frozen=True)
class NonlinearityGap:
    """Bits for each row that nonlinear probes save on test rows, G = G_quad + G_high.

    Every number is a paired difference on the same rows and seeds; the probes compared were chosen on select rows.

    Args:
        total: G = NLL_linear − NLL_nonlinear: what no linear probe found.
        quadratic: G_quad = NLL_linear − NLL_quadratic: the part that squares and products find. Classes that differ in
            second moments have it.
        high: G_high = NLL_quadratic − NLL_nonlinear: the rest. Parity and alternating arcs have nothing else.
        linear_probe: The linear probe compared.
        quadratic_probe: The quadratic one.
        nonlinear_probe: The nonlinear one.
        by_probe: G of every nonlinear probe, by name: a gap at the widest network alone is a gap of capacity.
    """

    total: Estimate
    quadratic: Estimate
    high: Estimate
    linear_probe: str
    quadratic_probe: str
    nonlinear_probe: str
    by_probe: tuple[tuple[str, Estimate], ...]

    def __str__(self) -> str:
        lines = [
            f"gap       {self.total} bits, {self.linear_probe} − {self.nonlinear_probe}",
            f"quadratic {self.quadratic} bits, {self.linear_probe} − {self.quadratic_probe}",
            f"high      {self.high} bits, {self.quadratic_probe} − {self.nonlinear_probe}",
        ]
        return "\n".join(lines + [f"  {name:<10}{gap}" for name, gap in self.by_probe])


def nonlinearity_gap(table: ProbeTable, *, nonlinear: Sequence[FunctionClass] = NONLINEAR) -> NonlinearityGap:
    """The gap between the best linear, the best quadratic and the best other probe of a table.

    The best of a class takes the fewest bits for the select rows, so that test rows are only counted. A gap says what
    these fitted probes found: with few rows a class that could tell more may not, a negative gap is a nonlinear probe
    that fits worse, and an interval without 0 may hold thousandths of a bit only. Compare it with a margin that
    matters.

    Args:
        table: Of `probe_table`.
        nonlinear: Classes that count as nonlinear.

    Raises:
        OptionError: If the table lacks a probe of one of the three.
    """
    linear, quadratic, best = (table.best(c) for c in (("linear",), ("quadratic",), tuple(nonlinear)))
    of_linear, of_quadratic, of_best = (table.bits(r.name) for r in (linear, quadratic, best))

    def paired(difference: np.ndarray) -> Estimate:
        return mean_interval(difference, table.codes, level=table.level)

    others = [r for r in table.results if r.function_class in nonlinear]
    return NonlinearityGap(
        paired(of_linear - of_best),
        paired(of_linear - of_quadratic),
        paired(of_quadratic - of_best),
        linear.name,
        quadratic.name,
        best.name,
        tuple((r.name, paired(of_linear - table.bits(r.name))) for r in others),
    )

"""Which rung of the ladder a concept asks for: by its geometry, and by what steering does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from steerlens.errors import OptionError
from steerlens.evaluation import Comparison, LayerReading, Rung

LADDER_RUNGS: tuple[tuple[Rung, str], ...] = (
    ("translation", "MeanShift"),
    ("affine", "GaussianTransport"),
    ("nonlinear", "ResidualMLP"),
)
"""The method that stands for each rung, from the smallest class of functions to the largest."""

GROWTH = 0.1
"""Share of the lower rung's effect that a higher one must add; the margin of T1."""

Sureness = Literal["shown", "not excluded"]


@final
@dataclass(frozen=True)
class BehaviourReading:
    """The rung at which the effect at equal side effects stops growing.

    Args:
        rung: The highest that adds `GROWTH` to those below it, by the lower end of the interval of the paired
            difference; "none" if no rung clears the random directions, "unjudged" if there were none to clear.
        sure: "shown" if the upper ends say that no higher rung adds as much; "not excluded" where one may.
        text: In words, with the numbers.
    """

    rung: Rung | Literal["unjudged"]
    sure: Sureness
    text: str


@final
@dataclass(frozen=True)
class RungReading:
    """What geometry and behaviour ask for on one concept, at one layer.

    Args:
        concept: Its name.
        layer: Block.
        geometry: The reading of the probes.
        behaviour: The reading of the ladder's effects.
    """

    concept: str
    layer: int
    geometry: LayerReading
    behaviour: BehaviourReading

    @property
    def agree(self) -> Literal["agree", "differ", "undecided"]:
        """Whether both ask for the same rung; undecided where they differ and either leaves higher rungs open."""
        if self.geometry.rung == self.behaviour.rung:
            return "agree"
        return "differ" if self.geometry.sure == self.behaviour.sure == "shown" else "undecided"


def behaviour_rung(comparison: Comparison) -> BehaviourReading:
    """Read the rung off a comparison's paired differences at the budget.

    Raises:
        OptionError: If a method of `LADDER_RUNGS` was not compared.
    """
    rows = {str(r["method"]): r for r in comparison.headline.to_dict("records")}
    missing = [method for _, method in LADDER_RUNGS if method not in rows]
    if missing:
        raise OptionError(f"A rung is read off the whole ladder, but {', '.join(missing)} was not compared.")
    if any(math.isnan(float(rows[method]["random_high"])) for _, method in LADDER_RUNGS):
        reason = "fewer than two random directions stood beside the ladder, so that its effects have nothing to clear."
        return BehaviourReading("unjudged", "not excluded", reason)
    reached = [
        (rung, method) for rung, method in LADDER_RUNGS if rows[method]["effect_low"] > rows[method]["random_high"]
    ]
    if not reached:
        best = max(float(rows[m]["effect"]) for _, m in LADDER_RUNGS)
        return BehaviourReading("none", "not excluded", f"no rung clears random directions; the best has {best:.2f}.")
    rung, stands = reached[0]
    higher = [one for one in LADDER_RUNGS if _place(one[0]) > _place(rung)]
    said = [f"{stands} moves {_effect(rows[stands])} nats"]
    for above, method in higher:
        gain = _gain(comparison, method, stands)
        said.append(f"{method} adds {gain[0]:.2f} [{gain[1]:.2f}, {gain[2]:.2f}] to {stands}")
        if gain[1] > GROWTH * abs(float(rows[stands]["effect"])):
            rung, stands = above, method
    open_ = [
        method
        for above, method in LADDER_RUNGS
        if _place(above) > _place(rung)
        and _gain(comparison, method, stands)[2] > GROWTH * abs(float(rows[stands]["effect"]))
    ]
    said += [f"more from {' or '.join(open_)} is not excluded"] if open_ else []
    return BehaviourReading(rung, "not excluded" if open_ else "shown", "; ".join(said) + ".")


def _place(rung: Rung) -> int:
    return [r for r, _ in LADDER_RUNGS].index(rung)


def _effect(row: Mapping[Any, Any]) -> str:
    return f"{row['effect']:.2f} [{row['effect_low']:.2f}, {row['effect_high']:.2f}]"


def _gain(comparison: Comparison, method: str, reference: str) -> tuple[float, float, float]:
    """The paired difference of two methods' effects at the budget, with its interval."""
    c = comparison.contrasts
    row = c[(c["method"] == method) & (c["reference"] == reference)].iloc[0]
    return float(row["difference"]), float(row["low"]), float(row["high"])

"""Does a test reject a true null at its level, and does an interval cover the truth as often as it says?"""

from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats

from steerlens.numerics import Estimate


@dataclass(frozen=True)
class Calibration:
    """How often something happened in simulated sets, beside how often it should.

    Args:
        name: What was simulated.
        kind: "false positives" at level 0.05, or "coverage" of intervals of 95 %.
        share: How often.
        low, high: Wilson's 95 % interval of the share.
        allowed: Where the share must lie.
        sets: Simulated sets.
    """

    name: str
    kind: str
    share: float
    low: float
    high: float
    allowed: tuple[float, float]
    sets: int

    @property
    def holds(self) -> bool:
        return self.allowed[0] <= self.share <= self.allowed[1]

    def __str__(self) -> str:
        verdict = "yes" if self.holds else "**no**"
        share = f"{self.share:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"| {self.name} | {self.kind} | {share} | {self.sets} | {verdict} |"


def false_positives(name: str, p_value: Callable[[int], float], *, sets: int) -> Calibration:
    """Share of p-values of at most 0.05; ``p_value`` simulates the null of a seed."""
    return _share(name, "false positives", sum(p_value(seed) <= 0.05 for seed in range(sets)), sets, (0.03, 0.07))


def coverage(name: str, estimate: Callable[[int], Estimate], truth: float, *, sets: int) -> Calibration:
    """Share of intervals that hold the truth; ``estimate`` simulates the data of a seed."""
    found = (estimate(seed) for seed in range(sets))
    return _share(name, "coverage", sum(e.low <= truth <= e.high for e in found), sets, (0.92, 0.98))


def _share(name: str, kind: str, k: int, sets: int, allowed: tuple[float, float]) -> Calibration:
    ends = stats.binomtest(k, sets).proportion_ci(method="wilson")
    return Calibration(name, kind, k / sets, float(ends.low), float(ends.high), allowed, sets)

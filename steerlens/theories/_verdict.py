"""What a theory predicts, what was found, and what follows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal, final

from scipy import stats

from steerlens.errors import OptionError
from steerlens.numerics import Estimate

Direction = Literal["above", "below", "within"]


@final
class Outcome(Enum):
    """What can become of a hypothesis. VOID: a control failed or a record is missing, so nothing can be said."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"


@final
@dataclass(frozen=True)
class Prediction:
    """One number that a theory commits itself to, and the number that counts against it.

    Args:
        name: Under which `Evidence` gives the estimate.
        statistic: What is estimated, in words.
        direction: Where the theory says it lies: ``above`` or ``below`` the margin, or ``within`` ±margin.
        margin: Fulfilled if the whole interval lies on that side.
        threshold: Refuted if the whole interval lies on the other side of it; None if this number can only withhold
            support. Never on the theory's side of the margin, so that one interval cannot do both.
        optional: Whether support needs it; if not, it counts where it was measured.

    Raises:
        OptionError: If a number is not finite, or the threshold lies on the theory's side of the margin.
    """

    name: str
    statistic: str
    direction: Direction
    margin: float
    threshold: float | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        ends = (self.margin, self.margin if self.threshold is None else self.threshold)
        if not all(math.isfinite(x) for x in ends):
            raise OptionError(f"{self.name} needs a finite margin and threshold, but got {ends}.")
        wrong = ends[1] > ends[0] if self.direction == "above" else ends[1] < ends[0]
        if wrong or (self.direction == "within" and self.margin <= 0):
            raise OptionError(
                f"{self.name} is predicted {self.direction} {ends[0]:g} and refuted at {ends[1]:g}: one interval could "
                "do both, or the margin is empty. Put the threshold on the other side of the margin."
            )

    def fulfilled(self, found: Estimate) -> bool:
        """Whether the whole interval lies where the theory says."""
        if self.direction == "above":
            return found.low > self.margin
        if self.direction == "below":
            return found.high < self.margin
        return -self.margin < found.low and found.high < self.margin

    def contradicted(self, found: Estimate) -> bool:
        """Whether the whole interval lies beyond the threshold, on the other side."""
        if self.threshold is None:
            return False
        if self.direction == "above":
            return found.high < self.threshold
        if self.direction == "below":
            return found.low > self.threshold
        return found.low > self.threshold or found.high < -self.threshold

    def __str__(self) -> str:
        at = f"±{self.margin:g}" if self.direction == "within" else f"{self.margin:g}"
        return f"{self.statistic}: {self.direction} {at}"

    @property
    def against(self) -> str:
        """What would contradict it, in words; empty if nothing can."""
        if self.threshold is None:
            return ""
        other = {"above": "below", "below": "above", "within": "beyond"}[self.direction]
        at = f"±{self.threshold:g}" if self.direction == "within" else f"{self.threshold:g}"
        return f"{self.statistic}: whole interval {other} {at}"


@final
@dataclass(frozen=True)
class Control:
    """Something that must hold for the numbers to mean anything.

    Args:
        name: What was asked.
        passed: Whether it held.
        reason: With the numbers.
    """

    name: str
    passed: bool
    reason: str


@final
@dataclass(frozen=True)
class Evidence:
    """What records say of a hypothesis.

    Args:
        estimates: By name of the prediction; one that records could not tell is left out.
        controls: All of them, passed or not.
        n: Units of replication, such as concepts.
    """

    estimates: Mapping[str, Estimate]
    controls: tuple[Control, ...]
    n: int


@final
@dataclass(frozen=True)
class Verdict:
    """The outcome for one hypothesis, and the numbers it rests on.

    Args:
        outcome: What follows by rule.
        reason: Why, in a sentence or two, with the numbers.
        hypothesis: Its id.
        level: Coverage of the intervals that decided; above the hypothesis's own where several were asked at once.
        evidence: Estimates and controls; None where there were none to be had.
        would_change: What would change it.
        exploratory: Whether the hypothesis was declared exploratory: a hint, no test.
    """

    outcome: Outcome
    reason: str
    hypothesis: str = ""
    level: float = 0.95
    evidence: Evidence | None = field(default=None)
    would_change: str = ""
    exploratory: bool = False

    def __str__(self) -> str:
        label = " (exploratory)" if self.exploratory else ""
        change = f" {self.would_change}" if self.would_change else ""
        return f"{self.hypothesis} {self.outcome.value}{label}: {self.reason}{change}"


@final
@dataclass(frozen=True)
class Registration:
    """A hypothesis as it was frozen.

    Args:
        hypothesis: Its id.
        fingerprint: SHA-256 of its canonical text.
        when: Time stamp.
        text: The canonical text: every field, prediction and margin, and the hash of the code.
        rule: Version of the code that judges all hypotheses; empty in registrations of before it was kept.
    """

    hypothesis: str
    fingerprint: str
    when: datetime
    text: str
    rule: str = ""


def detectable(found: Estimate, power: float) -> float:
    """How far beyond the margin the truth must lie to be seen with this power, given how wide the interval is.

    Half the width, times (z(level) + z(power)) / z(level); approximate, and as uncertain as the width.

    References:
        cohen1988.
    """
    z_level, z_power = float(stats.norm.ppf((1 + found.level) / 2)), float(stats.norm.ppf(power))
    return (found.high - found.low) / 2 * (z_level + z_power) / z_level


def units_needed(found: Estimate, prediction: Prediction, power: float) -> int | None:
    """Units with which the value found would be seen to support or to refute; None where it would do neither.

    So it is upon the margin, between it and the threshold, and on the wrong side of a prediction that cannot refute.
    """
    sign = -1.0 if prediction.direction == "above" else 1.0
    value = abs(found.value) if prediction.direction == "within" else sign * found.value
    margin = prediction.margin if prediction.direction == "within" else sign * prediction.margin
    threshold = (
        math.inf
        if prediction.threshold is None
        else prediction.threshold * (1.0 if prediction.direction == "within" else sign)
    )
    away = max(margin - value, value - threshold)
    if away <= 1e-12:
        return None
    return math.ceil(found.n_clusters * max(1.0, detectable(found, power) / away) ** 2)

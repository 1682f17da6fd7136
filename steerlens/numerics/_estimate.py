"""A number that knows how sure it is."""

import math
from dataclasses import dataclass
from html import escape
from typing import final

from steerlens.errors import EstimateError


@final
@dataclass(frozen=True)
class Estimate:
    """A value with its interval, sample size and clusters.

    Args:
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Coverage the interval aims at, such as 0.95.
        n: Number of observations behind the value.
        n_clusters: Number of independent clusters they fall into.
        method: How the interval was made, such as ``"cluster bootstrap, BCa, 2000"``.

    Raises:
        EstimateError: If the interval is not finite, not ordered, or its level is not in (0, 1).
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    n_clusters: int
    method: str

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in (self.value, self.low, self.high)):
            raise EstimateError(
                f"An estimate needs finite numbers, but got value {self.value}, low {self.low}, high "
                f"{self.high} from {self.n} observations. Look for NaN in what was measured."
            )
        if self.low > self.high or not 0 < self.level < 1:
            raise EstimateError(
                f"An interval needs low <= high and a level between 0 and 1, but got low {self.low}, "
                f"high {self.high}, level {self.level}."
            )

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the interval."""
        return value < self.low or value > self.high

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def _repr_html_(self) -> str:
        title = escape(f"{self.level:.0%} interval, n = {self.n}, {self.n_clusters} clusters, {self.method}")
        return f'<span title="{title}">{self.value:.3g} <small>[{self.low:.3g}, {self.high:.3g}]</small></span>'

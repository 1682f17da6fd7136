"""Simulated studies: what a hypothesis reads, with the noise that such numbers have."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from steerlens.theories._records import rows_of

Array = npt.NDArray[np.float64]

NOISE = 0.15
"""Standard error of a concept's mean effect in nats: that of 100 to 200 questions whose effects differ by 1.5 to 2."""

RANDOM_DRAWS = 20


@final
@dataclass(frozen=True, eq=False)
class PlantedStudy:
    """Concepts of a simulated study, and its chance.

    Args:
        rng: Of everything that is drawn.
        concepts: How many.
    """

    rng: np.random.Generator
    concepts: int

    @classmethod
    def of(cls, seed: int, concepts: int = 24) -> "PlantedStudy":
        """From a seed."""
        return cls(np.random.default_rng(seed), concepts)

    def sizes(self, typical: float = 2.0, spread: float = 0.35) -> Array:
        """True effects in nats, log-normal around the typical one."""
        out: Array = typical * np.exp(self.rng.normal(0, spread, self.concepts))
        return out

    def uniform(self, low: float, high: float) -> Array:
        """One number a concept."""
        return self.rng.uniform(low, high, self.concepts)

    def normal(self, mean: float, sd: float, *shape: int) -> Array:
        """Normal numbers, one a concept if no more is said."""
        return self.rng.normal(mean, sd, (self.concepts, *shape))

    def measured(self, quantity: str, truth: npt.ArrayLike, noise: float, **columns: Any) -> dict[str, Any]:
        """The truth of each concept as a study sees it: with noise, and with an interval that knows how much."""
        x = np.broadcast_to(np.asarray(truth, dtype=np.float64), (self.concepts,))
        return rows_of(quantity, x + self.rng.normal(0, noise, self.concepts), error=noise, **columns)

    def arm(
        self,
        method: str,
        truth: npt.ArrayLike,
        quantity: str = "effect_at_budget",
        noise: float = NOISE,
        **columns: Any,
    ) -> dict[str, Any]:
        """The effect of a method on each concept."""
        return self.measured(quantity, truth, noise, role="method", method=method, **columns)

    def random(self, quantity: str = "effect_at_budget", spread: float = 0.2, **columns: Any) -> dict[str, Any]:
        """Effects of random directions, which have none on average."""
        x = self.normal(0, spread, RANDOM_DRAWS)
        return rows_of(quantity, x, "seed", role="random", method="random", error=NOISE, **columns)

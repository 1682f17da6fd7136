"""Gates: a map that acts only on rows that a probe takes for the source."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._additive import MeanShift
from steerlens.maps._base import Family, Needs, SteeringMap, SteeringMethod, method_needs, method_reversible
from steerlens.maps._classifier import log_odds
from steerlens.maps._samples import checked


@final
@dataclass(frozen=True, eq=False)
class GatedMap(SteeringMap):
    """T(x) = t(x) where a · x + b < g, and x elsewhere.

    The row is judged where it starts, once, whatever the strength.

    Args:
        read: a; a · x + b are the log-odds that x belongs to the target.
        offset: b.
        below: g.
        inner: t.
    """

    read: Float[Tensor, " d_model"]
    offset: Float[Tensor, ""]
    below: float
    inner: SteeringMap

    def is_open(self, x: Float[Tensor, "*batch d_model"]) -> Tensor:
        """Which rows are moved."""
        return x @ self.read.to(x) + self.offset.to(x) < self.below

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self._gated(x, self.inner.displacement(x))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        return self._gated(x, self.inner.path(x, strength))

    def _gated(self, x: Tensor, moved: Tensor) -> Tensor:
        return torch.where(self.is_open(x).unsqueeze(-1), moved, torch.zeros_like(moved))

    @property
    def strength_unit(self) -> str:
        """That of the inner map."""
        return self.inner.strength_unit

    @property
    def reverse(self) -> "GatedMap | None":
        """The inner reverse on rows that the probe takes for the target. It does not find again what was moved."""
        inner = self.inner.reverse
        return None if inner is None else GatedMap(-self.read, -self.offset, self.below, inner)


@final
@dataclass(frozen=True)
class ProbeGated:
    """Another method's map, on those rows only that a logistic probe takes for the source.

    T(x) = t(x) where P(target | x) < ``threshold``, and x elsewhere. The map t is fitted on all rows of both samples.

    Differs from CAST, which decides once for a prompt, by the similarity of its activation with a condition
    vector, and then steers every token or none: here each row is judged alone, where it is steered. The
    counterfactual maps of singh2024 are gated row by row too, by a network instead of a linear probe.

    Args:
        method: Fits t.
        threshold: P(target) from which on a row is left alone, for classes of equal size.

    References:
        lee2025 (CAST); singh2024 (maps gated by a classifier).
    """

    method: SteeringMethod = MeanShift()  # noqa: RUF009 - frozen
    threshold: float = 0.5

    family: ClassVar[Family] = "nonlinear"
    assumes: ClassVar[str] = "a linear probe can tell which rows lack the concept"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise OptionError(f"threshold must lie between 0 and 1, but got {self.threshold}.")

    @property
    def needs(self) -> Needs:
        """What the method needs."""
        return method_needs(self.method)

    @property
    def reversible(self) -> bool | None:
        """Whether the method is."""
        return method_reversible(self.method)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> GatedMap:
        """Fit the probe and the map.

        Raises:
            FitError: If nothing linear tells the classes apart, or the method cannot be fitted.
        """
        source, target = checked(source, target)
        read, offset = log_odds(source, target)
        below = math.log(self.threshold / (1 - self.threshold))
        return GatedMap(read, offset, below, self.method.fit(source, target))

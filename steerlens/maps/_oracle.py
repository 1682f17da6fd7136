"""Erasure that is told which class a row belongs to."""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from steerlens.maps._additive import AdditiveMap
from steerlens.maps._base import Family
from steerlens.maps._compose import TwoWayMap
from steerlens.maps._samples import checked
from steerlens.numerics import Moments


@final
@dataclass(frozen=True)
class OracleErasure:
    """Move the mean of each class to the mean of both, T(x) = x + μ − μ₋, for rows known to be of the source.

    Rows of the target are moved by the reverse, x + μ − μ₊. Together the two are oracle LEACE: the least edit after
    which no linear classifier beats a constant on the fitted data, if the map may look at the label; `ConceptErasure`
    may not, and moves more. μ weighs every row alike, so that the larger class moves less. Where means are equal
    nothing is to be erased, and nothing moves.

    References:
        belrose2023 (the oracle).
    """

    family: ClassVar[Family] = "additive"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the class of each row is known when it is steered"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Fit from rows.

        Raises:
            FitError: If a sample has no rows.
        """
        source, target = checked(source, target, at_least=1)
        return self._of(source.mean(dim=0), len(source), target.mean(dim=0), len(target))

    def fit_moments(self, source: Moments, target: Moments) -> TwoWayMap:
        """The same map from streamed moments."""
        return self._of(source.mean, source.n, target.mean, target.n)

    def _of(self, low: Float[Tensor, " d_model"], n: int, high: Float[Tensor, " d_model"], m: int) -> TwoWayMap:
        delta = high - low
        return TwoWayMap(AdditiveMap(delta * (m / (n + m))), AdditiveMap(-delta * (n / (n + m))))

"""Kernel maps: a displacement that is linear in random Fourier features."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._compose import Scaling, TwoWayMap, both_ways, check_rank, within_subspace
from steerlens.maps._nonlinear import Signal, check_cost, match_distributions
from steerlens.maps._samples import checked
from steerlens.maps._training import Training, some

BANDWIDTH_ROWS = 500
"""Rows whose distances give the bandwidth."""


@final
@dataclass(frozen=True, eq=False)
class FourierMap(SteeringMap):
    """T(x) = x + Δ + Wᵀφ(x) with φ(x) = √(2/D) cos(Ωᵀx + b), the random features of a Gaussian kernel.

    Args:
        shift: Δ.
        weights: W.
        frequencies: Ω.
        phases: b.
        curve: Step and held-out loss during training; empty where nothing was trained by steps.
    """

    shift: Float[Tensor, " d_model"]
    weights: Float[Tensor, "_ d_model"]
    frequencies: Float[Tensor, "d_model _"]
    phases: Float[Tensor, " _"]
    curve: Float[Tensor, "look 2"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + features(x, self.frequencies.to(x), self.phases.to(x)) @ self.weights.to(x)


@final
@dataclass(frozen=True)
class RandomFeatureMap:
    """`ResidualMLP` with a kernel in place of its network: T(z) = z + Δ + Wᵀφ(z), and only W is trained.

    φ are random Fourier features of a Gaussian kernel whose width is ``bandwidth`` times the median distance between
    rows of both samples, in coordinates of the leading subspace. Training is that of `ResidualMLP` (energy distance
    plus ``transport_cost``, from the mean shift on, the best held-out step kept), so that the two differ in their
    functions alone: this one cannot learn which directions matter.

    Args:
        seed: Of the features, batches and held-out rows.
        features: D, their number.
        bandwidth: In median distances.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of its coordinates.
        transport_cost: As in `ResidualMLP`.
        training: Steps, rate, patience and batch.

    References:
        rahimi2007 (random features).
    """

    seed: int = 0
    features: int = 512
    bandwidth: float = 0.5
    rank: int | None = None
    scaling: Scaling = "even"
    transport_cost: float = 0.005
    training: Training = Training(steps=800, learning_rate=1e-2, patience=300)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the displacement is smooth at the scale of the distances between rows"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_cost(self.transport_cost)
        check_features(self.features, self.bandwidth)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows, or all rows are equal.
        """
        source, target = checked(source, target, at_least=20)
        return both_ways(
            lambda a, b: within_subspace(a, b, self._train, rank=self.rank, scaling=self.scaling), source, target
        )

    def _train(self, source: Tensor, target: Tensor) -> FourierMap:
        generator = torch.Generator().manual_seed(self.seed)
        shift = target.mean(dim=0) - source.mean(dim=0)
        width = self.bandwidth * median_distance(torch.cat([source, target]), generator)
        frequencies, phases = random_features(source.shape[1], self.features, width, generator)
        weights = torch.zeros(self.features, source.shape[1], dtype=torch.float64)
        curve = match_distributions(
            lambda x: shift + features(x, frequencies, phases) @ weights,
            [weights],
            source,
            target,
            signal=Signal(self.transport_cost, self.training, self.seed),
        )
        return FourierMap(shift, weights, frequencies, phases, curve)


def features(
    x: Float[Tensor, "*batch d_model"], frequencies: Float[Tensor, "d_model _"], phases: Float[Tensor, " _"]
) -> Float[Tensor, "*batch _"]:
    """√(2/D) cos(Ωᵀx + b): inner products of such rows approximate exp(−‖x − y‖² / 2 width²)."""
    return math.sqrt(2 / len(phases)) * torch.cos(x @ frequencies + phases)


def random_features(
    d: int, count: int, width: float, generator: torch.Generator
) -> tuple[Float[Tensor, "d_model _"], Float[Tensor, " _"]]:
    """Frequencies and phases of a Gaussian kernel of this width."""
    frequencies = torch.randn(d, count, dtype=torch.float64, generator=generator) / width
    return frequencies, 2 * math.pi * torch.rand(count, dtype=torch.float64, generator=generator)


def median_distance(x: Float[Tensor, "n d_model"], generator: torch.Generator) -> float:
    """Median distance between different rows, of at most 500; the root mean square one if the median is zero."""
    distances = torch.pdist(some(x, BANDWIDTH_ROWS, generator))
    return float(distances.median()) or float(x.var(dim=0).sum().mul(2).sqrt())


def check_features(count: int, bandwidth: float) -> None:
    """Refuse a kernel without features or width.

    Raises:
        OptionError: If there are none, or the width is not positive.
    """
    if count < 1 or not bandwidth > 0:
        raise OptionError(f"features must be at least 1 and bandwidth positive, but got {count} and {bandwidth}.")

"""A learned affine map of low rank: what lies between a translation and a network."""

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
from steerlens.maps._training import Training


@final
@dataclass(frozen=True, eq=False)
class LowRankMap(SteeringMap):
    """T(x) = x + Δ + W Vᵀ x.

    Args:
        shift: Δ.
        write: W, what is written.
        read: V, what is read.
        curve: Step and held-out loss during training.
    """

    shift: Float[Tensor, " d_model"]
    write: Float[Tensor, "d_model rank"]
    read: Float[Tensor, "d_model rank"]
    curve: Float[Tensor, "look 2"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.shift.to(x) + (x @ self.read.to(x)) @ self.write.to(x).T


@final
@dataclass(frozen=True)
class LowRankAffine:
    """An affine map of low rank, trained on distributions as `ResidualMLP` is, and on nothing else.

    It starts as `MeanShift` and learns what is left: in the leading subspace, T(z) = z + Δ + W Vᵀ z minimises
    the energy distance of T(source) to target plus ``transport_cost`` · E‖W Vᵀ z‖²/r, with the same subspace, cost,
    rows and training as the network. So a difference between the two is one of function class and not of signal. z is
    zero at the source mean, so that the mean moves by Δ whatever is learned. Unpaired; the reverse is trained the other
    way round.

    Unlike maps of moments it also finds rotations and mirrors: parities of three bits have equal means and covariances,
    and a mirror carries one to the other. What no affine map can do, such as splitting one hump into two, it leaves.

    Args:
        rank: Of W Vᵀ; at most the dimensions of the subspace.
        seed: Of the initial V and the held-out rows.
        dimensions: Of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of its coordinates, as in `ResidualMLP`.
        transport_cost: Price of moving otherwise than by the mean shift.
        training: Steps, rate, patience and batch.

    References:
        szekely2013 (energy distance).
    """

    rank: int = 4
    seed: int = 0
    dimensions: int | None = None
    scaling: Scaling = "even"
    transport_cost: float = 0.005
    training: Training = Training(steps=800, learning_rate=3e-3, patience=300)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one affine map that changes few directions carries one law to the other"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        if self.dimensions is not None and self.dimensions < 1:
            raise OptionError(f"dimensions must be at least 1, but got {self.dimensions}.")
        check_cost(self.transport_cost)

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Train both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows or does not vary.
        """
        source, target = checked(source, target, at_least=20)
        return both_ways(
            lambda a, b: within_subspace(a, b, self._train, rank=self.dimensions, scaling=self.scaling), source, target
        )

    def _train(self, source: Tensor, target: Tensor) -> LowRankMap:
        generator = torch.Generator().manual_seed(self.seed)
        shift = target.mean(dim=0) - source.mean(dim=0)
        width = source.shape[1]
        rank = min(self.rank, width)
        V = torch.randn(width, rank, dtype=torch.float64, generator=generator) / width**0.5
        W = torch.zeros(width, rank, dtype=torch.float64)
        curve = match_distributions(
            lambda z: shift + (z @ V) @ W.T,
            [W, V],
            source,
            target,
            signal=Signal(self.transport_cost, self.training, self.seed),
        )
        return LowRankMap(shift, W, V, curve)

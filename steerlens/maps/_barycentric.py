"""Discrete optimal transport: each source row goes to the mean of its partners, and a regression carries that on."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family
from steerlens.maps._compose import Scaling, TwoWayMap, both_ways, check_rank, within_subspace
from steerlens.maps._features import FourierMap, check_features, features, median_distance, random_features
from steerlens.maps._samples import checked
from steerlens.maps._training import some

RIDGES = np.logspace(-6, 3, 19)
"""Penalties among which generalised cross-validation chooses."""


@final
@dataclass(frozen=True)
class BarycentricTransport:
    """Match the samples by optimal transport, and learn the displacement of each source row to its partners' mean.

    The plan γ moves the rows of one sample to those of the other at the least mean squared distance, in coordinates
    of the leading subspace; T(xᵢ) = Σⱼ γᵢⱼ yⱼ / Σⱼ γᵢⱼ. For rows outside the sample the displacement is a ridge
    regression on random Fourier features, its penalty chosen by cross-validation. Dimensions
    that have nothing to do with the concept spoil the matching: partners are then far away in all of them, and the
    regression averages over their directions. `FlowMatching` suffers less.

    Args:
        seed: Of the features and of the rows drawn.
        entropy: Of the plan, in mean squared distances; None is the exact plan.
        max_rows: Larger samples are drawn down to this many rows: exact plans take the cube of the rows, two thousand
            about two seconds.
        features: Number of features.
        bandwidth: Width of their kernel, in median distances between rows.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.
        scaling: Units of its coordinates.

    References:
        peyre2019, chapters 3 and 4; rahimi2007 (random features).
    """

    seed: int = 0
    entropy: float | None = None
    max_rows: int = 2000
    features: int = 512
    bandwidth: float = 0.5
    rank: int | None = None
    scaling: Scaling = "even"

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "partners are close: few dimensions for the number of rows"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_features(self.features, self.bandwidth)
        if self.max_rows < 20:
            raise OptionError(f"max_rows must be at least 20, but got {self.max_rows}.")
        if self.entropy is not None and not self.entropy > 0:
            raise OptionError(f"entropy must be positive, but got {self.entropy}. None is the exact plan.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Fit both directions.

        Raises:
            FitError: If a sample has fewer than 20 rows, or all rows are equal.
        """
        source, target = checked(source, target, at_least=20)
        return both_ways(
            lambda a, b: within_subspace(a, b, self._regress, rank=self.rank, scaling=self.scaling), source, target
        )

    def _regress(self, source: Tensor, target: Tensor) -> FourierMap:
        from sklearn.linear_model import RidgeCV  # a second to import

        generator = torch.Generator().manual_seed(self.seed)
        source, target = (some(x, self.max_rows, generator) for x in (source, target))
        displacement = barycentres(transport_plan(source, target, self.entropy), target) - source
        width = self.bandwidth * median_distance(torch.cat([source, target]), generator)
        frequencies, phases = random_features(source.shape[1], self.features, width, generator)
        fitted = RidgeCV(alphas=RIDGES).fit(features(source, frequencies, phases).numpy(), displacement.numpy())
        weights = torch.from_numpy(np.ascontiguousarray(fitted.coef_.reshape(source.shape[1], -1).T))
        shift = torch.from_numpy(np.asarray(fitted.intercept_, dtype=np.float64).reshape(-1))
        return FourierMap(shift, weights, frequencies, phases, torch.zeros(0, 2, dtype=torch.float64))


def transport_plan(
    source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"], entropy: float | None
) -> Float[Tensor, "n m"]:
    """The plan between two samples of equal weights at the least mean squared distance, or an entropic one."""
    import ot  # half a second to import

    cost = torch.cdist(source, target).square().numpy()
    a, b = (np.full(len(x), 1 / len(x)) for x in (source, target))
    if entropy is None:
        plan = ot.emd(a, b, cost, numItermax=10_000_000)
    else:
        plan = ot.sinkhorn(a, b, cost, entropy * max(float(cost.mean()), 1e-300), method="sinkhorn_log", warn=False)
    return torch.from_numpy(plan)


def barycentres(plan: Float[Tensor, "n m"], target: Float[Tensor, "m d_model"]) -> Float[Tensor, "n d_model"]:
    """Where the plan sends each row on average."""
    return plan @ target / plan.sum(dim=1, keepdim=True)

"""Flows along the gradient of a barrier, the log density ratio of target to source."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError
from steerlens.maps._base import Family, SteeringMap
from steerlens.maps._classifier import log_odds, uphill
from steerlens.maps._compose import SubspaceMap, check_rank, within_subspace
from steerlens.maps._samples import checked

LOOKS = 200
"""Steps in which the default horizon is looked for."""


@final
@dataclass(frozen=True, eq=False)
class QuadraticFlowMap(SteeringMap):
    """ẋ = ∇B / ‖∇B‖ for a time ``horizon``, in equal Euler steps: B(x) = (x − c)ᵀ Q (x − c) + w · (x − c) + b.

    Rows move at speed 1, so that time is length along the path. Where ∇B is zero, a row stays; near a maximum of B
    the steps swing about it. Strength s integrates to s · horizon in the same number of steps.

    Args:
        linear: w.
        quadratic: Q, symmetric.
        center: c.
        constant: b.
        horizon: Time of strength 1, in units of the coordinates.
        horizon_back: That of the reverse.
        n_steps: Euler steps. One adds a vector of one length, in a direction that depends on the row.
    """

    linear: Float[Tensor, " d_model"]
    quadratic: Float[Tensor, "d_model d_model"]
    center: Float[Tensor, " d_model"]
    constant: Float[Tensor, ""]
    horizon: float
    horizon_back: float
    n_steps: int

    @property
    def strength_unit(self) -> str:
        """Multiples of the horizon."""
        return "integration time"

    def barrier(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """B of every row: log P(target | x) − log P(source | x) for classes of equal size."""
        z = x - self.center.to(x)
        return ((z @ self.quadratic.to(x) + self.linear.to(x)) * z).sum(dim=-1) + self.constant.to(x)

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        Q, w, start = self.quadratic.to(x), self.linear.to(x), x - self.center.to(x)
        step = (strength * (self.horizon / self.n_steps)).unsqueeze(-1)
        moved = torch.zeros_like(x)
        for _ in range(self.n_steps):
            slope = 2 * (start + moved) @ Q + w
            moved = moved + step * uphill(slope)
        return moved

    @property
    def reverse(self) -> "QuadraticFlowMap":
        """Down the same barrier, as far as the target's rows need: the fit the other way round, not the inverse."""
        return replace(
            self,
            linear=-self.linear,
            quadratic=-self.quadratic,
            constant=-self.constant,
            horizon=self.horizon_back,
            horizon_back=self.horizon,
        )


@final
@dataclass(frozen=True)
class ODESteering:
    """Follow the gradient of the log density ratio of target to source, which may turn on the way.

    The barrier B is a logistic regression on all products of up to two coordinates, in the whitened leading subspace;
    for Gaussian classes that is the form of the exact log density ratio. Rows flow along ∇B / ‖∇B‖. Where classes
    differ in the mean alone, ∇B is along the mean difference everywhere and the map is close to `MeanShift`. One step
    and ten have equal lengths, so that what they differ by is curvature. Outside the subspace the mean moves. Blind to
    what no quadratic tells apart, and the distribution of the target is not its aim: see `ClassifierGradient`.

    Differs from the paper: exact products in a subspace instead of a random sketch of them in all dimensions; whitened
    instead of unit-normalised activations, for lengths and gradients alike, which keeps steps along directions in
    which activations vary.

    Args:
        n_steps: Euler steps.
        horizon: Length of the flow in whitened coordinates. None takes the time at which the mean barrier of the
            source has risen to that of the target: for a linear barrier the distance of the class means along it,
            and defined for equal means too. It is found with fine steps, does not depend on ``n_steps``, and is at
            most the root mean square distance of a source row from a target row.
        rank: Dimensions of the subspace; None takes a fifth of the smaller sample, at most 32.

    References:
        zhao2026 (ODESteer).
    """

    n_steps: int = 10
    horizon: float | None = None
    rank: int | None = None

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the log density ratio is quadratic, and rising it is enough"

    def __post_init__(self) -> None:
        check_rank(self.rank)
        if self.n_steps < 1:
            raise OptionError(f"n_steps must be at least 1, but got {self.n_steps}.")
        if self.horizon is not None and not 0 < self.horizon < float("inf"):
            raise OptionError(f"horizon must be positive and finite, but got {self.horizon}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SubspaceMap:
        """Fit the barrier, and the horizon.

        Raises:
            FitError: If a sample has fewer than 10 rows, nothing varies, or no quadratic tells the classes apart.
        """
        source, target = checked(source, target, at_least=10)
        return within_subspace(source, target, self._flow, rank=self.rank, scaling="whitened")

    def _flow(self, source: Tensor, target: Tensor) -> QuadraticFlowMap:
        # About the midpoint, so that the fit from target to source is the same barrier with its sign turned.
        center = (source.mean(dim=0) + target.mean(dim=0)) / 2
        source, target = source - center, target - center
        weights, constant = log_odds(_products(source), _products(target))
        d = source.shape[1]
        rows, columns = torch.triu_indices(d, d)
        Q = torch.zeros(d, d, dtype=weights.dtype)
        Q[rows, columns] = weights[d:] / 2
        flow = QuadraticFlowMap(weights[:d], Q + Q.T, torch.zeros_like(center), constant, 1.0, 1.0, self.n_steps)
        there, back = self.horizon, self.horizon
        if there is None or back is None:
            there, back = _time_to_rise(flow, source, target), _time_to_rise(flow.reverse, target, source)
        return replace(flow, center=center, horizon=there, horizon_back=back)


def _products(z: Float[Tensor, "n rank"]) -> Tensor:
    """Every coordinate, and every product of two."""
    rows, columns = torch.triu_indices(z.shape[1], z.shape[1])
    return torch.cat([z, z[:, rows] * z[:, columns]], dim=1)


def _time_to_rise(flow: QuadraticFlowMap, source: Tensor, target: Tensor) -> float:
    """When the mean barrier of the flowing source reaches the mean barrier of the target."""
    goal = float(flow.barrier(target).mean())
    longest = float(torch.cdist(source, target).square().mean().sqrt())
    tick = replace(flow, horizon=longest / LOOKS, n_steps=1)
    before = float(flow.barrier(source).mean())
    for look in range(LOOKS):
        source = tick(source)
        now = float(flow.barrier(source).mean())
        if now >= goal:
            return (look + (goal - before) / (now - before)) * tick.horizon
        before = now
    return longest

"""Rotations: rows turn about the origin and keep their norm."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError
from steerlens.maps._base import Family, SteeringMap, widened
from steerlens.maps._samples import checked
from steerlens.numerics import principal_subspace, unit

UNIT = "angles"
"""Strength of a rotation: multiples of the fitted angle."""


@final
@dataclass(frozen=True, eq=False)
class TowardPoleMap(SteeringMap):
    """Every row turns towards one pole by ``angle``, on the great circle through both, and not beyond it.

    T(x) = ‖x‖ (cos φ · u + sin φ · t): u = x / ‖x‖ is at an angle a from the pole p, t = (p − cos a · u) / sin a is
    the way to it, and φ = min(strength · angle, a). A row at the pole stays; so does one at its antipode, from where
    all ways are equally far, and one of norm zero.

    Args:
        pole: p, a unit vector.
        angle: In radians, positive.
    """

    pole: Float[Tensor, " d_model"]
    angle: float

    @property
    def strength_unit(self) -> str:
        """Multiples of the fitted angle."""
        return UNIT

    def angles(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """From every row to the pole, in radians."""
        along = x @ self.pole.to(x)
        return torch.atan2(self._way(x, along).norm(dim=-1), along)

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        wide = widened(x)
        along = wide @ self.pole.to(wide)
        way = self._way(wide, along)
        across, norm = way.norm(dim=-1), wide.norm(dim=-1)
        # Closer to the axis than this, the way to the pole is rounding.
        defined = across > 64 * torch.finfo(wide.dtype).eps * norm
        phi = torch.minimum(strength * self.angle, torch.atan2(across, along))
        phi = torch.where(defined, phi, torch.zeros_like(phi))
        tangent = way / torch.where(defined, across, torch.ones_like(across)).unsqueeze(-1)
        # cos φ − 1, without the cancellation.
        shrink = -2 * torch.sin(phi / 2).square()
        moved: Tensor = shrink.unsqueeze(-1) * wide + (norm * torch.sin(phi)).unsqueeze(-1) * tangent
        return moved.to(x.dtype)

    def _way(self, x: Tensor, along: Tensor) -> Tensor:
        """‖x‖ sin a · t: the part of ‖x‖ p across u."""
        norm = x.norm(dim=-1)
        u = x / torch.where(norm > 0, norm, torch.ones_like(norm)).unsqueeze(-1)
        way: Tensor = norm.unsqueeze(-1) * self.pole.to(x) - along.unsqueeze(-1) * u
        return way

    @property
    def reverse(self) -> "TowardPoleMap":
        """Towards the antipode by the same angle: the inverse, but for rows that had reached the pole."""
        return replace(self, pole=-self.pole)


@final
@dataclass(frozen=True, eq=False)
class PlaneRotationMap(SteeringMap):
    """T(x) = x + Bᵀ (R(θ) − I) B x: a rotation by θ in the plane of the rows of B, nothing outside it.

    Linear, with an exact inverse; strength s turns by s · θ.

    Args:
        plane: B, two orthonormal rows.
        angle: θ in radians, from the first row of B to the second.
    """

    plane: Float[Tensor, "2 d_model"]
    angle: float

    @property
    def strength_unit(self) -> str:
        """Multiples of the fitted angle."""
        return UNIT

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.path(x, x.new_ones(x.shape[:-1]))

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        B = self.plane.to(x)
        first, second = (x @ B.T).unbind(dim=-1)
        theta = strength * self.angle
        sin, shrink = torch.sin(theta), -2 * torch.sin(theta / 2).square()
        return torch.stack([shrink * first - sin * second, sin * first + shrink * second], dim=-1) @ B

    @property
    def reverse(self) -> "PlaneRotationMap":
        """The rotation back, which is the inverse."""
        return replace(self, angle=-self.angle)


@final
@dataclass(frozen=True)
class SphericalSteering:
    """Turn every row towards the mean difference by one angle, and keep its norm.

    The pole is unit(mean(target) − mean(source)). The angle is the mean angle of source rows from the pole less that
    of target rows, so that at strength 1 the source is on average as far from the pole as the target, in angle,
    as long as no row arrives there. Strength is an angle: multiples of the fitted one. Turning about the origin
    commutes with scaling, T(c x) = c T(x) for c > 0; what is coded in norms is out of reach.

    Differs from the paper: one angle for all rows instead of a share of each row's own that depends on a confidence.
    For a gate, wrap it in `ProbeGated`.

    References:
        you2026; known to us from a summary, so the details are ours.
    """

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept is an angle from the mean difference, and norms do not matter"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TowardPoleMap:
        """Fit pole and angle.

        Raises:
            FitError: If the means are equal, or the target is no closer to the pole in angle than the source.
        """
        source, target = checked(source, target, at_least=1)
        toward = TowardPoleMap(unit(target.mean(dim=0) - source.mean(dim=0)), 0.0)
        angle = float(toward.angles(source).mean() - toward.angles(target).mean())
        if angle < 1e-9:
            raise FitError(
                "A rotation needs a target that is closer in angle to the mean difference than the source, but it is "
                f"closer by {angle:.2g} radians: the concept is not an angle here. Use MeanShift."
            )
        return replace(toward, angle=angle)


@final
@dataclass(frozen=True)
class AngularSteering:
    """Rotate within the plane of the mean difference and the leading direction across it; touch nothing else.

    The plane is spanned by b₁ = unit(mean(target) − mean(source)) and b₂, the leading principal direction of both
    samples about the origin, orthogonal to b₁. About the origin and not the mean, because that is what a rotation
    turns about: where activations share a large mean, it is in the plane. The angle carries the direction of the
    source's mean in the plane to that of the target's. Strength is an angle: multiples of the fitted one. The map is
    linear at every strength, so T(c x) = c T(x), and keeps the norm in the plane and with it the whole norm.

    Differs from the paper, where every row is set to one angle in the plane: here every row turns by one angle, so
    that strength 0 is the identity, spread stays, and the way back is exact.

    References:
        vu2025.
    """

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept is an angle in one plane through the origin"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> PlaneRotationMap:
        """Fit plane and angle.

        Raises:
            FitError: If the means are equal, all rows lie on a line through the origin, or the means do not differ in
                angle.
        """
        source, target = checked(source, target, at_least=1)
        low, high, both = source.mean(dim=0), target.mean(dim=0), torch.cat([source, target])
        b1 = unit(high - low)
        across = both - (both @ b1).unsqueeze(-1) * b1
        second = across.T @ across / len(both)
        if second.trace() <= 1e-20 * both.square().sum() / len(both):
            raise FitError("A plane needs rows beside the mean difference, but all lie on one line through the origin.")
        b2 = principal_subspace(second, 1)[0][:, 0]
        plane = torch.stack([b1, unit(b2 - (b2 @ b1) * b1)])
        (x0, y0), (x1, y1) = (plane @ low).tolist(), (plane @ high).tolist()
        angle = math.atan2(x0 * y1 - y0 * x1, x0 * x1 + y0 * y1)
        if abs(angle) < 1e-9:
            raise FitError(
                "A rotation needs means that differ in angle, but in their plane they differ in norm alone. "
                "Use MeanShift."
            )
        return PlaneRotationMap(plane, angle)

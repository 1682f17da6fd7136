"""Conceptors: soft projections onto the directions in which activations are strong."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._affine import AffineMap
from steerlens.maps._base import Family
from steerlens.maps._compose import TwoWayMap
from steerlens.maps._samples import checked
from steerlens.numerics import Moments, moments

ZERO = 1e-10
"""Eigenvalues below this share of the largest count as zero."""


@final
@dataclass(frozen=True, eq=False)
class Conceptor:
    """A soft projection, C = R (R + α⁻² I)⁻¹ with R = XᵀX / n: of all matrices it minimises E‖x − Cx‖² + α⁻²‖C‖².

    Its eigenvalues lie between 0 and 1: how far a direction is kept. Conceptors are combined by ``~`` (not), ``&``
    (and), ``|`` (or), which obey De Morgan's laws.

    Args:
        matrix: C, symmetric, with eigenvalues in [0, 1].

    References:
        jaeger2014.
    """

    matrix: Float[Tensor, "d_model d_model"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n d_model"], *, aperture: float, centred: bool = False) -> "Conceptor":
        """The conceptor of some rows.

        Args:
            rows: X.
            aperture: α, in inverse units of the activations. Towards 0 nothing is kept, towards infinity (allowed)
                everything that occurs.
            centred: Whether R is taken about the mean and not about zero.

        Raises:
            FitError: If there are no rows or they are not finite.
            OptionError: If ``aperture`` is not positive.
        """
        return cls.of_moments(moments(rows), aperture=aperture, centred=centred)

    @classmethod
    def of_moments(cls, rows: Moments, *, aperture: float, centred: bool = False) -> "Conceptor":
        """The same conceptor from streamed moments."""
        check_aperture(aperture)
        return cls(_kept(correlation(rows, centred=centred), _penalty(aperture)))

    @property
    def quota(self) -> float:
        """tr(C) / d: the share of the space that is kept, in [0, 1]."""
        return float(self.matrix.diagonal().mean())

    def __invert__(self) -> "Conceptor":
        """¬C = I − C: what C fades is kept, and the other way round."""
        return Conceptor(torch.eye(len(self.matrix), dtype=self.matrix.dtype) - self.matrix)

    def __and__(self, other: "Conceptor") -> "Conceptor":
        """C ∧ B: what both keep; (C⁻¹ + B⁻¹ − I)⁻¹ where both are invertible.

        Otherwise the same with pseudo-inverses, within the intersection of the two ranges.
        """
        (C, C_null), (B, B_null) = _inverted(self.matrix), _inverted(other.matrix)
        values, vectors = torch.linalg.eigh(C_null + B_null)
        W = vectors[:, values < ZERO]  # a basis of what neither null space contains
        if W.shape[1] == 0:
            return Conceptor(torch.zeros_like(self.matrix))
        inner = W.T @ (C + B) @ W - torch.eye(W.shape[1], dtype=W.dtype)
        return Conceptor(_symmetric(W @ torch.linalg.solve(inner, W.T)))

    def __or__(self, other: "Conceptor") -> "Conceptor":
        """C ∨ B = ¬(¬C ∧ ¬B): what one of the two keeps."""
        return ~(~self & ~other)


@final
@dataclass(frozen=True)
class ConceptorSteering:
    """Keep what is strong where the concept is present, and fade the rest: T(x) = β C x, or β C (x − μ₊) + μ₊ centred.

    C is the conceptor of the target's rows, and of no others: they show which directions activations with the concept
    use, and one pattern is all that a conceptor describes. The source decides nothing but the reverse, which is the
    same map fitted to it. Unlike a transport it carries no mean to another, and uncentred it pulls towards zero
    whatever it does not keep.

    Args:
        aperture: α; None takes the one at which a direction of average power keeps half, α⁻² = tr(R) / d.
        beta: β, a factor on what is kept.
        centred: Whether activations are taken about the mean of the target and not about zero.

    References:
        postmus2024; jaeger2014.
    """

    aperture: float | None = None
    beta: float = 1.0
    centred: bool = False

    family: ClassVar[Family] = "affine"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept is which directions are used, not where along them"

    def __post_init__(self) -> None:
        if self.aperture is not None:
            check_aperture(self.aperture)
        if not 0 < self.beta < math.inf:
            raise OptionError(f"beta must be positive and finite, but got {self.beta}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> TwoWayMap:
        """Fit from rows.

        Raises:
            FitError: If all rows of a sample are zero or, centred, equal.
        """
        source, target = checked(source, target)
        return self.fit_moments(moments(source), moments(target))

    def fit_moments(self, source: Moments, target: Moments) -> TwoWayMap:
        """The same map from streamed moments."""
        return TwoWayMap(self._towards(target), self._towards(source))

    def _towards(self, rows: Moments) -> AffineMap:
        R = correlation(rows, centred=self.centred)
        power = float(R.diagonal().mean())
        if power == 0:
            raise FitError("A conceptor needs activations that vary, but all rows are equal (or zero, if not centred).")
        C = _kept(R, _penalty(self.aperture) if self.aperture is not None else power)
        center = rows.mean if self.centred else torch.zeros_like(rows.mean)
        identity = torch.eye(len(C), dtype=C.dtype)
        return AffineMap(torch.zeros_like(center), center, self.beta * C - identity)


def correlation(rows: Moments, *, centred: bool) -> Float[Tensor, "d_model d_model"]:
    """R = XᵀX / n, about the mean or about zero."""
    R = rows.scatter / max(rows.n, 1)
    return R if centred else R + torch.outer(rows.mean, rows.mean)


def check_aperture(aperture: float) -> None:
    """Refuse an aperture that is not positive.

    Raises:
        OptionError: If it is.
    """
    if not aperture > 0:
        raise OptionError(f"aperture must be positive, but got {aperture}.")


def _kept(R: Float[Tensor, "d_model d_model"], penalty: float) -> Float[Tensor, "d_model d_model"]:
    """R (R + penalty · I)⁻¹, which at penalty 0 projects on the range of R."""
    trace = float(R.diagonal().sum())
    if 1e-6 * trace < penalty < math.inf:  # well conditioned: far quicker than by eigenvectors
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(R + penalty * torch.eye(len(R), dtype=R.dtype)))
        return _symmetric(R @ inverse)
    values, Q = torch.linalg.eigh(R)
    values = torch.where(values > ZERO * values[-1], values, 0.0)
    kept = torch.where(values > 0, values / (values + penalty), 0.0)
    return _symmetric((Q * kept) @ Q.T)


def _penalty(aperture: float) -> float:
    """α⁻², infinite (and no error) where it overflows."""
    return 1 / aperture / aperture


def _inverted(C: Float[Tensor, "d_model d_model"]) -> tuple[Tensor, Tensor]:
    """The pseudo-inverse, and the projection on the null space."""
    values, Q = torch.linalg.eigh(C)
    null = values < ZERO
    return (Q * torch.where(null, 0.0, 1 / values)) @ Q.T, Q[:, null] @ Q[:, null].T


def _symmetric(C: Tensor) -> Tensor:
    return (C + C.T) / 2

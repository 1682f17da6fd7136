"""Covariances pulled towards a multiple of the identity."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import OptionError

Shrinkage = float | Literal["oas", "bodnar"]
"""An intensity in [0, 1], or the rule that finds one from the data: see `oas_intensity` and `bodnar_intensity`."""


def oas_intensity(cov: Float[Tensor, "d_model d_model"], n: int) -> float:
    """Oracle-approximating shrinkage intensity in [0, 1], from the covariance and n alone.

    ρ = (tr(S²)/d² + t²) / ((n + 1)(tr(S²)/d² − t²/d)), with t = tr(S)/d: the form that scikit-learn's `OAS`
    computes, so that it can be had from streamed moments.

    References:
        chen2010, equation 23.
    """
    d = cov.shape[0]
    t = float(cov.diagonal().mean())
    alpha = float((cov**2).mean())
    denominator = (n + 1) * (alpha - t**2 / d)
    return 1.0 if denominator <= 0 else min((alpha + t**2) / denominator, 1.0)


def bodnar_intensity(cov: Float[Tensor, "d_model d_model"], n: int) -> float:
    """Optimal linear shrinkage intensity in [0, 1] where d and n grow together, free of distribution.

    ρ = (tr(S)²/n) / (tr(S²) − tr(S)²/d). The published estimator is α S + β Σ₀ for any Σ₀; with Σ₀ = (tr(S)/d) I, which
    keeps the trace, it is `shrink` with ρ = 1 − α. The published α is negative where ρ would exceed 1, about where the
    eigenvalues of S spread no more than sampling makes them spread; then all weight goes to the identity.

    References:
        bodnar2014, the estimator of the optimal linear shrinkage.
    """
    d = cov.shape[0]
    trace = float(cov.diagonal().sum())
    spread = float((cov**2).sum()) - trace**2 / d
    return 1.0 if spread <= 0 else min(trace**2 / n / spread, 1.0)


def shrinkage_intensity(cov: Float[Tensor, "d_model d_model"], n: int, shrinkage: Shrinkage) -> float:
    """The given intensity, or what the named rule makes of a covariance of n rows."""
    if shrinkage == "oas":
        return oas_intensity(cov, n)
    return bodnar_intensity(cov, n) if shrinkage == "bodnar" else float(shrinkage)


def check_shrinkage(shrinkage: Shrinkage) -> None:
    """Refuse anything but an intensity or a rule.

    Raises:
        OptionError: If ``shrinkage`` is neither a number between 0 and 1 nor the name of a rule.
    """
    named = isinstance(shrinkage, str)
    if (named and shrinkage not in ("oas", "bodnar")) or (not named and not 0 <= float(shrinkage) <= 1):
        raise OptionError(f"shrinkage must be between 0 and 1, or 'oas' or 'bodnar', but got {shrinkage!r}.")


def shrink(cov: Float[Tensor, "d_model d_model"], intensity: float) -> Float[Tensor, "d_model d_model"]:
    """(1 − ρ) S + ρ (tr S / d) I: the trace stays, the eigenvalues draw together."""
    identity = torch.eye(cov.shape[0], dtype=cov.dtype, device=cov.device)
    return (1 - intensity) * cov + intensity * cov.diagonal().mean() * identity

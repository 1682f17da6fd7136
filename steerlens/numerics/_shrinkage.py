"""Covariances pulled towards a multiple of the identity."""

import torch
from jaxtyping import Float
from torch import Tensor


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


def shrink(cov: Float[Tensor, "d_model d_model"], intensity: float) -> Float[Tensor, "d_model d_model"]:
    """(1 − ρ) S + ρ (tr S / d) I: the trace stays, the eigenvalues draw together."""
    identity = torch.eye(cov.shape[0], dtype=cov.dtype, device=cov.device)
    return (1 - intensity) * cov + intensity * cov.diagonal().mean() * identity

"""Powers of symmetric positive semidefinite matrices, by the symmetric decomposition."""

import torch
from jaxtyping import Float
from torch import Tensor


def psd_power(
    A: Float[Tensor, "d_model d_model"], power: float, *, floor: float = 1e-10
) -> Float[Tensor, "d_model d_model"]:
    """A to a real power, ``Q diag(λ^power) Qᵀ``.

    Eigenvalues below ``floor`` times the largest count as zero, and stay zero under negative powers (a
    pseudo-inverse).
    """
    values, Q = torch.linalg.eigh((A + A.T) / 2)
    keep = values > floor * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
    powered = torch.where(keep, values.clamp(min=torch.finfo(values.dtype).tiny) ** power, 0.0)
    result: Tensor = (Q * powered) @ Q.T
    return result


def transport_matrix(
    source_cov: Float[Tensor, "d_model d_model"], target_cov: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, "d_model d_model"]:
    """The symmetric positive A with ``A Σ₋ A = Σ₊``: the linear part of optimal transport between Gaussians.

    A = Σ₋^{-1/2} (Σ₋^{1/2} Σ₊ Σ₋^{1/2})^{1/2} Σ₋^{-1/2}.

    References:
        peyre2019, remark 2.31; singh2024, theorem 2.
    """
    root = psd_power(source_cov, 0.5)
    inverse_root = psd_power(source_cov, -0.5)
    A = inverse_root @ psd_power(root @ target_cov @ root, 0.5) @ inverse_root
    return (A + A.T) / 2

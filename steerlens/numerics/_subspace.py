"""Directions and subspaces."""

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError


def unit(v: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """v / ‖v‖.

    Raises:
        FitError: If ``v`` is zero: it has no direction.
    """
    norm = v.norm()
    if norm == 0:
        raise FitError("A zero vector has no direction: source and target have the same mean.")
    direction: Tensor = v / norm
    return direction


def principal_subspace(
    cov: Float[Tensor, "d_model d_model"], rank: int
) -> tuple[Float[Tensor, "d_model rank"], Float[Tensor, " rank"]]:
    """Orthonormal basis of the top ``rank`` eigenvectors, and their variances, largest first.

    Signs are fixed so that the largest coordinate of each vector is positive; eigenvectors of zero variance
    are dropped, so that fewer than ``rank`` may come back.
    """
    values, vectors = torch.linalg.eigh(cov)
    values, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank]
    keep = values > 1e-10 * values[0].clamp(min=torch.finfo(values.dtype).tiny)
    values, vectors = values[keep], vectors[:, keep]
    largest = vectors.abs().argmax(dim=0)
    signs = vectors[largest, torch.arange(vectors.shape[1], device=vectors.device)].sign()
    return vectors * signs, values

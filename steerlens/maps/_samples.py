"""The public edge of every fit: two samples that a map can be fitted to."""

import torch
from torch import Tensor

from steerlens.errors import FitError


def checked(source: Tensor, target: Tensor, *, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Both samples in float64 on the CPU, after checking shape, size and finiteness.

    Raises:
        FitError: If a sample is not a matrix, has fewer than ``at_least`` rows, is not finite, or is not as wide
            as the other.
    """
    for name, x in (("source", source), ("target", target)):
        if x.ndim != 2:
            raise FitError(f"{name} must have shape (rows, d_model), but got {tuple(x.shape)}.")
        if x.shape[0] < at_least:
            raise FitError(
                f"{name} needs at least {at_least} rows for this map, but got {x.shape[0]}. Extract more pairs."
            )
        if not torch.isfinite(x).all():
            bad = int((~torch.isfinite(x)).any(dim=1).sum())
            raise FitError(f"{name} must be finite, but {bad} of {x.shape[0]} rows have NaN or infinity.")
    if source.shape[1] != target.shape[1]:
        raise FitError(
            f"source and target must be equally wide, but are {source.shape[1]} and {target.shape[1]}. "
            "Extract both at one site."
        )
    return source.detach().double().cpu(), target.detach().double().cpu()

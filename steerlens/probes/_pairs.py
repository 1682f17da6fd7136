"""Rows and pairs of rows, checked and brought into as few coordinates as they span."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steerlens.errors import ActivationError

Array = npt.NDArray[np.float64]


def paired_rows(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples in float64, checked to be finite pairs.

    Raises:
        ActivationError: If they are not.
    """
    if positive.shape != negative.shape or positive.ndim != 2:
        raise ActivationError(
            f"Differences need pairs, shape (pair, d_model) twice, but got {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}."
        )
    return finite_rows(positive), finite_rows(negative)


def finite_rows(x: Tensor) -> Tensor:
    """Rows in float64, checked to be finite.

    Raises:
        ActivationError: If they are not.
    """
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise ActivationError(f"Probes need finite rows, but {bad} of {len(x)} have NaN or infinity.")
    return x.detach().double().cpu()


def span_coordinates(x: Tensor) -> Array:
    """Coordinates of the rows in the space that they span: equal inner products, at most as many columns as rows."""
    if x.shape[1] <= x.shape[0]:
        return x.numpy()
    short: Array = torch.linalg.qr(x.T, mode="r").R.T.numpy()
    return short

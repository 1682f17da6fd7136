"""First and second moments of a stream of rows, mergeable and exact."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError


@final
@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of rows: what every closed-form map needs, however many rows there were.

    ``scatter`` is Σ (x − mean)(x − mean)ᵀ. Two `Moments` merge by the pairwise update, which does not cancel
    as a sum of squares would: the residual stream's mean is often far larger than its spread.

    References:
        chan1983 (pairwise updating of sums of squares).
    """

    n: int
    mean: Float[Tensor, " d_model"]
    scatter: Float[Tensor, "d_model d_model"]

    @classmethod
    def empty(cls, width: int) -> "Moments":
        """Moments of no rows."""
        return cls(0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the rows of both."""
        n = self.n + other.n
        if n == 0:
            return self
        step = other.mean - self.mean
        return Moments(
            n,
            self.mean + step * (other.n / n),
            self.scatter + other.scatter + torch.outer(step, step) * (self.n * other.n / n),
        )

    @property
    def cov(self) -> Float[Tensor, "d_model d_model"]:
        """Covariance, divided by n (the maximum-likelihood estimate).

        Raises:
            FitError: If there are fewer than two rows.
        """
        if self.n < 2:
            raise FitError(f"A covariance needs at least 2 rows, but got {self.n}. Extract more pairs.")
        return self.scatter / self.n


def moments(x: Float[Tensor, "n d_model"]) -> Moments:
    """Moments of the rows of ``x``, in float64.

    Raises:
        FitError: If ``x`` has no rows or is not finite.
    """
    if x.shape[0] == 0:
        raise FitError("Moments need at least one row, but got none. Extract more pairs.")
    rows = x.detach().double().cpu()
    if not torch.isfinite(rows).all():
        bad = int((~torch.isfinite(rows)).any(dim=1).sum())
        raise FitError(f"Moments need finite rows, but {bad} of {len(rows)} have NaN or infinity.")
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred)

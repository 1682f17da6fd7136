"""Editing by spectra: keep what goes with positive activations, remove what goes with negative ones."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, Needs, SteeringMap
from steerlens.maps._compose import TwoWayMap
from steerlens.maps._paired import checked_pairs


@final
@dataclass(frozen=True, eq=False)
class SpectralMap(SteeringMap):
    """T(x) = ‖x‖ y / ‖y‖ with y = x + Kᵀ K x − Dᵀ D x: one subspace is doubled, another removed, the norm kept.

    Where y is zero the row stays. Between strengths 0 and 1 rows move on a straight line, on which norms are smaller.

    Args:
        kept: K, orthonormal rows.
        dropped: D, orthonormal rows.
    """

    kept: Float[Tensor, "_ d_model"]
    dropped: Float[Tensor, "_ d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        K, D = self.kept.to(x), self.dropped.to(x)
        change = (x @ K.T) @ K - (x @ D.T) @ D
        y = x + change
        before, after = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
        gone = after <= torch.finfo(x.dtype).eps * before
        factor = before / torch.where(gone, 1.0, after)
        moved: Tensor = torch.where(gone, 0.0, (factor - 1) * x + factor * change)
        return moved


@final
@dataclass(frozen=True)
class SpectralEditing:
    """Project on what covaries with the target and off what covaries with the source, and keep the norm (SEA).

    From the uncentred cross-covariances Ω± = XᵀX± / n of base activations X with target and source, the fewest leading
    left singular vectors that explain ``keep`` of the squared singular values: the rows of K for Ω₊, of D for Ω₋. The
    two streams Kᵀ K x and (I − Dᵀ D) x are added and rescaled to the norm of x. Rescaling makes the map nonlinear:
    T(c x) = c T(x) for c > 0, but T(x + y) is not T(x) + T(y). Nothing is centred: on activations far off the origin
    the mean is the leading vector of both, so that what is doubled and what is removed nearly cancel.

    Args:
        keep: Share of the squared singular values, in (0, 1).

    References:
        qiu2024.
    """

    keep: float = 0.99

    family: ClassVar[Family] = "nonlinear"
    needs: ClassVar[Needs] = "pairs"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "the concept is which directions are used, seen from the origin"

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise OptionError(f"keep must lie between 0 and 1, but got {self.keep}.")

    def fit(
        self,
        source: Float[Tensor, "n d_model"],
        target: Float[Tensor, "m d_model"],
        *,
        neutral: Float[Tensor, "_ d_model"] | None = None,
    ) -> TwoWayMap:
        """Fit both directions from pairs of rows.

        Args:
            source: Row i without the concept.
            target: Row i with the concept.
            neutral: Base activations of pair i. None takes the midpoint of each pair, which is our choice: the paper
                has base activations of its own.

        Raises:
            FitError: If samples differ in size, or the rows of one are all orthogonal to the base (such as all zero).
        """
        source, target = checked_pairs(source, target, at_least=2)
        base = (source + target) / 2 if neutral is None else checked_pairs(neutral, source, at_least=2)[0]
        low, high = (_leading(base, x, self.keep) for x in (source, target))
        return TwoWayMap(SpectralMap(high, low), SpectralMap(low, high))


def _leading(
    base: Float[Tensor, "n d_model"], rows: Float[Tensor, "n d_model"], keep: float
) -> Float[Tensor, "rank d_model"]:
    """The fewest left singular vectors of baseᵀ rows that explain a share of its squared singular values."""
    Q, R = torch.linalg.qr(base.T)  # baseᵀ rows = Q (R rows): as small as the smaller of rows and width
    inner = R @ rows
    values, vectors = torch.linalg.eigh(inner @ inner.T)
    explained = values.flip(0).clamp(min=0).cumsum(0)
    if explained[-1] == 0:
        raise FitError("Spectral editing needs rows that covary with the base, but one cross-covariance is zero.")
    rank = int((explained < keep * explained[-1]).sum()) + 1
    leading: Tensor = (Q @ vectors.flip(1)[:, :rank]).T.contiguous()
    return leading

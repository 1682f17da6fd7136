"""How much two subspaces share, beside what two random subspaces of their sizes share."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from steerlens.errors import ActivationError, FitError

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class SubspaceOverlap:
    """Overlap of two subspaces, ‖UᵀV‖²_F / min(r₁, r₂) in [0, 1]: 1 where the smaller lies within the larger.

    This is the mean squared cosine of the principal angles. TransformerLens's ``projection_kernel`` has the same
    numerator as ``score`` and divides it by √(r₁r₂), which is the same for equal ranks; for unequal ones its largest
    value is below 1.

    Args:
        overlap: The share.
        score: ‖UᵀV‖²_F, in [0, min(r₁, r₂)].
        cosines: Cosines of the principal angles, largest first.
        expected: Overlap of two random subspaces of these ranks, exactly: max(r₁, r₂) / d.
        low: 0.025 quantile of the overlap of random subspaces.
        high: 0.975 quantile.
        p_value: Share of random subspaces, this one included, that overlap as much.
        ranks: r₁ and r₂.
        d_model: d.
    """

    overlap: float
    score: float
    cosines: Float[Tensor, " rank"]
    expected: float
    low: float
    high: float
    p_value: float
    ranks: tuple[int, int]
    d_model: int

    def __str__(self) -> str:
        return (
            f"overlap {self.overlap:.3g} of ranks {self.ranks[0]} and {self.ranks[1]} in {self.d_model} dimensions, "
            f"random {self.expected:.3g} [{self.low:.3g}, {self.high:.3g}] (p = {self.p_value:.2g})"
        )


def subspace_overlap(
    first: Float[Tensor, "d_model rank"],
    second: Float[Tensor, "d_model _"],
    *,
    seed: int,
    n_samples: int = 2000,
) -> SubspaceOverlap:
    """Compare the column spaces of two matrices; their columns need not be orthonormal.

    The reference is exact for independent, uniformly random subspaces. Subspaces that are found in the same anisotropic
    activations overlap more than that without meaning anything; compare those of another concept, too.

    Args:
        first: Columns that span one subspace.
        second: Columns that span the other.
        seed: Of the random subspaces.
        n_samples: How many.

    Raises:
        ActivationError: If the widths differ, or a value is not finite.
        FitError: If a matrix has no columns, or its columns are linearly dependent.

    References:
        bjorck1973 (principal angles); muirhead1982, theorem 3.3.1 (the law of UᵀV for random subspaces).
    """
    if first.shape[0] != second.shape[0]:
        raise ActivationError(f"Subspaces must lie in one space, but have widths {len(first)} and {len(second)}.")
    U, V = _orthonormal(first), _orthonormal(second)
    cosines = torch.linalg.svdvals(U.T @ V).clamp(max=1.0)
    score, smaller = float((cosines**2).sum()), min(U.shape[1], V.shape[1])
    larger, d = max(U.shape[1], V.shape[1]), len(U)
    null = random_scores(d, larger, smaller, seed=seed, n_samples=n_samples) / smaller
    low, high = (float(q) for q in np.quantile(null, [0.025, 0.975]))
    return SubspaceOverlap(
        overlap=score / smaller,
        score=score,
        cosines=cosines,
        expected=larger / d,
        low=low,
        high=high,
        p_value=float((1 + (null >= score / smaller - 1e-9).sum()) / (1 + n_samples)),
        ranks=(U.shape[1], V.shape[1]),
        d_model=d,
    )


def random_scores(d: int, larger: int, smaller: int, *, seed: int, n_samples: int) -> Array:
    """‖UᵀV‖²_F of random subspaces: tr(A (A + B)⁻¹) of independent Wishart matrices with r₁ and d − r₁ degrees.

    Where d − r₁ is below r₂ the subspaces meet: then it is r₂ less the score with the complement of the larger.
    """
    if larger == d:
        return np.full(n_samples, float(smaller))
    if d - larger < smaller:
        rest = d - larger
        return smaller - random_scores(d, max(rest, smaller), min(rest, smaller), seed=seed, n_samples=n_samples)
    rng, identity = np.random.default_rng(seed), np.eye(smaller)
    drawn = [
        np.asarray(stats.wishart.rvs(df, identity, size=n_samples, random_state=rng)).reshape(-1, smaller, smaller)
        for df in (larger, d - larger)
    ]
    found: Array = np.linalg.solve(drawn[0] + drawn[1], drawn[0]).trace(axis1=1, axis2=2)
    return found


def _orthonormal(columns: Tensor) -> Tensor:
    if not torch.isfinite(columns).all():
        raise ActivationError("A subspace needs finite columns, but some are NaN or infinite.")
    x = columns.detach().double().cpu()
    if x.shape[1] == 0 or x.shape[1] > x.shape[0]:
        raise FitError(f"A basis needs between 1 and d_model columns, but got shape {tuple(x.shape)}.")
    U: Tensor
    U, scale, _ = torch.linalg.svd(x, full_matrices=False)
    if scale[-1] <= 1e-10 * scale[0]:
        rank = int((scale > 1e-10 * scale[0]).sum())
        raise FitError(
            f"A basis needs independent columns, but {x.shape[1]} columns span {rank} dimensions. Drop some."
        )
    return U

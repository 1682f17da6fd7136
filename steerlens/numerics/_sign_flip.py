"""Is a mean zero? Signs of clusters are flipped, because without an effect each sign is a coin."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.numerics._clusters import cluster_means

Array = npt.NDArray[np.float64]

MAX_EXACT = 20
"""Up to this many clusters every choice of signs is tried: 2^20 is a million."""


@final
@dataclass(frozen=True)
class SignFlip:
    """A sign-flip permutation test.

    Args:
        p_value: Two-sided. With n clusters it cannot be below 2 / 2^n: with five never below 0.06.
        n_clusters: Clusters whose signs were flipped; those at exactly zero have no sign, but count here.
        exact: Whether all choices of signs were tried, or a sample of them.
    """

    p_value: float
    n_clusters: int
    exact: bool


def sign_flip(
    differences: npt.ArrayLike, clusters: Sequence[Hashable], *, seed: int, n_flips: int = 10_000
) -> SignFlip:
    """Test whether the mean of cluster means is zero.

    The p-value is the share of sign choices under which the mean is at least as far from zero. It holds for every law
    of cluster means that is symmetric about zero, normal or not, and differently wide ones included. What it does not
    hold for is a skewed law with mean zero and few clusters.

    Args:
        differences: Shape (n,), such as the effect of one method less that of another on the same question.
        clusters: The cluster of each difference: the concept, for claims about methods.
        seed: Of the sampled signs; without influence where the test is exact.
        n_flips: Sampled sign choices where there are more than 20 clusters that are not zero.

    Raises:
        OptionError: If there is not one cluster for each difference.
        EstimateError: If a difference is not finite, or there are fewer than five clusters.

    References:
        fisher1935 (section 21).
    """
    return flip_signs(cluster_means(differences, clusters), seed=seed, n_flips=n_flips)


def flip_signs(x: Array, *, seed: int, n_flips: int = 10_000) -> SignFlip:
    """Sign-flip test of the sum of independent numbers, one for each cluster."""
    moving = x[x != 0]
    exact = len(moving) <= MAX_EXACT
    if exact:
        sums = np.zeros(1)
        for step in moving:
            sums = np.concatenate([sums + step, sums - step])
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(n_flips, len(moving)))
        # The signs found belong to the null as much as any others.
        sums = np.append(signs @ moving, moving.sum())
    # Sums of the same numbers in another order differ by rounding alone.
    as_far = np.abs(sums) >= abs(moving.sum()) - 1e-9 * np.abs(moving).sum()
    return SignFlip(float(as_far.mean()), len(x), exact)

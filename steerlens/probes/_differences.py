"""How well the differences of contrasting pairs agree with one direction."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.numerics import Estimate, cluster_mean, unit


def coherence(differences: Float[Tensor, "pair d_model"], groups: Sequence[Hashable], *, seed: int) -> Estimate:
    """Mean cosine of the pairs' differences with their mean, in [−1, 1].

    References:
        braun2025 (directional agreement).
    """
    d = differences.double()
    cosines = torch.nn.functional.normalize(d, dim=1) @ unit(d.mean(dim=0))
    return cluster_mean(cosines.numpy(), groups, seed=seed)


def d_prime(positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "m d_model"]) -> float:
    """Separation of the classes along the line through their means, in pooled standard deviations.

    |m₊ − m₋| / √(½ (s₊² + s₋²)). On the pairs that the direction was fitted to it is too large; use held-out ones.

    References:
        braun2025 (discriminability index).
    """
    v = unit(positive.double().mean(dim=0) - negative.double().mean(dim=0))
    plus, minus = positive.double() @ v, negative.double() @ v
    return float((plus.mean() - minus.mean()).abs() / ((plus.var() + minus.var()) / 2).sqrt())


def split_half_cosine(differences: Float[Tensor, "pair d_model"], *, seed: int, n_splits: int = 100) -> float:
    """Mean cosine of the mean differences of two random halves, in [−1, 1].

    A positive r is corrected to the full size, 2r / (1 + r).

    References:
        spearman1910, brown1910.
    """
    generator = torch.Generator().manual_seed(seed)
    d = differences.double()
    half = len(d) // 2
    order = torch.stack([torch.randperm(len(d), generator=generator) for _ in range(n_splits)])
    first, second = d[order[:, :half]].mean(dim=1), d[order[:, half : 2 * half]].mean(dim=1)
    r = float(torch.nn.functional.cosine_similarity(first, second, dim=1).mean())
    return 2 * r / (1 + r) if r > 0 else r

"""How far two covariances are apart, beside what chance makes of equal ones."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import EstimateError


def bures_term(source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> float:
    """tr(Σ₋ + Σ₊ − 2(Σ₋^½ Σ₊ Σ₋^½)^½) of the samples' covariances, zero if and only if these are equal.

    The last trace is the sum of singular values of X₋X₊ᵀ/√(nm), X the centred rows: no matrix of width d is needed.

    References:
        peyre2019, section 2.6 (the Bures distance of covariances).
    """
    a, b = (x.double() - x.double().mean(dim=0) for x in (source, target))
    a, b = a / len(a) ** 0.5, b / len(b) ** 0.5
    cross = torch.linalg.svdvals(a @ b.T).sum()
    return float(a.square().sum() + b.square().sum() - 2 * cross)


def bures_z(
    source: Float[Tensor, "pair d_model"],
    target: Float[Tensor, "pair d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    n_draws: int = 200,
) -> float:
    """The Bures term less its mean under exchanged labels, in standard deviations of it.

    Each class is centred first, so that a shift is no difference of covariances. Then the members of pairs are
    exchanged in random groups, which changes nothing in law if both classes vary alike.

    Raises:
        EstimateError: If there are fewer than five groups, or the term does not vary.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 5:
        raise EstimateError(f"Exchanging labels needs at least 5 groups of pairs, but got {len(names)}.")
    a, b = (x.double() - x.double().mean(dim=0) for x in (source, target))
    of = torch.tensor([names.index(g) for g in groups])
    rng = np.random.default_rng(seed)
    null = []
    for _ in range(n_draws):
        swap = torch.tensor(rng.integers(0, 2, len(names)), dtype=torch.bool)[of][:, None]
        null.append(bures_term(torch.where(swap, b, a), torch.where(swap, a, b)))
    spread = float(np.std(null, ddof=1))
    if not spread > 0:
        raise EstimateError("The Bures term does not vary when labels are exchanged: source and target are equal.")
    return (bures_term(a, b) - float(np.mean(null))) / spread

"""Whether the classes of a concept differ in their means at all."""

from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-5
"""Mean differences below this share of a pair's difference are rounding of the model."""


def means_agree(differences: Float[Tensor, "pair d_model"]) -> bool:
    """Whether pairs differ by nothing on average but rounding, as in a cycle whose items are all source and target."""
    return bool(differences.mean(dim=0).norm() <= ROUNDING * differences.norm(dim=1).mean())


def step_length(differences: Float[Tensor, "pair d_model"]) -> float:
    """Length of the mean difference of pairs; where the means agree, the mean length of their differences."""
    if means_agree(differences):
        return float(differences.norm(dim=1).mean())
    return float(differences.mean(dim=0).norm())

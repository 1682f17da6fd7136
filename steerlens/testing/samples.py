"""Two seeded samples that differ in mean and covariance, for the law suites."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Samples(NamedTuple):
    """Activations without and with a concept."""

    source: Float[Tensor, "n d_model"]
    target: Float[Tensor, "m d_model"]


def gaussian_samples(*, n: int = 80, width: int = 12, seed: int = 0) -> Samples:
    """Gaussian source and target of ``width`` dimensions, off the origin, with correlated coordinates."""
    generator = torch.Generator().manual_seed(seed)

    def sample() -> Tensor:
        mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
        center = torch.randn(width, generator=generator, dtype=torch.float64)
        drawn: Tensor = torch.randn(n, width, generator=generator, dtype=torch.float64) @ mix + center
        return drawn

    return Samples(sample(), sample())

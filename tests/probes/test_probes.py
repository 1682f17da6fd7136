"""Probes on planted activations whose answer is known, and on noise."""

import pytest
import torch

from steerlens.probes import coherence, d_prime, linear_auroc, split_half_cosine


def noise(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHIFT = torch.tensor([3.0, 0, 0, 0, 0, 0], dtype=torch.float64)
GROUPS = [i // 2 for i in range(60)]


def test_one_shared_difference_is_coherent_and_noise_is_not():
    assert coherence(SHIFT + 0.1 * noise(60, 0), GROUPS, seed=0).low > 0.98
    assert coherence(noise(60, 0), GROUPS, seed=0).high < 0.5


def test_d_prime_is_the_shift_over_the_spread():
    assert d_prime(noise(5000, 0) + SHIFT, noise(5000, 1)) == pytest.approx(3.0, abs=0.1)


def test_halves_of_a_stable_difference_agree():
    assert split_half_cosine(SHIFT + noise(60, 0), seed=0) > 0.95
    centred = noise(60, 0) - noise(60, 0).mean(dim=0)
    assert split_half_cosine(centred, seed=0) < -0.9, "halves of a centred set oppose each other"
    assert split_half_cosine(noise(60, 0), seed=0) == split_half_cosine(noise(60, 0), seed=0)


def test_a_linear_concept_is_found_on_held_out_pairs_and_noise_is_not():
    found = linear_auroc((noise(60, 0) + SHIFT, noise(60, 1)), (noise(60, 2) + SHIFT, noise(60, 3)), GROUPS, seed=0)
    null = linear_auroc((noise(60, 0), noise(60, 1)), (noise(60, 2), noise(60, 3)), GROUPS, seed=0)
    assert found.low > 0.9
    assert not null.excludes(0.5)

"""Probes: what two samples of activations say about a concept, before anything is steered. Tensors only."""

from steerlens.probes._differences import coherence, d_prime, split_half_cosine
from steerlens.probes._linear import linear_auroc

__all__ = ["coherence", "d_prime", "linear_auroc", "split_half_cosine"]

"""Probes: what two samples of activations say about a concept, before anything is steered. Tensors only."""

from steerlens.probes._differences import coherence, d_prime, split_half_cosine
from steerlens.probes._direction import DirectionReport, direction_report
from steerlens.probes._linear import linear_auroc
from steerlens.probes._manifold import ManifoldReport, manifold_report

__all__ = [
    "DirectionReport",
    "ManifoldReport",
    "coherence",
    "d_prime",
    "direction_report",
    "linear_auroc",
    "manifold_report",
    "split_half_cosine",
]

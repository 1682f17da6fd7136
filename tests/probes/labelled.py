"""Planted rows with labels, in splits that share no group."""

import torch

from steerlens.concepts import planted
from steerlens.probes._rows import LabelledRows


def rows(name: str, n: int, seed: int, *, width: int = 16, pairs: bool = False) -> LabelledRows:
    """n rows of each class; ``null`` has two classes of one law. Groups are rows, or pairs of independent rows."""
    plant = planted("linear" if name == "null" else name, width=width, seed=0)
    negative, other = plant.sample(n, seed=2 * seed).source, plant.sample(n, seed=2 * seed + 1)
    positive = other.source if name == "null" else other.target
    if pairs:
        return LabelledRows.of_pairs(negative, positive, [(seed, i) for i in range(n)])
    y = torch.arange(2).repeat_interleave(n)
    return LabelledRows(torch.cat([negative, positive]), y, tuple((seed, i) for i in range(2 * n)))


def splits(name: str, n: int, *, test: int | None = None, **options) -> tuple[LabelledRows, LabelledRows, LabelledRows]:
    """Fit, select and test rows: n, n/2 and ``test`` of each class."""
    return rows(name, n, 1, **options), rows(name, n // 2, 2, **options), rows(name, test or n, 3, **options)

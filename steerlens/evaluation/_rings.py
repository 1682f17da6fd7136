"""Cyclic concepts: where the items of a data set lie on a circle, if its pairs say which item they hold."""

from dataclasses import dataclass
from typing import final

import torch

from steerlens.activations import ContrastiveActivations
from steerlens.concepts import ConceptDataset
from steerlens.probes import CircularFit, circular_probe


@final
@dataclass(frozen=True, eq=False)
class Ring:
    """The circular probe of one site, with the names of the items.

    Args:
        fit: The probe.
        names: Of the items in cyclic order.
    """

    fit: CircularFit
    names: tuple[str, ...]


def ring_of(found: ContrastiveActivations, dataset: ConceptDataset, *, seed: int) -> Ring | None:
    """Fit a circle to the negative texts of a cyclic data set: one whose pairs have ``index`` and ``successor``.

    None for other data sets.
    """
    first = dataset[0].metadata
    if not {"index", "successor"} <= set(first):
        return None
    items = [int(str(p.metadata["index"])) for p in dataset]
    names = {i: pair.negative.strip() for pair, i in zip(dataset, items, strict=True)}
    period = len(names)
    fit = circular_probe(found.negative, torch.tensor(items), period, found.groups, seed=seed)
    return Ring(fit, tuple(names[i] for i in range(period)))

"""Activations of a data set that are read in one pass, and given out again for its parts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from steerlens.activations._extract import ContrastiveActivations, extract, source_of
from steerlens.activations._site import Site
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.models import LensModel

Reader = Callable[[LensModel, ConceptDataset, Iterable[Site]], Mapping[Site, ContrastiveActivations]]
"""What reads activations: `extract`, or a `ReadOnce`."""


@final
@dataclass(frozen=True, eq=False)
class ReadOnce:
    """A `Reader` that has read a data set already; what it has not, it extracts.

    For several questions about parts of one data set, such as a comparison and a geometry: a part's rows are those of
    the whole, which differ from those of a pass of their own by no more than the rounding of the model's arithmetic.

    Args:
        model: Where it was read.
        found: Activations of the whole data set, by site.
        rows: Row of each pair, by its texts.
    """

    model: LensModel
    found: Mapping[Site, ContrastiveActivations]
    rows: Mapping[tuple[str, str, str], int]

    @classmethod
    def of(cls, model: LensModel, dataset: ConceptDataset, sites: Iterable[Site]) -> "ReadOnce":
        """Read a data set.

        Args:
            model: Where to read.
            dataset: The pairs.
            sites: What to read.

        Raises:
            SteerlensError: Whatever `extract` raises.
        """
        return cls(model, extract(model, dataset, sites), {_texts(p): i for i, p in enumerate(dataset)})

    def __call__(
        self, model: LensModel, dataset: ConceptDataset, sites: Iterable[Site]
    ) -> dict[Site, ContrastiveActivations]:
        """Activations of pairs at sites, as `extract` returns them.

        Raises:
            SteerlensError: Whatever `extract` raises, where something is read anew.
        """
        wanted = tuple(dict.fromkeys(sites))
        here = model is self.model and all(_texts(p) in self.rows for p in dataset)
        missing = [site for site in wanted if not here or site not in self.found]
        read = extract(model, dataset, missing) if missing else {}
        return {site: read[site] if site in read else self._part(site, dataset) for site in wanted}

    def _part(self, site: Site, dataset: ConceptDataset) -> ContrastiveActivations:
        whole, rows = self.found[site], torch.tensor([self.rows[_texts(p)] for p in dataset])
        groups = tuple(p.group for p in dataset)
        source = source_of(self.model, dataset, site)
        return ContrastiveActivations(whole.positive[rows], whole.negative[rows], site, groups, source)


def _texts(pair: ContrastivePair) -> tuple[str, str, str]:
    return pair.prompt, pair.positive, pair.negative

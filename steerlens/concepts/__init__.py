"""Concepts: pairs of texts that differ in one respect, loaded, validated and split by group.

`load_concept` opens a built-in concept (`concept_names`) or a file in one of five formats (`format_names`).
`planted` makes activations whose geometry is known (`plant_names`): concepts without texts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerlens.concepts._builtin import ConceptSummary, concept_names, concept_summaries
from steerlens.concepts._dataset import ConceptDataset, Split
from steerlens.concepts._load import load_concept
from steerlens.concepts._pairs import ContrastivePair, ContrastiveTexts, Metadata, Question
from steerlens.concepts._readers import format_names

if TYPE_CHECKING:
    from steerlens.concepts._planted import Plant, PlantedRows, plant_names, planted

__all__ = [
    "ConceptDataset",
    "ConceptSummary",
    "ContrastivePair",
    "ContrastiveTexts",
    "Metadata",
    "Plant",
    "PlantedRows",
    "Question",
    "Split",
    "concept_names",
    "concept_summaries",
    "format_names",
    "load_concept",
    "plant_names",
    "planted",
]


def __getattr__(name: str) -> Any:
    if name in ("Plant", "PlantedRows", "plant_names", "planted"):  # these need torch, which takes seconds to import
        return getattr(import_module("steerlens.concepts._planted"), name)
    raise AttributeError(f"module 'steerlens.concepts' has no attribute {name!r}")

"""Concepts: pairs of texts that differ in one respect, loaded, validated and split by group.

`load_concept` opens a built-in concept (`concept_names`) or a file in one of five formats (`format_names`).
"""

from steerlens.concepts._builtin import ConceptSummary, concept_names, concept_summaries
from steerlens.concepts._dataset import ConceptDataset, Split
from steerlens.concepts._load import load_concept
from steerlens.concepts._pairs import ContrastivePair, ContrastiveTexts, Metadata, Question
from steerlens.concepts._readers import format_names

__all__ = [
    "ConceptDataset",
    "ConceptSummary",
    "ContrastivePair",
    "ContrastiveTexts",
    "Metadata",
    "Question",
    "Split",
    "concept_names",
    "concept_summaries",
    "format_names",
    "load_concept",
]

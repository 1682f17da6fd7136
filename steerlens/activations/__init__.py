"""Where activations are read: sites, token selectors, extraction and its cache."""

from steerlens.activations._extract import (
    ActivationSource,
    ContrastiveActivations,
    ContrastiveMoments,
    extract,
    extract_moments,
)
from steerlens.activations._memory import shrinking_batches
from steerlens.activations._planted import planted_concept
from steerlens.activations._read_once import Reader, ReadOnce
from steerlens.activations._rows import TextRow, batches, joined_rows
from steerlens.activations._selectors import (
    AllTokens,
    AnswerToken,
    FromIndex,
    LastToken,
    PromptEnd,
    PromptTokens,
    SpanTokens,
    TokenSelector,
)
from steerlens.activations._site import Site

__all__ = [
    "ActivationSource",
    "AllTokens",
    "AnswerToken",
    "ContrastiveActivations",
    "ContrastiveMoments",
    "FromIndex",
    "LastToken",
    "PromptEnd",
    "PromptTokens",
    "ReadOnce",
    "Reader",
    "Site",
    "SpanTokens",
    "TextRow",
    "TokenSelector",
    "batches",
    "extract",
    "extract_moments",
    "joined_rows",
    "planted_concept",
    "shrinking_batches",
]

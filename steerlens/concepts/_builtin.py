"""The concepts that come with steerlens, all written for it."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

DATA = Path(__file__).parent / "data"


@final
@dataclass(frozen=True)
class ConceptSummary:
    """What can be said of a built-in concept without reading it."""

    name: str
    description: str
    pairs: int
    groups: int
    licence: str
    source: str
    notes: str


@cache
def concept_summaries() -> tuple[ConceptSummary, ...]:
    """A summary of each built-in concept, by name."""
    entries = json.loads((DATA / "index.json").read_text(encoding="utf-8"))
    return tuple(sorted((ConceptSummary(**entry) for entry in entries), key=lambda summary: summary.name))


def concept_names() -> tuple[str, ...]:
    """The names of the built-in concepts."""
    return tuple(summary.name for summary in concept_summaries())

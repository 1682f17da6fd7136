"""Concepts: pairs of texts that differ in one respect, loaded, validated and split by group.

`load_concept` opens a built-in concept (`concept_names`) or a file in one of five formats (`format_names`).
`shifts` and `with_…` put the same pairs into other surroundings; `open_ended_items` makes open prompts of them, and
`lettered_choices` multiple choice. `planted` makes activations whose geometry is known (`plant_names`): concepts
without texts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerlens.concepts._builtin import ConceptSummary, concept_names, concept_summaries
from steerlens.concepts._chat import PLAIN, ChatFormat
from steerlens.concepts._choices import lettered_choices
from steerlens.concepts._dataset import ConceptDataset, Split
from steerlens.concepts._in_context import FORMATS, PromptFormat, TaskPrompt, prompt_format, task_prompts
from steerlens.concepts._in_context_task import InContextTask, TaskSplit
from steerlens.concepts._instructions import Instructions, distractors, instructions
from steerlens.concepts._load import load_concept
from steerlens.concepts._open_ended import open_ended_items, read_open_ended, read_questions
from steerlens.concepts._pairs import ContrastivePair, ContrastiveTexts, Metadata, Question
from steerlens.concepts._readers import format_names
from steerlens.concepts._shifts import (
    in_chat,
    shifts,
    with_context,
    with_examples,
    with_persona,
    with_system,
    with_template,
    with_translation,
    with_user,
)
from steerlens.concepts._task_files import TaskSummary, load_task, task_names, task_summaries

if TYPE_CHECKING:
    from steerlens.concepts._planted import Plant, PlantedRows, plant_names, planted

__all__ = [
    "FORMATS",
    "PLAIN",
    "ChatFormat",
    "ConceptDataset",
    "ConceptSummary",
    "ContrastivePair",
    "ContrastiveTexts",
    "InContextTask",
    "Instructions",
    "Metadata",
    "Plant",
    "PlantedRows",
    "PromptFormat",
    "Question",
    "Split",
    "TaskPrompt",
    "TaskSplit",
    "TaskSummary",
    "concept_names",
    "concept_summaries",
    "distractors",
    "format_names",
    "in_chat",
    "instructions",
    "lettered_choices",
    "load_concept",
    "load_task",
    "open_ended_items",
    "plant_names",
    "planted",
    "prompt_format",
    "read_open_ended",
    "read_questions",
    "shifts",
    "task_names",
    "task_prompts",
    "task_summaries",
    "with_context",
    "with_examples",
    "with_persona",
    "with_system",
    "with_template",
    "with_translation",
    "with_user",
]


def __getattr__(name: str) -> Any:
    if name in ("Plant", "PlantedRows", "plant_names", "planted"):  # these need torch, which takes seconds to import
        return getattr(import_module("steerlens.concepts._planted"), name)
    raise AttributeError(f"module 'steerlens.concepts' has no attribute {name!r}")

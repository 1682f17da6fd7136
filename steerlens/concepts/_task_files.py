"""The in-context tasks that come with steerlens, and readers of published ones."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import final

from steerlens.concepts._builtin import DATA
from steerlens.concepts._in_context_task import InContextTask, WordPair, check_word_pairs
from steerlens.concepts._load import is_path
from steerlens.concepts._rows import Row, read_rows, read_text
from steerlens.errors import ConceptError, OptionError, UnknownNameError

TASKS = DATA / "tasks"


@final
@dataclass(frozen=True)
class TaskSummary:
    """What can be said of a built-in task without reading it.

    Attributes:
        name: Name to load it by.
        description: One sentence on what the output is to the input.
        pairs: Number of pairs.
        instruction: What to tell a model that should do it.
        sentence: A form of words that states a pair.
        licence: SPDX identifier.
        source: Where the pairs come from.
    """

    name: str
    description: str
    pairs: int
    instruction: str
    sentence: str
    licence: str
    source: str


@cache
def task_summaries() -> tuple[TaskSummary, ...]:
    """A summary of each built-in in-context task, by name."""
    entries = json.loads((TASKS / "index.json").read_text(encoding="utf-8"))
    return tuple(sorted((TaskSummary(**entry) for entry in entries), key=lambda summary: summary.name))


def task_names() -> tuple[str, ...]:
    """The names of the built-in in-context tasks."""
    return tuple(summary.name for summary in task_summaries())


def load_task(source: str | PathLike[str], *, name: str | None = None, ambiguous: str = "refuse") -> InContextTask:
    """Load a built-in in-context task by name, or one from a file.

    Two kinds of file are read. Records with ``input`` and ``output``, as JSON Lines, a JSON list (the function-vectors
    data) or CSV; and a relation, a JSON object with ``samples`` of ``subject`` and ``object``, whose first prompt
    template becomes the task's sentence. A pair that is given twice is read once.

    Args:
        source: A name from `task_names`, or a path.
        name: Name of the task; by default the built-in name, the relation's, or the file's without suffix.
        ambiguous: What to do with an input that has several outputs, of which a score would count one as wrong:
            ``"refuse"`` the file, or ``"leave out"`` the input.

    Returns:
        The task. If something was left out, its description ends with how much.

    Raises:
        ConceptError: The file is missing or malformed; the message names file and line.
        UnknownNameError: There is no such task.
        OptionError: ``ambiguous`` is neither.

    References:
        todd2024 (records); hernandez2024 (relations).
    """
    if ambiguous not in ("refuse", "leave out"):
        raise OptionError(f"ambiguous is 'refuse' or 'leave out', but got {ambiguous!r}.")
    if isinstance(source, str) and source in task_names():
        return _load_builtin(source, name)
    if isinstance(source, str) and not is_path(source):
        raise UnknownNameError(
            "in-context task", source, task_names(), "For a file of your own, give its path, such as 'pairs.json'."
        )
    path = Path(source)
    relation = _relation(path)
    if relation is not None:
        return _read_relation(relation, path, name, ambiguous)
    rows = read_rows(path)
    fields = ("input", "output")
    found = [(row.text("input", fields).strip(), row.text("output", fields).strip()) for row in rows]
    pairs, note = _checked(found, [row.place for row in rows], ambiguous)
    return InContextTask(name or path.stem, pairs, f"Read from {path.name}.{note}", source=str(path))


def _load_builtin(source: str, name: str | None) -> InContextTask:
    about = next(summary for summary in task_summaries() if summary.name == source)
    rows = read_rows(TASKS / f"{source}.jsonl")
    pairs = tuple((str(row.fields["input"]), str(row.fields["output"])) for row in rows)
    return InContextTask(
        name or source, pairs, about.description, about.instruction, about.sentence, about.source, about.licence
    )


def _relation(path: Path) -> Mapping[str, object] | None:
    """The file's one JSON object, if that is what it holds and it is not a single record.

    Raises:
        ConceptError: The file cannot be read, or the object has no samples.
    """
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError:
        return None
    if not isinstance(found, dict) or "input" in found or "output" in found:
        return None
    if not isinstance(found.get("samples"), list) or not found["samples"]:
        raise ConceptError(
            f"{path}: a JSON object with {', '.join(sorted(map(repr, found))) or 'nothing'}. Expected a relation, with "
            "a non-empty list 'samples' of objects that have 'subject' and 'object'; or a list of objects that have "
            "'input' and 'output'."
        )
    return found


def _read_relation(relation: Mapping[str, object], path: Path, name: str | None, ambiguous: str) -> InContextTask:
    samples = relation["samples"]
    assert isinstance(samples, list)
    places = [f"{path}, sample {i}" for i in range(len(samples))]
    fields = ("subject", "object")
    found = []
    for place, sample in zip(places, samples, strict=True):
        if not isinstance(sample, dict):
            raise ConceptError(f"{place}: a {type(sample).__name__}. Expected an object with subject and object.")
        row = Row(place, sample)
        found.append((row.text("subject", fields).strip(), row.text("object", fields).strip()))
    pairs, note = _checked(found, places, ambiguous)
    title = relation.get("name")
    return InContextTask(
        name or (title if isinstance(title, str) and title else path.stem),
        pairs,
        f"Read from {path.name}.{note}",
        sentence=_sentence(relation, path),
        source=str(path),
    )


def _sentence(relation: Mapping[str, object], path: Path) -> str:
    """The first prompt template, in which {} is the subject, with the object behind it."""
    templates = relation.get("prompt_templates", [])
    if not isinstance(templates, list) or not all(isinstance(t, str) and t.count("{}") == 1 for t in templates):
        raise ConceptError(
            f"{path}: the prompt templates are {templates!r}. Expected a list of texts that hold {{}} once, for the "
            "subject. Correct them, or leave them out."
        )
    return f"{templates[0].strip().replace('{}', '{input}')} {{output}}." if templates else ""


def _checked(found: Sequence[WordPair], places: Sequence[str], ambiguous: str) -> tuple[tuple[WordPair, ...], str]:
    """Each pair once, and what was left out in a sentence."""
    place_of = dict(zip(reversed(found), reversed(places), strict=True))
    pairs = tuple(dict.fromkeys(found))
    notes = f" {len(found) - len(pairs)} repeated pair(s) left out." if len(pairs) < len(found) else ""
    if ambiguous == "leave out":
        several = {given for given, n in Counter(given for given, _ in pairs).items() if n > 1}
        pairs = tuple(pair for pair in pairs if pair[0] not in several)
        notes += f" {len(several)} input(s) with several outputs left out." if several else ""
    else:
        check_word_pairs(pairs, [place_of[pair] for pair in pairs])
    return pairs, notes

"""Loading a concept by name or from a file."""

import os
from pathlib import Path

from steerlens.concepts._builtin import DATA, concept_names, concept_summaries
from steerlens.concepts._dataset import ConceptDataset
from steerlens.concepts._readers import read_pairs
from steerlens.concepts._rows import read_rows
from steerlens.errors import OptionError, UnknownNameError

_SUFFIXES = (".jsonl", ".json", ".csv")


def load_concept(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    name: str | None = None,
    group_by: str | None = None,
) -> ConceptDataset:
    """Load a built-in concept by name, or one from a file.

    Args:
        source: A name from `concept_names`, or a path to a JSON Lines, JSON or CSV file. A text that is a
            built-in name means that concept; pass ``Path("sentiment")`` for a file so called.
        format: How the file is to be read; detected from its fields when it is None. "pairs": our own, with
            prompt, positive, negative and, where wanted, group, answers and metadata (without group, pairs
            with one prompt are one group). "caa": lettered answers. "mwe": model-written evaluations, Yes or
            No. "function_vectors": input and output, contrasted with the output of another item.
            "statements": statement and label, paired true with false by their common beginning.
        name: Name of the data set; by default the built-in name, or the file's name without suffix.
        group_by: Field that names the group, for "pairs" and "statements".

    Returns:
        The data set. If a reader had to leave something out, its description ends with how much.

    Raises:
        ConceptError: The file is missing or malformed; the message names file and line.
        UnknownNameError: There is no such concept or format.
        OptionError: An option does not apply to what is loaded.
    """
    if isinstance(source, str) and source in concept_names():
        return _load_builtin(source, name, {"format": format, "group_by": group_by})
    if isinstance(source, str) and not is_path(source):
        raise UnknownNameError(
            "concept",
            source,
            concept_names(),
            "For a file of your own, give its path, such as 'pairs.jsonl'.",
        )
    path = Path(source)
    reading = read_pairs(read_rows(path), format, group_by)
    description = " ".join(part for part in (f"Read from {path.name}.", reading.note) if part)
    return ConceptDataset(name or path.stem, reading.pairs, description, source=str(path))


def _load_builtin(source: str, name: str | None, options: dict[str, str | None]) -> ConceptDataset:
    for option, value in options.items():
        if value is not None:
            raise OptionError(
                f"{option}={value!r} with the built-in concept {source!r}. Expected it with a file only. Leave it out."
            )
    summary = next(summary for summary in concept_summaries() if summary.name == source)
    reading = read_pairs(read_rows(DATA / f"{source}.jsonl"), "pairs", None)
    return ConceptDataset(name or source, reading.pairs, summary.description, summary.source, summary.licence)


def is_path(source: str) -> bool:
    """Whether a text means a file: by its suffix, a separator in it, or because there is one."""
    separators = {os.sep, os.altsep or os.sep, "/"}
    return source.lower().endswith(_SUFFIXES) or any(s in source for s in separators) or Path(source).exists()

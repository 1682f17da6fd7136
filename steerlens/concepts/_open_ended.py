"""Open-ended items: a prompt without an answer to choose, and two references for what may follow."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steerlens.concepts._dataset import ConceptDataset
from steerlens.concepts._pairs import ContrastivePair
from steerlens.concepts._rows import at, read_rows
from steerlens.errors import ConceptError


def open_ended_items(dataset: ConceptDataset) -> ConceptDataset:
    """The pairs as open prompts with two references: without answers, and without the line that asks for one.

    Where a pair has answers, the last line of both texts is a read-out cue (``\\nSentiment:``); if it is the same in
    both it is cut off, for it is no part of what a model would write.

    Raises:
        ConceptError: Nothing would be left of a continuation.
    """
    return replace(dataset, pairs=tuple(_without_cue(dataset.name, pair) for pair in dataset))


def _without_cue(name: str, pair: ContrastivePair) -> ContrastivePair:
    if pair.answers is None:
        return pair
    (a, cut, cue), (b, _, other) = pair.positive.rpartition("\n"), pair.negative.rpartition("\n")
    if not cut or cue != other:
        return replace(pair, answers=None)
    if not a.strip() or not b.strip():
        raise ConceptError(
            f"{name!r}: of the continuation {pair.positive!r} nothing is left without its last line. Expected a text "
            "before the cue. Remove the answers, or the cue."
        )
    return replace(pair, positive=a, negative=b, answers=None)


def read_questions(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Open questions from a file (field ``question``), such as ``test_dataset_open_ended.json``.

    Raises:
        ConceptError: The file is malformed.
    """
    return tuple(row.text("question", ["question"]) for row in read_rows(Path(path)))


def read_open_ended(
    path: str | os.PathLike[str], positive: Sequence[str], negative: Sequence[str], *, name: str | None = None
) -> ConceptDataset:
    """Open questions from a file (field ``question``), with continuations that you supply.

    This is the format of ``test_dataset_open_ended.json`` of contrastive activation addition, which has questions and
    no references. Each question is a group.

    Args:
        path: JSON Lines, JSON or CSV.
        positive: A continuation with the concept for each question, with the space or line break it begins with.
        negative: One without.
        name: Of the data set; by default the file's name without suffix.

    Raises:
        ConceptError: The file is malformed, or there is not one continuation of each kind for every question.
    """
    file = Path(path)
    rows = read_rows(file)
    if not len(rows) == len(positive) == len(negative):
        raise ConceptError(
            f"{file} has {len(rows)} questions, but got {len(positive)} positive and {len(negative)} negative "
            "continuations. Expected one of each for every question."
        )
    pairs = []
    for row, yes, no in zip(rows, positive, negative, strict=True):
        question = row.text("question", ["question"])
        with at(row.place):
            pairs.append(ContrastivePair(question, yes, no, group=question))
    return ConceptDataset(name or file.stem, tuple(pairs), f"Open questions of {file.name}.", source=str(file))

"""The formats of concept files: our own, and four in which published data sets come.

Each reader turns rows into pairs. A format is recognised by the fields of the first row (`detect_format`).
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import final

from steerlens.concepts._dataset import check_repeats
from steerlens.concepts._pairs import (
    FIELD_NAMES,
    ContrastivePair,
    Metadata,
    Scalar,
    checked_answers,
    checked_metadata,
)
from steerlens.concepts._rows import Row, at
from steerlens.concepts._statements import Statement, match_statements
from steerlens.errors import ConceptError, OptionError, UnknownNameError

_PAIR_FIELDS = ("prompt", "positive", "negative", "group")
_ANSWER_COLUMNS = ("answer_positive", "answer_negative")
_ANSWER_FIELDS = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
_LETTER = re.compile(r"\s*\(?([A-Z])\)?\s*")
_OPTION = re.compile(r"^[ \t]*\(([A-Z])\)", re.MULTILINE)
_TRUTH = {"1": True, "true": True, "0": False, "false": False}


@final
@dataclass(frozen=True)
class Reading:
    """What a reader made of a file.

    Attributes:
        pairs: The pairs.
        places: Where each pair comes from.
        note: What was left out, in a sentence; empty when nothing was.
    """

    pairs: tuple[ContrastivePair, ...]
    places: tuple[str, ...]
    note: str = ""


def format_names() -> tuple[str, ...]:
    """The formats that `load_concept` reads."""
    return tuple(_READERS)


def detect_format(row: Row) -> str:
    """The format whose fields the row has.

    Raises:
        ConceptError: The row fits no format, or holds questions without answers.
    """
    keys = row.fields.keys()
    if keys & {"positive", "negative"}:
        return "pairs"
    if {"statement", "label"} <= keys:
        return "statements"
    if {"input", "output"} <= keys:
        return "function_vectors"
    if keys & {"answer_matching_behavior", "answer_not_matching_behavior"}:
        answer = str(row.fields.get("answer_matching_behavior", row.fields.get("answer_not_matching_behavior")))
        return "caa" if "statement" not in keys and _LETTER.fullmatch(answer) else "mwe"
    if "question" in keys:
        raise ConceptError(
            f"{row.place}: an open-ended file with only 'question' has no contrast in it. Expected two "
            "answers to each question (answer_matching_behavior, answer_not_matching_behavior). Load the A/B "
            "file of the same behaviour, or write pairs with prompt, positive and negative."
        )
    raise ConceptError(
        f"{row.place}: unknown format, with fields {', '.join(sorted(map(repr, keys)))}. Expected "
        + "; or ".join(f"{name}: {', '.join(fields)}" for name, (fields, _) in _READERS.items())
        + ". Rename the fields, or choose a format with format=."
    )


def read_pairs(rows: Sequence[Row], format: str | None, group_by: str | None) -> Reading:  # noqa: A002
    """Read rows in a format, and refuse repeats by their place.

    Args:
        rows: At least one row.
        format: One of `format_names`; detected when it is None.
        group_by: Field that names the group; for "pairs" and "statements".

    Raises:
        ConceptError: A row is malformed.
        UnknownNameError: There is no such format.
        OptionError: The format has groups of its own, and `group_by` is given.
    """
    chosen = detect_format(rows[0]) if format is None else format
    if chosen not in _READERS:
        raise UnknownNameError("concept file format", chosen, _READERS, "Leave it out to detect it from the content.")
    if group_by is not None and chosen not in ("pairs", "statements"):
        raise OptionError(
            f"group_by={group_by!r} with the format {chosen!r}, whose groups follow from its content. "
            "Expected it with 'pairs' or 'statements' only. Leave it out."
        )
    reading = _READERS[chosen][1](rows, group_by)
    check_repeats(reading.pairs, lambda index: reading.places[index])
    return reading


def _read_own(rows: Sequence[Row], group_by: str | None) -> Reading:
    """Prompt, positive and negative; group and answers if given; every other field is metadata."""
    pairs = []
    for row in rows:
        positive, negative = (row.text(key, _PAIR_FIELDS) for key in ("positive", "negative"))
        prompt = _prompt(row)
        if group_by is not None:
            group = row.text(group_by, (*_PAIR_FIELDS, group_by))
        else:
            group = row.text("group", _PAIR_FIELDS) if "group" in row.fields else prompt or positive
        with at(row.place):
            answers, metadata = _answers(row), _metadata(row)
            pairs.append(ContrastivePair(prompt, positive, negative, group, metadata, answers))
    return Reading(tuple(pairs), tuple(row.place for row in rows))


def _prompt(row: Row) -> str:
    """The prompt, which alone may be empty."""
    return "" if row.fields.get("prompt") == "" else row.text("prompt", _PAIR_FIELDS)


def _answers(row: Row) -> tuple[str, str] | None:
    """The answers, from a field of two or, in a table, from two columns."""
    columns = [row.fields.get(column) or None for column in _ANSWER_COLUMNS]
    value = row.fields.get("answers") if columns == [None, None] else columns
    return None if value is None else checked_answers(value)


def _metadata(row: Row) -> Metadata:
    """The object called metadata, if any, and all fields that are none of a pair's."""
    nested = row.fields.get("metadata", {})
    if not isinstance(nested, Mapping):
        raise ConceptError(f"field 'metadata' is {nested!r}. Expected an object of names and scalars. Write it as one.")
    others = {key: value for key, value in row.fields.items() if key not in FIELD_NAMES}
    return checked_metadata({**nested, **others})


def _read_caa(rows: Sequence[Row], _: str | None) -> Reading:
    """Multiple choice: the letters of the matching and the other answer, after an opened bracket."""
    pairs = []
    for row in rows:
        question, matching, other = (row.text(key, _ANSWER_FIELDS) for key in _ANSWER_FIELDS)
        positive, negative = _letter(row, matching), _letter(row, other)
        options = {*_OPTION.findall(question), positive, negative}
        stem = re.split(r"\s*Choices:|\n[ \t]*\(A\)", question, maxsplit=1)[0].strip()
        metadata: dict[str, Scalar] = {"answer_letter": positive, "option_count": len(options)}
        with at(row.place):
            pairs.append(ContrastivePair(f"{question}\n\nAnswer: (", positive, negative, stem or question, metadata))
    return Reading(tuple(pairs), tuple(row.place for row in rows))


def _letter(row: Row, answer: str) -> str:
    match = _LETTER.fullmatch(answer)
    if match is None:
        raise ConceptError(
            f"{row.place}: the answer is {answer!r}. Expected a letter in brackets, such as '(A)'. Correct "
            "it, or read the file as format='mwe'."
        )
    return match.group(1)


def _read_mwe(rows: Sequence[Row], _: str | None) -> Reading:
    """Model-written evaluations: "Yes" or "No" after the question."""
    pairs = []
    for row in rows:
        question, matching, other = (row.text(key, _ANSWER_FIELDS) for key in _ANSWER_FIELDS)
        group = row.text("statement", _ANSWER_FIELDS) if "statement" in row.fields else question
        confidence = {key: row.fields[key] for key in ("label_confidence",) if key in row.fields}
        with at(row.place):
            metadata = checked_metadata({"answer": matching.strip(), **confidence})
            pairs.append(ContrastivePair(f"{question}\nAnswer:", matching, other, group, metadata))
    return Reading(tuple(pairs), tuple(row.place for row in rows))


def _read_function_vectors(rows: Sequence[Row], _: str | None) -> Reading:
    """In-context tasks: the output of an input against the output of another.

    The negative is found by hashing the input and the positive to a place among the sorted outputs of the
    file, and going round from there to the first that is not right for the same input and, where possible,
    is not the input itself. So it depends neither on the order of the file nor on a generator. Items given
    twice are read once, and counted in the note.
    """
    fields = ("input", "output")
    items: dict[tuple[str, str], Row] = {}
    for row in rows:
        items.setdefault((row.text("input", fields), row.text("output", fields)), row)
    right = defaultdict(set)
    for given, output in items:
        right[given].add(output)
    outputs = sorted({output for _, output in items})
    pairs = []
    for (given, output), row in items.items():
        with at(row.place):
            wrong = _wrong_output(given, output, outputs, right[given])
        pairs.append(ContrastivePair(f"Q: {given}\nA:", f" {output}", f" {wrong}", given))
    repeats = len(rows) - len(items)
    note = f"{repeats} repeated item(s) left out." if repeats else ""
    return Reading(tuple(pairs), tuple(row.place for row in items.values()), note)


def _wrong_output(given: str, output: str, outputs: Sequence[str], right: Set[str]) -> str:
    digest = hashlib.sha256(json.dumps([given, output]).encode("ascii")).digest()
    start = int.from_bytes(digest) % len(outputs)
    for excluded in (right | {given}, right):
        for step in range(len(outputs)):
            candidate = outputs[(start + step) % len(outputs)]
            if candidate not in excluded:
                return candidate
    raise ConceptError(
        f"every output of the file is right for the input {given!r}. Expected another output to contrast "
        "with. Add items with other outputs."
    )


def _read_statements(rows: Sequence[Row], group_by: str | None) -> Reading:
    """True and false statements, matched by their common beginning."""
    key = group_by if group_by is not None else "group" if "group" in rows[0].fields else None
    statements = [_statement(row, index, key) for index, row in enumerate(rows)]
    _check_classes(rows, statements)
    pairs, places = [], []
    for prefix, true, false in match_statements(statements):
        place = rows[true.row].place
        metadata: dict[str, Scalar] = {"true_statement": true.text, "false_statement": false.text}
        with at(place):
            positive, negative = true.text[len(prefix) :], false.text[len(prefix) :]
            pairs.append(ContrastivePair(prefix, positive, negative, true.group or prefix or true.text, metadata))
        places.append(place)
    if not pairs:
        raise ConceptError(
            f"{rows[0].place}: no group of {key!r} has both a true and a false statement. Expected both in "
            "at least one. Group by another field with group_by=."
        )
    left = len(rows) - 2 * len(pairs)
    return Reading(tuple(pairs), tuple(places), f"{left} statement(s) without a partner left out." if left else "")


def _statement(row: Row, index: int, key: str | None) -> Statement:
    fields = ("statement", "label") if key is None else ("statement", "label", key)
    text, group = row.text("statement", fields), "" if key is None else row.text(key, fields)
    label = row.fields.get("label")
    if label is None:
        row.text("label", fields)
    truth = _TRUTH.get(str(label).strip().lower())
    if truth is None:
        raise ConceptError(f"{row.place}: the label is {label!r}. Expected 1, 0, true or false. Correct it.")
    return Statement(text, truth, index, group)


def _check_classes(rows: Sequence[Row], statements: Sequence[Statement]) -> None:
    first: dict[str, Statement] = {}
    for statement in statements:
        earlier = first.setdefault(statement.text, statement)
        if earlier is not statement:
            raise ConceptError(
                f"{rows[statement.row].place}: this statement repeats {rows[earlier.row].place}: "
                f"{statement.text!r}. "
                "Expected each statement once, with one label. Remove one of them."
            )
    counts = {side: sum(statement.is_true == side for statement in statements) for side in (True, False)}
    if not all(counts.values()):
        have, lack = ("true", "false") if counts[True] else ("false", "true")
        raise ConceptError(
            f"{rows[0].place}: all {len(statements)} statement(s) from here on are {have}. Expected both "
            f"true and false ones. Add {lack} statements."
        )


_Reader = Callable[[Sequence[Row], str | None], Reading]
_READERS: Mapping[str, tuple[tuple[str, ...], _Reader]] = {
    "pairs": (("prompt", "positive", "negative"), _read_own),
    "caa": (_ANSWER_FIELDS, _read_caa),
    "mwe": ((*_ANSWER_FIELDS, "statement"), _read_mwe),
    "function_vectors": (("input", "output"), _read_function_vectors),
    "statements": (("statement", "label"), _read_statements),
}

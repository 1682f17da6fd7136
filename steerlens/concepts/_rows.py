"""Files of records: JSON Lines, a JSON list or CSV, read into rows that know their place."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from steerlens.errors import ConceptError


@final
@dataclass(frozen=True)
class Row:
    """One record of a file.

    Attributes:
        place: Where it stands, such as ``"pairs.jsonl, line 3"``.
        fields: The record. All values of a CSV row are texts.
    """

    place: str
    fields: Mapping[str, object]

    def text(self, key: str, expected: Sequence[str]) -> str:
        """The text of a field that the format requires.

        Args:
            key: Name of the field.
            expected: All fields of the format, for the message.

        Raises:
            ConceptError: The field is missing, no text, or empty.
        """
        if key not in self.fields:
            raise ConceptError(
                f"{self.place}: field {key!r} is missing. Expected {', '.join(expected)}. Add it, or choose "
                "another format with format=."
            )
        value = self.fields[key]
        if not isinstance(value, str):
            raise ConceptError(
                f"{self.place}: field {key!r} is {value!r} ({type(value).__name__}). Expected a text. Write "
                "it as a string."
            )
        if not value.strip():
            raise ConceptError(
                f"{self.place}: field {key!r} is empty. Expected a text with a visible character. Fill it in."
            )
        return value


@contextmanager
def at(place: str) -> Iterator[None]:
    """Say where an error about a record arose."""
    try:
        yield
    except ConceptError as error:
        raise ConceptError(f"{place}: {error}") from error


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read a file; the container (JSON list, JSON Lines or CSV) is told from its first character.

    Raises:
        ConceptError: The file is missing, not UTF-8, empty, or malformed.
    """
    text = read_text(path)
    start = text.lstrip()[:1]
    if not start:
        raise ConceptError(f"{path}: the file is empty. Expected at least one record. Check how it was written.")
    if path.suffix.lower() == ".csv":
        rows = tuple(_read_csv(text, path))
    elif start == "[":
        rows = tuple(_read_json_list(text, path))
    elif start == "{" or path.suffix.lower() in (".jsonl", ".json"):
        rows = tuple(_read_json_lines(text, path))
    else:
        rows = tuple(_read_csv(text, path))
    if not rows:
        raise ConceptError(f"{path}: there are no records in the file. Expected at least one. Add records.")
    return rows


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ConceptError: The file is missing, cannot be read, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConceptError(f"{path}: file not found. Expected a .jsonl, .json or .csv file. Check the path.") from None
    except OSError as error:
        raise ConceptError(
            f"{path}: cannot be read ({error.strerror}). Expected a readable .jsonl, .json or .csv file. "
            "Check the path and its permissions."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConceptError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Expected a UTF-8 file. "
            "Convert it, for example with iconv."
        ) from None


def _read_json_lines(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConceptError(
                    f"{place}: invalid JSON ({error.msg}, column {error.colno}). Expected one JSON object on "
                    "each line, or one JSON list of objects in the file. Correct the line."
                ) from None
            yield _json_row(value, place)


def _read_json_list(text: str, path: Path) -> Iterator[Row]:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ConceptError(
            f"{path}, line {error.lineno}: invalid JSON ({error.msg}, column {error.colno}). Expected a JSON "
            "list of objects. Correct the line."
        ) from None
    decoder, position, line = json.JSONDecoder(), text.index("[") + 1, 1
    counted = 0
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return
        line += text.count("\n", counted, position)
        counted = position
        value, position = decoder.raw_decode(text, position)
        yield _json_row(value, f"{path}, line {line}")


def _json_row(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        raise ConceptError(
            f"{place}: this record is a {type(value).__name__}. Expected a JSON object with named fields. "
            "Write it as an object."
        )
    return Row(place, value)


def _read_csv(text: str, path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    end = 0
    try:
        for cells in reader:
            start, end = end + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _checked_header(cells, f"{path}, line {start}")
                continue
            yield _csv_row(header, cells, f"{path}, line {start}")
    except csv.Error as error:
        raise ConceptError(
            f"{path}, line {max(reader.line_num, 1)}: invalid CSV ({error}). Expected comma-separated cells, "
            "with "
            'quotes doubled inside quoted cells (""). Correct the line.'
        ) from None


def _checked_header(cells: list[str], place: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(set(header)) < len(header) or not all(header):
        raise ConceptError(
            f"{place}: the header is {', '.join(map(repr, header))}. Expected distinct column names, none "
            "empty. Rename the columns."
        )
    return header


def _csv_row(header: list[str], cells: list[str], place: str) -> Row:
    if len(cells) != len(header):
        raise ConceptError(
            f"{place}: the row has {len(cells)} cell(s), the header {len(header)}. Expected as many. Quote "
            "cells that contain commas, or complete the row."
        )
    return Row(place, dict(zip(header, cells, strict=True)))

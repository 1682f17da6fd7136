"""Texts for side effects, read from files: paragraphs, records, messages, WikiText."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, overload

from steerlens.errors import ConceptError, OptionError

_ARTICLE = re.compile(r"\s*= (?!= )(.+[^= ]) =\s*")
_HEADING = re.compile(r"\s*(= )+.*[^= ]( =)+\s*")
_SUFFIXES = (".txt", ".jsonl", ".parquet", ".raw", ".tokens")
_LOOK = 5
"""Rows among which the first heading of WikiText stands."""

Rows = list[tuple[str, dict[str, Any]]]
"""Place of each record in its file, and the record."""


@final
@dataclass(frozen=True)
class TextSet(Sequence[str]):
    """Texts, and the document that each is a part of; to be used wherever a list of texts is asked for.

    Args:
        texts: The texts.
        documents: The document of each text: texts of one document are not independent.
        left_out: How many texts had fewer words than were asked for.
    """

    texts: tuple[str, ...]
    documents: tuple[str, ...]
    left_out: int = 0

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.documents):
            raise OptionError(f"Every text needs a document, but got {len(self.texts)} and {len(self.documents)}.")

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "TextSet": ...
    def __getitem__(self, index: int | slice) -> "str | TextSet":
        if isinstance(index, slice):
            return TextSet(self.texts[index], self.documents[index])
        return self.texts[index]


def read_texts(path: str | Path, *, min_words: int = 1, roles: Sequence[str] | None = None) -> TextSet:
    """Read texts from a file; what it is, is told from its name and its first rows.

    ``.txt``: paragraphs, parted by empty lines, each a document of its own. ``.jsonl``: records with a ``text``; with
    a ``role`` besides they are messages, as those of OpenAssistant, and those of one ``message_tree_id`` are one
    document. ``.parquet``: a column ``text``. Any of them, and ``.raw`` and ``.tokens``, may hold WikiText, known by
    its first heading ``= Title =``: each line is a text, each article a document, headings are left out. Its ``<unk>``
    and ``@-@`` stay as they are.

    Args:
        path: The file, in UTF-8.
        min_words: Texts with fewer words are left out, and counted.
        roles: Whose messages to keep; None for all.

    Raises:
        ConceptError: The file is missing, empty, not UTF-8 or malformed, or a record has no text.
        OptionError: The kind of file is unknown, there are no such roles, or no text is left.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"{path}: expected a file that ends in {', '.join(_SUFFIXES)}, but got {path.suffix!r}.")
    if path.suffix.lower() == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix.lower() == ".jsonl":
        rows = _json_rows(path)
    else:
        rows = [(f"{path}, line {n}", {"text": line}) for n, line in enumerate(_decoded(path).split("\n"), start=1)]
    lines = [(place, _text(place, fields)) for place, fields in rows]
    if roles is not None and not all("role" in fields for _, fields in rows):
        raise OptionError(f"{path} has no roles, but roles={list(roles)} was asked for. Leave it out.")
    if _is_wikitext([text for _, text in lines]):
        pairs = list(_articles([text for _, text in lines]))
    elif path.suffix.lower() not in (".jsonl", ".parquet"):
        pairs = list(_paragraphs([text for _, text in lines]))
    else:
        pairs = list(_records(path, rows, roles))
    kept = [(text, document) for text, document in pairs if len(text.split()) >= min_words]
    if not kept:
        raise OptionError(f"{path} has no text of {min_words} words or more ({len(pairs)} shorter ones).")
    return TextSet(tuple(t for t, _ in kept), tuple(d for _, d in kept), len(pairs) - len(kept))


def _records(path: Path, rows: Rows, roles: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    if roles is not None:
        known = {str(fields["role"]) for _, fields in rows}
        unknown = [r for r in roles if r not in known]
        if unknown:
            raise OptionError(f"{path} has the roles {', '.join(sorted(known))}, but {unknown[0]!r} was asked for.")
    for place, fields in rows:
        text = str(fields["text"]).strip()
        if not text:
            raise ConceptError(f"{place}: field 'text' is empty. Expected a text. Fill it in, or remove the record.")
        if roles is None or fields["role"] in roles:
            yield text, str(fields.get("message_tree_id") or place)


def _is_wikitext(lines: Sequence[str]) -> bool:
    return any(_ARTICLE.fullmatch(line) for line in [text for text in lines if text.strip()][:_LOOK])


def _articles(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Lines of text, each with its article."""
    article = number = 0
    title = ""
    for number, line in enumerate(lines):
        if found := _ARTICLE.fullmatch(line):
            article, title = number, found[1]
        elif line.strip() and not _HEADING.fullmatch(line):
            yield line.strip(), f"{article}: {title}"


def _paragraphs(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    text = "\n".join(lines)
    for number, paragraph in enumerate(re.split(r"\n[ \t\r]*\n", text)):
        if paragraph.strip():
            yield paragraph.strip(), str(number)


def _text(place: str, fields: dict[str, Any]) -> str:
    if "text" not in fields:
        raise ConceptError(
            f"{place}: field 'text' is missing; there are {', '.join(map(repr, fields)) or 'no fields'}. Rename it."
        )
    value = fields["text"]
    if not isinstance(value, str):
        raise ConceptError(f"{place}: field 'text' is {value!r} ({type(value).__name__}). Expected a text. Correct it.")
    return value


def _json_rows(path: Path) -> Rows:
    rows: Rows = []
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConceptError(
                f"{place}: invalid JSON ({error.msg}, column {error.colno}). Expected one object on each line."
            ) from None
        if not isinstance(fields, dict):
            raise ConceptError(f'{place}: a {type(fields).__name__}. Expected an object such as {{"text": "…"}}.')
        rows.append((place, fields))
    return rows


def _parquet_rows(path: Path) -> Rows:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise ConceptError(f"{path}: file not found. Check the path.") from None
    except (OSError, ValueError) as error:
        raise ConceptError(f"{path}: not a readable Parquet file ({error}).") from None
    if frame.empty:
        raise ConceptError(f"{path}: there are no rows in the file. Expected at least one.")
    records = frame.to_dict("records")
    return [(f"{path}, row {n}", {str(k): v for k, v in r.items()}) for n, r in enumerate(records)]


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConceptError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from None
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConceptError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Convert it, for example with iconv."
        ) from None
    if not text.strip():
        raise ConceptError(f"{path}: the file is empty. Expected texts.")
    return text

"""Texts for side effects, read from files: paragraphs, records, messages, WikiText."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, overload

from steerlens.errors import ConceptError, OptionError

_ARTICLE = re.compile(r"\s*= (?!= )(.+[^= ]) =\s*")
_HEADING = re.compile(r"\s*(= )+.*[^= ]( =)+\s*")
_SUFFIXES = (".txt", ".jsonl", ".parquet", ".raw", ".tokens")
_PACKED = (".bz2", ".xz", ".zip", ".zst", ".7z", ".tar", ".tgz")
MOST_UNPACKED = 2**30
"""Bytes beyond which a ``.gz`` is not unpacked in memory."""
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

    def spread(self, n: int) -> "TextSet":
        """At most ``n`` texts, in their order: the first of each document, then the second of each, and so on."""
        seen: Counter[str] = Counter()
        turn = []
        for document in self.documents:
            turn.append(seen[document])
            seen[document] += 1
        return self._at(sorted(sorted(range(len(self)), key=lambda i: turn[i])[:n]))

    def _at(self, rows: Sequence[int]) -> "TextSet":
        return TextSet(tuple(self.texts[i] for i in rows), tuple(self.documents[i] for i in rows), self.left_out)


def documents_of(texts: Sequence[str]) -> tuple[Hashable, ...]:
    """The document of each text; texts that are no `TextSet` are each a document."""
    return texts.documents if isinstance(texts, TextSet) else tuple(range(len(texts)))


def document_of_each(documents: tuple[Hashable, ...], n_texts: int) -> tuple[Hashable, ...]:
    """The documents given, one for each text; where none are given, each text is its own.

    Raises:
        OptionError: If there are some, but not one for each text.
    """
    if documents and len(documents) != n_texts:
        raise OptionError(f"Every text needs a document, but got {n_texts} and {len(documents)}.")
    return documents or tuple(range(n_texts))


def halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Every other document from the first on, and from the second on; no document is in both."""
    if not isinstance(texts, TextSet):
        return texts[0::2], texts[1::2]
    number = {d: k for k, d in enumerate(dict.fromkeys(texts.documents))}
    first, second = ([i for i, d in enumerate(texts.documents) if number[d] % 2 == k] for k in range(2))
    return texts._at(first), texts._at(second)


def text_halves(texts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Neutral texts to choose on, and others to report on; no document is in both.

    Raises:
        OptionError: If there are fewer than five documents for each half.
    """
    n_documents = len(set(documents_of(texts)))
    if isinstance(texts, str) or n_documents < 10:
        raise OptionError(
            f"Side effects need at least 10 neutral texts of 10 documents, 5 for each half, but got {len(texts)} texts "
            f"of {n_documents}."
        )
    return halves(texts)


def read_texts(path: str | Path, *, min_words: int = 1, roles: Sequence[str] | None = None) -> TextSet:
    """Read texts from a file; what it is, is told from its name and its first rows.

    ``.txt``: paragraphs, parted by empty lines, each a document of its own. ``.jsonl``: records with a ``text``; with
    a ``role`` besides they are messages, as those of OpenAssistant, and those of one ``message_tree_id`` are one
    document; its trees, a ``prompt`` with ``replies``, are read as their messages. ``.parquet``: a column ``text``. Any
    of them, and ``.raw`` and ``.tokens``, may hold WikiText, known by its first heading ``= Title =``: each line is a
    text, each article a document, headings are left out. Its ``<unk>`` and ``@-@`` stay as they are. All but Parquet
    may be packed with gzip (``.jsonl.gz``), up to 1 GiB unpacked.

    Args:
        path: The file, in UTF-8.
        min_words: Texts with fewer words are left out, and counted.
        roles: Whose messages to keep; None for all.

    Raises:
        ConceptError: The file is missing, empty, too large, not UTF-8 or malformed, or a record has no text, or no role
            where roles were asked for.
        OptionError: The kind of file is unknown, there are no such roles, or no text is left.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == ".parquet":
        rows = _parquet_rows(path)
    elif kind == ".jsonl":
        rows = _json_rows(path)
    else:
        rows = [(f"{path}, line {n}", {"text": line}) for n, line in enumerate(_decoded(path).split("\n"), start=1)]
    lines = [(place, _text(place, fields)) for place, fields in rows]
    if roles is not None:
        _check_roles(path, rows, roles)
    if _is_wikitext([text for _, text in lines]):
        pairs = list(_articles([text for _, text in lines]))
    elif kind not in (".jsonl", ".parquet"):
        pairs = list(_paragraphs([text for _, text in lines]))
    else:
        pairs = list(_records(path, rows, roles))
    kept = [(text, document) for text, document in pairs if len(text.split()) >= min_words]
    if not kept:
        raise OptionError(f"{path} has no text of {min_words} words or more ({len(pairs)} shorter ones).")
    return TextSet(tuple(t for t, _ in kept), tuple(d for _, d in kept), len(pairs) - len(kept))


def _kind(path: Path) -> str:
    """The ending that says what a file is, without that of gzip.

    Raises:
        OptionError: It is none that is read.
    """
    endings = [s.lower() for s in path.suffixes]
    packed = endings[-1:] == [".gz"]
    kind = ".".join(endings[-2:-1] if packed else endings[-1:])
    if kind in _SUFFIXES and not (packed and kind == ".parquet"):
        return kind
    unpack = " Unpack it first." if packed or kind in _PACKED else ""
    raise OptionError(
        f"{path}: expected a file that ends in {', '.join(_SUFFIXES)}, or in one of these but .parquet and .gz, but "
        f"got {''.join(endings[-2:]) if packed else kind!r}.{unpack}"
    )


def _check_roles(path: Path, rows: Rows, roles: Sequence[str]) -> None:
    known = {str(fields["role"]) for _, fields in rows if fields.get("role")}
    if not known:
        raise OptionError(f"{path} has no roles, but roles={list(roles)} was asked for. Leave it out.")
    without = [place for place, fields in rows if not fields.get("role")]
    if without:
        raise ConceptError(
            f"{without[0]}: field 'role' is missing, as in {len(without)} of {len(rows)} messages, but "
            f"roles={list(roles)} was asked for. Fill it in, or leave roles out to keep all messages."
        )
    unknown = [r for r in roles if r not in known]
    if unknown:
        raise OptionError(f"{path} has the roles {', '.join(sorted(known))}, but {unknown[0]!r} was asked for.")


def _records(path: Path, rows: Rows, roles: Sequence[str] | None) -> Iterator[tuple[str, str]]:
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
            f"{place}: field 'text' is missing; there are {', '.join(map(repr, fields)) or 'no fields'}. Give the text "
            "under that name."
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
        rows += _messages(place, fields) if _is_tree(fields) else [(place, fields)]
    return rows


def _is_tree(fields: dict[str, Any]) -> bool:
    """Whether a record is a tree of OpenAssistant: no text of its own, but a prompt with replies."""
    return "text" not in fields and isinstance(fields.get("prompt"), dict)


def _messages(place: str, tree: dict[str, Any]) -> Rows:
    """The messages of a tree, each before its replies, with the tree as their document."""
    rows: Rows = []
    waiting = [tree["prompt"]]
    while waiting:
        message = waiting.pop()
        where = f"{place}, message {len(rows)}"
        replies = message.get("replies") or [] if isinstance(message, dict) else None
        if not isinstance(replies, list):
            raise ConceptError(f"{where}: expected an object with a text and a list of replies. Correct it.")
        rows.append((where, {**message, "message_tree_id": str(tree.get("message_tree_id") or place)}))
        waiting += reversed(replies)
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
    data = _bytes(path)
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


def _bytes(path: Path) -> bytes:
    try:
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MOST_UNPACKED + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConceptError(f"{path}: not a whole gzip file ({error}). Get it again.") from None
    except OSError as error:
        raise ConceptError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from None
    if len(data) > MOST_UNPACKED:
        raise ConceptError(
            f"{path}: unpacks to more than {MOST_UNPACKED / 2**20:g} MiB. Unpack it, and give a part of it."
        )
    return data

"""Concept data sets: contrastive pairs under one name, divided by group and never by row."""

import hashlib
import html
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, final, overload

from steerlens.concepts._pairs import ContrastivePair, ContrastiveTexts, Question, Scalar, shorten
from steerlens.errors import ConceptError, OptionError

if TYPE_CHECKING:
    import pandas


@final
@dataclass(frozen=True, repr=False)
class ConceptDataset:
    """Pairs that differ in one concept, validated when made.

    Slices, filtered sets and the parts of a split are data sets under the same name; `fingerprint` tells them
    apart. No text stands in two groups, so nothing leaks between the parts of a split.

    Attributes:
        name: Short name, such as ``"sentiment"``.
        pairs: At least one pair.
        description: One sentence on what differs between positive and negative.
        source: Where the texts come from.
        licence: SPDX identifier; empty when it is not known.

    Raises:
        ConceptError: There is no pair, a pair is given twice, or a text stands in two groups.
    """

    name: str
    pairs: tuple[ContrastivePair, ...]
    description: str = ""
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ConceptError(f"{self.name!r} has no pairs. Expected at least one. Add pairs.")
        for index, pair in enumerate(self.pairs):
            if not isinstance(pair, ContrastivePair):
                raise ConceptError(
                    f"{self.name!r}, pair {index}: this is a {type(pair).__name__}. Expected a "
                    "ContrastivePair. Build one from its fields."
                )
        object.__setattr__(self, "pairs", tuple(self.pairs))
        check_repeats(self.pairs, lambda index: f"{self.name!r}, pair {index}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[ContrastivePair]:
        return iter(self.pairs)

    @overload
    def __getitem__(self, index: int) -> ContrastivePair: ...
    @overload
    def __getitem__(self, index: slice) -> "ConceptDataset": ...
    def __getitem__(self, index: int | slice) -> "ContrastivePair | ConceptDataset":
        if isinstance(index, slice):
            return replace(self, pairs=self.pairs[index])
        return self.pairs[index]

    @property
    def groups(self) -> tuple[str, ...]:
        """The distinct groups, in order of first appearance."""
        return tuple(dict.fromkeys(pair.group for pair in self.pairs))

    @property
    def texts(self) -> tuple[ContrastiveTexts, ...]:
        """The positive and negative text of each pair."""
        return tuple(pair.texts for pair in self.pairs)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of all pairs, in order."""
        return tuple(question for pair in self.pairs for question in pair.questions)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pairs, in order, as canonical JSON; name, description and licence do not enter."""
        rows = [_canonical(pair) for pair in self.pairs]
        text = json.dumps(rows, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def filter(self, predicate: Callable[[ContrastivePair], bool]) -> "ConceptDataset":
        """The pairs for which `predicate` is true.

        Raises:
            ConceptError: None is.
        """
        kept = tuple(pair for pair in self.pairs if predicate(pair))
        if not kept:
            raise ConceptError(
                f"{self.name!r}: the filter keeps none of {len(self)} pairs. Expected at least one. "
                "Check the predicate."
            )
        return replace(self, pairs=kept)

    def split(self, *, seed: int, fractions: tuple[float, float, float] = (0.5, 0.25, 0.25)) -> "Split":
        """Divide the groups into three parts: to fit on, to select with, and to test on.

        Groups are ordered by the hash of seed and name, then cut. Which part a group falls into thus depends
        on the seed and on the set of groups, and not on the order of pairs.

        Args:
            seed: Decides the order of groups.
            fractions: Shares of the groups, which sum to 1; each part receives at least one group.

        Raises:
            OptionError: The fractions are not three positive numbers that sum to 1.
            ConceptError: There are fewer than three groups.
        """
        part_of = parts_of(self.groups, seed=seed, fractions=fractions, name=self.name)
        parts = (
            replace(self, pairs=tuple(pair for pair in self.pairs if part_of[pair.group] == part)) for part in range(3)
        )
        return Split(*parts)

    def to_frame(self) -> "pandas.DataFrame":
        """A table with one row for each pair; metadata and answers become columns."""
        import pandas as pd

        return pd.DataFrame([_record(pair) for pair in self.pairs])

    def __repr__(self) -> str:
        licence = self.licence or "licence not stated"
        return f"ConceptDataset({self.name!r}, {len(self)} pairs in {len(self.groups)} groups, {licence})"

    def _repr_html_(self) -> str:
        shown = self.pairs[:5]
        cells = ((pair.prompt, pair.positive, pair.negative, pair.group) for pair in shown)
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in cells)
        rest = f"<p>… and {len(self) - len(shown)} more</p>" if len(self) > len(shown) else ""
        return (
            f"<div><p><b>{html.escape(self.name)}</b>: {len(self)} pairs in {len(self.groups)} groups, "
            f"{html.escape(self.licence or 'licence not stated')}</p><p>{html.escape(self.description)}</p>"
            "<table><thead><tr><th>prompt</th><th>positive</th><th>negative</th><th>group</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>{rest}</div>"
        )


class Split(NamedTuple):
    """Three data sets without a group or a text in common."""

    fit: ConceptDataset
    select: ConceptDataset
    test: ConceptDataset


def parts_of(groups: Sequence[str], *, seed: int, fractions: tuple[float, float, float], name: str) -> dict[str, int]:
    """The part (0 to fit, 1 to select, 2 to test) of each group; see `ConceptDataset.split`.

    Raises:
        OptionError: The fractions are not three positive numbers that sum to 1.
        ConceptError: There are fewer than three groups.
    """
    _check_fractions(fractions)
    ordered = sorted(groups, key=lambda group: _rank(seed, group))
    if len(ordered) < len(fractions):
        raise ConceptError(
            f"{name!r} has {len(ordered)} group(s). A split into fit, select and test needs at least "
            "3, for a group is never divided. Add groups, or give related pairs finer groups."
        )
    return dict(zip(ordered, _parts(len(ordered), fractions), strict=True))


def check_repeats(pairs: Sequence[ContrastivePair], where: Callable[[int], str]) -> None:
    """Refuse a pair given twice, and a text that stands in two groups.

    Args:
        pairs: The pairs, in order.
        where: Describes the place of the pair at an index, for the message.

    Raises:
        ConceptError: Names both places.
    """
    seen: dict[ContrastiveTexts, int] = {}
    home: dict[str, int] = {}
    for index, pair in enumerate(pairs):
        first = seen.setdefault(pair.texts, index)
        if first != index:
            raise ConceptError(
                f"{where(index)}: this pair repeats {where(first)}: {shorten(pair.texts.positive)}. Expected "
                "each pair once. Remove one of them."
            )
        for text in pair.texts:
            first = home.setdefault(text, index)
            if pairs[first].group != pair.group:
                raise ConceptError(
                    f"{where(index)}: the text {shorten(text)} of group {pair.group!r} also stands in "
                    f"{where(first)}, group {pairs[first].group!r}. Expected it in one group, for it would "
                    "leak between the parts of a split. Give both pairs one group, or remove one."
                )


def _canonical(pair: ContrastivePair) -> dict[str, object]:
    """The content of a pair for hashing, in which 1 and 1.0 are one number."""
    return {
        "prompt": pair.prompt,
        "positive": pair.positive,
        "negative": pair.negative,
        "group": pair.group,
        "answers": pair.answers,
        "metadata": {key: _plain(value) for key, value in pair.metadata.items()},
    }


def _plain(value: Scalar) -> Scalar:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _record(pair: ContrastivePair) -> dict[str, object]:
    answers = dict(zip(("answer_positive", "answer_negative"), pair.answers or (), strict=False))
    texts = {"prompt": pair.prompt, "positive": pair.positive, "negative": pair.negative, "group": pair.group}
    return {**texts, **answers, **pair.metadata}


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, group]).encode("ascii")).digest()


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    positive = all(math.isfinite(fraction) and fraction > 0 for fraction in fractions)
    if len(fractions) != 3 or not positive or abs(math.fsum(fractions) - 1) > 1e-6:
        raise OptionError(
            f"fractions={fractions!r} of a split. Expected three positive numbers that sum to 1, for fit, "
            "select and test, such as (0.5, 0.25, 0.25)."
        )


def _parts(n: int, fractions: tuple[float, float, float]) -> list[int]:
    """The part of each of n ordered groups; every part is non-empty when n >= 3."""
    first = min(max(round(n * fractions[0]), 1), n - 2)
    second = min(max(round(n * (fractions[0] + fractions[1])), first + 1), n - 1)
    return [0] * first + [1] * (second - first) + [2] * (n - second)

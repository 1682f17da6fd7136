"""In-context tasks: words with their answers, shown to a model as examples and asked about."""

import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, final, overload

from steerlens.concepts._dataset import parts_of
from steerlens.errors import ConceptError

if TYPE_CHECKING:
    import pandas

WordPair = tuple[str, str]
"""An input and its output, such as ``("hot", "cold")``."""


@final
@dataclass(frozen=True, repr=False)
class InContextTask:
    """A function from texts to texts, given by examples, validated when made.

    Attributes:
        name: Short name, such as ``"antonyms"``.
        pairs: Inputs with their outputs, without spaces around them; each input once.
        description: One sentence on what the output is to the input.
        instruction: What to tell a model that should do the task; empty when there is none.
        sentence: A form of words that states a pair, such as ``"The opposite of {input} is {output}."``; empty when
            there is none.
        source: Where the pairs come from.
        licence: SPDX identifier; empty when it is not known.

    Raises:
        ConceptError: There is no pair, an input or an output is not a text, an input has two outputs, or the sentence
            does not hold input and output once each, in this order.
    """

    name: str
    pairs: tuple[WordPair, ...]
    description: str = ""
    instruction: str = ""
    sentence: str = ""
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(tuple(pair) for pair in self.pairs))
        check_word_pairs(self.pairs, [f"{self.name!r}, pair {i}" for i in range(len(self.pairs))])
        if not self.pairs:
            raise ConceptError(f"The task {self.name!r} has no pairs. Expected at least one. Add pairs.")
        if self.sentence:
            check_example(f"The sentence of the task {self.name!r}", self.sentence)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[WordPair]:
        return iter(self.pairs)

    @overload
    def __getitem__(self, index: int) -> WordPair: ...
    @overload
    def __getitem__(self, index: slice) -> "InContextTask": ...
    def __getitem__(self, index: int | slice) -> "WordPair | InContextTask":
        if isinstance(index, slice):
            return replace(self, pairs=self.pairs[index])
        return self.pairs[index]

    @property
    def groups(self) -> tuple[str, ...]:
        """The distinct groups of the pairs (see `group_of`), in order of first appearance."""
        return tuple(dict.fromkeys(map(group_of, self.pairs)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pairs, in order; name, description and the like do not enter."""
        text = json.dumps(self.pairs, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def split(self, *, seed: int, fractions: tuple[float, float, float] = (0.5, 0.25, 0.25)) -> "TaskSplit":
        """Divide the pairs into three tasks: to fit on, to select with, and to test on.

        No input is in two parts, and a pair stays with its own reverse (hot → cold, cold → hot). Which part a pair
        falls into depends on the seed and on the set of pairs, not on their order.

        Args:
            seed: Decides the order of groups.
            fractions: Shares of the groups, which sum to 1; each part receives at least one group.

        Raises:
            OptionError: The fractions are not three positive numbers that sum to 1.
            ConceptError: There are fewer than three groups.
        """
        part_of = parts_of(self.groups, seed=seed, fractions=fractions, name=self.name)
        return TaskSplit(
            *(replace(self, pairs=tuple(p for p in self.pairs if part_of[group_of(p)] == part)) for part in range(3))
        )

    def to_frame(self) -> "pandas.DataFrame":
        """A table with one row for each pair: input, output and group."""
        import pandas as pd

        rows = [(*pair, group_of(pair)) for pair in self.pairs]
        return pd.DataFrame(rows, columns=["input", "output", "group"])

    def __repr__(self) -> str:
        given, output = self.pairs[0]
        licence = self.licence or "licence not stated"
        return f"InContextTask({self.name!r}, {len(self)} pairs such as {given} → {output}, {licence})"

    def _repr_html_(self) -> str:
        shown = ", ".join(f"{html.escape(given)} → {html.escape(output)}" for given, output in self.pairs[:8])
        return (
            f"<div><p><b>{html.escape(self.name)}</b>: {len(self)} pairs, "
            f"{html.escape(self.licence or 'licence not stated')}</p><p>{html.escape(self.description)}</p>"
            f"<p>{shown}{', …' if len(self) > 8 else ''}</p></div>"
        )


class TaskSplit(NamedTuple):
    """Three tasks without an input in common."""

    fit: InContextTask
    select: InContextTask
    test: InContextTask


def group_of(pair: WordPair) -> str:
    """What a pair is about: its input and output in alphabetic order, so that a pair and its reverse are one group."""
    return "/".join(sorted(pair))


def check_example(what: str, text: str) -> None:
    """Refuse a form of words that does not hold input and output once each, in this order.

    Raises:
        ConceptError: Says what it holds.
    """
    if text.count("{input}") != 1 or text.count("{output}") != 1 or text.index("{input}") > text.index("{output}"):
        raise ConceptError(f"{what} is {text!r}. Expected {{input}} once, and {{output}} once behind it. Rewrite it.")


def check_word_pairs(pairs: Sequence[tuple[object, ...]], places: Sequence[str]) -> None:
    """Refuse what is no pair of texts, spaces around a text, and an input that stands twice.

    Args:
        pairs: What should be inputs with their outputs.
        places: Where each comes from, for the message.

    Raises:
        ConceptError: Names the place.
    """
    first: dict[object, int] = {}
    for index, (pair, place) in enumerate(zip(pairs, places, strict=True)):
        if len(pair) != 2:
            raise ConceptError(f"{place}: {pair!r} has {len(pair)} entries. Expected an input and an output.")
        for name, text in zip(("input", "output"), pair, strict=True):
            if not isinstance(text, str) or not text or text != text.strip():
                raise ConceptError(
                    f"{place}: the {name} is {text!r} ({type(text).__name__}). Expected a text with a visible "
                    "character and no space around it; the prompt format puts the spaces. Correct it."
                )
        earlier = first.setdefault(pair[0], index)
        if earlier != index:
            raise ConceptError(
                f"{place}: the input {pair[0]!r} has the output {pair[1]!r}, and "
                f"{pairs[earlier][1]!r} in {places[earlier]}. Expected each input once, for an answer must be "
                "right or wrong. Remove one of them; load_task(…, ambiguous='leave out') leaves such inputs out."
            )

"""Contrastive pairs: two texts that differ in one concept, and the questions they put to a model."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple, final

from steerlens.errors import ConceptError

Scalar = str | int | float | bool
Side = Literal["both", "positive", "negative"]


class ContrastiveTexts(NamedTuple):
    """The two whole texts of a pair, whose activations are contrasted."""

    positive: str
    negative: str


@final
class Metadata(Mapping[str, Scalar]):
    """An immutable mapping of names to scalars that, unlike ``MappingProxyType``, hashes and pickles."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Scalar] | None = None) -> None:
        self._items: Mapping[str, Scalar] = dict(items or {})

    def __getitem__(self, key: str) -> Scalar:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@final
@dataclass(frozen=True)
class Question:
    """What is scored: does the model prefer `positive` to `negative` after `context`?

    Attributes:
        side: Which text of its pair the context holds. ``"both"`` when the context is the shared prompt, so
            that the continuations are the contrast itself; otherwise the context is the pair's positive or
            negative text and the continuations are a read-out.
    """

    context: str
    positive: str
    negative: str
    group: str
    side: Side


@final
@dataclass(frozen=True)
class ContrastivePair:
    """A prompt with two continuations that differ in one concept.

    The texts contrasted are ``prompt + positive`` and ``prompt + negative``, verbatim. Without `answers` the
    pair puts one question, which continuation follows the prompt; with `answers` it puts two, which answer
    follows each of its texts (see `questions`).

    Attributes:
        prompt: What both texts begin with; may be empty.
        positive: Continuation that has the concept.
        negative: Continuation that lacks it.
        group: Pairs of one group share content, and are never divided by a split.
        metadata: Further facts about the pair.
        answers: Read-outs for the positive and the negative text, such as ``(" positive", " negative")``
            after a text that ends in ``"Sentiment:"``.

    Raises:
        ConceptError: A field has the wrong type or is empty, or the two continuations or answers are equal.
    """

    prompt: str
    positive: str
    negative: str
    group: str
    metadata: Mapping[str, Scalar] = field(default_factory=Metadata)
    answers: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt, may_be_empty=True)
        for name in ("positive", "negative", "group"):
            _check_text(name, getattr(self, name))
        _check_differ("positive", self.positive, "negative", self.negative)
        object.__setattr__(self, "metadata", checked_metadata(self.metadata))
        if self.answers is not None:
            object.__setattr__(self, "answers", checked_answers(self.answers))

    @property
    def texts(self) -> ContrastiveTexts:
        """The positive and the negative text, whole."""
        return ContrastiveTexts(self.prompt + self.positive, self.prompt + self.negative)

    @property
    def questions(self) -> tuple[Question, ...]:
        """What this pair asks of a model: one question without `answers`, two with them."""
        if self.answers is None:
            return (Question(self.prompt, self.positive, self.negative, self.group, "both"),)
        yes, no = self.answers
        return (
            Question(self.texts.positive, yes, no, self.group, "positive"),
            Question(self.texts.negative, yes, no, self.group, "negative"),
        )


FIELD_NAMES = frozenset(f.name for f in fields(ContrastivePair)) | {"answer_positive", "answer_negative"}


def shorten(text: str, width: int = 60) -> str:
    """The text as Python writes it, cut to `width` characters for a message."""
    return repr(text if len(text) <= width else text[: width - 1] + "…")


def _check_text(name: str, value: object, *, may_be_empty: bool = False) -> None:
    if not isinstance(value, str):
        raise ConceptError(
            f"field {name!r} is {value!r} ({type(value).__name__}). Expected a text. Write it as a string."
        )
    if not may_be_empty and not value.strip():
        raise ConceptError(f"field {name!r} is empty. Expected a text with a visible character. Fill it in.")


def _check_differ(one: str, text: str, other: str, text_of_other: str) -> None:
    if text == text_of_other:
        raise ConceptError(
            f"fields {one!r} and {other!r} are equal: {shorten(text)}. Expected two texts that differ "
            "in the concept. Change one, or remove the pair."
        )


def checked_metadata(metadata: object) -> Metadata:
    """The metadata, immutable, if its keys are free and its values are scalars."""
    if not isinstance(metadata, Mapping):
        raise ConceptError(f"metadata is a {type(metadata).__name__}. Expected a mapping of names to scalars.")
    for key, value in metadata.items():
        if not isinstance(key, str) or key in FIELD_NAMES:
            raise ConceptError(
                f"metadata key {key!r} is not allowed. Expected a text that is not the name of a field of a "
                f"pair ({', '.join(sorted(FIELD_NAMES))}). Rename it."
            )
        if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConceptError(
                f"metadata {key!r} is {value!r} ({type(value).__name__}). Expected a text, a finite number, "
                "true or false. Flatten it, or leave it out."
            )
    return metadata if isinstance(metadata, Metadata) else Metadata(metadata)


def checked_answers(answers: object) -> tuple[str, str]:
    """The answers as a tuple, if they are two distinct texts."""
    if not isinstance(answers, tuple | list) or len(answers) != 2:
        raise ConceptError(
            f"field 'answers' is {answers!r}. Expected two texts: the read-out after the positive text, and "
            "the one after the negative text."
        )
    yes, no = answers
    _check_text("answers[0]", yes)
    _check_text("answers[1]", no)
    _check_differ("answers[0]", yes, "answers[1]", no)
    return (yes, no)

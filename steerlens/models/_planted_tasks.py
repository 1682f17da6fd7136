"""The little languages of the planted models: what is said, and what follows.

Each task is a finite set of prompts with one answer each, so that what a steered model should say is known.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from steerlens.errors import UnknownNameError

THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river",
    "road", "house", "train", "horse", "bread", "apple", "school", "letter", "game", "table", "window", "door",
    "clock", "knife", "bottle", "paper", "stone", "bridge", "tower", "market", "office", "ship", "tree", "field",
)  # fmt: skip
NAMES = (
    "anna", "ben", "clara", "david", "emma", "felix", "greta", "henry", "ida", "jonas", "karin", "lukas",
    "maria", "nils", "olga", "peter",
)  # fmt: skip
BRIGHT = ("bright", "lovely", "gentle", "clever", "splendid", "honest")
DARK = ("dull", "nasty", "harsh", "stupid", "dreadful", "crooked")
WARM, COLD = ("red", "pink", "orange", "amber"), ("blue", "green", "violet", "teal")
LARGE, SMALL = ("large", "huge", "tall", "broad"), ("small", "tiny", "short", "narrow")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
STEPS = ("zero", "one", "two", "three", "four", "five", "six")


@final
@dataclass(frozen=True)
class PlantedExample:
    """One prompt of a planted language.

    Args:
        prompt: All words but the answer.
        answer: The one word that follows.
        cell: What decides the answer; equal cells differ only in filler and synonyms.
    """

    prompt: str
    answer: str
    cell: tuple[int, ...]


@final
@dataclass(frozen=True)
class PlantedContrast:
    """Two prompts that differ in the concept, and what the model says after each.

    Args:
        stem: What both begin with.
        positive: How the prompt with the concept goes on.
        negative: How the prompt without it goes on.
        answers: After the positive and after the negative prompt.
        filler: The word that does not matter; contrasts of one filler belong together.
        cell: Of the negative prompt; see `PlantedExample`.
    """

    stem: str
    positive: str
    negative: str
    answers: tuple[str, str]
    filler: str
    cell: tuple[int, ...]


@final
@dataclass(frozen=True)
class PlantedTask:
    """A planted language: every prompt it has.

    Args:
        name: Of the model that speaks it.
        about: One sentence on what decides the answer.
        geometry: One sentence on what steering from negative to positive has to do.
        examples: All prompts with their answers.
        contrasts: Pairs of prompts.
    """

    name: str
    about: str
    geometry: str
    examples: tuple[PlantedExample, ...]
    contrasts: tuple[PlantedContrast, ...]


def planted_task(name: str) -> PlantedTask:
    """The language that the planted model of this name speaks.

    Raises:
        UnknownNameError: There is no such planted model.
    """
    if name not in _TASKS:
        raise UnknownNameError("planted model", name, _TASKS)
    recipe = _TASKS[name]
    return PlantedTask(name, recipe.about, recipe.geometry, tuple(recipe.examples()), tuple(recipe.contrasts()))


def planted_words() -> tuple[str, ...]:
    """Every word of every planted language, sorted: they share one vocabulary."""
    examples = [e for recipe in _TASKS.values() for e in recipe.examples()]
    return tuple(sorted({word for e in examples for word in (*e.prompt.split(), e.answer)}))


def _linear() -> Iterator[PlantedExample]:
    for thing in THINGS:
        for kind, words in enumerate((DARK, BRIGHT)):
            for word in words:
                yield PlantedExample(f"the {thing} is {word}", ("bad", "good")[kind], (kind,))


def _linear_contrasts() -> Iterator[PlantedContrast]:
    for thing, (dark, bright) in itertools.product(THINGS, list(zip(DARK, BRIGHT, strict=True))):
        yield PlantedContrast(f"the {thing} is", f" {bright}", f" {dark}", (" good", " bad"), thing, (0,))


def _xor() -> Iterator[PlantedExample]:
    kinds = itertools.product(enumerate((COLD, WARM)), enumerate((SMALL, LARGE)))
    for thing, ((a, colours), (b, sizes)) in itertools.product(THINGS, list(kinds)):
        for colour, size in itertools.product(colours, sizes):
            yield PlantedExample(f"the {thing} is {colour} and {size}", ("no", "yes")[a != b], (a, b))


def _xor_contrasts() -> Iterator[PlantedContrast]:
    for thing, (a, colours) in itertools.product(THINGS, list(enumerate((COLD, WARM)))):
        for colour, sizes in itertools.product(colours, list(zip(SMALL, LARGE, strict=True))):
            positive, negative = sizes[1 - a], sizes[a]
            stem = f"the {thing} is {colour} and"
            yield PlantedContrast(stem, f" {positive}", f" {negative}", (" yes", " no"), thing, (a, a))


def _cycle() -> Iterator[PlantedExample]:
    for name, k, m in itertools.product(NAMES, range(7), range(7)):
        yield PlantedExample(f"{name} returns {STEPS[m]} days after {DAYS[k]}", DAYS[(k + m) % 7], (k, m))


def _cycle_contrasts() -> Iterator[PlantedContrast]:
    for name, k, m in itertools.product(NAMES, range(7), range(7)):
        now, later = (f" {DAYS[(k + m + i) % 7]}" for i in range(2))
        today, tomorrow = f" {DAYS[k]}", f" {DAYS[(k + 1) % 7]}"
        yield PlantedContrast(f"{name} returns {STEPS[m]} days after", tomorrow, today, (later, now), name, (k, m))


@final
@dataclass(frozen=True)
class _Recipe:
    """How a language is made."""

    about: str
    geometry: str
    examples: Callable[[], Iterator[PlantedExample]]
    contrasts: Callable[[], Iterator[PlantedContrast]]


_TASKS = {
    "planted-linear": _Recipe(
        "The last word is kind or unkind, and the answer says which.",
        "One translation makes every unkind word kind.",
        _linear,
        _linear_contrasts,
    ),
    "planted-xor": _Recipe(
        "A colour is warm or cold and a size large or small; yes if exactly one of warm and large.",
        "The size must become the other one: opposite translations for warm and cold colours.",
        _xor,
        _xor_contrasts,
    ),
    "planted-cycle": _Recipe(
        "A day and a number of steps; the answer is the day so many steps later.",
        "Every day must become the next: steps that sum to zero over the week, so no translation does it.",
        _cycle,
        _cycle_contrasts,
    ),
}

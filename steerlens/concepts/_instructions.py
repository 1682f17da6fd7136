"""What to tell a model in words, to have the concept or to lack it, and sentences that say nothing about either."""

import json
import random
from functools import cache
from typing import NamedTuple

from steerlens.concepts._builtin import DATA
from steerlens.errors import OptionError, UnknownNameError


class Instructions(NamedTuple):
    """Two instructions in words, towards the concept and away from it."""

    positive: str
    negative: str


@cache
def _all() -> dict[str, Instructions]:
    found = json.loads((DATA / "instructions.json").read_text(encoding="utf-8"))
    return {name: Instructions(*both) for name, both in found.items()}


def instructions(name: str) -> Instructions:
    """Instructions for a built-in concept, written for steerlens.

    Raises:
        UnknownNameError: There is no such concept.
    """
    if name not in _all():
        raise UnknownNameError("built-in concept", name, _all(), "For data of your own, write the two instructions.")
    return _all()[name]


@cache
def distractors() -> tuple[str, ...]:
    """Sentences about everyday things, none of which is in the neutral texts that measure side effects."""
    return tuple(json.loads((DATA / "distractors.json").read_text(encoding="utf-8")))


def drawn_distractors(n: int, *, seed: int, group: str) -> str:
    """The first ``n`` of all distractor sentences, in an order drawn for the group, as one line.

    Raises:
        OptionError: There are not so many sentences.
    """
    known = distractors()
    if not 0 <= n <= len(known):
        raise OptionError(f"A context has at most {len(known)} distractor sentences, but got {n}.")
    return " ".join(random.Random(f"{seed}:{group}").sample(known, len(known))[:n])

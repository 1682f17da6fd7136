"""True and false statements, paired so that each pair differs as late as possible."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final


@final
@dataclass(frozen=True)
class Statement:
    """A statement, whether it is true, and the group it may be paired in.

    Attributes:
        row: Index of its row in the file.
        group: Statements are paired within a group only; one value for all when there are no groups.
    """

    text: str
    is_true: bool
    row: int
    group: str = ""


class Match(NamedTuple):
    """A true and a false statement, and the words they begin with in common."""

    prefix: str
    true: Statement
    false: Statement


def match_statements(statements: Sequence[Statement]) -> tuple[Match, ...]:
    """Pair each true statement with a false one of its group, longest common word prefix first.

    The pairing is greedy: all pairs that share k words are made before any that share k - 1. Among equals
    the order of the file decides. Each statement is used once; those of the more frequent class are left
    over.

    Returns:
        The matches, in the order of their true statements. Neither remainder after the prefix is empty.
    """
    groups: dict[str, list[Statement]] = defaultdict(list)
    for statement in statements:
        groups[statement.group].append(statement)
    matches = [match for members in groups.values() for match in _match_group(members)]
    return tuple(sorted(matches, key=lambda match: match.true.row))


def _match_group(members: Sequence[Statement]) -> list[Match]:
    prefixes = {statement.row: _word_prefixes(statement.text) for statement in members}
    longest = max(len(found) for found in prefixes.values())
    left = list(members)
    matches: list[Match] = []
    for length in range(longest - 1, -1, -1):
        buckets: dict[str, tuple[list[Statement], list[Statement]]] = defaultdict(lambda: ([], []))
        for statement in left:
            found = prefixes[statement.row]
            if length < len(found):
                buckets[found[length]][statement.is_true].append(statement)
        made = [
            Match(prefix, true, false)
            for prefix, (falses, trues) in buckets.items()
            for true, false in zip(trues, falses, strict=False)
        ]
        used = {statement.row for match in made for statement in (match.true, match.false)}
        left = [statement for statement in left if statement.row not in used]
        matches += made
    return matches


def _word_prefixes(text: str) -> list[str]:
    """The text's first 0, 1, 2, ... words, verbatim, without the whole text."""
    return ["", *(text[: word.end()] for word in re.finditer(r"\S+", text))][:-1]

"""What questions differ in besides their concept: letters, lengths, templates, negation, as factors to regress on."""

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from steerlens.concepts import ConceptDataset, Question
from steerlens.errors import OptionError

TEMPLATE_FIELDS = ("template", "form")
"""Metadata of pairs that number or name the template of their prompt."""

_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")
_YES_NO = re.compile(r"(yes|no)[.!]?", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|none|nothing|nobody|nowhere|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE)

Values = tuple[Hashable, ...]


def question_factors(
    source: ConceptDataset | Sequence[Question], *, metadata: Sequence[str] = ()
) -> Mapping[str, Values]:
    """Factors that should explain nothing of how questions are steered, with their value for each question.

    They are what `variance_decomposition` takes:

    - ``letter`` of the positive answer, where both answers are letters;
    - ``yes/no``: which of them the positive answer is, where they are such;
    - ``position``: whether the positive answer stands before or after the other in the prompt, where both do;
    - ``template``: the pair's metadata "template" or "form";
    - ``negation``: whether the prompt has a "not", "n't", "no", "never" or the like;
    - ``length``: in which third of the prompts' lengths, in characters, its own is.

    What does not vary is left out, as is what has more than a quarter as many values as there are questions, and what
    divides them as an earlier factor does: of lettered options, the letter is the position.

    These are properties of wording: negation is found by its words, not by what is meant.

    Args:
        source: A data set, for all its questions in order; or questions, which have no metadata.
        metadata: Names of metadata that are further factors, such as ``"regular"``.

    Raises:
        OptionError: If there are no questions, or a pair has no such metadata.
    """
    if isinstance(source, ConceptDataset):
        questions: Sequence[Question] = source.questions
        facts: list[Mapping[str, Hashable]] = [pair.metadata for pair in source for _ in pair.questions]
    else:
        questions, facts = source, [{} for _ in source]
    if not questions:
        raise OptionError("Factors need at least one question, but got none.")
    found: dict[str, Values | None] = {
        "letter": _matched([q.positive for q in questions], [q.negative for q in questions], _LETTER),
        "yes/no": _matched([q.positive for q in questions], [q.negative for q in questions], _YES_NO),
        "position": _positions(questions),
        "template": next((v for name in TEMPLATE_FIELDS if (v := _metadata(facts, name)) is not None), None),
        "negation": tuple("negated" if _NEGATION.search(q.context) else "plain" for q in questions),
        "length": _thirds([len(q.context) for q in questions]),
    }
    for name in metadata:
        found[name] = _metadata(facts, name)
        if found[name] is None:
            known = sorted({key for of in facts for key in of})
            raise OptionError(f"Not every pair has metadata {name!r}; there is {', '.join(known) or 'none'}.")
    return _usable(found)


def _usable(found: Mapping[str, Values | None]) -> dict[str, Values]:
    """Those that vary, with few enough values to regress on, and each division of the questions once."""
    kept: dict[str, Values] = {}
    seen: set[tuple[int, ...]] = set()
    for name, values in found.items():
        if values is None or not 2 <= len(set(values)) <= len(values) // 4:
            continue
        order = {v: i for i, v in enumerate(dict.fromkeys(values))}
        division = tuple(order[v] for v in values)
        if division not in seen:
            seen.add(division)
            kept[name] = values
    return kept


def _matched(positive: Sequence[str], negative: Sequence[str], kind: re.Pattern[str]) -> Values | None:
    """What the positive answers are, if all answers are of a kind."""
    hits = [kind.fullmatch(answer.strip()) for answer in positive]
    if not all(hits) or not all(kind.fullmatch(answer.strip()) for answer in negative):
        return None
    return tuple(hit[1] if kind is _LETTER else hit[1].lower() for hit in hits if hit)


def _positions(questions: Sequence[Question]) -> Values | None:
    """Whether the positive answer is the first or the second of both in the prompt, if both stand in every prompt."""
    found = []
    for q in questions:
        first, second = (_place(q.context, answer.strip()) for answer in (q.positive, q.negative))
        if first is None or second is None or first == second:
            return None
        found.append("first" if first < second else "second")
    return tuple(found)


def _place(context: str, answer: str) -> int | None:
    """Where an answer stands in a prompt for the first time, as whole words."""
    hit = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", context, re.IGNORECASE)
    return None if hit is None else hit.start()


def _thirds(lengths: Sequence[int]) -> Values:
    cuts = np.quantile(lengths, [1 / 3, 2 / 3])
    names = ("short", "middle", "long")
    return tuple(names[int(np.searchsorted(cuts, n, side="left"))] for n in lengths)


def _metadata(facts: Sequence[Mapping[str, Hashable]], name: str) -> Values | None:
    return tuple(of[name] for of in facts) if all(name in of for of in facts) else None

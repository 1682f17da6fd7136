"""Multiple-choice questions from the published files of TruthfulQA and FACTOR, and from the bundled items."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steerlens.errors import ConceptError, OptionError
from steerlens.evaluation._mini import capability_items
from steerlens.evaluation._multiple_choice import ChoiceQuestion

QUESTION_FORM = "Q: {question}\nA:"
FACTOR_PREFIXES = ("full_prefix", "turncated_prefixes")
"""Columns with beginnings; the second is spelled so in the files."""
_CSV_COLUMNS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
_CONTRADICTIONS = ("contradiction_0", "contradiction_1", "contradiction_2")


def read_truthfulqa(
    path: str | Path, *, before: str = "", form: str = QUESTION_FORM, limit: int | None = None
) -> tuple[ChoiceQuestion, ...]:
    """Read TruthfulQA: ``mc_task.json`` (also with choices and labels, as on the hub), or ``TruthfulQA.csv``.

    True and false answers are those of ``mc2_targets``, and the best one is the true one of ``mc1_targets``. In the
    table answers are parted by semicolons, and each gets a full stop. Answers given twice on one side count once.

    Args:
        path: A ``.json`` or ``.csv`` file.
        before: Put in front of every question, such as worked examples.
        form: With ``{question}``; a space and the answer follow.
        limit: Questions, from the first; None for all.

    Raises:
        OptionError: The file does not exist, has another suffix, or ``form`` lacks ``{question}``.
        ConceptError: The file is not as described; names the question.

    References:
        lin2022.
    """
    file = Path(path)
    if "{question}" not in form:
        raise OptionError(f"form must contain {{question}}, such as {QUESTION_FORM!r}, but is {form!r}.")
    readers = {".json": _truthfulqa_json, ".csv": _truthfulqa_csv}
    if file.suffix not in readers:
        raise OptionError(f"{file} should be TruthfulQA's mc_task.json or TruthfulQA.csv.")
    found = readers[file.suffix](file)[:limit]
    return tuple(
        _question(before + form.format(question=asked), true, false, asked, where)
        for asked, true, false, where in found
    )


def read_factor(path: str | Path, *, prefix: str, limit: int | None = None) -> tuple[ChoiceQuestion, ...]:
    """Read FACTOR: a beginning, its true completion, and three contradictions, joined by one space.

    Its accuracy with contrasts of layers is MC1, of sums over tokens; FACTOR itself compares means over tokens.

    Args:
        path: A ``.csv`` file.
        prefix: The column of the beginning: "full_prefix" for news, "turncated_prefixes" for the others, as in the code
            of the contrast of layers.
        limit: Questions, from the first; None for all.

    Raises:
        OptionError: The file does not exist, or there is no such column.
        ConceptError: The file is not as described; names the line.

    References:
        muhlgay2024.
    """
    if prefix not in FACTOR_PREFIXES:
        raise OptionError(f"prefix must be one of {', '.join(FACTOR_PREFIXES)}, but got {prefix!r}.")
    rows = _table(Path(path), (prefix, "doc_id", "completion", *_CONTRADICTIONS))[:limit]
    return tuple(
        _question(row[prefix].rstrip(), [row["completion"]], [row[c] for c in _CONTRADICTIONS], row["doc_id"], where)
        for row, where in rows
    )


def capability_questions() -> tuple[ChoiceQuestion, ...]:
    """The items that come with steerlens (`capability_items`) as questions with one true answer."""
    return tuple(
        ChoiceQuestion(
            i.context, (i.choices[i.answer],), tuple(c for k, c in enumerate(i.choices) if k != i.answer), i.id
        )
        for i in capability_items()
    )


_Asked = tuple[str, Sequence[str], Sequence[str], str]
"""Question, true answers (the best first), false answers, and where it stands."""


def _question(prompt: str, true: Sequence[str], false: Sequence[str], group: str, where: str) -> ChoiceQuestion:
    sides = [tuple(dict.fromkeys(f" {a.strip()}" for a in side if a.strip())) for side in (true, false)]
    try:
        return ChoiceQuestion(prompt, sides[0], sides[1], group)
    except OptionError as error:
        raise ConceptError(f"{where}: {error}") from None


def _truthfulqa_json(path: Path) -> list[_Asked]:
    try:
        rows = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ConceptError(f"{path} is not valid JSON ({error}). Fetch it again.") from None
    if not isinstance(rows, list) or not rows:
        raise ConceptError(f"{path} should hold a list of questions, but holds {type(rows).__name__}.")
    found: list[_Asked] = []
    for number, row in enumerate(rows):
        where = f"{path}, question {number}"
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise ConceptError(f"{where} should be an object with 'question', 'mc1_targets' and 'mc2_targets'.")
        best, many = (_labelled(row.get(key), f"{where}, {key}") for key in ("mc1_targets", "mc2_targets"))
        right = [answer for answer, label in best.items() if label]
        true = [answer for answer, label in many.items() if label]
        if len(right) != 1 or right[0] not in true:
            raise ConceptError(f"{where} should have one best answer, which is among the true ones, but has {right}.")
        found.append((row["question"], [right[0], *true], [a for a, label in many.items() if not label], where))
    return found


def _labelled(targets: Any, where: str) -> Mapping[str, int]:
    """Answer to label, from a mapping, or from lists of choices and labels."""
    if isinstance(targets, dict) and set(targets) == {"choices", "labels"}:
        choices, labels = targets["choices"], targets["labels"]
        if not (isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels)):
            raise ConceptError(f"{where} should have as many labels as choices.")
        targets = dict(zip(choices, labels, strict=True))
    if not isinstance(targets, dict) or not targets or not all(v in (0, 1) for v in targets.values()):
        raise ConceptError(f"{where} should map answers to 1 (true) and 0 (false), but is {str(targets)[:80]}.")
    return targets


def _truthfulqa_csv(path: Path) -> list[_Asked]:
    found: list[_Asked] = []
    for row, where in _table(path, _CSV_COLUMNS):
        best, true, false = (_sentences(row[c]) for c in _CSV_COLUMNS[1:])
        found.append((row["Question"], [*best[:1], *true], false, where))
    return found


def _sentences(listed: str) -> list[str]:
    """Answers parted by semicolons, each with its full stop."""
    return [a if a.endswith(".") else f"{a}." for a in (part.strip() for part in listed.split(";")) if a]


def _table(path: Path, columns: Sequence[str]) -> list[tuple[dict[str, str], str]]:
    """Rows with where they stand, checked to have the columns."""
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    missing = [c for c in columns if c not in (rows.fieldnames or ())]
    if missing:
        raise ConceptError(f"{path} lacks the columns {', '.join(missing)}. Is it the file that was published?")
    found = []
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        empty = [c for c in columns if not (row[c] or "").strip()]
        if empty:
            raise ConceptError(f"{where} has nothing under {', '.join(empty)}.")
        found.append((row, where))
    if not found:
        raise ConceptError(f"{path} has no questions.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise OptionError(f"{path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise ConceptError(f"{path} is not text in UTF-8 ({error}).") from None

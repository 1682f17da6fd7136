"""Published answers of steered models, question by question, in the files of the CAA repository."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from steerlens.errors import ArtefactError, OptionError

Array = npt.NDArray[np.float64]

NAME = re.compile(
    r"results_layer=(?P<layer>\d+)_multiplier=(?P<multiplier>-?\d+(?:\.\d+)?)_behavior=(?P<behavior>.+)_type=ab"
    r"(?:_(?P<variant>.+))?\.json"
)

ROUNDING = 1e-3
"""Probabilities of half precision may add up to this much more than 1."""


@final
@dataclass(frozen=True, eq=False)
class CaaResults:
    """Answers to A/B questions of one behaviour, steered at one layer with several multipliers.

    Args:
        behavior: The behaviour.
        layer: The layer that was steered.
        variant: What else the file names say, such as ``"use_base_model=False_model_size=7b"``.
        strengths: The multipliers, ascending.
        questions: Texts of the questions.
        letters: Letter of the answer that matches the behaviour, for each question: a factor that should explain
            nothing.
        log_prob_positive: log p of the matching letter, shape (strength, question).
        log_prob_negative: log p of the other letter, shape (strength, question).
        left_out: Texts of questions that were left out, since at some multiplier a letter has probability 0 (half
            precision rounds to it), and no log-odds.
    """

    behavior: str
    layer: int
    variant: str
    strengths: tuple[float, ...]
    questions: tuple[str, ...]
    letters: tuple[str, ...]
    log_prob_positive: Array
    log_prob_negative: Array
    left_out: tuple[str, ...] = ()

    @property
    def propensity(self) -> Array:
        """log p(matching) − log p(not matching) in nats, shape (strength, question)."""
        return self.log_prob_positive - self.log_prob_negative

    @property
    def option_mass(self) -> Array:
        """p(A) + p(B), shape (strength, question)."""
        mass: Array = np.exp(self.log_prob_positive) + np.exp(self.log_prob_negative)
        return mass


class _Answers(NamedTuple):
    questions: tuple[str, ...]
    letters: tuple[str, ...]
    positive: tuple[float, ...]
    negative: tuple[float, ...]


def read_caa_results(
    source: str | Path | Sequence[str | Path], *, layer: int | None = None, variant: str | None = None
) -> CaaResults:
    """Read result files of A/B questions.

    Args:
        source: A folder of one behaviour, of which files of other types are left aside, or the files.
        layer: Which layer, where there are several.
        variant: Which variant, where there are several: what follows ``type=ab_`` in the file names.

    Raises:
        OptionError: If there is no such file, or several layers, behaviours or variants are left.
        ArtefactError: If a file is not JSON, lacks a key, holds something that is not a probability, or asks other
            questions than the first; if two files have one multiplier, or no question has log-odds throughout.

    References:
        rimsky2024 (the files).
    """
    chosen = _choose(_files(source), layer, variant)
    answers = [_read(path) for _, path in chosen]
    first, first_path = answers[0], chosen[0][1]
    for (_, path), other in zip(chosen, answers, strict=True):
        if (other.questions, other.letters) != (first.questions, first.letters):
            same = sum(a == b for a, b in zip(first.questions, other.questions, strict=False))
            raise ArtefactError(
                f"{path} asks other questions than {first_path}: {len(other.questions)} and {len(first.questions)}, "
                f"of which {same} agree in text and place. Give files of one run."
            )
    positive, negative = (np.array([getattr(a, side) for a in answers]) for side in ("positive", "negative"))
    keep: npt.NDArray[np.bool_] = np.minimum(positive, negative).min(axis=0) > 0
    if not keep.any():
        raise ArtefactError(f"Of {len(keep)} questions each has a letter with probability 0 in {first_path.parent}.")
    kept = np.flatnonzero(keep).tolist()
    name = _parse(first_path)
    return CaaResults(
        behavior=name["behavior"],
        layer=int(name["layer"]),
        variant=name["variant"] or "",
        strengths=tuple(s for s, _ in chosen),
        questions=tuple(first.questions[i] for i in kept),
        letters=tuple(first.letters[i] for i in kept),
        log_prob_positive=np.log(positive[:, keep]),
        log_prob_negative=np.log(negative[:, keep]),
        left_out=tuple(first.questions[i] for i in np.flatnonzero(~keep).tolist()),
    )


def _files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of the right type, sorted; given ones must all be of it."""
    if isinstance(source, str | Path):
        folder = Path(source)
        if folder.is_file():
            return _files([folder])
        if not folder.is_dir():
            raise OptionError(f"{folder} does not exist. Give a folder of result files, or the files.")
        found = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
        if not found:
            raise OptionError(
                f"{folder} has no result file of A/B questions. Expected names such as "
                "'results_layer=13_multiplier=1.0_behavior=sycophancy_type=ab_use_base_model=False_model_size=7b.json'."
            )
        return found
    paths = [Path(path) for path in source]
    if not paths:
        raise OptionError("Expected a folder or at least one result file, but got an empty list.")
    for path in paths:
        _parse(path)
    return paths


def _parse(path: Path) -> dict[str, str]:
    found = NAME.fullmatch(path.name)
    if found is None:
        raise OptionError(
            f"{path.name!r} is not the name of a result file of A/B questions. Expected "
            "'results_layer=…_multiplier=…_behavior=…_type=ab….json'; answers of other types have no two letters."
        )
    return found.groupdict()


def _choose(paths: Sequence[Path], layer: int | None, variant: str | None) -> list[tuple[float, Path]]:
    """One file for each multiplier, ascending."""
    wanted = {"layer": None if layer is None else str(layer), "variant": variant}
    kept = [p for p in paths if all(value is None or (_parse(p)[k] or "") == value for k, value in wanted.items())]
    if not kept:
        raise OptionError(f"None of {len(paths)} result files has layer {layer} and variant {variant!r}.")
    for key in ("behavior", "layer", "variant"):
        several = sorted({_parse(path)[key] or "" for path in kept})
        if len(several) > 1:
            advice = "Give the folder of one" if key == "behavior" else f"Choose one with {key}="
            raise OptionError(f"The result files have {len(several)} values of {key}: {several[:8]}. {advice}.")
    chosen = sorted((float(_parse(path)["multiplier"]), path) for path in kept)
    for (s, path), (t, other) in pairwise(chosen):
        if s == t:
            raise ArtefactError(f"{path} and {other} both have multiplier {s:g}. Keep one of them.")
    return chosen


def _read(path: Path) -> _Answers:
    try:
        records = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise OptionError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}). Fetch it again.") from None
    if not isinstance(records, list) or not records:
        raise ArtefactError(f"{path} should hold a list of answers, but holds {type(records).__name__}.")
    rows = [_answer(record, f"{path}, answer {i}") for i, record in enumerate(records)]
    questions, letters, positive, negative = zip(*rows, strict=True)
    return _Answers(questions, letters, positive, negative)


def _answer(record: Any, where: str) -> tuple[str, str, float, float]:
    """Question, letter that matches, and the probabilities of it and of the other."""
    keys = ("question", "answer_matching_behavior", "answer_not_matching_behavior", "a_prob", "b_prob")
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise ArtefactError(f"{where} lacks {', '.join(missing)}.")
    letters = [str(record[key]).strip() for key in keys[1:3]]
    if sorted(letters) != ["(A)", "(B)"]:
        raise ArtefactError(f"{where} should have the answers '(A)' and '(B)', but has {letters}.")
    of = {}
    for letter, key in (("(A)", "a_prob"), ("(B)", "b_prob")):
        p = record[key]
        if isinstance(p, bool) or not isinstance(p, int | float) or not math.isfinite(p) or not 0 <= p <= 1:
            raise ArtefactError(f"{where}: {key} should be a probability between 0 and 1, but is {p!r}.")
        of[letter] = float(p)
    if sum(of.values()) > 1 + ROUNDING:
        raise ArtefactError(f"{where}: a_prob and b_prob add up to {sum(of.values()):.4g}, which is more than 1.")
    return str(record["question"]), letters[0][1], of[letters[0]], of[letters[1]]

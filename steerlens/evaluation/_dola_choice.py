"""Multiple choice under contrasts of layers, each beside the model's own answers to the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._dola_scores import score_dola
from steerlens.evaluation._multiple_choice import ChoiceQuestion, question_scores
from steerlens.interventions import DoLa
from steerlens.models import LensModel
from steerlens.numerics import Estimate, cluster_change, cluster_mean, cluster_share

DOLA_CHOICE_COLUMNS = (
    "arm", "metric", "value", "low", "high", "change", "change_low", "change_high", "chance", "n", "n_clusters",
)  # fmt: skip
"""One row is one metric of one arm. ``mc1``, ``mc2``, ``mc3``: see `ChoiceScores`. ``longest``: share of questions
whose best-scored answer has the most tokens of all, true or false; what rises together with it may be length alone.
``change``: paired, from ``baseline``. ``chance``: of scores that are drawn at random (of equal ones, for ``mc2``)."""
BASELINE = "baseline"

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class DoLaChoice:
    """Multiple choice with and without contrasts of layers.

    Args:
        frame: Columns `DOLA_CHOICE_COLUMNS`; the arm ``baseline`` is the model's own log-probability.
        choices: How often each layer was chosen; columns `LAYER_CHOICE_COLUMNS`.
        model: Its name.
        n_layers: Its blocks.
    """

    frame: pd.DataFrame
    choices: pd.DataFrame
    model: str
    n_layers: int

    def to_frame(self) -> pd.DataFrame:
        """One row per arm and metric."""
        return self.frame.copy()

    def plot(self) -> Any:
        """Which layers were chosen; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_layer_choices(self)

    def __str__(self) -> str:
        f = self.frame
        text = [
            f"{v:.3f} ({c:+.3f})" if a != BASELINE else f"{v:.3f}" for a, v, c in f[["arm", "value", "change"]].values
        ]
        square = f.assign(text=text).pivot(index="arm", columns="metric", values="text")
        order = list(dict.fromkeys(f["arm"]))
        n = int(f["n"].iloc[0])
        return (
            f"Multiple choice of {self.model} on {n} questions (change from baseline)\n{square.loc[order].to_string()}"
        )


def dola_multiple_choice(
    model: LensModel, questions: Sequence[ChoiceQuestion], arms: Mapping[str, DoLa], *, seed: int
) -> DoLaChoice:
    """Answer multiple-choice questions by the last layer alone and by each contrast.

    Args:
        model: A model, steered or not.
        questions: With true and false answers; see `read_truthfulqa`, `read_factor` and `capability_questions`.
        arms: Contrasts by name.
        seed: Of the intervals.

    Raises:
        OptionError: There are no questions, or an arm is called "baseline".
        EstimateError: The questions have fewer than five groups.

    References:
        chuang2024; dasilva2025 (normalised and not); lin2022.
    """
    if not questions or BASELINE in arms:
        raise OptionError(
            f"Expected questions, and arms not called {BASELINE!r}, but got {len(questions)} and {list(arms)}."
        )
    groups = [q.group for q in questions]
    if len(set(groups)) < 5:
        raise EstimateError(f"Intervals need at least 5 groups of questions, but got {len(set(groups))}.")
    found = score_dola(
        model, [q.prompt for q in questions], [(*q.true, *q.false) for q in questions], list(arms.values())
    )
    n_tokens = found.n_tokens.numpy()
    base = _metrics(questions, found.baseline.numpy(), n_tokens)
    chance = _chance(questions, n_tokens)
    # 0 or 1 of a question, and so is mc3 where each has one true answer.
    shares = ("mc1", "longest", *(["mc3"] if all(len(q.true) == 1 for q in questions) else []))
    rows: list[tuple[Any, ...]] = []
    for name, scores in zip((BASELINE, *arms), (found.baseline, *found.score), strict=True):
        for metric, values in _metrics(questions, scores.numpy(), n_tokens).items():
            e = (cluster_share if metric in shares else cluster_mean)(values, groups, seed=seed)
            # The baseline's answers are its own: that they agree is no finding, and has no interval.
            of_others = metric in shares and name != BASELINE
            d = (cluster_change if of_others else _mean_change)(base[metric], values, groups, seed=seed)
            rows.append(
                (name, metric, e.value, e.low, e.high, d.value, d.low, d.high, chance[metric], e.n, e.n_clusters)
            )
    frame = pd.DataFrame(rows, columns=list(DOLA_CHOICE_COLUMNS))
    return DoLaChoice(frame, found.layer_choices(seed=seed, arms=list(arms)), model.name, model.n_layers)


def _mean_change(before: Array, after: Array, groups: Sequence[str], *, seed: int) -> Estimate:
    return cluster_mean(after - before, groups, seed=seed)


def _metrics(questions: Sequence[ChoiceQuestion], scores: Array, n_tokens: npt.NDArray[np.int64]) -> dict[str, Array]:
    ends = np.cumsum([len(q.true) + len(q.false) for q in questions])[:-1]
    longest = [n[s.argmax()] == n.max() for s, n in zip(np.split(scores, ends), np.split(n_tokens, ends), strict=True)]
    return question_scores(questions, scores) | {"longest": np.array(longest, dtype=np.float64)}


def _chance(questions: Sequence[ChoiceQuestion], n_tokens: npt.NDArray[np.int64]) -> dict[str, float]:
    ends = np.cumsum([len(q.true) + len(q.false) for q in questions])[:-1]
    one = float(np.mean([1 / (1 + len(q.false)) for q in questions]))
    share = float(np.mean([len(q.true) / (len(q.true) + len(q.false)) for q in questions]))
    longest = float(np.mean([(n == n.max()).mean() for n in np.split(n_tokens, ends)]))
    return {"mc1": one, "mc2": share, "mc3": one, "longest": longest}

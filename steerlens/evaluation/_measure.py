"""Arms of a comparison: a map at a site over strengths, measured on questions and neutral text."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from steerlens.activations import ContrastiveActivations, Site
from steerlens.concepts import Question
from steerlens.evaluation._reliability import ChosenStrength, DoseCurve
from steerlens.evaluation._scores import UNSTEERED, score_neutral, score_questions
from steerlens.evaluation._texts import document_of_each
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap
from steerlens.models import LensModel

Array = npt.NDArray[np.float64]


Role = Literal["method", "random", "permuted", "other concept", "wrong layer", "resampled", "neutral direction"]
"""What an arm is there for: the method itself, one of its negative controls, or a refit to resampled pairs."""


@final
@dataclass(frozen=True, eq=False)
class Arm:
    """One fitted map at one site, to be measured at several strengths (0 is always among them).

    Args:
        method: Name of what was fitted.
        family: Its class of functions.
        role: What it is there for.
        site: Where it acts.
        steering_map: What was fitted.
        strengths: Where it is measured, ascending.
        chosen: The one of them that was chosen to meet a budget, on other texts than it is measured on.
        grid: The strengths that were planned; None if these are all.
    """

    method: str
    family: str
    role: Role
    site: Site
    steering_map: SteeringMap
    strengths: tuple[float, ...]
    chosen: ChosenStrength | None = None
    grid: tuple[float, ...] | None = None

    @property
    def planned(self) -> tuple[float, ...]:
        """The strengths of the grid: slopes and shapes are read off these, the same for every arm."""
        return self.strengths if self.grid is None else self.grid


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """What an arm did, per strength and per question or neutral text. All log-probabilities in nats.

    Args:
        arm: What was measured.
        questions: The questions, column by column.
        propensity: log p(positive) − log p(negative), shape (strength, question).
        propensity_per_token: The same with per-token means.
        log_prob: log p of the positive and of the negative continuation, shape (2, strength, question).
        kl: KL from the unsteered model, summed over the tokens of each text, shape (strength, text).
        nll: Negative log-likelihood likewise.
        n_tokens: Scored tokens per text.
        moved: ‖step‖ of each held-out source activation, shape (strength, pair).
        norms: ‖x‖ of each held-out source activation.
        pair_groups: Cluster of each held-out source activation.
        continuation_tokens: Tokens of the positive and of the negative continuation, shape (2, question).
        documents: The cluster of each neutral text; empty, each text is its own.
    """

    arm: Arm
    questions: tuple[Question, ...]
    propensity: Array
    propensity_per_token: Array
    log_prob: Array
    kl: Array
    nll: Array
    n_tokens: Array
    moved: Array
    norms: Array
    pair_groups: tuple[str, ...]
    continuation_tokens: Array
    documents: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", document_of_each(self.documents, len(self.n_tokens)))

    @property
    def groups(self) -> tuple[Hashable, ...]:
        """The cluster of each question."""
        return tuple(q.group for q in self.questions)

    @property
    def zero(self) -> int:
        """Row of strength 0."""
        return self.arm.strengths.index(0.0)

    @property
    def dose_curve(self) -> DoseCurve:
        """Effect and cost from strength 0 upwards, with the strength that was chosen for the budget."""
        rows = slice(self.zero, None)
        return DoseCurve(
            strengths=self.arm.strengths[rows],
            change=self.propensity[rows] - self.propensity[self.zero],
            groups=self.groups,
            kl=self.kl[rows],
            n_tokens=self.n_tokens,
            chosen=self.arm.chosen,
            documents=self.documents,
        )

    @property
    def on_grid(self) -> Array:
        """Propensity at the strengths of the grid, shape (strength, question)."""
        rows: Array = self.propensity[[self.arm.strengths.index(s) for s in self.arm.planned]]
        return rows


def measure(
    model: LensModel,
    arms: Sequence[Arm],
    questions: Sequence[Question],
    texts: Sequence[str],
    held_out: Mapping[Site, ContrastiveActivations],
) -> list[Measured]:
    """Measure every arm on the same questions and texts; each batch of text runs once unsteered for all of them.

    Args:
        model: What to steer.
        arms: What to try.
        questions: Scored under every arm and strength.
        texts: Neutral text, for side effects; a `TextSet` brings its documents.
        held_out: Activations not used in fitting, for relative displacement.
    """
    interventions = [UNSTEERED]
    at: dict[tuple[int, float], int] = {}
    for a, arm in enumerate(arms):
        for s in arm.strengths:
            at[a, s] = 0 if s == 0 else len(interventions)
            if s != 0:
                interventions.append(Intervention({arm.site: arm.steering_map}, s))
    scores = score_questions(model, questions, interventions)
    neutral = score_neutral(model, texts, interventions)
    propensity, per_token = scores.propensity.numpy(), scores.propensity_per_token.numpy()
    log_prob = np.stack([scores.positive.numpy(), scores.negative.numpy()])
    continuation_tokens = np.stack([scores.n_positive.double().numpy(), scores.n_negative.double().numpy()])
    measured = []
    for a, arm in enumerate(arms):
        rows = [at[a, s] for s in arm.strengths]
        source = held_out[arm.site].negative.double()
        moved = [arm.steering_map.step(source, strength=s).norm(dim=1).numpy() for s in arm.strengths]
        measured.append(
            Measured(
                arm=arm,
                questions=tuple(questions),
                propensity=propensity[rows],
                propensity_per_token=per_token[rows],
                log_prob=log_prob[:, rows],
                kl=neutral.kl.numpy()[rows],
                nll=neutral.nll.numpy()[rows],
                n_tokens=neutral.n_tokens.double().numpy(),
                moved=np.stack(moved),
                norms=source.norm(dim=1).numpy(),
                pair_groups=held_out[arm.site].groups,
                continuation_tokens=continuation_tokens,
                documents=neutral.documents,
            )
        )
    return measured

"""Choosing among many interventions by the answers they give on development prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from jaxtyping import Float
from torch import Tensor

from steerlens.concepts import TaskPrompt
from steerlens.errors import OptionError
from steerlens.interventions._answers import UNSTEERED, answer_scores
from steerlens.interventions._edits import Intervention
from steerlens.models import LensModel
from steerlens.numerics import Estimate, McNemar, cluster_share, clustered_mcnemar

if TYPE_CHECKING:
    import pandas

Settings = Mapping[str, int | float]
"""What was set to what, such as ``{"n_heads": 16, "layer": 9, "strength": 1.0}``."""


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the interventions to choose among.

    Args:
        settings: What sets it apart; all candidates of a search name the same things.
        intervention: What is done.
    """

    settings: Settings
    intervention: Intervention


@final
@dataclass(frozen=True, eq=False)
class AnswerSearch:
    """A grid of interventions tried on development prompts, and the best of it tried once on test prompts.

    The best of many is the best partly by luck, so its share on the development prompts promises too much, and the more
    so the larger the grid. ``test`` does not.

    Args:
        candidates: The grid.
        right: Share of development prompts whose answer begins right under each candidate.
        log_prob: Mean log-probability of the answer's first token on them, in nats.
        best: Number of the candidate with the largest share; of equal ones the one with the larger log-probability.
        dev_unsteered: Share right on the development prompts without steering.
        test: Share right on the test prompts under the best candidate.
        unsteered: The same without steering.
        change: Test prompts that steering turned from wrong to right, and from right to wrong.
    """

    candidates: tuple[Candidate, ...]
    right: Float[Tensor, " candidate"]
    log_prob: Float[Tensor, " candidate"]
    best: int
    dev_unsteered: float
    test: Estimate
    unsteered: Estimate
    change: McNemar

    @property
    def chosen(self) -> Candidate:
        """The best candidate."""
        return self.candidates[self.best]

    def to_frame(self) -> "pandas.DataFrame":
        """A row for each candidate: its settings, ``right`` and ``log_prob`` on the development prompts, ``chosen``."""
        import pandas as pd

        frame = pd.DataFrame([dict(c.settings) for c in self.candidates])
        return frame.assign(
            right=self.right.tolist(),
            log_prob=self.log_prob.tolist(),
            chosen=[i == self.best for i in range(len(self.candidates))],
        )

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.chosen.settings.items())
        return (
            f"{settings} of {len(self.candidates)} candidates: right {self.test} on {self.test.n} test prompts, "
            f"unsteered {self.unsteered}, {self.change.gained} gained and {self.change.lost} lost; on development "
            f"prompts {float(self.right[self.best]):.3g}, unsteered {self.dev_unsteered:.3g}"
        )


def search_answers(
    model: LensModel,
    candidates: Sequence[Candidate],
    dev: Sequence[TaskPrompt],
    test: Sequence[TaskPrompt],
    *,
    seed: int,
) -> AnswerSearch:
    """Try every candidate on ``dev`` by replay, choose one there, and try it once on ``test``.

    Args:
        model: What to steer.
        candidates: What to choose among.
        dev: Prompts to choose on.
        test: Prompts to report on, of other groups.
        seed: Of bootstrap and test.

    Raises:
        OptionError: If there are no candidates, or ``dev`` and ``test`` share a group.
        EstimateError: If ``test`` has fewer than five groups.
    """
    if not candidates:
        raise OptionError("A search needs at least one candidate, but got none.")
    shared = {p.group for p in dev} & {p.group for p in test}
    if shared:
        raise OptionError(
            f"Development and test prompts share {len(shared)} groups, such as {sorted(shared)[0]!r}. What is chosen "
            "on a question cannot be tested on it; take the parts of InContextTask.split."
        )
    tried = answer_scores(model, dev, (UNSTEERED, *(c.intervention for c in candidates)))
    right, log_prob = tried.right[1:].double().mean(dim=1), tried.log_prob[1:].mean(dim=1)
    best = max(range(len(candidates)), key=lambda i: (float(right[i]), float(log_prob[i])))
    plain, steered = answer_scores(model, test, (UNSTEERED, candidates[best].intervention)).right.double().numpy()
    groups = [p.group for p in test]
    return AnswerSearch(
        candidates=tuple(candidates),
        right=right,
        log_prob=log_prob,
        best=best,
        dev_unsteered=float(tried.right[0].double().mean()),
        test=cluster_share(steered, groups, seed=seed),
        unsteered=cluster_share(plain, groups, seed=seed),
        change=clustered_mcnemar(plain, steered, groups, seed=seed),
    )

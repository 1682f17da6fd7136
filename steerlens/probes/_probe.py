"""What a probe is: hyperparameters in, log-odds out, chosen and recalibrated by rows that it was not fitted to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError
from steerlens.probes._recalibration import bits, recalibrate
from steerlens.probes._rows import LabelledRows
from steerlens.probes._span import FitData, Problem, Span

Array = npt.NDArray[np.float64]
FunctionClass = Literal["linear", "quadratic", "kernel", "knn", "mlp"]
Scorer = Callable[[Array], Array]


@final
@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A function from activations to log-odds of the concept.

    Args:
        name: Of the probe.
        function_class: Of the probe.
        chosen: The hyperparameters that the select rows preferred, in words.
        select_nll: Bits for each select row, after recalibration on the same rows: to choose by, not to report.
        span: Where the score is computed.
        score: Coordinates (n, rank) → scores (n,).
        slope: Of the recalibration.
        intercept: Of the recalibration.
    """

    name: str
    function_class: FunctionClass
    chosen: str
    select_nll: float
    span: Span
    score: Scorer
    slope: float
    intercept: float

    def log_odds(self, x: Float[Tensor, "n d_model"]) -> Array:
        """log p(concept | x) / p(no concept | x) in nats, shape (n,).

        Raises:
            FitError: If the rows have another width than those of the fit, or are not finite.
        """
        rows = x.detach().double().cpu().numpy()
        if rows.shape[1] != len(self.span.mean) or not np.isfinite(rows).all():
            raise FitError(
                f"{self.name} was fitted to rows of width {len(self.span.mean)} and needs finite ones, but got shape "
                f"{rows.shape} with {int((~np.isfinite(rows)).sum())} values that are not finite."
            )
        return self.log_odds_at(self.span.coordinates(rows))

    def log_odds_at(self, z: Array) -> Array:
        """The same from coordinates, shape (n, rank)."""
        found: Array = self.intercept + self.slope * self.score(z)
        return found


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """One setting of a probe, fitted to one problem.

    Args:
        chosen: The setting, in words.
        score: Coordinates → scores.
        select_scores: Scores of the select rows, shape (m,).
    """

    chosen: str
    score: Scorer
    select_scores: Array


class Probe(ABC):
    """Hyperparameters of a family of functions, which `fit` chooses among and fits.

    A subclass says how candidates are fitted. Which of them is kept is decided here, by the bits that the select rows
    take after recalibration; then slope and intercept of the log-odds are those of the recalibration. It has two
    parameters, the slope under a prior and never negative (see `recalibrate`), so that it stays sane with ten rows.
    Test rows are seen by nothing.
    """

    function_class: ClassVar[FunctionClass]
    seeded: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @abstractmethod
    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """For each problem every setting, fitted."""

    def fit(self, fit: LabelledRows, select: LabelledRows, *, seed: int) -> FittedProbe:
        """Fit to the rows of one split; choose and recalibrate by those of another.

        Args:
            fit: Rows to fit. They also say how rows are standardised.
            select: Rows of other groups.
            seed: Of initial weights; probes that are not ``seeded`` ignore it.

        Raises:
            FitError: If the widths differ, or the rows to fit do not vary.
        """
        return self.fit_all(FitData.of(fit, select), [Problem(fit.labels(), select.labels(), seed)])[0]

    def fit_all(self, data: FitData, problems: Sequence[Problem]) -> list[FittedProbe]:
        """Fit several labellings of the same rows at once."""
        found = self.candidates(data, problems)
        return [self.choose(data.span, c, p) for c, p in zip(found, problems, strict=True)]

    @final
    def choose(self, span: Span, candidates: Sequence[Candidate], problem: Problem) -> FittedProbe:
        """The candidate whose recalibrated log-odds take the fewest bits for the select rows."""
        scores = np.stack([c.select_scores for c in candidates])
        slope, intercept = recalibrate(scores, problem.select_y)
        nll = bits(slope[:, None] * scores + intercept[:, None], problem.select_y).mean(axis=1)
        # The first of equals, up to rounding: candidates are ordered from simple to flexible.
        best = int(np.flatnonzero(nll <= nll.min() + 1e-9)[0])
        kept = candidates[best]
        return FittedProbe(
            self.name,
            self.function_class,
            kept.chosen,
            float(nll[best]),
            span,
            kept.score,
            float(slope[best]),
            float(intercept[best]),
        )

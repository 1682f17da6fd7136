"""Effect and reliability of steering, from propensities of questions over a grid of strengths."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import Estimate, bootstrap, cluster_share

Array = npt.NDArray[np.float64]

SLOPE_RANGE = 1.5
"""Strengths up to this size enter the slope, as published."""


def steerability(propensity: npt.ArrayLike, strengths: Sequence[float]) -> Array:
    """Least-squares slope of each question's propensity on strength, in nats per unit of strength.

    Strengths beyond 1.5 are left out: the published grid ends there, and saturation would bend the line.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row.

    Returns:
        Shape (question,).

    Raises:
        EstimateError: If fewer than two strengths lie within the range.

    References:
        tan2024, section 3.2.
    """
    m, s = np.asarray(propensity, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    within = np.abs(s) <= SLOPE_RANGE
    if len(set(s[within].tolist())) < 2:
        raise EstimateError(
            f"A slope needs two strengths within ±{SLOPE_RANGE}, but got {sorted(set(s.tolist()))}. Add 0 and 1."
        )
    centred = s[within] - s[within].mean()
    slopes: Array = centred @ m[within] / (centred @ centred)
    return slopes


@final
@dataclass(frozen=True)
class AntiSteerable:
    """Share of questions that steering moves the wrong way, in both published definitions.

    Args:
        slope: Share whose slope is not above zero (tan2024).
        unit: Share whose propensity falls between strength 0 and 1 (braun2025).
    """

    slope: Estimate
    unit: Estimate


def anti_steerable(
    propensity: npt.ArrayLike, strengths: Sequence[float], groups: Sequence[Hashable], *, seed: int
) -> AntiSteerable:
    """Anti-steerable shares with cluster-bootstrap intervals.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row; must include 0 and 1.
        groups: The cluster of each question.
        seed: Of the bootstrap.

    Raises:
        OptionError: If strength 0 or 1 is missing.
        EstimateError: If there are fewer than five groups.

    References:
        tan2024 (slope), braun2025 (one strength).
    """
    m = np.asarray(propensity, dtype=np.float64)
    missing = [s for s in (0.0, 1.0) if s not in strengths]
    if missing:
        raise OptionError(
            f"Anti-steerable shares compare strengths 0 and 1, but {missing} is not in {list(strengths)}."
        )
    change = m[list(strengths).index(1.0)] - m[list(strengths).index(0.0)]
    slopes = steerability(m, strengths)
    return AntiSteerable(
        slope=cluster_share(slopes <= 0, groups, seed=seed), unit=cluster_share(change < 0, groups, seed=seed)
    )


@final
@dataclass(frozen=True)
class AtBudget:
    """What a method achieves when its side effects are held at a budget.

    Args:
        effect: Mean change of propensity at that strength, in nats.
        strength: Where KL on neutral text first meets the budget; the largest tried if it never does.
        kl: KL there, in nats per token.
        reached: Whether the budget was met within the strengths tried.
    """

    effect: Estimate
    strength: float
    kl: float
    reached: bool


@final
@dataclass(frozen=True, eq=False)
class DoseCurve:
    """Effect and cost of one method over strengths from 0 upwards.

    Args:
        strengths: Ascending from 0.
        change: Change of each question's propensity, shape (strength, question); the first row is zero.
        groups: The cluster of each question.
        kl: KL of each neutral text summed over its tokens, shape (strength, text); the first row is zero.
        n_tokens: Scored tokens of each text.
    """

    strengths: tuple[float, ...]
    change: Array
    groups: tuple[Hashable, ...]
    kl: Array
    n_tokens: Array

    def __post_init__(self) -> None:
        if self.strengths[0] != 0 or list(self.strengths) != sorted(set(self.strengths)) or len(self.strengths) < 2:
            raise OptionError(f"A dose curve needs ascending strengths from 0, but got {self.strengths}.")

    def effect_at(self, budget: float, question_weights: Array, text_weights: Array) -> Array:
        """Effect at the budget for every resample; shapes (resample, question), (resample, text) → (resample,).

        KL and effect are interpolated linearly between strengths. Where the budget is not met the effect at the
        largest strength stands.
        """
        effect = question_weights @ self.change.T / question_weights.sum(axis=-1, keepdims=True)
        where = self._position(self._mean_kl(text_weights), budget)
        low = np.minimum(where.astype(np.int64), len(self.strengths) - 2)
        row = np.arange(len(effect))
        share = where - low
        at: Array = (1 - share) * effect[row, low] + share * effect[row, low + 1]
        return at

    def changes_at(self, budget: float) -> Array:
        """Change of each question's propensity at the strength that meets the budget, shape (question,)."""
        where = float(self._position(self._mean_kl(np.ones((1, len(self.n_tokens)))), budget)[0])
        low = min(int(where), len(self.strengths) - 2)
        at: Array = (1 - where + low) * self.change[low] + (where - low) * self.change[low + 1]
        return at

    def at_budget(self, budget: float, *, seed: int) -> AtBudget:
        """Effect at the budget, resampling groups of questions and neutral texts together.

        Raises:
            OptionError: If the budget is not positive.
            EstimateError: If there are fewer than five groups or texts.
        """
        _check_budget(budget)
        effect = bootstrap(
            lambda questions, texts: self.effect_at(budget, questions, texts),
            [self.groups, range(len(self.n_tokens))],
            seed=seed,
        )
        kl = self._mean_kl(np.ones((1, len(self.n_tokens))))
        where = float(self._position(kl, budget)[0])
        steps = np.arange(len(self.strengths))
        return AtBudget(
            effect=effect,
            strength=float(np.interp(where, steps, self.strengths)),
            kl=float(np.interp(where, steps, kl[0])),
            reached=bool((kl[0] >= budget).any()),
        )

    def _mean_kl(self, text_weights: Array) -> Array:
        mean: Array = text_weights @ self.kl.T / (text_weights @ self.n_tokens)[:, None]
        return mean

    def _position(self, kl: Array, budget: float) -> Array:
        """Fractional index into the strengths where KL first reaches the budget, shape (resample,)."""
        over = kl >= budget
        first = np.where(over.any(axis=1), over.argmax(axis=1), len(self.strengths) - 1)
        row = np.arange(len(kl))
        before, after = kl[row, first - 1], kl[row, first]
        step = np.divide(budget - before, after - before, out=np.ones_like(after), where=over.any(axis=1))
        position: Array = first - 1 + step
        return position


def _check_budget(budget: float) -> None:
    if not 0 < budget < float("inf"):
        raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {budget}.")


def contrast(a: DoseCurve, b: DoseCurve, budget: float, *, seed: int) -> Estimate:
    """Paired difference of two methods' effects at one budget, a − b, on the same questions and texts.

    Raises:
        OptionError: If the budget is not positive.
        EstimateError: If the curves are not of the same questions and texts.
    """
    _check_budget(budget)
    if a.groups != b.groups or not np.array_equal(a.n_tokens, b.n_tokens):
        raise EstimateError("A paired contrast needs both methods measured on the same questions and neutral texts.")
    return bootstrap(
        lambda questions, texts: a.effect_at(budget, questions, texts) - b.effect_at(budget, questions, texts),
        [a.groups, range(len(a.n_tokens))],
        seed=seed,
    )

"""A dose curve as one number: the area under its Pareto frontier."""

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._reliability import DoseCurve
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]

STEPS = 256
"""Budgets at which the frontier is read. It only rises, so that the midpoint rule errs by less than its rise / 512."""


def area_under_frontier(curve: DoseCurve, budget: float, *, seed: int) -> Estimate:
    """Mean over all budgets from 0 to ``budget`` of the best effect that each can buy, in nats.

    A = (1/b) ∫₀ᵇ F(k) dk, where F(k) is the largest effect at any strength whose KL on neutral text is at most k.
    Between strengths the effect is linear in strength, and KL a power of it, from 0 its square, as in `DoseCurve`;
    F(0) ≥ 0, for doing nothing is free, and F stays level where strengths end. No single budget has to be chosen, only
    the range, and a map whose effect falls again under large doses is not punished for strengths that nobody would use.
    As F is a maximum, it is biased upwards where effects are noise: the area of a random direction is not zero, and is
    the number to compare with.

    Args:
        curve: Effect and KL over strengths.
        budget: b, in nats per token.
        seed: Of the bootstrap, which resamples groups of questions and documents of neutral texts.

    Raises:
        OptionError: If the budget is not positive and finite.
        EstimateError: If there are fewer than five groups or documents.
    """
    _check(budget)
    return bootstrap(
        lambda questions, texts: _area(curve, budget, questions, texts),
        [curve.groups, curve.documents],
        seed=seed,
    )


def area_contrast(a: DoseCurve, b: DoseCurve, budget: float, *, seed: int) -> Estimate:
    """Paired difference of two methods' areas, a − b, on the same questions and texts.

    Raises:
        OptionError: If the budget is not positive and finite.
        EstimateError: If the curves are not of the same questions and texts.
    """
    _check(budget)
    if (a.groups, a.documents) != (b.groups, b.documents) or not np.array_equal(a.n_tokens, b.n_tokens):
        raise EstimateError("A paired contrast needs both methods measured on the same questions and neutral texts.")
    return bootstrap(
        lambda questions, texts: _area(a, budget, questions, texts) - _area(b, budget, questions, texts),
        [a.groups, a.documents],
        seed=seed,
    )


def _area(curve: DoseCurve, budget: float, question_weights: Array, text_weights: Array) -> Array:
    """Mean height of the frontier for every resample, shape (resample,)."""
    effect = question_weights @ curve.change.T / question_weights.sum(axis=-1, keepdims=True)
    kl = text_weights @ curve.kl.T / (text_weights @ curve.n_tokens)[:, None]
    budgets = (np.arange(STEPS) + 0.5) * budget / STEPS
    frontier = np.zeros((len(effect), STEPS))
    for i in range(len(curve.strengths) - 1):
        ends = slice(i, i + 2)
        best = _best_on_segment(np.array(curve.strengths[ends]), kl[:, ends], effect[:, ends], budgets)
        np.maximum(frontier, best, out=frontier)
    area: Array = frontier.mean(axis=1)
    return area


def _best_on_segment(strengths: Array, kl: Array, effect: Array, budgets: Array) -> Array:
    """Largest effect between two strengths within each budget; −∞ where all of it costs more.

    Shapes (2,), (resample, 2), (resample, 2), (budget,) → (resample, budget).
    """
    cheap, row = kl.argmin(axis=1), np.arange(len(kl))
    k0, e0, s0 = kl[row, cheap][:, None], effect[row, cheap][:, None], strengths[cheap][:, None]
    k1, e1, s1 = kl[row, 1 - cheap][:, None], effect[row, 1 - cheap][:, None], strengths[1 - cheap][:, None]
    between = (budgets >= k0) & (budgets < k1)
    # What is not between is set aside: its logarithms would not be finite.
    dear = np.where(k1 > 0, k1, 1.0)
    part, low = np.where(between, budgets / dear, 1.0), np.where(k1 > 0, k0 / dear, 1.0)
    free = (low <= 0) | (low >= 1) | (s0 * s1 <= 0)
    power = np.where(free, 1.0, s0 / s1) ** (np.log(part) / np.log(np.where(free, 0.5, low)))
    strength = np.where(free, s0 + (s1 - s0) * np.sqrt(part), s1 * power)
    share = np.where(between, np.clip((strength - s0) / (s1 - s0), 0, 1), 1.0)
    best: Array = np.where(budgets >= k0, np.maximum(e0, e0 + share * (e1 - e0)), -np.inf)
    return best


def _check(budget: float) -> None:
    if not 0 < budget < float("inf"):
        raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {budget}.")

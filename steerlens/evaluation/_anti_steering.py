"""Questions that are steered the wrong way, told from questions on which the map is merely noisy."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.evaluation._reliability import (
    SCORE_RESOLUTION,
    propensity_rounding,
    slope_rounding,
    steerability,
)
from steerlens.numerics import Estimate, bootstrap, cluster_share

Array = npt.NDArray[np.float64]

TAIL = 0.025
"""Probability that a question with slope 0 is counted on either side."""

MIN_RESAMPLES = 39
"""With fewer resampled maps no interval of 95 % has ends: (R + 1) · 0.025 must reach 1."""


@final
@dataclass(frozen=True, eq=False)
class AntiSteering:
    """Shares of questions that are steered the wrong way, by four counts.

    A slope no larger than rounding makes it has no sign: its question is ``unmoved``, and neither shown nor steered nor
    undecided. These four add up to 1.

    Args:
        naive: Share whose slope is not above zero, as published. Of questions whose true slope is zero it counts half,
            whatever the map: noise of the map alone makes it large. Slopes of rounding are zero, so that it holds
            every unmoved question; less ``unmoved`` it is the share that is moved the wrong way.
        unit: Share whose propensity falls from strength 0 to 1, by more than rounding; None if one of them was not
            measured.
        unmoved: Share whose slope is no larger than rounding makes it. A response that is even in strength has no
            slope either, and is among them.
        shown: Share whose interval over resampled maps lies below zero; None without resampled maps. A question whose
            true slope is not negative is counted with probability at most 0.025 over draws of the pairs, so the
            expected share of false counts is at most 0.025. All questions share one map: false counts come together,
            so that a share of x or more of them happens with probability at most 0.025/x, and not with less.
        steered: Share whose interval lies above zero.
        undecided: Share of those that are moved whose interval holds zero.
        low: Lower ends of the questions' intervals, shape (question,).
        high: Upper ends.

    The intervals *of the shares* are over groups of questions, given these maps.
    """

    naive: Estimate
    unit: Estimate | None
    unmoved: Estimate
    shown: Estimate | None
    steered: Estimate | None
    undecided: Estimate | None
    low: Array | None
    high: Array | None

    def __str__(self) -> str:
        by_unit = "" if self.unit is None else f", from 0 to 1 {self.unit}"
        shown = "no resampled maps" if self.shown is None else f"shown {self.shown}, undecided {self.undecided}"
        return f"anti-steerable     naive {self.naive}{by_unit}, unmoved {self.unmoved}; {shown}"


@final
@dataclass(frozen=True)
class SlopeVariance:
    """Where the variance of slopes comes from, in squared nats per unit of strength.

    Args:
        questions: Between questions, without what the noise of the map adds; 0 where that is all.
        common: Between resampled maps, of what they do to all questions alike; it does not add to their spread.
        by_question: Between resampled maps, of single questions beyond that: what adds to their spread.
        noise_share: ``by_question`` over the variance of the slopes found: how much of their spread the map's noise
            explains.
        n_resamples: Resampled maps.

    Intervals are over groups of questions, given the maps.
    """

    questions: Estimate
    common: Estimate
    by_question: Estimate
    noise_share: Estimate
    n_resamples: int

    def __str__(self) -> str:
        return (
            f"variance of slopes questions {self.questions}, maps {self.common}, questions × maps {self.by_question}; "
            f"noise of the map is {self.noise_share} of the spread"
        )


def anti_steering(
    propensity: Array,
    strengths: Sequence[float],
    groups: Sequence[Hashable],
    *,
    seed: int,
    resampled_slopes: Array | None = None,
    n_pairs: int | None = None,
    resolution: float = SCORE_RESOLUTION["float32"],
) -> AntiSteering:
    """Count questions that are steered the wrong way.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row.
        groups: The cluster of each question.
        seed: Of the bootstrap over groups.
        resampled_slopes: Shape (resample, question), or None.
        n_pairs: Pairs that the maps were fitted to, if intervals are to be widened for them.
        resolution: What propensities are known to, in nats; see `slope_rounding`.

    Raises:
        EstimateError: If there are fewer than five groups, or fewer than 39 resampled maps.

    References:
        tan2024 (naive), braun2025 (one strength).
    """

    def share(which: npt.NDArray[np.bool_]) -> Estimate:
        return cluster_share(which, groups, seed=seed)

    slopes, rounding = steerability(propensity, strengths), slope_rounding(propensity, strengths, resolution=resolution)
    moved = np.abs(slopes) > rounding
    at = {s: propensity[i] for i, s in enumerate(strengths)}
    least = 2 * propensity_rounding(propensity, resolution)
    unit = share(at[1.0] - at[0.0] < -least) if {0.0, 1.0} <= at.keys() else None
    naive, unmoved = share(slopes <= rounding), share(~moved)
    if resampled_slopes is None:
        return AntiSteering(naive, unit, unmoved, None, None, None, None, None)
    low, high = question_intervals(slopes, resampled_slopes, n_pairs)
    shown, steered = moved & (high < -rounding), moved & (low > rounding)
    undecided = moved & ~shown & ~steered
    return AntiSteering(naive, unit, unmoved, share(shown), share(steered), share(undecided), low, high)


def question_intervals(slopes: Array, resampled_slopes: Array, n_pairs: int | None) -> tuple[Array, Array]:
    """Interval of each question's slope over resampled maps.

    It runs from the j-th smallest to the j-th largest of R resampled slopes, with j = ⌊0.025 (R + 1)⌋. Where these
    are spread about the slope found as that is about the truth, or a monotone function of them is, a true slope of zero
    lies above it with probability j / (R + 1) ≤ 0.025 for every R. The bootstrap of few pairs spreads them too little;
    with ``n_pairs`` = n, ends are moved away from the slope by t(n − 1)/z · √(n/(n − 1)).

    Args:
        slopes: Of the map fitted to all pairs, shape (question,).
        resampled_slopes: Shape (resample, question).
        n_pairs: Pairs, or groups of pairs where these were resampled; None does not widen.

    Raises:
        EstimateError: If there are fewer than 39 resampled maps, or fewer than two pairs.
    """
    n = len(resampled_slopes)
    if n < MIN_RESAMPLES:
        raise EstimateError(
            f"Intervals of single questions need at least {MIN_RESAMPLES} resampled maps, but got {n}: with fewer the "
            "outermost is more likely than 0.025. Refit to more resamples of the pairs."
        )
    rank = int(np.floor(TAIL * (n + 1) + 1e-9))
    ordered = np.sort(resampled_slopes, axis=0)
    low, high = ordered[rank - 1], ordered[n - rank]
    if n_pairs is None:
        return low, high
    if n_pairs < 2:
        raise EstimateError(f"A map fitted to {n_pairs} pairs says nothing about its own noise. Fit to more.")
    t, z = stats.t.isf(TAIL, n_pairs - 1), stats.norm.isf(TAIL)
    factor = float(t / z) * (n_pairs / (n_pairs - 1)) ** 0.5
    return np.minimum(low, slopes - factor * (slopes - low)), np.maximum(high, slopes + factor * (high - slopes))


def slope_variance(slopes: Array, resampled_slopes: Array, groups: Sequence[Hashable], *, seed: int) -> SlopeVariance:
    """Split the variance of slopes into questions, maps, and both together.

    Args:
        slopes: Of the map fitted to all pairs, shape (question,).
        resampled_slopes: Of refitted maps, shape (resample, question).
        groups: The cluster of each question.
        seed: Of the bootstrap over groups.

    Raises:
        EstimateError: If there are fewer than five groups, or all slopes are equal.
    """
    if np.ptp(slopes) == 0:
        raise EstimateError(f"All {len(slopes)} slopes are equal: there is no variance to split.")
    n_maps = len(resampled_slopes)
    centred = resampled_slopes - resampled_slopes.mean(axis=0)

    def parts(w: Array) -> tuple[Array, Array, Array]:
        n = w.sum(axis=1)
        # Two draws of one question do not differ: with unit weights 1/n of all pairs.
        same = (w**2).sum(axis=1) / n**2
        mean = w @ slopes / n
        # A resample of one question alone has no spread to correct.
        apart = np.where(same < 1, 1 - same, np.inf)
        found = np.maximum(w @ slopes**2 / n - mean**2, 0) / apart
        shift = (w @ centred.T / n[:, None]).var(axis=1, ddof=1)
        by_question = np.maximum(w @ centred.var(axis=0, ddof=1) / n - shift, 0) / apart
        return found, np.maximum(shift - same * by_question, 0), by_question

    def estimate(of: int) -> Estimate:
        return bootstrap(lambda w: parts(w)[of], [groups], seed=seed, bounds=(0.0, np.inf))

    def between(w: Array) -> Array:
        found, _, noise = parts(w)
        return np.maximum(found - noise, 0)

    def share(w: Array) -> Array:
        found, _, noise = parts(w)
        # A resample of equal slopes has no spread for noise to explain.
        of_spread: Array = noise / np.maximum(found, 1e-12 * slopes.var())
        return of_spread

    return SlopeVariance(
        questions=bootstrap(between, [groups], seed=seed, bounds=(0.0, np.inf)),
        common=estimate(1),
        by_question=estimate(2),
        noise_share=bootstrap(share, [groups], seed=seed, bounds=(0.0, np.inf)),
        n_resamples=n_maps,
    )

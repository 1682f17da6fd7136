"""How propensities answer to strength: question by question, and on the whole."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._anti_steering import AntiSteering, SlopeVariance, anti_steering, slope_variance
from steerlens.evaluation._reliability import SCORE_RESOLUTION, SLOPE_RANGE, slope_rounding, steerability
from steerlens.evaluation._strength_grid import checked_grid
from steerlens.numerics import Estimate, cluster_mean, cluster_share
from steerlens.probes import DipTest, dip_test

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class QuestionResponses:
    """What strength does to each question; all of shape (question,).

    Args:
        slope: Least-squares slope for strengths up to ±1.5, in nats per unit of strength. An even response has none,
            and saturation shrinks it.
        local_slope: Slope at strength 0 of the parabola through 0 and the nearest strength on each side (or the two
            nearest, where the grid has one side). It is the slope within a step of the grid, not nearer.
        monotonicity: Spearman's correlation of propensity with strength, in [-1, 1]; 0 where propensity is constant.
        curvature: Coefficient of strength² in the least-squares parabola, in nats: 1 for an even response m = s².
        residual_rms: Root mean square of what the line misses, in nats.
        best_strength: Where propensity is largest, of all strengths given; of equal ones the nearest to 0.
    """

    slope: Array
    local_slope: Array
    monotonicity: Array
    curvature: Array
    residual_rms: Array
    best_strength: Array


@final
@dataclass(frozen=True, eq=False)
class PropensityReport:
    """How reliably one map steers, over questions.

    Args:
        strengths: The strength of each row of propensities, ascending.
        questions: The responses of single questions.
        slope: Mean slope: the steerability of the data set.
        local_slope: Mean slope at strength 0. Far above ``slope`` it says that the response saturates.
        monotonicity: Mean rank correlation with strength.
        curvature: Mean coefficient of strength².
        absolute_curvature: Mean of its size, which questions that bend in opposite ways do not cancel.
        missed: Share of questions whose line misses by more than it rises: residual RMS above the size of the slope.
        bimodality: Whether slopes have more than one mode; slopes that do not differ by more than rounding have one.
        anti_steering: Shares of questions that are steered the wrong way.
        variance: Where the variance of slopes comes from; None without propensities of resampled maps, or where slopes
            do not differ by more than rounding, as those of a map that moves nothing.
        n: Questions.
        n_clusters: Groups.
    """

    strengths: tuple[float, ...]
    questions: QuestionResponses
    slope: Estimate
    local_slope: Estimate
    monotonicity: Estimate
    curvature: Estimate
    absolute_curvature: Estimate
    missed: Estimate
    bimodality: DipTest
    anti_steering: AntiSteering
    variance: SlopeVariance | None
    n: int
    n_clusters: int

    def __str__(self) -> str:
        lines = [
            f"Propensities of {self.n} questions in {self.n_clusters} groups at {len(self.strengths)} strengths",
            f"  slope              {self.slope} nats per unit of strength",
            f"  slope at 0         {self.local_slope}",
            f"  monotonicity       {self.monotonicity}",
            f"  curvature          {self.curvature}, of its size {self.absolute_curvature}",
            f"  line misses        {self.missed} of questions by more than it rises",
            f"  dip of slopes      {self.bimodality}",
            f"  {self.anti_steering}",
        ]
        return "\n".join(lines if self.variance is None else [*lines, f"  {self.variance}"])


def propensity_report(
    propensity: npt.ArrayLike,
    strengths: Sequence[float],
    groups: Sequence[Hashable],
    *,
    seed: int,
    resampled: npt.ArrayLike | None = None,
    n_pairs: int | None = None,
    resolution: float = SCORE_RESOLUTION["float32"],
) -> PropensityReport:
    """Measure how propensities answer to strength.

    Intervals resample groups of questions and hold the map fixed; what another draw of pairs would do to the map is
    seen with ``resampled`` alone.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row, in any order; at least three within ±1.5.
        groups: The cluster of each question.
        seed: Of the resampling, and of the dip test.
        resampled: Shape (resample, strength, question): propensities of the same questions under maps refitted to
            bootstrap resamples of the pairs, at least 39 of them.
        n_pairs: How many pairs (or groups of pairs, if these were resampled) the map was fitted to; widens the
            intervals of questions as few pairs ask for. Without it 20 pairs count 3.5 % falsely where 2.5 % are meant.
        resolution: What propensities are known to, in nats: by default that of models in float32, see
            `SCORE_RESOLUTION`. Slopes that it can make of none have no sign: these questions are unmoved.

    Raises:
        OptionError: If shapes do not fit, or a strength is not finite or given twice.
        EstimateError: If a propensity is not finite, there are fewer than three strengths within the range, none of
            them 0 while all have one sign, fewer than five groups, or fewer than 39 resampled maps.

    References:
        tan2024 (slopes, residuals, anti-steerable shares); braun2025 (one strength).
    """
    grid, m = checked_grid(propensity, strengths, len(groups))
    questions = question_responses(m, grid)
    refitted = None if resampled is None else _resampled_slopes(resampled, strengths, m.shape)
    rounding = slope_rounding(m, grid, resolution=resolution)
    differ = bool(np.ptp(questions.slope) > 2 * rounding.max())

    def mean(values: npt.ArrayLike) -> Estimate:
        return cluster_mean(values, groups, seed=seed)

    return PropensityReport(
        strengths=grid,
        questions=questions,
        slope=mean(questions.slope),
        local_slope=mean(questions.local_slope),
        monotonicity=mean(questions.monotonicity),
        curvature=mean(questions.curvature),
        absolute_curvature=mean(np.abs(questions.curvature)),
        missed=cluster_share(questions.residual_rms > np.abs(questions.slope), groups, seed=seed),
        bimodality=dip_test(questions.slope if differ else np.zeros(m.shape[1]), groups, seed=seed),
        anti_steering=anti_steering(
            m, grid, groups, seed=seed, resampled_slopes=refitted, n_pairs=n_pairs, resolution=resolution
        ),
        variance=slope_variance(questions.slope, refitted, groups, seed=seed)
        if differ and refitted is not None
        else None,
        n=m.shape[1],
        n_clusters=len(set(groups)),
    )


def question_responses(propensity: npt.ArrayLike, strengths: Sequence[float]) -> QuestionResponses:
    """Responses of single questions.

    Args:
        propensity: Shape (strength, question).
        strengths: Ascending; at least three within ±1.5.

    Raises:
        EstimateError: If the strengths do not allow a slope at 0 or a curvature.
    """
    m, s = np.asarray(propensity, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    within = np.abs(s) <= SLOPE_RANGE
    if within.sum() < 3:
        raise EstimateError(
            f"A curvature needs three strengths within ±{SLOPE_RANGE}, but got {s[within].tolist()}. Add -1, 0 and 1, "
            "or ask for `steerability` alone."
        )
    t, y = s[within], m[within]
    slope = steerability(m, strengths)
    line = y.mean(axis=0) + np.outer(t - t.mean(), slope)
    # Questions that do not respond have a residual of rounding, which is none.
    residual = np.sqrt(((y - line) ** 2).mean(axis=0))
    residual[residual <= 1e-12 * np.abs(y).max(axis=0)] = 0.0
    nearest_first = np.argsort(np.abs(s), kind="stable")
    return QuestionResponses(
        slope=slope,
        local_slope=_local_slope(t, y),
        monotonicity=_rank_correlation(t, y),
        curvature=np.polynomial.polynomial.polyfit(t, y, 2)[2],
        residual_rms=residual,
        best_strength=s[nearest_first[m[nearest_first].argmax(axis=0)]],
    )


def _local_slope(s: Array, m: Array) -> Array:
    """Slope at 0 of the parabola through 0 and its neighbours; of the chord where 0 is not in the grid."""
    below, above = np.flatnonzero(s < 0), np.flatnonzero(s > 0)
    at_zero = np.flatnonzero(s == 0)
    if len(below) and len(above):
        chosen = np.concatenate([below[-1:], at_zero, above[:1]])
    elif len(at_zero):
        chosen = np.concatenate([at_zero, above[:2], below[-2:]])
    else:
        raise EstimateError(f"A slope at 0 needs strength 0 or strengths of both signs, but got {s.tolist()}. Add 0.")
    slope: Array = np.polynomial.polynomial.polyfit(s[chosen], m[chosen], len(chosen) - 1)[1]
    return slope


def _rank_correlation(s: Array, m: Array) -> Array:
    """Spearman's correlation of each column with s; 0 for a constant column."""
    ranks = stats.rankdata(m, axis=0) - (len(s) + 1) / 2
    of_s = stats.rankdata(s) - (len(s) + 1) / 2
    size = np.sqrt((ranks**2).sum(axis=0) * (of_s @ of_s))
    found: Array = np.divide(of_s @ ranks, size, out=np.zeros_like(size), where=size > 0)
    return found


def _resampled_slopes(resampled: npt.ArrayLike, strengths: Sequence[float], shape: tuple[int, ...]) -> Array:
    """Slopes under refitted maps, shape (resample, question)."""
    m = np.asarray(resampled, dtype=np.float64)
    if m.ndim != 3 or m.shape[1:] != shape:
        raise OptionError(
            f"Expected propensities of resampled maps of shape (resample, {shape[0]}, {shape[1]}), but got {m.shape}."
        )
    if not np.isfinite(m).all():
        raise EstimateError("Propensities of resampled maps are NaN or infinite. Leave those questions out.")
    return np.stack([steerability(one, strengths) for one in m])

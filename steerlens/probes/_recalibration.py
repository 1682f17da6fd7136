"""From scores to log-odds: logistic regression on one number, which few rows can bear."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SLOPE_SPREAD = 2.5
"""Standard deviation of the normal prior on the slope, in log-odds for each standard deviation of the scores."""

LEAST_SLOPE = 1e-6
"""In the same units: what a slope below it becomes."""

NEWTON_STEPS = 25


class Recalibration(NamedTuple):
    """log-odds = intercept + slope · score, one for each row of scores."""

    slope: Array
    intercept: Array


def recalibrate(scores: Array, y: npt.NDArray[np.int64]) -> Recalibration:
    """Fit slope and intercept of many scores at once.

    Platt's method: the targets are (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) in place of 1 and 0, so that separable scores
    get finite odds. Beyond it, a normal prior holds the slope where rows are few, and a slope below zero becomes
    a millionth: select rows may say that a score is worthless, not that it should be read backwards. It then takes the
    bits of the base rate, and keeps its order.

    Args:
        scores: Shape (score, m).
        y: Labels, shape (score, m) or (m,).

    References:
        platt1999 (targets); gelman2008 (a prior scale of 2.5 on standardised inputs).
    """
    labels = np.broadcast_to(y, scores.shape)
    positives = labels.sum(axis=1, keepdims=True)
    negatives = labels.shape[1] - positives
    t = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    mean, deviation = scores.mean(axis=1, keepdims=True), scores.std(axis=1, keepdims=True)
    varies = deviation > 1e-12 * np.maximum(np.abs(scores).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    s = np.where(varies, (scores - mean) / np.where(varies, deviation, 1.0), 0.0)
    slope, intercept = _newton(s, t)
    rate = t.mean(axis=1)
    worthless = slope <= LEAST_SLOPE
    slope = np.where(worthless, LEAST_SLOPE, slope)
    intercept = np.where(worthless, np.log(rate / (1 - rate)), intercept)
    raw = np.where(varies[:, 0], slope / np.where(varies, deviation, 1.0)[:, 0], 0.0)
    return Recalibration(raw, intercept - raw * mean[:, 0])


def bits(log_odds: Array, y: npt.NDArray[np.int64]) -> Array:
    """−log₂ of the probability that log-odds give to labels, in bits for each row."""
    found: Array = np.logaddexp(0.0, np.where(y == 1, -log_odds, log_odds)) / np.log(2)
    return found


def _newton(s: Array, t: Array) -> tuple[Array, Array]:
    """Maximum a posteriori of both parameters by Newton's method, halved where a step does not help."""
    rate = t.mean(axis=1)
    theta = np.stack([np.zeros(len(s)), np.log(rate / (1 - rate))])
    precision = 1 / SLOPE_SPREAD**2

    def loss(theta: Array) -> Array:
        u = theta[0][:, None] * s + theta[1][:, None]
        found: Array = (np.logaddexp(0.0, u) - t * u).sum(axis=1) + precision * theta[0] ** 2 / 2
        return found

    best = loss(theta)
    for _ in range(NEWTON_STEPS):
        u = theta[0][:, None] * s + theta[1][:, None]
        p = 1 / (1 + np.exp(-np.clip(u, -500, 500)))
        r, w = p - t, p * (1 - p) + 1e-12
        g0, g1 = (r * s).sum(axis=1) + precision * theta[0], r.sum(axis=1)
        h00, h01, h11 = (w * s * s).sum(axis=1) + precision, (w * s).sum(axis=1), w.sum(axis=1)
        determinant = np.maximum(h00 * h11 - h01**2, 1e-12)
        step = np.stack([(h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant])
        moved = theta - step
        for _ in range(8):
            worse = loss(moved) > best + 1e-12
            if not worse.any():
                break
            step = np.where(worse, step / 2, step)
            moved = theta - step
        better = loss(moved) <= best + 1e-12
        theta = np.where(better, moved, theta)
        best = np.minimum(best, loss(theta))
        if np.abs(np.where(better, step, 0.0)).max() < 1e-8:
            break
    return theta[0], theta[1]

"""Where a cost first meets a budget, between the strengths at which it was measured, and what stands there."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def first_crossing(strengths: Sequence[float] | Array, cost: Array, budget: float | Array) -> Array:
    """Strength at which each row's cost first meets a budget; the largest strength where it never does.

    KL of a small dose grows as the square of the dose, so that a straight line between two strengths lies above it and
    meets the budget too early. Between strengths with a cost, the power law through both is taken: log cost is linear
    in log strength, and cost = c·sᵖ is met exactly, on any grid. From the last strength that costs nothing (such as 0)
    cost grows as the square of the distance from it.

    Args:
        strengths: Ascending from 0, shape (strength,).
        cost: At each of them, shape (row, strength); what lies below zero is rounding, and counts as nothing.
        budget: Positive, one for all rows or of shape (row,).

    Returns:
        Shape (row,).
    """
    s, c = np.asarray(strengths, dtype=np.float64), cost
    wanted = np.broadcast_to(np.asarray(budget, dtype=np.float64), len(c))
    over = c >= wanted[:, None]
    met = over.any(axis=1)
    after = np.where(met, np.maximum(over.argmax(axis=1), 1), len(s) - 1)
    before, row = after - 1, np.arange(len(c))
    # What is not met, and a cost that is met by nothing, are set aside: their logarithms would not be finite.
    high = np.where(met, c[row, after], 1.0)
    low = np.where(met, c[row, before], 0.0)
    part = np.where(met, wanted, 1.0) / high
    free = (low <= 0) | (before == 0)
    exponent = np.where(free, 0.0, np.log(part) / np.log(np.where(free, 0.5, low / high)))
    start, end = s[before], s[after]
    power = end * np.where(free, 1.0, start / end) ** exponent
    found: Array = np.where(free, start + (end - start) * np.sqrt(part), power)
    return np.where(met, np.clip(found, start, end), s[-1])


def between(strengths: Sequence[float] | Array, values: Array, at: Array) -> Array:
    """Each row's value at a strength of its own, linear between the strengths measured.

    Args:
        strengths: Ascending, shape (strength,).
        values: Shape (row, strength).
        at: Strengths within them, shape (row,).

    Returns:
        Shape (row,).
    """
    s, v, x = np.asarray(strengths, dtype=np.float64), values, at
    low = np.clip(np.searchsorted(s, x, side="right") - 1, 0, len(s) - 2)
    share, row = (x - s[low]) / (s[low + 1] - s[low]), np.arange(len(v))
    found: Array = (1 - share) * v[row, low] + share * v[row, low + 1]
    return found

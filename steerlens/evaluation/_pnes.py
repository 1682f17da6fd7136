"""Perplexity-normalised effect size: one number for a whole curve of strengths, kept to compare with published ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import optimize

from steerlens.errors import EstimateError, OptionError

Array = npt.NDArray[np.float64]
MOST_PERPLEXITY = 2000.0
"""Strengths at which perplexity is larger do not enter the fit of its growth."""
FLUENT = 10.0
"""Perplexity below which a strength counts as usable."""
_FINE = 2001
_STEEP = 50.0
"""Largest slope tried, in units of 1 / the largest strength: steeper is a step."""


@final
@dataclass(frozen=True)
class PNES:
    """Perplexity-normalised effect size, with the curve it is read from: (tanh(slope·s) + offset)·exp(−growth·s²).

    Args:
        value: Largest less smallest value of the curve over the strengths tried.
        slope: Of the effect at small strengths.
        offset: Of the effect.
        growth: Of log perplexity with the square of strength.
        residual: Root mean square of the normalised effects about the curve: large, and the value means little.
        usable: Smallest and largest strength tried with perplexity below 10; None if there is none.
        n: Strengths fitted.
    """

    value: float
    slope: float
    offset: float
    growth: float
    residual: float
    usable: tuple[float, float] | None
    n: int

    def curve(self, strengths: npt.ArrayLike) -> Array:
        """The fitted curve at any strengths."""
        return _curve(np.asarray(strengths, dtype=np.float64), self.slope, self.offset, self.growth)


def pnes(strengths: Sequence[float], effect: npt.ArrayLike, perplexity: npt.ArrayLike) -> PNES:
    """Fit the normalised effect y(s) = (effect(s) − effect(0)) · perplexity(0) / perplexity(s).

    First ln(perplexity(s) / perplexity(0)) = growth · s² by least squares, where perplexity is below 2000; then
    y ≈ (tanh(slope·s) + offset)·exp(−growth·s²). Effects are meant to be shares or probabilities, so that they stay
    within ±1.

    Dividing by perplexity counts twice where the text wanted is itself improbable. To compare methods use the effect
    at equal KL on neutral text (`DoseCurve.at_budget`); this is here to compare with published numbers. It has no
    interval of its own: give it the means of resampled prompts to get one.

    Args:
        strengths: With 0 among them, and at least four others.
        effect: Of each strength.
        perplexity: Of each strength, of text that the steered model wrote.

    Raises:
        OptionError: If strength 0 is missing or given twice, or there are fewer than five.
        EstimateError: If a value is not finite, or a perplexity below 1.

    References:
        vonruette2024.
    """
    s, e, p = (np.asarray(x, dtype=np.float64) for x in (strengths, effect, perplexity))
    if s.ndim != 1 or not s.shape == e.shape == p.shape or len(s) < 5 or (s == 0).sum() != 1:
        raise OptionError(
            "pnes needs strengths with one 0 and at least four others, and one effect and one perplexity for each, but "
            f"got shapes {s.shape}, {e.shape}, {p.shape} and strengths {s.tolist()[:12]}."
        )
    if not all(np.isfinite(x).all() for x in (s, e, p)) or p.min() < 1:
        raise EstimateError(
            "pnes needs finite effects, and perplexities of 1 or more. Look for NaN in what was measured."
        )
    base = s == 0
    growth = _growth(s, np.log(p / p[base]), p < MOST_PERPLEXITY)
    y = (e - e[base]) * p[base] / p
    slope, offset = _fit(s, y, growth)
    fluent = s[p < FLUENT]
    fine = _curve(np.linspace(s.min(), s.max(), _FINE), slope, offset, growth)
    return PNES(
        value=float(np.ptp(fine)),
        slope=slope,
        offset=offset,
        growth=growth,
        residual=float(np.sqrt(np.mean((y - _curve(s, slope, offset, growth)) ** 2))),
        usable=(float(fluent.min()), float(fluent.max())) if len(fluent) else None,
        n=len(s),
    )


def _curve(s: Array, slope: float, offset: float, growth: float) -> Array:
    found: Array = (np.tanh(slope * s) + offset) * np.exp(-growth * s**2)
    return found


def _growth(s: Array, log_ratio: Array, within: npt.NDArray[np.bool_]) -> float:
    squares = s[within] ** 2
    if not squares.any():
        raise EstimateError(
            f"Perplexity is {MOST_PERPLEXITY:.0f} or more at every strength but 0, so its growth cannot be fitted. Try "
            "smaller strengths."
        )
    return float(squares @ log_ratio[within] / (squares @ squares))


def _fit(s: Array, y: Array, growth: float) -> tuple[float, float]:
    """Slope and offset by least squares, from several starts on both sides of zero."""
    most = _STEEP / np.abs(s).max()

    def misfit(x: Array) -> Array:
        return _curve(s, float(x[0]), float(x[1]), growth) - y

    starts = [sign * most * share for sign in (-1, 1) for share in (0.002, 0.02, 0.2)]
    fits = [
        optimize.least_squares(
            misfit, np.array([a, 0.0]), bounds=([-most, -2.0], [most, 2.0]), x_scale=[most / 50, 1.0]
        )
        for a in starts
    ]
    best = min(fits, key=lambda f: float(f.cost))
    return float(best.x[0]), float(best.x[1])

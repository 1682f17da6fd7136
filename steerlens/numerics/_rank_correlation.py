"""Do two quantities rise together? Spearman's correlation, and what is left of it beside others."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import finite_values
from steerlens.numerics._estimate import Estimate

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation and its test.

    Args:
        rho: In [-1, 1], with its interval.
        p_value: Two-sided, of no correlation, from Student's t.
        n_covariates: Held constant, in ranks.
    """

    rho: Estimate
    p_value: float
    n_covariates: int


def spearman(
    x: npt.ArrayLike, y: npt.ArrayLike, *, covariates: npt.ArrayLike | None = None, level: float = 0.95
) -> RankCorrelation:
    """Spearman's correlation over independent units, such as concepts, with Bonett and Wright's interval.

    Ends are tanh(artanh ρ ± z √((1 + ρ²/2) / (n − q − 3))) for q covariates. Covariates are taken from both sides
    linearly in ranks: a relation that bends in ranks stays behind.

    Args:
        x: Shape (n,).
        y: Shape (n,).
        covariates: Shape (n,) or (covariate, n): depth and baseline propensity, say.
        level: Coverage aimed at.

    Raises:
        OptionError: If the shapes differ.
        EstimateError: If a value is not finite, there are fewer than five units more than covariates, or one side does
            not vary beyond the covariates.

    References:
        bonett2000 (standard error).
    """
    a, b = finite_values(x, "x"), finite_values(y, "y")
    given = np.empty((0, len(a))) if covariates is None else np.atleast_2d(np.asarray(covariates, dtype=np.float64))
    if len(a) != len(b) or given.shape[1] != len(a):
        raise OptionError(f"Expected as many y and covariates as x, but got {len(a)}, {len(b)} and {given.shape[1]}.")
    n, q = len(a), len(given)
    if n - q < 5:
        raise EstimateError(f"A correlation needs five units more than covariates, but got {n} and {q}. Measure more.")
    held = np.vstack([np.ones(n), *(stats.rankdata(finite_values(row, "covariates")) for row in given)])
    left, right = (_beside(stats.rankdata(side), held) for side in (a, b))
    rho = float(np.clip(left @ right / np.sqrt((left @ left) * (right @ right)), -1, 1))
    # Where ranks agree wholly the scale knows no width: the next lower correlation that n ranks can have stands in.
    most = 1 - 12 / (n**3 - n)
    near = float(np.clip(rho, -most, most))
    half = float(stats.norm.ppf((1 + level) / 2)) * np.sqrt((1 + near**2 / 2) / (n - q - 3))
    low, high = (float(end) for end in np.tanh(np.arctanh(near) + np.array([-half, half])))
    low, high = min(low, rho), max(high, rho)
    p_value = float(2 * stats.t.sf(abs(near) * np.sqrt((n - q - 2) / (1 - near**2)), n - q - 2))
    return RankCorrelation(Estimate(rho, low, high, level, n, n, "Bonett-Wright"), p_value, q)


def _beside(ranks: Array, held: Array) -> Array:
    """What of the ranks the covariates leave."""
    rest: Array = ranks - held.T @ np.linalg.lstsq(held.T, ranks, rcond=None)[0]
    if rest @ rest <= 1e-18 * (ranks @ ranks):
        raise EstimateError("A correlation needs values that vary beyond the covariates, but these do not.")
    return rest

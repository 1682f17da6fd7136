"""What a study could have found: to be printed beside what it did not find."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy.typing as npt
from scipy import integrate, optimize, stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._clusters import cluster_means


@final
@dataclass(frozen=True)
class DetectableEffect:
    """The least mean that a test would find.

    Args:
        effect: Found with the given power, in the unit of the values.
        sd: Standard deviation of cluster means, from the data, and as uncertain as they are few.
        n_clusters: Clusters.
        power: How often it would be found.
        level: Of the two-sided test.
    """

    effect: float
    sd: float
    n_clusters: int
    power: float
    level: float

    def __str__(self) -> str:
        return (
            f"{self.n_clusters} clusters of sd {self.sd:.3g} show a mean of {self.effect:.3g} with power "
            f"{self.power:g} at level {self.level:g}"
        )


def minimal_detectable_effect(
    values: npt.ArrayLike, clusters: Sequence[Hashable], *, power: float = 0.8, level: float = 0.05
) -> DetectableEffect:
    """The mean of cluster means that a two-sided paired t-test would find with this power.

    From the spread of the data alone: the mean that was found plays no part.

    Args:
        values: Shape (n,), such as paired differences.
        clusters: The cluster of each value.
        power: How often it should be found.
        level: Of the test.

    Raises:
        OptionError: If power or level is not in (0, 1), or power is not above level.
        EstimateError: If a value is not finite, or there are fewer than five clusters.

    References:
        cohen1988.
    """
    _check(power, level)
    means = cluster_means(values, clusters)
    sd, k = float(means.std(ddof=1)), len(means)
    d = optimize.brentq(lambda d: power_of(d, 1.0, k, level=level) - power, 1e-9, 1e3)
    return DetectableEffect(float(d) * sd, sd, k, power, level)


def power_of(effect: float, sd: float, n_clusters: int, *, level: float = 0.05) -> float:
    """Power of the two-sided paired t-test for a mean.

    Args:
        effect: The mean.
        sd: Standard deviation of cluster means.
        n_clusters: How many there are.
        level: Of the test.

    Raises:
        OptionError: If the standard deviation is not positive, or there are fewer than two clusters.

    References:
        cohen1988.
    """
    from statsmodels.stats.power import TTestPower

    if not sd > 0 or n_clusters < 2:
        raise OptionError(f"Power needs a positive sd and two clusters, but got sd {sd} and {n_clusters} clusters.")
    d = abs(effect) / sd
    right, wrong = (float(TTestPower().power(x, n_clusters, level / 2, alternative="larger")) for x in (d, -d))
    far = d * math.sqrt(n_clusters)
    if math.isnan(right):  # at some points beyond far = 36, where exp(−far²/2) is almost no number any more
        right = _power_far_out(far, n_clusters - 1, level)
    # Far out the probability of the wrong sign is below 1e-15, and scipy's series for it ends in NaN.
    return right + wrong if far < 8 else right


def _power_far_out(far: float, df: int, level: float) -> float:
    """P(T > critical value) of a noncentral t, as the mean over its χ²."""
    critical = float(stats.t.isf(level / 2, df))
    found, _ = integrate.quad(
        lambda u: stats.norm.cdf(far - critical * math.sqrt(stats.chi2.isf(u, df) / df)), 0.0, 1.0, limit=200
    )
    return float(found)


def clusters_needed(effect: float, sd: float, *, power: float = 0.8, level: float = 0.05) -> int:
    """Clusters with which a two-sided paired t-test finds a mean with this power, rounded up.

    Args:
        effect: The mean.
        sd: Standard deviation of cluster means.
        power: How often it should be found.
        level: Of the test.

    Raises:
        OptionError: If effect or sd is not positive, or power or level is not in (0, 1).

    References:
        cohen1988.
    """
    _check(power, level)
    if not (sd > 0 and abs(effect) > 0):
        raise OptionError(f"Expected an effect that is not zero and a positive sd, but got {effect} and {sd}.")
    few, enough = 1, 2
    while power_of(effect, sd, enough, level=level) < power:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if power_of(effect, sd, middle, level=level) >= power else (middle, enough)
    return enough


def detectable_correlation(n: int, *, power: float = 0.8, level: float = 0.05) -> float:
    """The least Spearman correlation that n units show with this power, two-sided.

    The ρ with artanh ρ = z(level) · SE(0) + z(power) · SE(ρ), SE(ρ) = √((1 + ρ²/2)/(n − 3)).

    Args:
        n: Units, such as concepts.
        power: How often it should be found.
        level: Of the test.

    Raises:
        OptionError: If power or level is not in (0, 1).
        EstimateError: If there are fewer than five units.

    References:
        bonett2000 (standard error).
    """
    _check(power, level)
    if n < 5:
        raise EstimateError(f"A correlation needs at least five units, but got {n}.")
    z_level, z_power = (float(stats.norm.ppf(p)) for p in (1 - level / 2, power))

    def missing(rho: float) -> float:
        return math.atanh(rho) - (z_level + z_power * math.sqrt(1 + rho**2 / 2)) / math.sqrt(n - 3)

    return float(optimize.brentq(missing, 0.0, 1 - 1e-12))


def _check(power: float, level: float) -> None:
    if not 0 < level < power < 1:
        raise OptionError(f"Expected 0 < level < power < 1, but got level {level} and power {power}.")

"""Estimates over units of replication: what hypotheses make of the numbers of their concepts.

Nothing here is drawn at random, and every interval can be had at any level: Holm's method asks for several.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate, spearman
from steerlens.numerics._sign_flip import flip_signs
from steerlens.theories._verdict import Control

Array = npt.NDArray[np.float64]
MIN_UNITS = 5

ATTAINABLE = 0.9
"""Least rank correlation that units must be able to reach, however they are ordered."""

ROUNDING = 1e-12
"""What differs by less than this share of its size does not differ."""

CONTROL_LEVEL = 0.99
"""Of the intervals of controls: where there is nothing, one study in two hundred goes on by chance."""


def cluster_codes(clusters: Sequence[Hashable]) -> tuple[npt.NDArray[np.int64], list[Hashable]]:
    """Clusters as numbers in order of appearance, and their names.

    Raises:
        EstimateError: If there are fewer than five.
    """
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    if len(number) < MIN_UNITS:
        raise EstimateError(f"{len(number)} units are too few for an interval; {MIN_UNITS} are needed. Measure more.")
    return np.array([number[c] for c in clusters], dtype=np.int64), list(number)


def unit_means(values: npt.ArrayLike, clusters: Sequence[Hashable]) -> Array:
    """Means of clusters, in the order of their first appearance.

    Raises:
        EstimateError: If a value is not finite, or there are fewer than five clusters.
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise EstimateError(f"{int((~np.isfinite(x)).sum())} of {len(x)} numbers are NaN or infinite. Look where from.")
    codes, _ = cluster_codes(clusters)
    means: Array = np.bincount(codes, x) / np.bincount(codes)
    return means


def mean_over(
    values: npt.ArrayLike, clusters: Sequence[Hashable], *, level: float, span: float | None = None
) -> Estimate:
    """Mean of cluster means with Student's interval.

    Args:
        values: Shape (n,).
        clusters: Of every value.
        level: Coverage aimed at.
        span: How far a cluster could lie from the others, for values of which many are equal. Where none of k differs,
            those that would make up at most 1 − ((1 − level)/2)^(1/k) of all, and the interval allows each the span.

    Where no unit differs, to rounding, and no span is given, the interval is a point: so it is of what was made up
    without noise, and of what a model does exactly.

    Raises:
        EstimateError: If a value is not finite, or there are fewer than five clusters.
    """
    means = unit_means(values, clusters)
    k = len(means)
    value, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(k))
    if not error > ROUNDING * float(np.abs(means).max()):
        unseen = 0.0 if span is None else span * (1 - ((1 - level) / 2) ** (1 / k))
        return Estimate(value, value - unseen, value + unseen, level, np.size(values), k, "exact, no unit differs")
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    return Estimate(value, value - half, value + half, level, np.size(values), k, "t of unit means")


def share_over(hits: npt.ArrayLike, clusters: Sequence[Hashable], *, level: float) -> Estimate:
    """Mean share of hits with Wilson's interval, every cluster counting as one trial.

    Exact where a cluster is one trial, and too wide where it is many.

    Raises:
        EstimateError: If there are fewer than five clusters.

    References:
        wilson1927.
    """
    shares = unit_means(hits, clusters)
    p, k = float(shares.mean()), len(shares)
    z = float(stats.norm.ppf((1 + level) / 2))
    centre, scale = (p + z**2 / (2 * k)) / (1 + z**2 / k), z / (1 + z**2 / k)
    half = scale * np.sqrt(p * (1 - p) / k + z**2 / (4 * k**2))
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Estimate(p, min(low, p), max(high, p), level, np.size(hits), k, "Wilson, one trial a unit")


def correlation_over(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    clusters: Sequence[Hashable],
    *,
    level: float,
    covariates: Sequence[npt.ArrayLike] = (),
) -> Estimate:
    """Spearman's correlation of cluster means, beside covariates where there are some.

    Raises:
        EstimateError: If a value is not finite, there are too few clusters, one side does not vary, or so many values
            are equal that no correlation of `ATTAINABLE` could be had: an interval below it would say nothing.
    """
    a, b, *held = (unit_means(v, clusters) for v in (x, y, *covariates))
    most = _attainable(a, b)
    if most < ATTAINABLE:
        raise EstimateError(
            f"So many of {len(a)} units have equal values that no rank correlation beyond {most:.2f} could be had. "
            "Measure where they differ."
        )
    return spearman(a, b, covariates=np.stack(held) if held else None, level=level).rho


def _attainable(a: Array, b: Array) -> float:
    """The largest rank correlation, of the sign that is harder to have, that these values reach in any order.

    1 where neither has ties; √(1 − f³) where a share f of one side is equal and lies at one end. 1 of values that do
    not vary, which are refused elsewhere.
    """
    x, y = (np.sort(stats.rankdata(v)) for v in (a, b))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 1.0
    return float(min(np.corrcoef(x, y)[0, 1], -np.corrcoef(x, y[::-1])[0, 1]))


def jackknife_over(
    statistic: Callable[[npt.NDArray[np.bool_]], float], clusters: Sequence[Hashable], *, level: float
) -> Estimate:
    """A statistic with an interval from leaving out each cluster in turn, value ± t √((k − 1)/k Σ(v₋ᵢ − v̄)²).

    For ratios of sums, which no mean of ratios estimates well.

    Args:
        statistic: Of the rows kept, shape (n,).
        clusters: Of every row.
        level: Coverage aimed at.

    Raises:
        EstimateError: If there are fewer than five clusters, or a value is not finite.

    References:
        tukey1958.
    """
    codes, names = cluster_codes(clusters)
    value = statistic(codes >= 0)
    without = np.array([statistic(codes != i) for i in range(len(names))])
    error = jackknife_error(without)
    if not np.isfinite([value, error]).all():
        raise EstimateError("A ratio is not finite. Look for zeros below the line.")
    if not error > ROUNDING * float(np.abs(without).max()):
        return Estimate(value, value, value, level, len(codes), len(names), "exact, no unit differs")
    half = float(stats.t.ppf((1 + level) / 2, len(names) - 1)) * error
    return Estimate(value, value - half, value + half, level, len(codes), len(names), "jackknife over units")


def jackknife_error(without: Array) -> float:
    """Standard error from the values without each unit in turn."""
    k = len(without)
    return float(np.sqrt((k - 1) / k * ((without - without.mean()) ** 2).sum()))


def ratio_over(above: npt.ArrayLike, below: npt.ArrayLike, clusters: Sequence[Hashable], *, level: float) -> Estimate:
    """Ratio of sums with its jackknife interval.

    Raises:
        EstimateError: As `jackknife_over`; and if what stands below the line is not above zero in sum, also without any
            one unit: two effects that both go the wrong way are no share of each other.
    """
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)

    def ratio(kept: npt.NDArray[np.bool_]) -> float:
        under = float(b[kept].sum())
        if not under > 0:
            raise EstimateError(
                f"A share of something needs that to be above zero, but over the units it is {under:.3g}."
            )
        return float(a[kept].sum()) / under

    return jackknife_over(ratio, clusters, level=level)


def relative_gain(of: npt.ArrayLike, over: npt.ArrayLike) -> Array:
    """(a − b) / max(|a|, |b|): the gain as a share of the larger effect, in [−2, 2], and defined where one is zero.

    For small gains it is the gain relative to either.
    """
    a, b = np.asarray(of, dtype=np.float64), np.asarray(over, dtype=np.float64)
    larger = np.maximum(np.abs(a), np.abs(b))
    out: Array = np.divide(a - b, larger, out=np.zeros_like(a), where=larger > 0)
    return out


def within_models(wide: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Columns less their mean in each model, where there are several: models differ, and that is no correlation."""
    if wide.index.get_level_values("model").nunique() == 1:
        return wide
    of = wide[list(columns)]
    return wide.assign(**{c: (of - of.groupby(level="model").transform("mean"))[c] for c in columns})


def steers(effect: npt.ArrayLike, random: npt.ArrayLike, clusters: Sequence[Hashable]) -> Control:
    """Whether a method does more than matched-norm random directions: what does nothing says nothing of theories.

    Signs of units are flipped, all choices up to twenty units: in one study of two hundred where nothing steers it goes
    on by chance. Effects may be of very different size: one large one among small ones of the same sign hides nothing,
    as it would in a t-test. Of fewer than eight units no choice of signs is as rare, and Student's interval decides.

    References:
        fisher1935.
    """
    difference = np.asarray(effect) - np.asarray(random)
    above = unit_means(difference, clusters)
    up = f"above zero on {int((above > 0).sum())} of {len(above)}"
    if 2.0 ** (1 - len(above)) > 1 - CONTROL_LEVEL:
        found = mean_over(difference, clusters, level=CONTROL_LEVEL)
        passed, how = found.low > 0, f"{found} nats, {up}"
    else:
        p = flip_signs(above, seed=0).p_value
        passed, how = bool(above.mean() > 0 and p <= 1 - CONTROL_LEVEL), f"{above.mean():.3g} nats, {up} (p = {p:.2g})"
    said = f"effect above random directions {how}{'.' if passed else ': not shown.'}"
    return Control("steers beyond random directions", passed, said)


def varies(values: npt.ArrayLike, errors: npt.ArrayLike, name: str) -> Control:
    """Whether units differ by more than their noise (χ² at 0.001): a correlation of noise says nothing of theories.

    Intervals without width tell no noise, so that nothing can be said.
    """
    x, e = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    noise = float(np.mean(e**2))
    if not noise > 0:
        return Control(f"{name} varies", False, f"the intervals of {name} have no width, so that its noise is unknown.")
    ratio = float(x.var(ddof=1)) / noise
    critical = float(stats.chi2.ppf(0.999, len(x) - 1)) / (len(x) - 1)
    said = f"the variance of {name} between units is {ratio:.2g} times its noise; {critical:.2g} would be chance"
    return Control(f"{name} varies", ratio > critical, f"{said}.")

"""Whether values have one mode or several: Hartigan's dip, with a null that is calibrated for groups."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from steerlens.errors import ActivationError
from steerlens.probes._groups import group_codes

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

COARSE = np.geomspace(0.03, 8.0, 28)
"""Densities, per standard deviation, at which excess masses are compared; refined about the best."""


@final
@dataclass(frozen=True)
class DipTest:
    """Whether a sample has more than one mode.

    Args:
        dip: Hartigan's dip: how far the distribution is from the nearest one with a single mode, in [1/(2n), 1/4].
        null: 0.95 quantile of the dip where there is one mode: samples of the smoothest curve through the data that
            has one mode, with the data's correlation within groups.
        p_value: Share of such samples, this one included, with as large a dip. Calibrated for bell-shaped laws,
            skewed and heavy-tailed ones included; for flat-topped ones it is too small (a uniform law falls below
            0.05 in one to two of ten samples).
        p_uniform: The same of uniform samples, which is Hartigan's own test. It holds its level for every law with
            one mode, and for a bell-shaped one it nearly never rejects: much power is lost.
    """

    dip: float
    null: float
    p_value: float
    p_uniform: float

    def __str__(self) -> str:
        return f"{self.dip:.3g}, one mode below {self.null:.3g} (p = {self.p_value:.2g}, uniform {self.p_uniform:.2g})"


def dip(values: npt.ArrayLike) -> Array:
    """Hartigan's dip of each row of values: sup |F − U| for the distribution U with one mode that makes it least.

    Half the largest gain in excess mass, over densities λ, of two intervals over one: E_m(λ) is the most of
    F(I) − λ|I| that m disjoint intervals collect. The density is searched for on a grid that is refined about the
    best, which may leave the dip up to a hundredth of itself too small.

    Args:
        values: Shape (..., n).

    References:
        hartigan1985; muller1991 (dip and excess mass).
    """
    given = np.asarray(values, dtype=np.float64)
    x = np.sort(given.reshape(-1, given.shape[-1]), axis=1)
    spread = x.std(axis=1, keepdims=True)
    # Equal values have no scale; what is left of them is the mass of one value, 1/(2n).
    x = (x - x.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    found = np.concatenate([_largest_gain(part) for part in np.array_split(x, max(1, x.size // 16_000))]) / 2
    return found.reshape(given.shape[:-1])


def dip_test(values: npt.ArrayLike, groups: Sequence[Hashable], *, seed: int, n_samples: int = 500) -> DipTest:
    """Test whether values have more than one mode.

    The null is drawn from the data smoothed until one mode is left (with the least bandwidth that does so), as in
    Silverman's test; values of one group are correlated as they are in the data.

    Args:
        values: Shape (n,).
        groups: The group of each value.
        seed: Of the samples.
        n_samples: How many.

    Raises:
        ActivationError: If a value is not finite.
        EstimateError: If there are fewer than five groups.

    References:
        hartigan1985; silverman1981 (critical bandwidth); ameijeiras2019 (both together).
    """
    x = np.asarray(values, dtype=np.float64)
    codes = group_codes(groups, len(x))
    if not np.isfinite(x).all():
        raise ActivationError("A dip needs finite values, but some are NaN or infinite.")
    if x.std() <= 1e-9 * np.abs(x).max():
        return DipTest(0.5 / len(x), 0.5 / len(x), 1.0, 1.0)
    found = float(dip(x))
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_samples, int(codes.max()) + 1))[:, codes]
    alone = rng.normal(size=(n_samples, len(x)))
    scores = special.ndtri((np.argsort(np.argsort(x, kind="stable"), kind="stable") + 0.5) / len(x))
    within = intraclass_correlation(scores, codes)
    u = special.ndtr(np.sqrt(within) * shared + np.sqrt(1 - within) * alone)
    centres, mass = _one_mode(x)
    null, flat = dip(np.interp(u, np.cumsum(mass) / mass.sum(), centres)), dip(u)
    return DipTest(
        dip=found,
        null=float(np.quantile(null, 0.95)),
        p_value=float((1 + (null >= found).sum()) / (1 + n_samples)),
        p_uniform=float((1 + (flat >= found).sum()) / (1 + n_samples)),
    )


def intraclass_correlation(values: Array, codes: Codes) -> float:
    """Share of the variance that lies between groups, from one-way analysis of variance, in [0, 1)."""
    sizes = np.bincount(codes).astype(float)
    n, k = len(values), len(sizes)
    if k == n:
        return 0.0
    means = np.bincount(codes, values) / sizes
    within = ((values - means[codes]) ** 2).sum() / (n - k)
    between = (sizes * (means - values.mean()) ** 2).sum() / (k - 1)
    size = (n - (sizes**2).sum() / n) / (k - 1)
    variance = max((between - within) / size, 0.0)
    return float(min(variance / max(variance + within, 1e-300), 0.999))


def _largest_gain(x: Array) -> Array:
    """Largest gain over all densities, for sorted rows of unit variance."""
    coarse = np.stack([_gain(x, np.full(len(x), density)) for density in COARSE])
    best = COARSE[coarse.argmax(axis=0)]
    step = COARSE[1] / COARSE[0]
    fine = [_gain(x, best * step**power) for power in np.linspace(-0.9, 0.9, 10)]
    largest: Array = np.maximum(coarse.max(axis=0), np.stack(fine).max(axis=0))
    return largest


def _gain(x: Array, density: Array) -> Array:
    """Excess mass of two intervals less that of one, for sorted rows, at a density for each row."""
    n = x.shape[1]
    line = density[:, None] * x
    ends, starts = np.arange(1, n + 1) / n - line, np.arange(n) / n - line
    left = np.maximum.accumulate(ends - np.minimum.accumulate(starts, axis=1), axis=1)
    right = np.maximum.accumulate(np.maximum.accumulate(ends[:, ::-1], axis=1) - starts[:, ::-1], axis=1)[:, ::-1]
    gain: Array = (left[:, :-1] + right[:, 1:]).max(axis=1) - left[:, -1]
    return gain


def _one_mode(x: Array, n_cells: int = 1024) -> tuple[Array, Array]:
    """Places and masses of the data smoothed by the least normal kernel that leaves one mode."""
    low, high = x.min() - 3 * x.std(), x.max() + 3 * x.std()
    counts, edges = np.histogram(x, bins=n_cells, range=(low, high))
    cell = (high - low) / n_cells

    def smooth(bandwidth: float) -> Array:
        density: Array = ndimage.gaussian_filter1d(counts.astype(float), bandwidth / cell, mode="constant", truncate=6)
        return density

    rough, enough = 0.01 * x.std(), 3 * x.std()
    for _ in range(14):
        middle = float(np.sqrt(rough * enough))
        step = np.sign(np.diff(smooth(middle)))
        step = step[step != 0]
        one = ((step[:-1] > 0) & (step[1:] < 0)).sum() <= 1
        rough, enough = (rough, middle) if one else (middle, enough)
    return edges[1:], smooth(enough) + 1e-300

"""The facts of the method notes that need no map: slopes, intervals, power, and measures of shape."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from scipy.spatial import KDTree

Row = tuple[str, float, float, str, int]
"""Name, theirs, ours, within, n."""

STRENGTHS = np.array([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
Array = npt.NDArray[np.float64]


def theory_facts(seed: int) -> Iterator[Row]:
    yield from slope_facts()
    yield from interval_facts()
    yield from power_facts()
    yield from dimension_facts(seed)
    yield from shape_facts(seed)


def slope_facts() -> Iterator[Row]:
    """Least-squares slope of propensity on seven strengths."""

    def slope(m: Array) -> float:
        return float(np.polyfit(STRENGTHS, m, 1)[0])

    rng = np.random.default_rng(0)
    m = rng.normal(size=7)
    yield "slope on seven strengths is Σλm/7", float(STRENGTHS @ m / 7), slope(m), "1e-12", 7
    yield "slope of an even response", 0.0, slope(STRENGTHS**2), "1e-12", 7
    for gain, theirs in ((0.5, 1.76), (1, 2.69), (2, 3.24), (4, 3.41)):
        yield f"slope of 4 tanh({gain:g} λ)", theirs, slope(4 * np.tanh(gain * STRENGTHS)), "0.005", 7


def interval_facts() -> Iterator[Row]:
    for n, theirs in ((50, 0.12), (100, 0.09), (200, 0.063), (500, 0.04)):
        ends = stats.binomtest(round(0.3 * n), n).proportion_ci(method="wilson")
        yield f"Wilson half-width at p = 0.3, n = {n}", theirs, (ends.high - ends.low) / 2, "0.006", n
    for rho, n, low, high in ((0.76, 36, 0.54, 0.88), (0.5, 12, -0.14, 0.85)):
        half = 1.96 * np.sqrt((1 + rho**2 / 2) / (n - 3))
        yield f"Spearman {rho:g}, N = {n}: lower end", low, float(np.tanh(np.arctanh(rho) - half)), "0.01", n
        yield f"Spearman {rho:g}, N = {n}: upper end", high, float(np.tanh(np.arctanh(rho) + half)), "0.01", n


def power_facts() -> Iterator[Row]:
    for n, theirs in ((12, 0.73), (20, 0.59), (36, 0.45), (40, 0.43)):
        # Fisher's interval for Pearson's r; the correction for ranks, which the intervals above have, makes it larger.
        detectable = float(np.tanh((1.96 + 0.8416) / np.sqrt(n - 3)))
        yield f"Detectable correlation (Pearson) at power 0.8, N = {n}", theirs, detectable, "0.01", n
    for level, row in ((0.05, (787, 198, 89, 34)), (0.005, (1335, 337, 152, 57))):
        for d, theirs in zip((0.1, 0.2, 0.3, 0.5), row, strict=True):
            yield f"Pairs for power 0.8, d_z = {d:g}, level {level:g}", theirs, _pairs(d, level), "1", 0


def _pairs(d: float, level: float) -> int:
    """Fewest pairs of a two-sided paired t test."""
    n = 3
    while True:
        cut = special.stdtrit(n - 1, 1 - level / 2)
        noncentral = d * np.sqrt(n)
        power = stats.nct.sf(cut, n - 1, noncentral) + stats.nct.cdf(-cut, n - 1, noncentral)
        if power >= 0.8:
            return n
        n += 1


def dimension_facts(seed: int, n: int = 1500) -> Iterator[Row]:
    """TwoNN of a ring and a sphere in 64 dimensions, with and without noise.

    Noise counts for more the denser the rows lie: at 4000 rows the sphere has 16, at 500 it has 6.
    """
    rng = np.random.default_rng(seed)
    for name, d, clean, noisy in (("ring", 2, 1.0, 25.0), ("sphere", 3, 2.0, 10.0)):
        x = np.zeros((n, 64))
        x[:, :d] = rng.normal(size=(n, d))
        x[:, :d] /= np.linalg.norm(x[:, :d], axis=1, keepdims=True)
        yield f"TwoNN of a unit {name}", clean, _two_nn(x), "0.1", n
        yield f"TwoNN of a unit {name} with noise 0.01", noisy, _two_nn(x + 0.01 * rng.normal(size=x.shape)), "x1.5", n
        yield f"TwoNN of a unit {name} with noise 0.05", 28.5, _two_nn(x + 0.05 * rng.normal(size=x.shape)), "x1.5", n


def _two_nn(x: Array) -> float:
    near = KDTree(x).query(x, k=3)[0]
    return float(len(x) / np.log(near[:, 2] / near[:, 1]).sum())


def shape_facts(seed: int, n: int = 4000) -> Iterator[Row]:
    """Mixture share and separability (bits) of two-dimensional clouds."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.random(n)
    first = rng.random(n) < 0.5
    around = 2 * np.pi * rng.integers(0, 7, size=n) / 7
    seven = np.stack([np.cos(around), np.sin(around)], 1) + 0.1 * rng.normal(size=(n, 2))
    clouds = {
        "ring": (np.stack([np.cos(angle), np.sin(angle)], 1), 0.23, 1.48),
        "seven clusters on a ring": (seven, 0.23, 1.18),
        "Gaussian": (rng.normal(size=(n, 2)), 0.09, 0.01),
        "uniform": (rng.random((n, 2)) - 0.5, 0.11, 0.01),
        "two axes": (np.stack([first, ~first], 1) * rng.normal(size=(n, 2)), 0.54, 0.33),
    }
    for name, (x, mixture, bits) in clouds.items():
        yield f"{name}: mixture share", mixture, _mixture(x), "0.03", n
        yield f"{name}: separability, bits", bits, _separability(x), "0.1", n


def _rotated(x: Array) -> Iterator[Array]:
    for theta in np.linspace(0, np.pi, 180, endpoint=False):
        turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        yield x @ turn


def _separability(x: Array) -> float:
    """Least mutual information of two coordinates over rotations, on a grid of 10 by 10."""
    found = []
    for z in _rotated(x):
        joint = np.histogram2d(z[:, 0], z[:, 1], bins=10)[0] / len(z)
        product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        found.append(float((joint[seen] * np.log2(joint[seen] / product[seen])).sum()))
    return min(found)


def _mixture(x: Array, width: float = 0.1) -> float:
    """Largest share of rows within ±width standard deviations about any line."""
    best = 0.0
    for z in _rotated(x):
        v = np.sort(z[:, 0])
        # |v + c| below width times the root mean square of v + c, which the offset enlarges
        for c in -np.quantile(v, np.linspace(0.01, 0.99, 99)):
            best = max(best, float((np.abs(v + c) < width * np.sqrt(((v + c) ** 2).mean())).mean()))
    return best

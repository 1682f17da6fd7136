"""Labels exchanged in ways that respect the groups: what a probe finds where there is nothing to find."""

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def permuted_labels(y: Labels, codes: Labels, *, generator: np.random.Generator, count: int = 1) -> Labels:
    """Labellings drawn as if labels said nothing, shape (count, n).

    * Groups of one label (an entity is true or false) exchange their labels with each other, as wholes.
    * Groups with as many rows of one label as of the other (pairs) exchange the two or do not, as wholes: rows of a
      group may be as alike as they like, and so may their differences.
    * Other groups permute their labels within.

    Args:
        y: Labels, shape (n,).
        codes: The group of each row, as numbers from 0.
        generator: Of the exchanges.
        count: Labellings.
    """
    sizes = np.bincount(codes)
    ones = np.bincount(codes, y)
    pure, balanced = (ones == 0) | (ones == sizes), 2 * ones == sizes
    found = np.tile(y, (count, 1))
    if pure.any():
        labels = (ones[pure] > 0).astype(np.int64)
        place = pure.cumsum() - 1
        mixed = generator.permuted(np.tile(labels, (count, 1)), axis=1)
        rows = pure[codes]
        found[:, rows] = mixed[:, place[codes[rows]]]
    flips = generator.integers(0, 2, size=(count, len(sizes)))
    rows = balanced[codes]
    found[:, rows] ^= flips[:, codes[rows]]
    for g in np.flatnonzero(~pure & ~balanced):
        rows = codes == g
        found[:, rows] = generator.permuted(found[:, rows], axis=1)
    return found


@final
@dataclass(frozen=True)
class AurocNull:
    """The area under the ROC curve where labels say nothing.

    Args:
        p_value: Share of labellings, the true one included, whose area is as large.
        low: 0.025 quantile of the area over labellings.
        high: 0.975 quantile.
    """

    p_value: float
    low: float
    high: float


def least_p_value(y: Labels, codes: Labels) -> float:
    """One over the number of labellings that `permuted_labels` can draw: no p-value can be expected below it."""
    sizes = np.bincount(codes)
    ones = np.bincount(codes, y)
    pure, balanced = (ones == 0) | (ones == sizes), 2 * ones == sizes
    others = ~pure & ~balanced
    log_count = balanced.sum() * np.log(2) + _log_choices(int(pure.sum()), int((ones[pure] > 0).sum()))
    pairs = zip(sizes[others].tolist(), ones[others].tolist(), strict=True)
    log_count += sum(_log_choices(int(n), int(k)) for n, k in pairs)
    return float(np.exp(-log_count))


def _log_choices(n: int, k: int) -> float:
    return float(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def auroc_p_value(scores: Array, y: Labels, codes: Labels, *, seed: int, count: int = 999) -> float:
    """The p-value of `auroc_null`."""
    return auroc_null(scores, y, codes, seed=seed, count=count).p_value


def auroc_null(scores: Array, y: Labels, codes: Labels, *, seed: int, count: int = 999) -> AurocNull:
    """Permutation test of the area under the ROC curve, and its range where labels say nothing.

    The scores stay: the probe was fitted to other rows, so that under the null its scores have nothing to do with the
    labels of these. The statistic is the mean area over seeds.

    Args:
        scores: Shape (seed, n).
        y: Labels, shape (n,).
        codes: The group of each row.
        seed: Of the exchanges.
        count: Labellings drawn.
    """
    drawn = permuted_labels(y, codes, generator=np.random.default_rng(seed), count=count)
    ranks = stats.rankdata(scores, axis=1).mean(axis=0)

    def area(labels: Labels) -> Array:
        ones = labels.sum(axis=1)
        zeros = labels.shape[1] - ones
        found: Array = (labels @ ranks - ones * (ones + 1) / 2) / np.maximum(ones * zeros, 1)
        return found

    areas = area(drawn)
    # Rounding must not make a tie a difference.
    p_value = float((1 + (areas >= area(y[None])[0] - 1e-12).sum()) / (1 + count))
    return AurocNull(p_value, *(float(q) for q in np.quantile(areas, (0.025, 0.975))))

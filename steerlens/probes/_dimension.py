"""How many dimensions activations fill, globally and at each scale."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from steerlens.errors import FitError
from steerlens.numerics import Estimate
from steerlens.probes._curvature import principal_coordinates
from steerlens.probes._groups import group_blocks, group_codes, group_halves
from steerlens.probes._jackknife import half_samples, jackknife
from steerlens.probes._pairs import finite_rows, span_coordinates

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

PLATEAU = 1.2
"""Dimensions of three scales in a row that differ by at most this factor are a plateau."""


FULL = 0.75
"""A dimension above this share of the components that were kept may be theirs."""


@final
@dataclass(frozen=True)
class ScaleDimension:
    """Dimension as seen between the distances to the k/2-th and to the k-th nearest neighbour.

    Args:
        k: The farther neighbour; 2 is the TwoNN estimator.
        radius: Median distance to it.
        dimension: What a uniform density of that dimension gives.
    """

    k: int
    radius: float
    dimension: Estimate


@final
@dataclass(frozen=True)
class DimensionReport:
    """Dimensions by covariance and by neighbours.

    Args:
        participation_ratio: (tr Σ)² / tr Σ², from unbiased estimates of both: d for an isotropic cloud, 1 for a line.
        plug_in_participation_ratio: From the sample covariance. It cannot exceed n − 1, and for n ≪ d it is near that,
            whatever Σ is.
        effective_rank: exp of the entropy of the eigenvalues' shares, from the sample covariance: too small where n is
            not many times d. There is no simple correction; use the participation ratio.
        scales: Dimension at each scale of neighbourhood, k = 2, 4, 8 and so on.
        plateau: The dimension where three or more scales in a row agree, if they do and n rows can show so many
            dimensions at all: at most 2 log₁₀ n, and not nearly as many as components were kept, which noise fills.
            None is no claim: noise makes the dimension fall with the scale.
        rank: Principal components in which neighbours are looked for.
        n: Rows.
        n_clusters: Groups.
    """

    participation_ratio: Estimate
    plug_in_participation_ratio: float
    effective_rank: Estimate
    scales: tuple[ScaleDimension, ...]
    plateau: Estimate | None
    rank: int
    n: int
    n_clusters: int

    @property
    def two_nn(self) -> Estimate:
        """The dimension at the smallest scale, TwoNN. It sees noise first: see ``scales``."""
        return self.scales[0].dimension

    def __str__(self) -> str:
        lines = [
            f"Dimension ({self.n} rows in {self.n_clusters} groups)",
            f"  participation ratio  {self.participation_ratio}, plug-in {self.plug_in_participation_ratio:.3g}",
            f"  effective rank       {self.effective_rank}, plug-in",
            *(f"  k = {s.k:<4} {s.radius:>9.3g}  {s.dimension}" for s in self.scales),
            f"  plateau              {'none' if self.plateau is None else self.plateau}",
        ]
        return "\n".join(lines)


def dimension_report(
    x: Float[Tensor, "n d_model"], groups: Sequence[Hashable], *, seed: int, rank: int = 10
) -> DimensionReport:
    """Measure how many dimensions rows fill.

    Noise of one hundredth in each of 64 coordinates makes a unit circle look 25-dimensional to TwoNN. Neighbours are
    therefore looked for in leading principal components; better still, give means of classes.

    Args:
        x: Rows, or means of classes.
        groups: The group of each row. A neighbour is a random row of another group, so that rows of one group, which
            lie together, do not pass for a dense spot.
        seed: Of which row stands for a group.
        rank: Leading principal components in which neighbours are looked for.

    Raises:
        ActivationError: If rows are not finite.
        FitError: If rows do not vary, or too few groups have distinct rows.
        OptionError: If there is not one group for each row, or ``rank`` is below 1.
        EstimateError: If there are fewer than five groups.

    References:
        facco2017 (TwoNN); denti2022 (later neighbours); chen2010b (unbiased traces); roy2007 (effective rank);
        eckmann1992 (2 log₁₀ n).
    """
    rows = finite_rows(x)
    codes = group_codes(groups, len(rows))
    z, short = principal_coordinates(rows, rank), span_coordinates(rows - rows.mean(dim=0))
    blocks = group_blocks(codes)
    keeps = [blocks != block for block in range(int(blocks.max()) + 1)]
    gram = short @ short.T
    ratio = participation_ratio(gram, codes)
    ratios = np.array([participation_ratio(gram[np.ix_(k, k)], codes[k]) for k in keeps])
    logs = jackknife(np.log(ratio), np.log(np.maximum(ratios, 1.0)), codes)
    ranks = np.array([effective_rank(short[k]) for k in keeps])
    scales = _scales(z, codes, seed)
    values = _variances(short)
    return DimensionReport(
        participation_ratio=Estimate(
            ratio, float(np.exp(logs.low)), float(np.exp(logs.high)), logs.level, logs.n, logs.n_clusters, logs.method
        ),
        plug_in_participation_ratio=float(values.sum() ** 2 / (values**2).sum()),
        effective_rank=jackknife(effective_rank(short), ranks, codes, within=(1.0, np.inf)),
        scales=scales,
        plateau=_plateau(scales, len(rows), z.shape[1] if z.shape[1] < (values > 1e-12 * values.max()).sum() else None),
        rank=z.shape[1],
        n=len(rows),
        n_clusters=int(codes.max()) + 1,
    )


def participation_ratio(gram: Array, codes: Codes) -> float:
    """(tr Σ)² / tr Σ² of rows with this Gram matrix, both from products of rows of different groups, at least 1.

    For rows w, x, y, z of four groups, E ((w − x)·(y − z))² / 4 is tr Σ² and E |w − x|² |y − z|² / 4 is (tr Σ)²; all
    such quadruples are summed, in closed form.

    References:
        chen2010b (the same sums for independent rows).
    """
    order = np.argsort(codes, kind="stable")
    gram, codes = gram[np.ix_(order, order)], codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    sizes = np.diff(starts, append=len(codes)).astype(float)
    between = codes[:, None] != codes
    length = gram.diagonal()
    to_groups = np.add.reduceat(gram * between, starts, axis=1)
    counts = np.add.reduceat(between.astype(float), starts, axis=1)
    Q, N = np.add.reduceat(to_groups, starts, axis=0), np.outer(sizes, sizes)
    np.fill_diagonal(N, 0.0)
    two = (between * gram**2).sum() / N.sum()
    three = (to_groups.sum(axis=1) ** 2 - (to_groups**2).sum(axis=1)).sum()
    n_three = (counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)).sum()
    four = _distinct(Q) / _distinct(N)
    squares = two - 2 * three / n_three + four
    lengths, n_pairs = np.add.reduceat(length, starts), N.sum()
    pairs = (lengths.sum() ** 2 - (lengths**2).sum()) / n_pairs
    # |x|² with the product of rows of two further groups.
    touching = Q.sum(axis=1)
    mixed = (lengths * (Q.sum() - 2 * touching)).sum()
    n_mixed = (sizes * (N.sum() - 2 * N.sum(axis=1))).sum()
    traces = pairs - 2 * mixed / n_mixed + four
    smallest = float(length.mean()) ** 2 / max(len(gram), 2) ** 2
    return max(float(traces / max(squares, smallest)), 1.0)


def effective_rank(x: Array) -> float:
    """exp H(λ / Σλ) of the sample covariance of the rows.

    References:
        roy2007.
    """
    values = _variances(x)
    p = values / max(float(values.sum()), 1e-300)
    return float(np.exp(-(p * np.log(np.where(p > 0, p, 1.0))).sum()))


def _variances(x: Array) -> Array:
    centred = x - x.mean(axis=0)
    small = centred.T @ centred if len(x) > x.shape[1] else centred @ centred.T
    values: Array = np.maximum(np.linalg.eigvalsh(small), 0.0)
    return values


def _distinct(Q: Array) -> float:
    """Σ Q_gh Q_kl over four different groups, for a symmetric matrix with a zero diagonal."""
    return float(Q.sum() ** 2 - 4 * (Q.sum(axis=1) ** 2).sum() + 2 * (Q**2).sum())


def _scales(z: Array, codes: Codes, seed: int) -> tuple[ScaleDimension, ...]:
    """Dimension at k = 2, 4, … up to a quarter of the groups."""
    n_groups = int(codes.max()) + 1
    order = np.random.default_rng(seed).permutation(len(z))
    standing = order[np.unique(codes[order], return_index=True)[1]]
    distance = torch.cdist(torch.tensor(z), torch.tensor(z[standing])).numpy()
    distance[codes[:, None] == codes[standing]] = np.inf
    ks = [2**i for i in range(1, 12) if 2**i <= max(n_groups // 4, 2)]
    nearest = np.argsort(distance, axis=1)
    lengths = np.take_along_axis(distance, nearest, axis=1)
    found = _by_scale(lengths, np.ones_like(nearest, dtype=bool), ks)
    halves = [_by_scale(lengths[h], h[standing][nearest[h]], ks) for h in group_halves(codes, seed)]
    if not np.isfinite(found).all() or not np.isfinite(halves).all():
        raise FitError("Dimension by neighbours needs distinct rows, but most have a copy in another group.")
    radii = np.median(lengths[:, [k - 1 for k in ks]], axis=0)
    return tuple(
        ScaleDimension(k, float(radii[i]), half_samples(found[i], np.array(halves)[:, i], codes, within=(0.0, np.inf)))
        for i, k in enumerate(ks)
    )


def _by_scale(lengths: Array, kept: npt.NDArray[np.bool_], ks: Sequence[int]) -> Array:
    """(ψ(k) − ψ(k/2)) / mean log(r_k / r_{k/2}): the mean is that of a ratio of volumes, which is a beta variable.

    Rows of ``lengths`` are sorted; neighbours that are not kept do not count.
    """
    rank = kept.cumsum(axis=1)
    radius = {k: lengths[np.arange(len(lengths)), (rank >= k).argmax(axis=1)] for k in (1, *ks)}
    found = []
    for k in ks:
        inner, outer = radius[k // 2], radius[k]
        apart = (inner > 0) & (outer > inner) & np.isfinite(outer)
        logs = np.log(outer[apart] / inner[apart]).mean() if apart.any() else np.nan
        found.append((special.digamma(k) - special.digamma(k // 2)) / logs)
    return np.array(found)


def _plateau(scales: Sequence[ScaleDimension], n: int, cut: int | None) -> Estimate | None:
    """The middle of the longest run of scales that agree; of equally long ones that at the largest scale.

    No claim above 2 log₁₀ n, nor, where components were cut off, near the number of those kept: noise fills them.
    """
    best: Sequence[ScaleDimension] = ()
    for start in range(len(scales)):
        for stop in range(start + 3, len(scales) + 1):
            values = [s.dimension.value for s in scales[start:stop]]
            if max(values) <= PLATEAU * min(values) and stop - start >= len(best):
                best = scales[start:stop]
    if not best:
        return None
    middle = best[len(best) // 2].dimension
    most = 2 * np.log10(n) if cut is None else min(2 * np.log10(n), FULL * cut)
    return middle if middle.value <= most else None

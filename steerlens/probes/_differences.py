"""How well the differences of contrasting pairs agree with one direction, and how far it separates the classes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import ndimage, special
from torch import Tensor

from steerlens.errors import ActivationError, EstimateError, OptionError
from steerlens.numerics import Estimate, cluster_mean, unit
from steerlens.numerics._resample import MIN_CLUSTERS

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which quantiles of the per-pair cosines a report gives."""

N_BINS = 50
"""Bins of the plug-in overlap coefficient, as published."""

N_FOLDS = 10
"""Into so many folds groups are dealt, or as many as there are groups."""

N_BLOCKS = 20
"""At most so many parts are left out in turn by a jackknife."""

COARSE = np.geomspace(0.03, 8.0, 28)
"""Densities, per standard deviation, at which excess masses are compared; refined about the best."""


def coherence(differences: Float[Tensor, "pair d_model"], groups: Sequence[Hashable], *, seed: int) -> Estimate:
    """Mean cosine of the pairs' differences with their mean, in [−1, 1].

    References:
        braun2025 (directional agreement).
    """
    d = differences.double()
    cosines = torch.nn.functional.normalize(d, dim=1) @ unit(d.mean(dim=0))
    return cluster_mean(cosines.numpy(), groups, seed=seed)


def d_prime(positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "m d_model"]) -> float:
    """Separation of the classes along the line through their means, in pooled standard deviations.

    |m₊ − m₋| / √(½ (s₊² + s₋²)). On the pairs that the direction was fitted to it is too large; use held-out ones, or
    `difference_report`, which holds out.

    References:
        braun2025 (discriminability index).
    """
    v = unit(positive.double().mean(dim=0) - negative.double().mean(dim=0))
    plus, minus = positive.double() @ v, negative.double() @ v
    return float((plus.mean() - minus.mean()).abs() / ((plus.var() + minus.var()) / 2).sqrt())


def split_half_cosine(differences: Float[Tensor, "pair d_model"], *, seed: int, n_splits: int = 100) -> float:
    """Mean cosine of the mean differences of two random halves, in [−1, 1].

    A positive r is corrected to the full size, 2r / (1 + r).

    References:
        spearman1910, brown1910.
    """
    generator = torch.Generator().manual_seed(seed)
    d = differences.double()
    half = len(d) // 2
    order = torch.stack([torch.randperm(len(d), generator=generator) for _ in range(n_splits)])
    first, second = d[order[:, :half]].mean(dim=1), d[order[:, half : 2 * half]].mean(dim=1)
    r = float(torch.nn.functional.cosine_similarity(first, second, dim=1).mean())
    return 2 * r / (1 + r) if r > 0 else r


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


@final
@dataclass(frozen=True)
class DifferenceReport:
    """How far one direction tells the classes apart, on pairs that it was not fitted to.

    Each of ten folds of groups is read along Δ of the other folds. A value is what Δ of that many pairs is expected to
    give on new pairs, and its interval counts that other pairs would have given another Δ.

    Args:
        coherence: Mean cosine of dᵢ with Δ of all pairs, dᵢ included, as published. Noise gives about 1/√n.
        alignment: Mean cosine of dᵢ with Δ of the other folds. Noise gives 0.
        opposed: Share of pairs with a negative such cosine. Noise gives a half.
        cosines: Quantiles of these cosines at `QUANTILES`.
        d_prime: Difference of the class means along Δ in pooled standard deviations, with its sign.
        auroc: Probability that a positive row lies farther along Δ than a negative one.
        overlap: Share of the classes' mass that a threshold halfway between the means leaves on the wrong side, the
            sum of both error rates: the overlap coefficient where that threshold is the best, and an upper bound else.
        binned_overlap: The published coefficient, Σ min(p, q) over 50 bins. Empty bins make it too small.
        binned_overlap_null: The mean of that where labels are exchanged, so that the true overlap is 1: what is
            missing to 1 is the bias.
        bimodality: Dip test of dᵢ · Δ̂ of the other folds.
        split_half: Cosine of Δ from two random halves of the groups, corrected to the full size.
        n: Pairs.
        n_clusters: Groups.
    """

    coherence: Estimate
    alignment: Estimate
    opposed: Estimate
    cosines: tuple[float, ...]
    d_prime: Estimate
    auroc: Estimate
    overlap: Estimate
    binned_overlap: float
    binned_overlap_null: float
    bimodality: DipTest
    split_half: float
    n: int
    n_clusters: int

    def __str__(self) -> str:
        quantiles = ", ".join(f"{q:.0%} {c:.2f}" for q, c in zip(QUANTILES, self.cosines, strict=True))
        lines = (
            f"Differences of {self.n} pairs in {self.n_clusters} groups",
            f"  coherence          {self.coherence}, noise {self.n_clusters**-0.5:.2g}",
            f"  alignment          {self.alignment}, noise 0 ({quantiles})",
            f"  opposed pairs      {self.opposed}, noise 0.5",
            f"  d'                 {self.d_prime}, held out, noise 0",
            f"  AUROC              {self.auroc}, held out, noise 0.5",
            f"  overlap            {self.overlap}, held out, noise 1",
            f"  overlap, 50 bins   {self.binned_overlap:.3g}, equal classes {self.binned_overlap_null:.3g}",
            f"  dip                {self.bimodality}",
            f"  split-half cosine  {self.split_half:.3g}",
        )
        return "\n".join(lines)


def difference_report(
    positive: Float[Tensor, "pair d_model"],
    negative: Float[Tensor, "pair d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    n_samples: int = 500,
) -> DifferenceReport:
    """Measure how well one direction describes pairs and separates their classes.

    Args:
        positive: Activations with the concept.
        negative: Of the other halves of the pairs, in the same order.
        groups: The group of each pair; a group is held out as a whole.
        seed: Of folds, exchanges and simulated samples.
        n_samples: Samples with one mode, for the dip test.

    Raises:
        ActivationError: If the rows are not pairs, or not finite.
        OptionError: If there is not one group for each pair.
        EstimateError: If there are fewer than five groups.
        FitError: If Δ is zero.

    References:
        braun2025 (coherence, d′, overlap); hartigan1985 (dip).
    """
    plus, minus = paired_rows(positive, negative)
    codes = group_codes(groups, len(plus))
    d = plus - minus
    unit(d.mean(dim=0))
    short = span_coordinates(torch.cat([plus, minus]))
    high_rows, low_rows = short[: len(d)], short[len(d) :]
    folds, blocks = group_folds(codes, N_FOLDS, seed), group_blocks(codes)
    everything = np.ones(len(d), dtype=bool)
    read = _read(high_rows, low_rows, folds, everything)
    found = _held_out(high_rows, low_rows, folds, everything)
    left_out = np.stack([_held_out(high_rows, low_rows, folds, blocks != b) for b in range(int(blocks.max()) + 1)])
    opposed, auroc, wrong = (jackknife_share(found[i], left_out[:, i], codes) for i in (1, 3, 4))
    binned, binned_null = _binned_overlap(read, folds, codes, seed)
    return DifferenceReport(
        coherence=coherence(d, groups, seed=seed),
        alignment=jackknife(found[0], left_out[:, 0], codes, within=(-1.0, 1.0)),
        opposed=opposed,
        cosines=tuple(float(q) for q in np.quantile(read.cosine, QUANTILES)),
        d_prime=jackknife(found[2], left_out[:, 2], codes),
        auroc=auroc,
        overlap=replace(wrong, value=2 * wrong.value, low=2 * wrong.low, high=2 * wrong.high),
        binned_overlap=binned,
        binned_overlap_null=binned_null,
        bimodality=dip_test(read.high - read.low, groups, seed=seed, n_samples=n_samples),
        split_half=split_half_cosine(group_sums(d, codes), seed=seed),
        n=len(d),
        n_clusters=int(codes.max()) + 1,
    )


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
        EstimateError: If there are fewer than five groups.

    References:
        hartigan1985; silverman1981 (critical bandwidth); ameijeiras2019 (both together).
    """
    x = np.asarray(values, dtype=np.float64)
    codes = group_codes(groups, len(x))
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


def paired_rows(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Both samples in float64, checked to be finite pairs.

    Raises:
        ActivationError: If they are not.
    """
    if positive.shape != negative.shape or positive.ndim != 2:
        raise ActivationError(
            f"Differences need pairs, shape (pair, d_model) twice, but got {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}."
        )
    return finite_rows(positive), finite_rows(negative)


def finite_rows(x: Tensor) -> Tensor:
    """Rows in float64, checked to be finite.

    Raises:
        ActivationError: If they are not.
    """
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise ActivationError(f"Probes need finite rows, but {bad} of {len(x)} have NaN or infinity.")
    return x.detach().double().cpu()


def group_codes(groups: Sequence[Hashable], n: int) -> Codes:
    """Groups as numbers, in order of appearance.

    Raises:
        OptionError: If there is not one group for each row.
        EstimateError: If there are fewer than five.
    """
    if len(groups) != n:
        raise OptionError(f"Each of the {n} rows needs a group, but got {len(groups)} groups.")
    order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    if len(order) < MIN_CLUSTERS:
        raise EstimateError(f"Needs at least {MIN_CLUSTERS} groups, but got {len(order)} (n = {n}). Measure on more.")
    return np.array([order[g] for g in groups], dtype=np.int64)


def group_sums(x: Tensor, codes: Codes) -> Tensor:
    """Sum of the rows of each group."""
    return x.new_zeros(int(codes.max()) + 1, x.shape[1]).index_add_(0, torch.tensor(codes), x)


def group_folds(codes: Codes, n_folds: int, seed: int) -> Codes:
    """The fold of each row; a group is in one fold, folds are equal in groups up to one."""
    n_groups = int(codes.max()) + 1
    fold = np.arange(n_groups) % min(n_folds, n_groups)
    return np.random.default_rng(seed).permutation(fold)[codes]


def span_coordinates(x: Tensor) -> Array:
    """Coordinates of the rows in the space that they span: equal inner products, at most as many columns as rows."""
    if x.shape[1] <= x.shape[0]:
        return x.numpy()
    short: Array = torch.linalg.qr(x.T, mode="r").R.T.numpy()
    return short


def group_blocks(codes: Codes) -> Codes:
    """Groups gathered into at most `N_BLOCKS` parts, for a jackknife; the part of each row."""
    n_groups = int(codes.max()) + 1
    block: Codes = (np.arange(n_groups) * min(N_BLOCKS, n_groups) // n_groups)[codes]
    return block


def jackknife(
    value: float, left_out: Array, codes: Codes, *, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """95 % interval from the values without each block in turn: value ± t · √((B − 1)/B Σ (v₋ᵦ − v̄)²).

    For statistics that a bootstrap would bias, since a resample holds copies of rows, or that are fitted on some rows
    and scored on others, where a bootstrap of the scores alone misses that other data would fit otherwise. ``within``
    is the range of the statistic.

    References:
        tukey1958; busing1999 (blocks).
    """
    n_blocks = len(left_out)
    low, high = within
    error = np.sqrt((n_blocks - 1) / n_blocks * ((left_out - left_out.mean()) ** 2).sum())
    half = float(special.stdtrit(n_blocks - 1, 0.975) * error)
    ends = float(max(value - half, low)), float(min(value + half, high))
    method = f"block jackknife, {n_blocks}"
    return Estimate(float(value), *ends, 0.95, len(codes), int(codes.max()) + 1, method)


def jackknife_share(value: float, left_out: Array, codes: Codes) -> Estimate:
    """95 % interval of a share: Wilson's, for as many rows as its jackknife variance is worth.

    Unlike value ± t · error it stays within [0, 1], and has a width where all rows agree: each group counts once there.

    References:
        wilson1927.
    """
    n_blocks, n_groups = len(left_out), int(codes.max()) + 1
    variance = (n_blocks - 1) / n_blocks * ((left_out - left_out.mean()) ** 2).sum()
    p = min(max(value, 0.0), 1.0)
    spread = p * (1 - p)
    worth = float(np.clip(spread / variance, 1.0, len(codes))) if spread > 0 and variance > 0 else float(n_groups)
    t = float(special.stdtrit(n_blocks - 1, 0.975)) ** 2 / worth
    middle, half = (p + t / 2) / (1 + t), np.sqrt(t * spread + t**2 / 4) / (1 + t)
    low, high = min(max(middle - half, 0.0), p), max(min(middle + half, 1.0), p)
    return Estimate(p, float(low), float(high), 0.95, len(codes), n_groups, f"block jackknife, Wilson, {n_blocks}")


def share_as_large(null: Array, found: float, scale: float) -> float:
    """Permutation p-value: the share of null values, the found one included, that are at least as large.

    Values that differ by rounding alone, a billionth of ``scale``, count as equal.
    """
    return float((1 + (null >= found - 1e-9 * scale).sum()) / (1 + len(null)))


@final
@dataclass(frozen=True)
class _Read:
    """Rows of both classes along Δ̂ of the other folds, the other folds' midpoint, and cosines of dᵢ with that Δ̂."""

    high: Array
    low: Array
    middle: Array
    cosine: Array


def _read(plus: Array, minus: Array, folds: Codes, keep: npt.NDArray[np.bool_]) -> _Read:
    """Read every row along the direction that the kept rows of the other folds give."""
    d = plus - minus
    fitted = ((folds != np.arange(int(folds.max()) + 1)[:, None]) & keep).astype(float)
    directions = fitted @ d
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
    middles = (fitted @ (plus + minus) * directions).sum(axis=1) / 2 / np.maximum(fitted.sum(axis=1), 1.0)
    along = directions[folds]
    high, low = (plus * along).sum(axis=1), (minus * along).sum(axis=1)
    cosine = np.clip((high - low) / np.maximum(np.linalg.norm(d, axis=1), 1e-300), -1.0, 1.0)
    return _Read(high, low, middles[folds], cosine)


def _held_out(plus: Array, minus: Array, folds: Codes, rows: npt.NDArray[np.bool_]) -> Array:
    """Alignment, share of opposed pairs, d′, AUROC and share of rows on the wrong side, of the kept rows.

    Variances are taken, and rows compared, within folds, each of which has a direction of its own.
    """
    r, fold = _read(plus, minus, folds, rows), folds[rows]
    high, low, cosine = r.high[rows], r.low[rows], r.cosine[rows]
    same = fold[:, None] == fold
    above = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    size = np.bincount(fold, minlength=int(folds.max()) + 1)
    freedom = max(len(fold) - int((size > 0).sum()), 1)
    spread = [
        ((x - (np.bincount(fold, x, len(size)) / np.maximum(size, 1))[fold]) ** 2).sum() / freedom for x in (high, low)
    ]
    gap = (high - low).mean()
    wrong = (high < r.middle[rows]).astype(float) + (low >= r.middle[rows])
    return np.array(
        [
            cosine.mean(),
            (cosine < 0).mean(),
            gap / max(np.sqrt(np.mean(spread)), 1e-12 * abs(gap) + 1e-300),
            above[same].mean(),
            wrong.mean() / 2,
        ]
    )


def _binned_overlap(read: _Read, folds: Codes, codes: Codes, seed: int) -> tuple[float, float]:
    """The plug-in overlap coefficient, and its mean over exchanges of labels by group."""
    high, low, count = read.high, read.low, np.bincount(folds)
    centre = (np.bincount(folds, high + low) / count / 2)[folds]
    both = np.stack([high - centre, low - centre])
    edges = np.linspace(both.min(), both.max(), N_BINS + 1)
    bins = np.clip(np.searchsorted(edges, both, side="right") - 1, 0, N_BINS - 1)
    one_hot = np.eye(N_BINS)[bins]
    rng = np.random.default_rng(seed)
    kept = rng.random((100, int(codes.max()) + 1))[:, codes] < 0.5
    kept = np.concatenate([np.ones((1, len(high)), dtype=bool), kept]).astype(float)
    p = kept @ one_hot[0] + (1 - kept) @ one_hot[1]
    overlap = np.minimum(p, one_hot.sum(axis=(0, 1)) - p).sum(axis=1) / len(high)
    return float(overlap[0]), float(overlap[1:].mean())


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

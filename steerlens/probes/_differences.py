"""How well the differences of contrasting pairs agree with one direction, and how far it separates the classes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.numerics import Estimate, cluster_mean, unit
from steerlens.probes._dip import DipTest, dip_test
from steerlens.probes._groups import group_blocks, group_codes, group_folds, group_halves, group_sums
from steerlens.probes._jackknife import half_samples_share, jackknife_and_halves, jackknife_and_halves_share
from steerlens.probes._pairs import paired_rows, span_coordinates

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which quantiles of the per-pair cosines a report gives."""

N_BINS = 50
"""Bins of the plug-in overlap coefficient, as published."""

N_FOLDS = 10
"""Into so many folds groups are dealt, or as many as there are groups."""

AUROC_WORTH = 4
"""As many tosses per pair an AUROC is worth at most: 2 at d′ = 2 and 3.3 at d′ = 3; beyond, classes hardly overlap in
few rows, and what they vary by cannot be seen."""


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
    folds = group_folds(codes, N_FOLDS, seed)
    everything = np.ones(len(d), dtype=bool)
    read = _read(high_rows, low_rows, folds, everything)
    found = _held_out(high_rows, low_rows, folds, everything)
    halves = np.stack([_held_out(high_rows, low_rows, folds, half) for half in group_halves(codes, seed)])
    blocks = group_blocks(codes)
    left_out = np.stack([_held_out(high_rows, low_rows, folds, blocks != b) for b in range(int(blocks.max()) + 1)])
    opposed = half_samples_share(found[1], halves[:, 1], codes, of=len(d))
    auroc, wrong = (
        jackknife_and_halves_share(found[i], left_out[:, i], halves[:, i], codes, of=most * len(d))
        for i, most in ((3, AUROC_WORTH), (4, 2))
    )
    binned, binned_null = _binned_overlap(read, folds, codes, seed)
    return DifferenceReport(
        coherence=coherence(d, groups, seed=seed),
        alignment=jackknife_and_halves(found[0], left_out[:, 0], halves[:, 0], codes, within=(-1.0, 1.0)),
        opposed=opposed,
        cosines=tuple(float(q) for q in np.quantile(read.cosine, QUANTILES)),
        d_prime=jackknife_and_halves(found[2], left_out[:, 2], halves[:, 2], codes),
        auroc=auroc,
        overlap=replace(wrong, value=2 * wrong.value, low=2 * wrong.low, high=2 * wrong.high),
        binned_overlap=binned,
        binned_overlap_null=binned_null,
        bimodality=dip_test(read.high - read.low, groups, seed=seed, n_samples=n_samples),
        split_half=split_half_cosine(group_sums(d, codes), seed=seed),
        n=len(d),
        n_clusters=int(codes.max()) + 1,
    )


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

    Each fold has a direction of its own; rows are compared, and vary, from the midpoint of the other folds along it.
    Within folds alone they would not: of few groups a fold holds one, and what groups differ by would be gone.
    """
    r = _read(plus, minus, folds, rows)
    high, low, cosine = (r.high - r.middle)[rows], (r.low - r.middle)[rows], r.cosine[rows]
    above = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    spread = [x.var(ddof=1) for x in (high, low)]
    gap = (high - low).mean()
    wrong = (high < 0).astype(float) + (low >= 0)
    return np.array(
        [
            cosine.mean(),
            (cosine < 0).mean(),
            gap / max(np.sqrt(np.mean(spread)), 1e-12 * abs(gap) + 1e-300),
            above.mean(),
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

"""How far the mean difference of pairs can be trusted, before anything is steered with it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import ActivationError, OptionError
from steerlens.numerics import Estimate, bootstrap, cluster_mean, unit
from steerlens.probes._differences import coherence, split_half_cosine

Array = npt.NDArray[np.float64]
Reading = Literal["one direction", "stable vector, mixed behaviour", "no stable direction"]

STABLE = 0.8
"""From this split-half cosine on a vector counts as stable."""

COHERENT = 0.5
"""From this coherence on the pairs count as one direction."""

TWO_MODES = 5 / 9
"""Sarle's coefficient of a uniform distribution: above it, two modes (or a long tail on one side)."""

ROUNDING = 1e-9
"""Projections that vary by less than this share of their size do not vary."""


@final
@dataclass(frozen=True)
class DirectionReport:
    """Reliability of Δ, the mean of the differences dᵢ of pairs. Resampling takes whole groups.

    Args:
        split_half: Cosine of Δ from two random halves of the groups, corrected to the full size (Spearman and Brown).
        norm: |Δ| without the length that noise adds to it: the root of the mean of dᵢ·dⱼ over pairs of different
            groups, 0 where that is negative.
        stability: Cosine of Δ from resampled groups with Δ: median and quantiles. Where Δ is noise it is about
            1/√2 = 0.71, not 0, as resampling adds a second noise of the same length.
        coherence: Mean cosine of dᵢ with Δ. Noise gives about 1/√n.
        opposed: Share of pairs with dᵢ·Δ < 0, Δ being that of the other groups, so that noise gives a half.
        bimodality: Sarle's coefficient of dᵢ·Δ̂, (skewness² + 1) / kurtosis: 1/3 for a normal distribution, 5/9 for a
            uniform, 1 for two points; above 5/9 there are two modes or a long tail. None if they do not vary.
        squared_norm: |Δ|² without noise, which may be negative.
        null_squared_norm: Its 0.95 quantile when the labels of random groups are exchanged.
        p_value: Share of such exchanges, this one included, that give as much.
        n: Pairs.
        n_clusters: Groups.
    """

    split_half: float
    norm: Estimate
    stability: Estimate
    coherence: Estimate
    opposed: Estimate
    bimodality: Estimate | None
    squared_norm: float
    null_squared_norm: float
    p_value: float
    n: int
    n_clusters: int

    @property
    def reading(self) -> Reading:
        """What stability and coherence say together; the thresholds are conventions, the numbers are not.

        A vector that is stable though the pairs disagree is the mean of a mixture, or of pairs much noisier than their
        mean; ``bimodality`` tells the two apart.
        """
        if self.split_half < STABLE or self.p_value > 0.05:
            return "no stable direction"
        return "one direction" if self.coherence.value >= COHERENT else "stable vector, mixed behaviour"

    def __str__(self) -> str:
        two_modes = "projections do not vary" if self.bimodality is None else f"{self.bimodality}, two modes above 0.56"
        return "\n".join(
            [
                f"{self.reading} ({self.n} pairs in {self.n_clusters} groups)",
                f"  split-half cosine  {self.split_half:.3g}, stable from {STABLE:g}",
                f"  coherence          {self.coherence}, one direction from {COHERENT:g}",
                f"  opposed pairs      {self.opposed}, noise 0.5",
                f"  bimodality         {two_modes}",
                f"  norm               {self.norm}, without noise",
                f"  squared norm       {self.squared_norm:.3g}, exchanged labels below {self.null_squared_norm:.3g} "
                f"(p = {self.p_value:.2g})",
                f"  resampled cosine   {self.stability}, noise 0.71",
            ]
        )


def direction_report(
    positive: Float[Tensor, "pair d_model"],
    negative: Float[Tensor, "pair d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    n_resamples: int = 2000,
) -> DirectionReport:
    """Measure how reliable the mean difference of pairs is.

    Args:
        positive: Activations with the concept.
        negative: Of the other halves of the pairs, in the same order.
        groups: The group of each pair. Labels are exchanged by whole groups.
        seed: Of splits, resamples and exchanges.
        n_resamples: Resamples, and exchanges of labels.

    Raises:
        ActivationError: If the rows are not pairs, or not finite.
        OptionError: If there is not one group for each pair.
        EstimateError: If there are fewer than five groups.
        FitError: If Δ is zero.

    References:
        spearman1910, brown1910 (correction); pfister2013 (bimodality); braun2025 (coherence).
    """
    d = _differences(positive, negative, groups)
    order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    codes = np.array([order[g] for g in groups], dtype=np.int64)
    sums = torch.zeros(len(order), d.shape[1], dtype=torch.float64).index_add_(0, torch.tensor(codes), d)
    gram, sizes = (sums @ sums.T).numpy(), np.bincount(codes).astype(np.float64)
    norm = _norm(gram, sizes, codes, groups, seed, n_resamples)
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], size=(n_resamples, len(order)))
    squared, null = _squared_norm(gram, sizes, np.ones((1, len(order))))[0], _squared_norm(gram, sizes, signs)
    projections = (d @ unit(d.mean(dim=0))).numpy()
    others = sums.sum(dim=0) - sums[torch.tensor(codes)]
    return DirectionReport(
        # The cosine does not see lengths, so that sums over groups do for means over pairs.
        split_half=split_half_cosine(sums, seed=seed),
        norm=norm,
        stability=_stability(gram, generator, len(d), n_resamples),
        coherence=coherence(d, groups, seed=seed),
        opposed=cluster_mean(
            ((d * others).sum(dim=1) < 0).double().numpy(), groups, seed=seed, n_resamples=n_resamples
        ),
        bimodality=_bimodality(projections, groups, seed, n_resamples),
        squared_norm=float(squared),
        null_squared_norm=float(np.quantile(null, 0.95)),
        p_value=float((1 + (null >= squared).sum()) / (1 + n_resamples)),
        n=len(d),
        n_clusters=len(order),
    )


def _differences(positive: Tensor, negative: Tensor, groups: Sequence[Hashable]) -> Float[Tensor, "pair d_model"]:
    if positive.shape != negative.shape or positive.ndim != 2:
        raise ActivationError(
            f"A direction report needs pairs, shape (pair, d_model) twice, but got {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}."
        )
    if len(groups) != len(positive):
        raise OptionError(f"Each of the {len(positive)} pairs needs a group, but got {len(groups)} groups.")
    d = positive.detach().double().cpu() - negative.detach().double().cpu()
    if not torch.isfinite(d).all():
        bad = int((~torch.isfinite(d)).any(dim=1).sum())
        raise ActivationError(f"A direction report needs finite rows, but {bad} of {len(d)} pairs are not finite.")
    return d


def _squared_norm(gram: Array, sizes: Array, weights: Array) -> Array:
    """Mean of dᵢ·dⱼ over pairs of different groups, weighted (or signed) by group.

    Leaving out the pairs within a group takes out the noise, and, as a group that is drawn twice is still one group,
    does so in a bootstrap resample, too. The denominator takes the weights without signs.
    """
    w = np.abs(weights)
    total = ((weights @ gram) * weights).sum(axis=1) - weights**2 @ gram.diagonal()
    count = (w @ sizes) ** 2 - w**2 @ sizes**2
    mean: Array = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return mean


def _norm(
    gram: Array, sizes: Array, codes: npt.NDArray[np.int64], groups: Sequence[Hashable], seed: int, n_resamples: int
) -> Estimate:
    first = np.unique(codes, return_index=True)[1]

    def squared(weights: Array) -> Array:
        return _squared_norm(gram, sizes, weights[:, first])

    found = bootstrap(squared, [groups], seed=seed, n_resamples=n_resamples)
    value, low, high = (max(x, 0.0) ** 0.5 for x in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


def _stability(gram: Array, generator: np.random.Generator, n: int, n_resamples: int) -> Estimate:
    n_groups = len(gram)
    drawn = generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples).astype(np.float64)
    lengths = ((drawn @ gram) * drawn).sum(axis=1) * gram.sum()
    cosines = drawn @ gram.sum(axis=1) / np.sqrt(np.maximum(lengths, np.finfo(np.float64).tiny))
    low, middle, high = (float(q) for q in np.quantile(cosines, [0.025, 0.5, 0.975]))
    return Estimate(middle, low, high, 0.95, n, n_groups, f"cluster bootstrap, median and quantiles, {n_resamples}")


def _bimodality(projections: Array, groups: Sequence[Hashable], seed: int, n_resamples: int) -> Estimate | None:
    if projections.std() <= ROUNDING * np.abs(projections).max():
        return None
    x = (projections - projections.mean()) / projections.std()

    def sarle(weights: Array) -> Array:
        w = weights / weights.sum(axis=1, keepdims=True)
        about = x - (w @ x)[:, None]
        second, third, fourth = ((w * about**k).sum(axis=1) for k in (2, 3, 4))
        # (skewness² + 1) / kurtosis without a division by zero variance; a resample of one value is the limit of two.
        found: Array = np.divide(
            third**2 + second**3, second * fourth, out=np.ones_like(second), where=second > ROUNDING**2
        )
        return found

    return bootstrap(sarle, [groups], seed=seed, n_resamples=n_resamples, bounds=(0.0, 1.0))

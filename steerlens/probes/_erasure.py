"""What is left of a concept when nothing linear is: erase its mean difference, then probe again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt
from scipy import stats

from steerlens.numerics import Estimate
from steerlens.numerics._codes import codes_of
from steerlens.probes._families import LogisticProbe, MLPProbe, NearestNeighbours, Probe, fit_together
from steerlens.probes._intervals import mean_interval, share_interval
from steerlens.probes._linear_probes import lda_weights, mean_difference
from steerlens.probes._permutation import auroc_p_value, least_p_value
from steerlens.probes._rows import LabelledRows
from steerlens.probes._scores import base_rate, check_splits, labelled_problems, log_odds_of
from steerlens.probes._span import FitData, Span, principal_axes

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Reading = Literal[
    "broken eraser",
    "nonlinear code beside the linear one",
    "erasure took the nonlinear code with it",
    "nothing nonlinear",
    "too few groups to tell",
]

FAR = 0.05
"""From this lower end of the raw gap in accuracy on, the raw rows have a nonlinear code."""

MARGIN = 0.03
"""Accuracy beyond chance, or beyond what linear functions still tell, that counts."""

REFITTED = 0.15
"""Standard deviations of mean difference that break an eraser: the accuracy of a linear probe is then 0.53."""

P_VALUE = 0.025
"""Of either nonlinear probe, as there are two."""


@final
@dataclass(frozen=True)
class ErasureReport:
    """Accuracies on test rows before and after erasure.

    Args:
        raw_linear: Of the linear probe before.
        raw_mlp: Of a network before.
        raw_knn: Of neighbours before.
        erased_linear: Of the linear probe after; it must be at chance.
        erased_mlp: Of a network after.
        erased_knn: Of neighbours after.
        refitted: Mean difference of test rows, in standard deviations, along the linear probe refitted to the erased
            fit rows. Without mean difference it is 0, whereas the accuracy of a threshold need not be a half: parity
            has skewed projections.
        left: The same along Fisher's direction of the erased select rows, which the eraser has not seen. An eraser
            fitted to n rows of width d misses about √(4d/n). No probe of the fit rows can find it: they have none.
        null_mlp: After, of a network fitted to permuted labels and scored on permuted labels.
        null_knn: The same of neighbours.
        p_mlp: Share of permuted test labels under which the network tells the erased rows apart as well.
        p_knn: The same of neighbours.
        least_p: The least p-value that so many test groups can give.
        raw_gap: Accuracy of the network less that of the linear probe before erasure, paired.
        majority: Accuracy of the larger class of the fit rows.
    """

    raw_linear: Estimate
    raw_mlp: Estimate
    raw_knn: Estimate
    erased_linear: Estimate
    erased_mlp: Estimate
    erased_knn: Estimate
    refitted: Estimate
    left: Estimate
    null_mlp: Estimate
    null_knn: Estimate
    p_mlp: float
    p_knn: float
    least_p: float
    raw_gap: Estimate
    majority: Estimate

    @property
    def chance(self) -> float:
        """The most that can be had without looking: the larger class, or a half."""
        return max(self.majority.value, 0.5)

    @property
    def missed(self) -> float:
        """Accuracy of a best linear probe of the mean difference that the eraser missed, if rows were normal."""
        return float(stats.norm.cdf(max(self.left.value, 0.0) / 2))

    @property
    def excess(self) -> float:
        """Accuracy after erasure above that with permuted labels, of the better of network and neighbours."""
        return max(self.erased_mlp.value - self.null_mlp.value, self.erased_knn.value - self.null_knn.value)

    @property
    def reading(self) -> Reading:
        """What the numbers say together; thresholds are conventions, the numbers are not.

        The eraser is broken if a linear probe refitted to its output still finds the concept. Erasure is of rank one,
        and where the mean difference lies in the direction that carries the nonlinear code, both are gone. So chance
        after erasure is no evidence of a linear concept: if the raw rows have a gap and less than half of it is left,
        that is what it says. A nonlinear code must tell more than a best linear probe of what the eraser missed.
        """
        if self.refitted.low > 0 and self.refitted.value > REFITTED:
            return "broken eraser"
        if self.raw_gap.low > FAR and self.excess < self.raw_gap.value / 2:
            return "erasure took the nonlinear code with it"
        pairs = ((self.p_mlp, self.erased_mlp), (self.p_knn, self.erased_knn))
        linear = max(self.chance, self.erased_linear.value, self.missed) + MARGIN
        if any(p <= P_VALUE and e.value > linear for p, e in pairs):
            return "nonlinear code beside the linear one"
        if self.least_p > P_VALUE:
            return "too few groups to tell"
        return "nothing nonlinear"

    def __str__(self) -> str:
        mlp = f"{self.raw_mlp} → {self.erased_mlp}, permuted {self.null_mlp.value:.3g} (p = {self.p_mlp:.2g})"
        knn = f"{self.raw_knn} → {self.erased_knn}, permuted {self.null_knn.value:.3g} (p = {self.p_knn:.2g})"
        m = self.majority
        return "\n".join(
            [
                self.reading,
                f"  linear      {self.raw_linear} → {self.erased_linear}, mean difference {self.refitted} SD",
                f"  missed      mean difference {self.left} SD, accuracy {self.missed:.3g}",
                f"  network     {mlp}",
                f"  neighbours  {knn}",
                f"  raw gap     {self.raw_gap}, network − linear",
                f"  {m.n} test rows in {m.n_clusters} groups, majority {m.value:.3g}",
            ]
        )


def erase_then_probe(
    fit: LabelledRows,
    select: LabelledRows,
    test: LabelledRows,
    *,
    width: int = 64,
    seeds: Sequence[int] = (0, 1, 2),
    level: float = 0.95,
) -> ErasureReport:
    """Erase the concept's mean difference, fitted on fit rows alone, and probe what is left.

    r(x) = x − Δ wᵀ(x − μ)/(wᵀΔ) with w = Σ⁻¹Δ, which is LEACE for two classes. Whatever w is, the class means of the
    fit rows agree afterwards, so that no linear function of them beats the constant; w decides how little is moved. Σ
    is shrunk, as with more dimensions than rows the inverse would learn the fit rows by heart.

    Args:
        fit: Rows to fit eraser and probes.
        select: Rows of other groups.
        test: Rows of yet other groups.
        width: Hidden units of the network.
        seeds: Of initial weights and permuted labels.
        level: Coverage of the intervals, which are over clusters of test rows and seeds.

    Raises:
        OptionError: If splits share a group.
        EstimateError: If the test rows are of fewer than five groups.
        FitError: If widths differ, or the rows to fit do not vary.

    References:
        belrose2023, theorem 4.3 (LEACE).
    """
    check_splits(fit, select, test)
    data = FitData.of(fit, select)
    z, y, codes = data.span.coordinates(test.features()), test.labels(), codes_of(test.groups)
    problems, permuted, tests = labelled_problems(fit, select, test, seeds)
    probes: tuple[Probe, ...] = (LogisticProbe(), NearestNeighbours(), MLPProbe(width))
    raw = [log_odds_of(f, z) for f in fit_together(probes, data, problems)]
    erased_data, erased_z = _erased(data, z, fit.labels())
    found = fit_together(probes, erased_data, [*problems, *permuted])
    erased = [log_odds_of(f[: len(seeds)], erased_z) for f in found]
    null = [log_odds_of(f[len(seeds) :], erased_z) for f in found]

    fresh = lda_weights(erased_data.select, select.labels(), fit.x.shape[1])[0]

    def hits(log_odds: Array, labels: Labels) -> Array:
        right: Array = ((log_odds > 0) == (labels == 1)).astype(np.float64)
        return right

    def share(log_odds: Array, labels: Labels = y) -> Estimate:
        return share_interval(hits(log_odds, labels), codes, level=level)

    return ErasureReport(
        raw_linear=share(raw[0]),
        raw_knn=share(raw[1]),
        raw_mlp=share(raw[2]),
        erased_linear=share(erased[0]),
        erased_knn=share(erased[1]),
        erased_mlp=share(erased[2]),
        refitted=_mean_difference_of(erased[0], y, codes, level),
        left=_mean_difference_of((erased_z @ fresh)[None], y, codes, level),
        null_knn=share(null[1], tests),
        null_mlp=share(null[2], tests),
        least_p=least_p_value(y, codes),
        p_knn=auroc_p_value(erased[1], y, codes, seed=seeds[0]),
        p_mlp=auroc_p_value(erased[2], y, codes, seed=seeds[0]),
        raw_gap=mean_interval(hits(raw[2], y) - hits(raw[0], y), codes, level=level, low=-1.0, high=1.0),
        majority=base_rate(fit.labels(), y, codes, level)[0],
    )


def erase(z: Array, delta: Array, w: Array, mean: Array) -> Array:
    """z − Δ wᵀ(z − mean)/(wᵀΔ), rows of shape (n, rank)."""
    found: Array = z - ((z - mean) @ w / (w @ delta))[:, None] * delta
    return found


def _mean_difference_of(scores: Array, y: Labels, codes: Labels, level: float) -> Estimate:
    """Mean of scores labelled 1 less that of the others, in standard deviations; 0 if scores do not vary."""
    s, rate = scores - scores.mean(axis=1, keepdims=True), y.mean()
    deviation = np.maximum(s.std(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return mean_interval(s / deviation * (y - rate) / (rate * (1 - rate)), codes, level=level)


def _erased(data: FitData, z: Array, y: Labels) -> tuple[FitData, Array]:
    """Data and test coordinates after erasure, along the principal axes of what is left of the fit rows."""
    delta = mean_difference(data.fit, y)
    w, _ = lda_weights(data.fit, y, len(data.span.mean))
    mean = data.fit.mean(axis=0)
    if not w @ delta > 0:
        return data, z
    left, left_select, left_test = (erase(x, delta, w, mean) for x in (data.fit, data.select, z))
    axes, singular = principal_axes(left - left.mean(axis=0))
    span = Span(left.mean(axis=0), np.ones(left.shape[1]), axes, singular)
    return FitData(span, span.coordinates(left), span.coordinates(left_select)), span.coordinates(left_test)

"""Every probe of a list, fitted on one split, chosen on another and scored once on a third."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import FitError, OptionError, UnknownNameError
from steerlens.numerics import Estimate
from steerlens.numerics._codes import codes_of
from steerlens.probes._families import PROBES, FittedProbe, FunctionClass, Probe, fit_together
from steerlens.probes._intervals import auroc_interval, mean_interval, share_interval
from steerlens.probes._permutation import AurocNull, auroc_null, least_p_value, permuted_labels
from steerlens.probes._recalibration import bits
from steerlens.probes._rows import LabelledRows
from steerlens.probes._span import FitData, Problem

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Scores:
    """How well log-odds tell labels. Intervals are over clusters of test rows and over seeds; the fit rows are held
    fixed, so that they hold for these probes, not for others fitted to other rows.

    Args:
        auroc: Area under the ROC curve.
        accuracy: Share of rows whose log-odds have the right sign; log-odds of zero count as absent.
        nll: Mean negative log-likelihood, in bits for each row.
    """

    auroc: Estimate
    accuracy: Estimate
    nll: Estimate

    @classmethod
    def of(cls, log_odds: Array, y: Labels, codes: Labels, *, level: float) -> "Scores":
        """Score log-odds, shape (seed, n).

        Raises:
            EstimateError: If there are fewer than five clusters or one class only.
        """
        hits = ((log_odds > 0) == (y == 1)).astype(np.float64)
        return cls(
            auroc_interval(log_odds, y, codes, level=level),
            share_interval(hits, codes, level=level),
            mean_interval(bits(log_odds, y), codes, level=level, low=0.0),
        )


@final
@dataclass(frozen=True, eq=False)
class ProbeResult:
    """One probe on the test rows.

    Args:
        name: Of the probe.
        function_class: Of the probe.
        scores: On the test rows.
        permuted: The same of probes fitted to permuted labels and scored on permuted labels: what this probe makes of
            nothing, one labelling for each seed.
        null: Of the area under the ROC curve over permuted test labels, this probe's scores held fixed: p-value, and
            the range that 95 % of labellings stay in.
        select_nll: Bits for each select row, mean over seeds: what to choose probes by.
        log_odds: Of the test rows, shape (seed, n).
        chosen: The hyperparameters, for each seed.
    """

    name: str
    function_class: FunctionClass
    scores: Scores
    permuted: Scores
    null: AurocNull
    select_nll: float
    log_odds: Array
    chosen: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """Share of permuted test labels under which the area under the ROC curve is as large."""
        return self.null.p_value


@final
@dataclass(frozen=True, eq=False)
class ProbeTable:
    """Probes side by side, with what they must beat.

    Args:
        results: One for each probe.
        majority: Accuracy of always saying what most fit rows are.
        base: Bits for each row of always giving the base rate of the fit rows, H_V(Y | ∅).
        base_log_odds: Those of the base rate.
        y: Labels of the test rows.
        codes: Clusters of the test rows, as numbers.
        level: Of all intervals.
    """

    results: tuple[ProbeResult, ...]
    majority: Estimate
    base: Estimate
    base_log_odds: float
    y: Labels
    codes: Labels
    level: float

    def __getitem__(self, name: str) -> ProbeResult:
        """The result of a probe.

        Raises:
            UnknownNameError: If there is no probe of this name.
        """
        found = {r.name: r for r in self.results}
        if name not in found:
            raise UnknownNameError("probe", name, found)
        return found[name]

    def best(self, classes: Sequence[FunctionClass]) -> ProbeResult:
        """The probe of some function classes that takes the fewest bits for the select rows.

        Raises:
            OptionError: If there is none.
        """
        found = [r for r in self.results if r.function_class in classes]
        if not found:
            names = ", ".join(r.name for r in self.results)
            raise OptionError(f"The table has no probe of class {' or '.join(classes)}; it has {names}.")
        return min(found, key=lambda r: r.select_nll)

    @property
    def least_p(self) -> float:
        """The least p-value that so many test groups can give: 2⁻ᴳ for G groups of pairs."""
        return least_p_value(self.y, self.codes)

    def bits(self, name: str) -> Array:
        """−log₂ of the probability that a probe gives to the label, shape (seed, n)."""
        return bits(self[name].log_odds, self.y)

    def to_frame(self) -> pd.DataFrame:
        """A row for each probe; ends of intervals in columns of their own; bits, shares and areas."""
        rows = []
        for r in self.results:
            row: dict[str, object] = {"probe": r.name, "function_class": r.function_class}
            for metric in ("auroc", "accuracy", "nll"):
                found: Estimate = getattr(r.scores, metric)
                row |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            row["p_value"] = r.p_value
            row |= {f"permuted_{m}": getattr(r.permuted, m).value for m in ("auroc", "accuracy", "nll")}
            accuracy = r.scores.accuracy
            row |= {"majority_accuracy": self.majority.value, "base_nll": self.base.value}
            row |= {"n": accuracy.n, "n_clusters": accuracy.n_clusters, "level": self.level, "chosen": r.chosen[0]}
            rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [f"{'probe':<12}{'AUROC':<24}{'accuracy':<24}{'bits':<24}{'permuted':<10}p"]
        for r in self.results:
            s = r.scores
            lines.append(
                f"{r.name:<12}{s.auroc!s:<24}{s.accuracy!s:<24}{s.nll!s:<24}"
                f"{r.permuted.accuracy.value:<10.3g}{r.p_value:.2g}"
            )
        lines.append(f"{'majority':<12}{'0.5':<24}{self.majority!s:<24}{self.base!s:<24}")
        lines.append(f"{len(self.y)} test rows in {self.base.n_clusters} groups, {self.level:.0%} intervals")
        return "\n".join(lines)


def probe_table(
    fit: LabelledRows,
    select: LabelledRows,
    test: LabelledRows,
    *,
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    level: float = 0.95,
) -> ProbeTable:
    """Fit probes, choose their hyperparameters and recalibrate them on select rows, score them once on test rows.

    Args:
        fit: Rows to fit.
        select: Rows of other groups.
        test: Rows of yet other groups.
        probes: What to fit; names must differ.
        seeds: Of the initial weights and of the permuted labels.
        level: Coverage of all intervals.

    Raises:
        OptionError: If a group is in two of the splits, names of probes repeat, or there is no probe or no seed.
        EstimateError: If the test rows are of fewer than five groups.
        FitError: If widths differ, or the rows to fit do not vary.
    """
    check_splits(fit, select, test)
    names = [p.name for p in probes]
    if not names or len(set(names)) < len(names) or not seeds:
        raise OptionError(f"A table needs probes of different names and at least one seed, but got {names}, {seeds}.")
    data, z = _prepared(fit, select, test)
    y, codes = test.labels(), codes_of(test.groups)
    problems, permuted, tests = labelled_problems(fit, select, test, seeds)
    fitted = fit_together(probes, data, [*problems, *permuted])
    results = []
    for probe, found in zip(probes, fitted, strict=True):
        real, null = found[: len(seeds)], found[len(seeds) :]
        log_odds = log_odds_of(real, z)
        results.append(
            ProbeResult(
                probe.name,
                probe.function_class,
                Scores.of(log_odds, y, codes, level=level),
                _permuted_scores(log_odds_of(null, z), tests, y, codes, level),
                auroc_null(log_odds, y, codes, seed=seeds[0]),
                float(np.mean([f.select_nll for f in real])),
                log_odds,
                tuple(f.chosen for f in real),
            )
        )
    return ProbeTable(tuple(results), *base_rate(fit.labels(), y, codes, level), y, codes, level)


def log_odds_of(fitted: Sequence[FittedProbe], z: Array) -> Array:
    """Log-odds of rows by several probes, shape (probe, n); equal objects are asked once."""
    once = {id(f): f for f in fitted}
    found = {key: f.log_odds_at(z) for key, f in once.items()}
    return np.stack([found[id(f)] for f in fitted])


def base_rate(fit_y: Labels, y: Labels, codes: Labels, level: float) -> tuple[Estimate, Estimate, float]:
    """Accuracy of the fit rows' majority, bits and log-odds of their base rate (half a row added to each class)."""
    ones = int(fit_y.sum())
    log_odds = float(np.log((ones + 0.5) / (len(fit_y) - ones + 0.5)))
    constant = np.full((1, len(y)), log_odds)
    majority = share_interval((y == int(log_odds > 0))[None].astype(np.float64), codes, level=level)
    return majority, mean_interval(bits(constant, y), codes, level=level, low=0.0), log_odds


def check_splits(*splits: LabelledRows) -> None:
    """Refuse splits that share a group.

    Raises:
        OptionError: If they do.
    """
    for i, a in enumerate(splits):
        for b in splits[i + 1 :]:
            shared = set(a.groups) & set(b.groups)
            if shared:
                raise OptionError(
                    f"Splits must not share groups, but {len(shared)} are in two of them, such as "
                    f"{next(iter(shared))!r}. Split by group, as ConceptDataset.split does."
                )


def _prepared(fit: LabelledRows, select: LabelledRows, test: LabelledRows) -> tuple[FitData, Array]:
    data = FitData.of(fit, select)
    if test.x.shape[1] != fit.x.shape[1]:
        raise FitError(f"A probe fitted to rows of width {fit.x.shape[1]} cannot read rows of {test.x.shape[1]}.")
    return data, data.span.coordinates(test.features())


def labelled_problems(
    fit: LabelledRows, select: LabelledRows, test: LabelledRows, seeds: Sequence[int]
) -> tuple[list[Problem], list[Problem], Labels]:
    """The true labelling and a permuted one for each seed, and the permuted test labels, shape (seed, n)."""
    true = [Problem(fit.labels(), select.labels(), s) for s in seeds]
    generators = [np.random.default_rng([s, 1]) for s in seeds]

    def permuted(rows: LabelledRows) -> Mapping[int, Labels]:
        codes = codes_of(rows.groups)
        return {i: permuted_labels(rows.labels(), codes, generator=g)[0] for i, g in enumerate(generators)}

    at_fit, at_select, at_test = (permuted(r) for r in (fit, select, test))
    nothing = [Problem(at_fit[i], at_select[i], s) for i, s in enumerate(seeds)]
    return true, nothing, np.stack([at_test[i] for i in range(len(seeds))])


def _permuted_scores(log_odds: Array, labels: Labels, y: Labels, codes: Labels, level: float) -> Scores:
    """Scores against one labelling for each seed: log-odds are mirrored where the labelling differs from the true one.

    A row whose label is exchanged is scored as the other label would be, which is what a mirrored log-odds gives; the
    area needs ranks within each labelling, and its interval is that of the mean over seeds.
    """
    mirrored = np.where(labels == y, log_odds, -log_odds)
    hits = ((log_odds > 0) == (labels == 1)).astype(np.float64)
    areas = [auroc_interval(s[None], t, codes, level=level) for s, t in zip(log_odds, labels, strict=True)]
    return Scores(
        _mean_area(areas, level),
        share_interval(hits, codes, level=level),
        mean_interval(bits(mirrored, y), codes, level=level, low=0.0),
    )


def _mean_area(areas: Sequence[Estimate], level: float) -> Estimate:
    low, value, high = (float(np.mean([getattr(a, end) for a in areas])) for end in ("low", "value", "high"))
    first = areas[0]
    return Estimate(value, low, high, level, first.n, first.n_clusters, f"mean of {len(areas)} labellings and of ends")

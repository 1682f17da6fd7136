"""Is it the activations that know, or the probe that learns? The control task of Hewitt and Liang."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import OptionError
from steerlens.numerics import Estimate
from steerlens.numerics._codes import codes_of
from steerlens.probes._families import LogisticProbe, Probe, fit_together
from steerlens.probes._intervals import mean_interval, share_interval
from steerlens.probes._rows import LabelledRows
from steerlens.probes._scores import log_odds_of
from steerlens.probes._span import FitData, Problem

Labels = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Selectivity:
    """Accuracy on the task less accuracy on a task that can only be learned by heart.

    Args:
        probe: Which probe.
        task: Accuracy on the concept.
        control: Accuracy on random labels of types: 1 for a probe that knows every type, the larger class for one that
            knows none.
        selectivity: Their difference, paired by rows. Low: the accuracy may be memory of the types.
        n_types: Types that have rows to fit and rows held out.
    """

    probe: str
    task: Estimate
    control: Estimate
    selectivity: Estimate
    n_types: int

    def __str__(self) -> str:
        return f"{self.probe}: task {self.task} − control {self.control} = selectivity {self.selectivity}"


def selectivity(
    rows: LabelledRows,
    *,
    types: Sequence[Hashable] | None = None,
    probe: Probe | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    level: float = 0.95,
) -> Selectivity:
    """Compare a probe of the concept with the same probe of random labels, one for each type.

    As in the paper, a type (a word there; a question, pair or entity here) has one label wherever it occurs, drawn with
    the base rate of the concept, and rows held out are of types that were seen: only so can the control task be
    learned, by heart. So rows are split *within* types here and nowhere else, and ``task`` is not the accuracy on new
    types, which `probe_table` measures. Where types are pairs, the row held out is the twin of the row seen, with the
    other label: a probe that looks at the nearest row falls below one half on the task, and its selectivity below zero.

    Half of the rows of each type are fitted; of the others, those of a third of the types choose hyperparameters and
    recalibrate, and the rest are scored.

    Args:
        rows: Rows with labels. Intervals are over their groups.
        types: The type of each row; its group if left out.
        probe: What to fit; `LogisticProbe` if left out.
        seeds: Of random labels and initial weights; the first also splits.
        level: Coverage of the intervals.

    Raises:
        OptionError: If there is not one type for each row, or fewer than six types have two rows.
        EstimateError: If the rows scored are of fewer than five groups.
        ActivationError: If one class is missing in a split.

    References:
        hewitt2019.
    """
    kinds = codes_of(rows.groups if types is None else types)
    if len(kinds) != len(rows) or not seeds:
        raise OptionError(f"Each of the {len(rows)} rows needs a type, and there must be a seed, but got {len(kinds)}.")
    split = _within_types(kinds, np.random.default_rng(seeds[0]))
    fit, select, test = (rows.take(np.flatnonzero(split == k)) for k in range(3))
    data = FitData.of(fit, select)
    z, y = data.span.coordinates(test.features()), rows.labels()
    controls = [_random_labels(y, kinds, split, np.random.default_rng([s, 2])) for s in seeds]
    problems = [Problem(y[split == 0], y[split == 1], s) for s in seeds]
    problems += [Problem(t[split == 0], t[split == 1], s) for t, s in zip(controls, seeds, strict=True)]
    kept = probe or LogisticProbe()
    log_odds = log_odds_of(fit_together([kept], data, problems)[0], z)
    truth = np.stack([y[split == 2]] * len(seeds) + [t[split == 2] for t in controls])
    hits = ((log_odds > 0) == (truth == 1)).astype(np.float64)
    task, control = hits[: len(seeds)], hits[len(seeds) :]
    codes = codes_of(test.groups)
    return Selectivity(
        kept.name,
        share_interval(task, codes, level=level),
        share_interval(control, codes, level=level),
        mean_interval(task - control, codes, level=level, low=-1.0, high=1.0),
        int((np.bincount(kinds) >= 2).sum()),
    )


def _within_types(kinds: Labels, generator: np.random.Generator) -> Labels:
    """0 for rows to fit, 1 to select by, 2 to score."""
    sizes = np.bincount(kinds)
    large = generator.permutation(np.flatnonzero(sizes >= 2))
    if len(large) < 6:
        raise OptionError(
            f"A control task needs at least six types with two rows, but {len(large)} of {len(sizes)} have them. "
            "Give coarser types, such as questions in place of sentences."
        )
    select = set(large[: len(large) // 3].tolist())
    split = np.zeros(len(kinds), dtype=np.int64)
    for kind in large:
        members = generator.permutation(np.flatnonzero(kinds == kind))
        split[members[(len(members) + 1) // 2 :]] = 1 if int(kind) in select else 2
    return split


def _random_labels(y: Labels, kinds: Labels, split: Labels, generator: np.random.Generator) -> Labels:
    """One label for each type, with the base rate of y, drawn again until every split has both."""
    for _ in range(1000):
        labels: Labels = (generator.random(int(kinds.max()) + 1) < y.mean()).astype(np.int64)[kinds]
        if all(0 < labels[split == k].mean() < 1 for k in range(3)):
            return labels
    raise OptionError("Random labels of types left a split with one class a thousand times. Give more types.")

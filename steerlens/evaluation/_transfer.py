"""Transfer: probes trained on one data set, tested on every other, as a matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import pandas as pd
import torch

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.models import LensModel
from steerlens.probes import LabelledRows, LogisticProbe, Probe
from steerlens.probes._scores import Scores

TRANSFER_COLUMNS = (
    "trained_on", "tested_on", "auroc", "auroc_low", "auroc_high", "accuracy", "accuracy_low", "accuracy_high", "probe",
    "n", "n_clusters",
)  # fmt: skip
"""One row is one probe on the test pairs of one data set. An AUROC below 0.5 with its interval is a flip: what meant
"present" in one set means "absent" in the other."""


@final
@dataclass(frozen=True, eq=False)
class Transfer:
    """Every data set's probe on every data set.

    Args:
        frame: Columns `TRANSFER_COLUMNS`.
        site: Where activations were read.
        model: Its name.
    """

    frame: pd.DataFrame
    site: Site
    model: str

    def to_frame(self) -> pd.DataFrame:
        """One row per pair of data sets."""
        return self.frame.copy()

    def plot(self) -> Any:
        """Heat map of the areas; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_transfer(self)

    def __str__(self) -> str:
        square = self.frame.pivot(index="trained_on", columns="tested_on", values="auroc")
        names = list(dict.fromkeys(self.frame["trained_on"]))
        table = square.loc[names, names].to_string(float_format="%.2f")
        return f"AUROC at {self.site.hook_name} of {self.model}; rows: trained on\n{table}"


def transfer(
    model: LensModel,
    datasets: Mapping[str, ConceptDataset],
    site: Site,
    *,
    probe: Probe | None = None,
    seed: int = 0,
) -> Transfer:
    """Train a probe on each data set and test it on all.

    Groups are split once for all sets together, so that a group which two sets share (a statement and its negation) is
    never trained on in one and tested on in the other.

    Args:
        model: Where to read.
        datasets: By name, at least two.
        site: Where.
        probe: None takes `LogisticProbe`.
        seed: Of the split and of the probe.

    Raises:
        OptionError: There are fewer than two data sets.
        EstimateError: A set has fewer than five groups to fit, select or test on.

    References:
        marks2023 (truth on statements, tested on their negations).
    """
    if len(datasets) < 2:
        raise OptionError(f"A transfer needs at least two data sets, but got {len(datasets)}.")
    kind = LogisticProbe() if probe is None else probe
    every = ConceptDataset("all", tuple(p for d in datasets.values() for p in d))
    parts = [set(part.groups) for part in every.split(seed=seed)]
    rows = {name: _three(model, data, site, parts, name) for name, data in datasets.items()}
    records = []
    for trained_on, (fit, select, _) in rows.items():
        fitted = kind.fit(fit, select, seed=seed)
        for tested_on, (_, _, test) in rows.items():
            codes = pd.factorize(pd.Series(list(test.groups)))[0]
            found = Scores.of(fitted.log_odds(test.x)[None], test.labels(), codes, level=0.95)
            a, b = found.auroc, found.accuracy
            records.append(
                (trained_on, tested_on, a.value, a.low, a.high, b.value, b.low, b.high, kind.name, a.n, a.n_clusters)
            )
    return Transfer(pd.DataFrame(records, columns=list(TRANSFER_COLUMNS)), site, model.name)


def _three(
    model: LensModel, data: ConceptDataset, site: Site, parts: list[set[str]], name: str
) -> tuple[LabelledRows, LabelledRows, LabelledRows]:
    """Rows to fit, select and test on, from one extraction."""
    found = extract(model, data, [site])[site]
    three = []
    for kept in parts:
        which = [i for i, g in enumerate(found.groups) if g in kept]
        if len({found.groups[i] for i in which}) < 5:
            raise EstimateError(f"{name!r} leaves fewer than five groups to a part of the split. Use more groups.")
        index = torch.tensor(which)
        three.append(
            LabelledRows.of_pairs(found.negative[index], found.positive[index], [found.groups[i] for i in which])
        )
    return three[0], three[1], three[2]

"""The geometry of a concept, layer by layer: which functions read it, how its pairs differ, which rung it asks for."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import pandas as pd
import torch
from torch import Tensor

from steerlens.activations import ContrastiveActivations, Reader, Site, extract
from steerlens.concepts import ConceptDataset, Split
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._geometry_reading import LEVEL, LayerReading, read_layer
from steerlens.evaluation._mean_step import means_agree
from steerlens.evaluation._rings import Ring, ring_of
from steerlens.models import LensModel
from steerlens.numerics import Estimate
from steerlens.probes import (
    PROBES,
    DirectionReport,
    DisplacementReport,
    ErasureReport,
    LabelledRows,
    LocalDirectionReport,
    NonlinearityGap,
    Probe,
    ProbeTable,
    direction_report,
    displacement_report,
    erase_then_probe,
    local_direction_report,
    nonlinearity_gap,
    probe_table,
)
from steerlens.progress import progress

GEOMETRY_COLUMNS = (
    "site", "layer", "quantity", "of", "value", "low", "high", "null", "null_low", "null_high", "p_value", "unit",
    "n", "n_clusters", "method",
)  # fmt: skip
"""One row is one quantity at one site; ``of`` is a probe, or empty.

``auroc``, ``accuracy``, ``nll``: of a probe on test rows; the null is that of permuted labels. ``gap``,
``gap_quadratic``, ``gap_high``: bits that nonlinear functions save. ``erased``: accuracy of a network after linear
erasure; the null is that of permuted labels. ``split_half``, ``coherence``, ``norm``: of the pairs' differences.
``local``: autocorrelation of neighbours' differences; the null is 0. ``constant``, ``linear``, ``nonlinear``: shares of
the displacements' second moment. ``ring_r2``: held-out share of the cyclic position that a circle explains; the null is
the 0.95 quantile of other orders. Intervals hold the fitted probes fixed and resample test groups and seeds.
"""


@final
@dataclass(frozen=True, eq=False)
class LayerGeometry:
    """All that was found at one site; no ``direction`` where source and target have one mean."""

    site: Site
    table: ProbeTable
    gap: NonlinearityGap
    erasure: ErasureReport
    direction: DirectionReport | None
    local: LocalDirectionReport
    displacement: DisplacementReport | None
    ring: Ring | None
    reading: LayerReading


@final
@dataclass(frozen=True, eq=False)
class Geometry:
    """Where along the depth a concept can be read, by which functions, and which rung of the ladder it asks for.

    Args:
        layers: One result for each site, in the order of the forward pass.
        model: Name of the model.
        concept: Name of the data set.
        sizes: Pairs to fit, select and test on.
        seed: Of everything.
    """

    layers: tuple[LayerGeometry, ...]
    model: str
    concept: str
    sizes: tuple[int, int, int]
    seed: int

    @property
    def readings(self) -> tuple[LayerReading, ...]:
        """The plain-language summary of each site."""
        return tuple(layer.reading for layer in self.layers)

    @property
    def few_groups(self) -> bool:
        """Whether the groups left to the test are too few for any probe to be seen at the level of a reading."""
        return any(layer.table.least_p > LEVEL for layer in self.layers)

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity and site (columns `GEOMETRY_COLUMNS`)."""
        rows = [row for layer in self.layers for row in _rows(layer)]
        return pd.DataFrame(rows, columns=list(GEOMETRY_COLUMNS))

    def plot(self) -> Any:
        """Figure of layer profiles; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_geometry(self)

    def __str__(self) -> str:
        fit, select, test = self.sizes
        head = f"Geometry of {self.concept} in {self.model}: {fit} pairs to fit, {select} to select, {test} to test"
        return "\n".join([head, *(str(r) for r in self.readings)])


def geometry(
    model: LensModel,
    dataset: ConceptDataset,
    sites: Iterable[Site] | None = None,
    *,
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    seed: int = 0,
    read: Reader = extract,
) -> Geometry:
    """Probe a concept at every site, in one extraction.

    Pairs are split by group: probes are fitted on one part, chosen on the second and scored once on the third.
    Differences and displacements use all pairs, with their own cross-validation over groups.

    Args:
        model: Where to read.
        dataset: Pairs; of fewer than 28 groups fewer than seven are left to the test, which can then show nothing
            at the level of a reading (2⁻⁶ > 0.01); below five it is refused.
        sites: Where; None takes the output of every block.
        probes: Nested probes; at least one linear, one quadratic and one network.
        seeds: Of networks and permuted labels.
        seed: Of the split and of resampling.
        read: How activations are had; a `steerlens.activations.ReadOnce` gives out again what it has read.

    Raises:
        OptionError: There are no sites.
        EstimateError: A part of the split has fewer than five groups.
    """
    where = tuple(Site.resid_post(layer) for layer in range(model.n_layers)) if sites is None else tuple(sites)
    if not where:
        raise OptionError("geometry needs at least one site, such as Site.resid_post(10); leave sites out for all.")
    split = dataset.split(seed=seed)
    for part, name in zip(split, ("fit", "select", "test"), strict=True):
        if len(part.groups) < 5:
            raise EstimateError(
                f"geometry needs 5 groups in each part of the split, but {dataset.name!r} leaves {len(part.groups)} to "
                f"{name}. Use pairs of at least 28 groups."
            )
    found = read(model, dataset, where)
    layers = []
    with progress(f"geometry of {dataset.name}", len(where)) as advance:
        for site in where:
            layers.append(_layer(site, found[site], dataset, split, probes, seeds, seed))
            advance(1)
    sizes = (len(split[0]), len(split[1]), len(split[2]))
    return Geometry(tuple(layers), model.name, dataset.name, sizes, seed)


def _layer(
    site: Site,
    found: ContrastiveActivations,
    dataset: ConceptDataset,
    split: Split,
    probes: Sequence[Probe],
    seeds: Sequence[int],
    seed: int,
) -> LayerGeometry:
    fit, select, test = (_part(found, part) for part in split)
    table = probe_table(fit, select, test, probes=probes, seeds=seeds)
    gap = nonlinearity_gap(table)
    erasure = erase_then_probe(fit, select, test, seeds=seeds)
    groups: Sequence[Hashable] = found.groups
    source, target = found.negative.double(), found.positive.double()
    direction = _direction(target, source, groups, seed)
    local = local_direction_report(source, target - source, groups, seed=seed)
    displacement = displacement_report(source, target - source, groups, seed=seed)
    ring = ring_of(found, dataset, seed=seed)
    reading = read_layer(site, table, gap, erasure, direction, displacement, ring)
    return LayerGeometry(site, table, gap, erasure, direction, local, displacement, ring, reading)


def _direction(target: Tensor, source: Tensor, groups: Sequence[Hashable], seed: int) -> DirectionReport | None:
    """None where the means agree up to rounding, as in a cycle whose items are all both source and target."""
    if means_agree(target - source):
        return None
    return direction_report(target, source, groups, seed=seed)


def _part(found: ContrastiveActivations, part: ConceptDataset) -> LabelledRows:
    kept = set(part.groups)
    which = torch.tensor([i for i, g in enumerate(found.groups) if g in kept])
    return LabelledRows.of_pairs(
        found.negative[which], found.positive[which], [found.groups[i] for i in which.tolist()]
    )


Ends = tuple[float, float, float]
"""A value and the range about it."""


def _rows(layer: LayerGeometry) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(quantity: str, e: Estimate, *, of: str = "", unit: str = "", null: Estimate | Ends | float | None = None,
            p: float | None = None) -> None:  # fmt: skip
        if isinstance(null, Estimate):
            null = (null.value, null.low, null.high)
        ends = null if isinstance(null, tuple) else (null, None, None)
        rows.append({
            "site": layer.site.hook_name, "layer": layer.site.layer, "quantity": quantity, "of": of, "value": e.value,
            "low": e.low, "high": e.high, "null": ends[0], "null_low": ends[1], "null_high": ends[2], "p_value": p,
            "unit": unit, "n": e.n, "n_clusters": e.n_clusters, "method": e.method,
        })  # fmt: skip

    for r in layer.table.results:
        permuted = (r.permuted.auroc.value, r.null.low, r.null.high)
        add("auroc", r.scores.auroc, of=r.name, null=permuted, p=r.p_value)
        add("accuracy", r.scores.accuracy, of=r.name, null=r.permuted.accuracy)
        add("nll", r.scores.nll, of=r.name, unit="bits", null=layer.table.base)
    add("gap", layer.gap.total, unit="bits", null=0.0)
    add("gap_quadratic", layer.gap.quadratic, unit="bits", null=0.0)
    add("gap_high", layer.gap.high, unit="bits", null=0.0)
    add("erased", layer.erasure.erased_mlp, null=layer.erasure.null_mlp, p=layer.erasure.p_mlp)
    if layer.direction is not None:
        add("coherence", layer.direction.coherence)
        add("norm", layer.direction.norm, unit="activations", p=layer.direction.p_value)
    add("local", layer.local.autocorrelation, null=0.0, p=layer.local.p_value)
    if layer.displacement is not None:
        add("constant", layer.displacement.constant)
        add("linear", layer.displacement.linear, null=0.0, p=layer.displacement.p_linear)
        add("nonlinear", layer.displacement.nonlinear, null=0.0, p=layer.displacement.p_nonlinear)
    if layer.ring is not None:
        first = layer.ring.fit.harmonics[0]
        add("ring_r2", first.r_squared, null=first.null, p=first.p_value)
    return rows

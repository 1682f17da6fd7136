"""How many bits the labels cost somebody who learns while they arrive: the prequential code."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import OptionError
from steerlens.numerics import Estimate
from steerlens.numerics._codes import codes_of
from steerlens.probes._families import PROBES, FunctionClass, Probe, fit_together
from steerlens.probes._intervals import mean_interval
from steerlens.probes._permutation import permuted_labels
from steerlens.probes._recalibration import bits
from steerlens.probes._rows import LabelledRows
from steerlens.probes._scores import check_splits
from steerlens.probes._span import FitData, Problem

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

FRACTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Where blocks end, as published."""

FEW_ROWS = 5000
"""Below so many rows blocks start at 0.01: a thousandth of them would be a handful."""


@final
@dataclass(frozen=True)
class Codelength:
    """The prequential code of the labels, given the activations.

    Args:
        probe: Whose class of functions.
        function_class: The class.
        bits: For each row; the uniform code takes 1. The interval is over groups and orders; the rows are held fixed.
        control: The same for permuted labels: about 1, and more where the class learns what is not there.
        surplus: What the permuted labels cost beyond the true ones, in bits for each row.
        fractions: Where blocks end.
        orders: In how many random orders the labels were sent.
    """

    probe: str
    function_class: FunctionClass
    bits: Estimate
    control: Estimate
    surplus: Estimate
    fractions: tuple[float, ...]
    orders: int

    @property
    def kilobits(self) -> float:
        """Length of the whole code."""
        return self.bits.value * self.bits.n / 1000

    @property
    def compression(self) -> float:
        """Length of the uniform code over that of this one."""
        return 1 / self.bits.value

    def __str__(self) -> str:
        return (
            f"{self.probe:<12}{self.kilobits:.3g} kbit, compression {self.compression:.3g}, {self.bits} bits a row, "
            f"surplus {self.surplus}"
        )


def codelength(
    rows: LabelledRows,
    select: LabelledRows,
    *,
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    level: float = 0.95,
) -> tuple[Codelength, ...]:
    """Length of the code of labels that are sent block by block, each coded by a probe of the blocks before.

    L = t₁ + Σ −log₂ p(yₜ | xₜ), the first block at one bit a label. Groups arrive in random order and whole: a block
    ends with the first group that reaches its fraction, so that no group is half known. Sender and receiver share the
    select rows, which choose hyperparameters and recalibrate: with a few labels sent there is nothing to hold back. A
    block before both classes have been seen is coded by the base rate so far, a half added to each count.

    The class with the shorter code is the one that these rows support better, at this number of rows.

    Args:
        rows: Whose labels are sent.
        select: Rows of other groups.
        probes: Whose classes are compared.
        seeds: One random order, permuted labelling and set of initial weights each.
        level: Coverage of intervals.

    Returns:
        One code for each probe, in their order.

    Raises:
        OptionError: If a group is in both, or there is no probe or no seed.
        EstimateError: If there are fewer than five groups.

    References:
        voita2020 (fractions and control; the code is theirs but for shared select rows, whole groups and orders).
    """
    check_splits(rows, select)
    if not probes or not seeds:
        raise OptionError(f"A code needs a probe and a seed, but got {len(probes)} and {len(seeds)}.")
    fractions = tuple(f for f in FRACTIONS if f >= 0.01 or len(rows) >= FEW_ROWS)
    codes = codes_of(rows.groups)
    # Shape (label kind, seed, probe, n): true labels, then permuted ones.
    found = np.stack([_sent(rows, select, codes, probes, fractions, s) for s in seeds], axis=1)
    return tuple(
        Codelength(
            p.name,
            p.function_class,
            mean_interval(found[0, :, i], codes, level=level, low=0.0),
            mean_interval(found[1, :, i], codes, level=level, low=0.0),
            mean_interval(found[1, :, i] - found[0, :, i], codes, level=level),
            fractions,
            len(seeds),
        )
        for i, p in enumerate(probes)
    )


def block_ends(codes: Labels, fractions: Sequence[float], generator: np.random.Generator) -> tuple[Labels, list[int]]:
    """Rows in a random order of whole groups, and after how many of them a block ends."""
    order = generator.permutation(int(codes.max()) + 1)
    reached = np.cumsum(np.bincount(codes)[order])
    ends = sorted({int(reached[np.searchsorted(reached, f * len(codes) - 1e-9)]) for f in fractions})
    return np.argsort(np.argsort(order)[codes], kind="stable"), ends


def _sent(
    rows: LabelledRows,
    select: LabelledRows,
    codes: Labels,
    probes: Sequence[Probe],
    fractions: Sequence[float],
    seed: int,
) -> Array:
    """Bits of every label in one order, shape (2, probe, n): of true labels and of permuted ones."""
    generator = np.random.default_rng([seed, 3])
    order, ends = block_ends(codes, fractions, generator)
    labellings = np.stack([rows.labels(), permuted_labels(rows.labels(), codes, generator=generator)[0]])
    select_codes = codes_of(select.groups)
    at_select = np.stack([select.labels(), permuted_labels(select.labels(), select_codes, generator=generator)[0]])
    x, select_x = rows.features(), select.features()
    found = np.ones((2, len(probes), len(rows)))
    for start, end in pairwise(ends):
        known, new = order[:start], order[start:end]
        y, truth = labellings[:, known], labellings[:, new]
        ones = y.sum(axis=1)
        base = np.log((ones + 0.5) / (start - ones + 0.5))
        found[:, :, new] = bits(np.broadcast_to(base[:, None], truth.shape), truth)[:, None]
        fittable = [k for k in range(2) if 0 < ones[k] < start]
        if not fittable or not (x[known] != x[known[0]]).any():
            continue
        data = FitData.of_features(x[known], select_x)
        z = data.span.coordinates(x[new])
        fitted = fit_together(probes, data, [Problem(y[k], at_select[k], seed) for k in fittable])
        for i, of_probe in enumerate(fitted):
            for k, probe in zip(fittable, of_probe, strict=True):
                found[k, i, new] = bits(probe.log_odds_at(z), truth[k])
    return found

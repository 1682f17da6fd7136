"""Whether a feature of two dimensions is one feature, or two of one dimension each."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError
from steerlens.numerics import Estimate
from steerlens.probes._curvature import matched_gaussian
from steerlens.probes._groups import deal_groups, group_codes, group_folds, group_halves
from steerlens.probes._jackknife import half_samples, half_samples_share
from steerlens.probes._pairs import finite_rows

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Shape = Literal["separable", "mixture", "irreducible", "neither", "undecided"]

N_BINS = 10
"""Bins of each coordinate, as published."""

RANK_CELLS = (3, 4, 5)
"""Cells of equal counts for each coordinate, over which rotations are compared to find the one that separates best."""

WIDTH = 0.1
"""A row is on a line within this many root mean squares of its distance from it."""

ANGLES = np.linspace(0, np.pi, 90, endpoint=False)
"""Directions for lines; the first half are the rotations for mutual information, which repeats after a quarter turn."""

N_OFFSETS = 99
"""Places for lines across each direction: quantiles of the rows."""

N_DEALT_HALVES = 10
"""Dealings for each half of the groups."""

HIGH_SEPARABILITY = 0.6
"""Share of what a circle of as many rows gives, from which on a plane counts as one feature: 0.9 bits of 4000 rows,
0.7 of 200, 0.35 of 60."""

NO_SEPARABILITY = 0.25
"""Bits below which the whole interval must lie before two coordinates count as independent."""

N_RINGS = 10
"""Circles that are drawn to know what one gives."""

LOW_MIXTURE = 0.25
"""Share of rows on a line beyond which, by the whole interval, they count as a mixture; a circle has 0.23."""


@final
@dataclass(frozen=True)
class ReducibilityReport:
    """Whether a cloud in a plane falls into two coordinates, or onto lines.

    Args:
        separability: Least mutual information of two orthogonal coordinates over all rotations, in bits, less its mean
            for a separable cloud of this size: 0 where some rotation makes them independent.
        plug_in_separability: Without that correction, as published. Empty cells make it large: 0.5 bits for 100 rows
            of a Gaussian.
        separable: Its mean where one coordinate is dealt anew to the other, at the best rotation.
        of_a_ring: Mean separability, corrected likewise, of a circle of as many independent rows.
        p_separability: Share of such dealings, the data included, that give as much.
        mixture: Largest share of rows near one line, the line chosen by some groups and counted in others.
        plug_in_mixture: Chosen and counted in the same rows, as published: too large for few rows.
        gaussian_mixture: Mean of the plug-in for Gaussian clouds of this size.
        p_mixture: Share of Gaussian clouds, this one included, with as large a plug-in share.
        angle: Of the rotation that separates best, in radians, in [0, π/2).
        n: Rows.
        n_clusters: Groups.
    """

    separability: Estimate
    plug_in_separability: float
    separable: float
    of_a_ring: float
    p_separability: float
    mixture: Estimate
    plug_in_mixture: float
    gaussian_mixture: float
    p_mixture: float
    angle: float
    n: int
    n_clusters: int

    @property
    def reading(self) -> Shape:
        """Both indices together; the thresholds are conventions from reference clouds, the numbers are not.

        "undecided": no dependence is shown, and none is excluded, or a circle of so few rows would not be seen either.
        "neither": the coordinates depend on each other, but
        less than on a circle.
        """
        if self.p_separability > 0.05:
            e = self.separability
            sure = e.high <= NO_SEPARABILITY and e.high - e.low < self.of_a_ring
            return "separable" if sure else "undecided"
        if self.mixture.low > LOW_MIXTURE:
            return "mixture"
        return "irreducible" if self.separability.value >= HIGH_SEPARABILITY * self.of_a_ring else "neither"

    def __str__(self) -> str:
        lines = (
            f"{self.reading} ({self.n} rows in {self.n_clusters} groups)",
            f"  separability  {self.separability} bits (p = {self.p_separability:.2g}), one feature from "
            f"{HIGH_SEPARABILITY * self.of_a_ring:.2g}; plug-in {self.plug_in_separability:.3g}, separable "
            f"{self.separable:.3g}",
            f"  mixture       {self.mixture} (p = {self.p_mixture:.2g}), one feature up to {LOW_MIXTURE:g}; "
            f"plug-in {self.plug_in_mixture:.3g}, Gaussian {self.gaussian_mixture:.3g}",
        )
        return "\n".join(lines)


def reducibility_report(
    points: Float[Tensor, "n 2"], groups: Sequence[Hashable], *, seed: int, n_permutations: int = 199
) -> ReducibilityReport:
    """Measure separability and mixture of a cloud in a plane, such as two principal components of a feature.

    Args:
        points: Rows in the plane.
        groups: The group of each row.
        seed: Of folds, dealings and Gaussian clouds.
        n_permutations: Dealings, and Gaussian clouds.

    Raises:
        ActivationError: If a value is not finite.
        FitError: If the points do not vary in two dimensions.
        OptionError: If there is not one group for each row.
        EstimateError: If there are fewer than five groups.

    References:
        engels2024 (both indices, which they search for by gradient; here all lines and rotations are tried).
    """
    x = finite_rows(points).numpy()
    codes = group_codes(groups, len(x))
    spread = np.linalg.eigvalsh(np.cov(x.T))
    if spread[0] <= 1e-12 * spread[1]:
        raise FitError("Separability needs points that vary in two dimensions, but all lie on a line.")
    best, null = _dealt(x, codes, n_permutations, seed)
    value, mixture = separability(x), mixture_share(x)
    rng = np.random.default_rng(seed)
    gaussian = np.array([mixture_share(cloud) for cloud in matched_gaussian(x, codes, rng, n_permutations)])
    # Shares are whole numbers of rows; ties are broken at random, or the test would reject too seldom.
    ties = rng.random(n_permutations + 1) / len(x)
    folds, halves = group_folds(codes, 5, seed), group_halves(codes, seed)
    near = float(_on_held_out_lines(x, folds).mean())
    near_halves = np.array([_on_held_out_lines(x[h], folds[h]).mean() for h in halves])
    # What is taken off depends on the data, too: halves take off their own.
    beyond = [separability(x[h]) - _dealt(x[h], codes[h], N_DEALT_HALVES, seed)[1].mean() for h in halves]
    return ReducibilityReport(
        separability=half_samples(value - null.mean(), np.array(beyond), codes),
        plug_in_separability=value,
        separable=float(null.mean()),
        of_a_ring=_of_a_ring(len(x), seed),
        p_separability=float((1 + (null >= value - 1e-9).sum()) / (1 + len(null))),
        mixture=half_samples_share(near, near_halves, codes, of=len(x)),
        plug_in_mixture=mixture,
        gaussian_mixture=float(gaussian.mean()),
        p_mixture=float((1 + (gaussian + ties[1:] >= mixture + ties[0]).sum()) / (1 + len(gaussian))),
        angle=float(ANGLES[best]),
        n=len(x),
        n_clusters=int(codes.max()) + 1,
    )


def _dealt(x: Array, codes: Codes, count: int, seed: int) -> tuple[int, Array]:
    """The rotation that separates best, and separabilities where one coordinate is dealt anew to the other there."""
    # Ranks in few cells, unlike the index itself, do not pick a rotation for its luck, nor for where the tails lie.
    first, second = (v.argsort(axis=1).argsort(axis=1) / len(x) for v in _coordinates(x))
    best = int(np.sum([_information(first, second, cells) for cells in RANK_CELLS], axis=0).argmin())
    turned = x @ _rotation(ANGLES[best])
    dealt = deal_groups(codes, count, seed)
    return best, np.array([separability(np.column_stack([turned[:, 0], turned[p, 1]])) for p in dealt])


def _of_a_ring(n: int, seed: int) -> float:
    """What a circle of n rows gives, noise aside: cells are many, so that few rows cannot fill the law of one."""
    rng, codes, found = np.random.default_rng(seed), np.arange(n), []
    for _ in range(N_RINGS):
        angle = 2 * np.pi * rng.random(n)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found.append(separability(ring) - _dealt(ring, codes, N_DEALT_HALVES, seed)[1].mean())
    return float(np.mean(found))


def separability(x: Array) -> float:
    """Least plug-in mutual information of two coordinates over rotations, in bits: the published index.

    References:
        engels2024 (separability index).
    """
    return float(mutual_information(x).min())


def mutual_information(x: Array) -> Array:
    """Plug-in mutual information of both coordinates on a square grid of cells, for each rotation, in bits."""
    first, second = _coordinates(x)
    return _information(_of_range(first), _of_range(second), N_BINS)


def _coordinates(x: Array) -> tuple[Array, Array]:
    """Both coordinates after each rotation, each of shape (rotation, n)."""
    angle = ANGLES[: len(ANGLES) // 2, None]
    return np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1], np.cos(angle) * x[:, 1] - np.sin(angle) * x[:, 0]


def _information(first: Array, second: Array, n_cells: int) -> Array:
    """Plug-in mutual information of values in [0, 1], shape (rotation, n), each cut into so many cells, in bits."""
    of_first, of_second = (np.minimum((n_cells * v).astype(np.int64), n_cells - 1) for v in (first, second))
    cell = n_cells * of_first + of_second + n_cells**2 * np.arange(len(first))[:, None]
    joint = np.bincount(cell.ravel(), minlength=len(first) * n_cells**2).reshape(-1, n_cells, n_cells)
    joint = joint / first.shape[1]
    found: Array = _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=2)) - _entropy(joint.reshape(len(first), -1))
    return found


def mixture_share(x: Array) -> float:
    """Largest share of rows within 0.1 root mean squares of a line: the published index, over all lines.

    References:
        engels2024 (mixture index).
    """
    return _best_line(x)[0]


def _best_line(x: Array) -> tuple[float, int, float, float]:
    """Share, angle, offset and half-width of the line that most rows are near."""
    v = np.sort(np.cos(ANGLES)[:, None] * x[:, 0] + np.sin(ANGLES)[:, None] * x[:, 1], axis=1)
    n = len(x)
    place = np.linspace(0.01, 0.99, N_OFFSETS) * (n - 1)
    below = place.astype(np.int64)
    centre = v[:, below] + (place - below) * (v[:, np.minimum(below + 1, n - 1)] - v[:, below])
    half = WIDTH * np.sqrt(v.var(axis=1)[:, None] + (v.mean(axis=1)[:, None] - centre) ** 2)
    # One search in all sorted rows at once: each angle has a stretch of its own.
    reach = 4 * float(np.abs(v).max() + half.max()) + 1e-300
    start = reach * np.arange(len(ANGLES))[:, None]
    flat = (v + start).ravel()
    inside = np.searchsorted(flat, centre + half + start) - np.searchsorted(flat, centre - half + start, side="right")
    angle, offset = np.unravel_index(int(inside.argmax()), inside.shape)
    return (
        float(inside[angle, offset] / n),
        int(angle),
        float(centre[angle, offset]),
        float(half[angle, offset]),
    )


def _on_held_out_lines(x: Array, folds: Codes) -> Array:
    """Whether each row is near the line that was the best in the other folds."""
    near = np.zeros(len(x))
    for fold in np.unique(folds):
        at = folds == fold
        _, angle, centre, half = _best_line(x[~at])
        along = np.cos(ANGLES[angle]) * x[at, 0] + np.sin(ANGLES[angle]) * x[at, 1]
        near[at] = np.abs(along - centre) < half
    return near


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _of_range(v: Array) -> Array:
    """As shares of the range of each row."""
    low, high = v.min(axis=1, keepdims=True), v.max(axis=1, keepdims=True)
    shares: Array = (v - low) / np.maximum(high - low, 1e-300)
    return shares


def _entropy(p: Array) -> Array:
    """In bits, along the last axis."""
    entropy: Array = -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1)
    return entropy

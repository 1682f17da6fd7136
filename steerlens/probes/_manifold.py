"""Whether moved activations lie where real ones lie: distances to held-out target rows, beside their own floor."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import EstimateError, FitError
from steerlens.numerics import Estimate, bootstrap, moments, oas_intensity, principal_subspace, shrink
from steerlens.numerics._codes import codes_of

Array = npt.NDArray[np.float64]

NEIGHBOUR = 5
"""Which nearest neighbour the neighbour ratio looks at."""

N_EXCHANGES = 200
"""Exchanges of moved and target rows behind the floor."""


@final
@dataclass(frozen=True)
class ManifoldReport:
    """How far moved source rows are from real target rows. Every number has its reference beside it.

    Args:
        energy: Squared energy distance of moved rows to held-out target rows, in units of the activations.
        energy_before: The same of unmoved rows: what there was to gain.
        energy_floor: 95th percentile of ``energy`` where moved and target rows are exchanged by whole groups: what one
            law stays below in 95 of 100 samples of these sizes and groups. Not above it, moved rows cannot be told
            from target rows with this many of them. Five groups that are shared allow 16 exchanges, too few to be
            above.
        neighbour_ratio: Median distance to the fifth nearest reference row, over that of held-out target rows. 1 is
            as near to real target rows as real ones are; below 1 is nearer than real rows are, as for a map that
            carries all rows to one point.
        mahalanobis_ratio: Root mean square Mahalanobis distance from the reference mean, over that of held-out target
            rows, in the leading principal subspace of the reference.
        norm_ratio: Median of ‖T(x)‖ / ‖x‖.
        cosine: Mean cosine between T(x) and x.
    """

    energy: Estimate
    energy_before: Estimate
    energy_floor: float
    neighbour_ratio: Estimate
    mahalanobis_ratio: Estimate
    norm_ratio: Estimate
    cosine: Estimate

    def __str__(self) -> str:
        rows = (
            (
                "energy distance to target",
                f"{self.energy} (before {self.energy_before}, floor {self.energy_floor:.3g})",
            ),
            ("neighbour ratio", str(self.neighbour_ratio)),
            ("Mahalanobis ratio", str(self.mahalanobis_ratio)),
            ("norm ratio", str(self.norm_ratio)),
            ("cosine with the unmoved row", str(self.cosine)),
            ("rows", f"{self.energy.n} in {self.energy.n_clusters} groups, {self.energy.level:.0%} intervals"),
        )
        return "\n".join(f"{name:<30}{value}" for name, value in rows)


def manifold_report(
    moved: Float[Tensor, "n d_model"],
    source: Float[Tensor, "n d_model"],
    target: Float[Tensor, "m d_model"],
    reference: Float[Tensor, "k d_model"],
    *,
    groups: Sequence[Hashable],
    target_groups: Sequence[Hashable],
    seed: int,
    n_resamples: int = 500,
) -> ManifoldReport:
    """Compare moved rows with real ones.

    Args:
        moved: T(source), of rows that T was not fitted on.
        source: The same rows, unmoved.
        target: Target rows that T was not fitted on.
        reference: Other target rows, such as those that T was fitted on: they stand for the manifold.
        groups: The cluster of each moved row.
        target_groups: The cluster of each target row.
        seed: Of the bootstrap and the exchanges.
        n_resamples: Bootstrap resamples.

    Raises:
        EstimateError: If there are fewer than five groups of either, or groups and rows differ in number.
        FitError: If rows are not finite, there are fewer reference rows than neighbours, or the reference does not
            vary.
    """
    moved, source, target, reference = (_finite(x) for x in (moved, source, target, reference))
    if len(groups) != len(moved) or len(target_groups) != len(target):
        raise EstimateError(
            f"Every row needs a group, but {len(moved)} moved rows have {len(groups)} and {len(target)} target rows "
            f"{len(target_groups)}."
        )
    if len(reference) <= NEIGHBOUR:
        raise FitError(f"The manifold needs more than {NEIGHBOUR} reference rows, but got {len(reference)}.")

    def over_both(statistic: Callable[[Array, Array], Array]) -> Estimate:
        return bootstrap(statistic, [groups, target_groups], seed=seed, n_resamples=n_resamples)

    def over_rows(statistic: Callable[[Array], Array]) -> Estimate:
        return bootstrap(statistic, [groups], seed=seed, n_resamples=n_resamples)

    distances = _distances(moved, target)
    near, near_real = (_neighbour_distance(x, reference) for x in (moved, target))
    far, far_real = _squared_mahalanobis([moved, target], reference)
    ratio = (moved.norm(dim=1) / source.norm(dim=1)).numpy()
    cosine = torch.nn.functional.cosine_similarity(moved, source, dim=1).numpy()
    return ManifoldReport(
        energy=over_both(_weighted_energy(distances, len(moved))),
        energy_before=over_both(_weighted_energy(_distances(source, target), len(source))),
        energy_floor=_floor(distances, _exchanges(groups, target_groups, seed)),
        neighbour_ratio=over_both(lambda w, v: _median(near, w) / _median(near_real, v)),
        mahalanobis_ratio=over_both(lambda w, v: np.sqrt(_mean(far, w) / _mean(far_real, v))),
        norm_ratio=over_rows(lambda w: _median(ratio, w)),
        cosine=over_rows(lambda w: _mean(cosine, w)),
    )


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise FitError("Rows must be finite, but some have NaN or infinity.")
    return x.detach().double().cpu()


def _distances(x: Tensor, y: Tensor) -> Array:
    """Between all rows of both, those of ``x`` first."""
    pooled = torch.cat([x, y])
    found: Array = torch.cdist(pooled, pooled).numpy()
    return found


def _weighted_energy(distances: Array, n: int) -> Callable[[Array, Array], Array]:
    """The unbiased energy distance of the first ``n`` rows to the others, as a function of row weights.

    A row is never compared with its own copies.
    """
    between, within_x, within_y = distances[:n, n:], distances[:n, :n], distances[n:, n:]
    return lambda w, v: _energy(between, within_x, within_y, w, v)


def _energy(between: Array, within_x: Array, within_y: Array, w: Array, v: Array) -> Array:
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ from distances, for every pair of rows of weights."""

    def within(D: Array, u: Array) -> Array:
        total: Array = ((u @ D) * u).sum(axis=-1) / (u.sum(axis=-1) ** 2 - (u**2).sum(axis=-1))
        return total

    cross = ((w @ between) * v).sum(axis=-1) / (w.sum(axis=-1) * v.sum(axis=-1))
    distance: Array = 2 * cross - within(within_x, w) - within(within_y, v)
    return distance


def _floor(distances: Array, moved_side: Array) -> float:
    """0.95 quantile of the energy distance over exchanges. Rounding must not make a tie a difference."""
    found = _energy(distances, distances, distances, moved_side, 1 - moved_side)
    return float(np.quantile(found, 0.95) + 1e-12 * distances.max())


def _exchanges(groups: Sequence[Hashable], target_groups: Sequence[Hashable], seed: int) -> Array:
    """Which rows stand for the moved ones, shape (exchange, n + m), drawn as if both were of one law.

    * A group with rows of both exchanges its moved rows for its target rows, or does not.
    * Groups with rows of one only are dealt to the two sides as wholes, to each as many groups as it had.

    The first is no exchange: the rows as they are belong to what one law may give, which keeps the test exact.
    """
    codes = codes_of([*groups, *target_groups])
    is_moved = np.arange(len(codes)) < len(groups)
    count, sizes = np.bincount(codes, is_moved), np.bincount(codes)
    rng = np.random.default_rng(seed)
    turned = rng.integers(0, 2, size=(N_EXCHANGES, len(sizes))) == 1
    alone = (count == 0) | (count == sizes)
    sides = count[alone] > 0
    turned[:, alone] = rng.permuted(np.tile(sides, (N_EXCHANGES, 1)), axis=1) != sides
    exchanged = is_moved ^ turned[:, codes]
    return np.concatenate([is_moved[None], exchanged]).astype(np.float64)


def _neighbour_distance(x: Tensor, reference: Tensor) -> Array:
    distances: Array = torch.cdist(x, reference).kthvalue(NEIGHBOUR, dim=1).values.numpy()
    return distances


def _squared_mahalanobis(samples: Sequence[Tensor], reference: Tensor) -> list[Array]:
    real = moments(reference)
    U, variances = principal_subspace(real.cov, max(min(real.n // 5, 32), 1))
    if len(variances) == 0:
        raise FitError("A Mahalanobis distance needs reference rows that vary, but all are equal.")
    cov = shrink(torch.diag(variances), oas_intensity(torch.diag(variances), real.n))
    return [((((x - real.mean) @ U) ** 2) / cov.diagonal()).sum(dim=1).numpy() for x in samples]


def _mean(values: Array, weights: Array) -> Array:
    mean: Array = (weights @ values) / weights.sum(axis=-1)
    return mean


def _median(values: Array, weights: Array) -> Array:
    """Weighted median: the middle of the values, each counted as often as its weight says."""
    order = np.argsort(values)
    reached = np.cumsum(weights[:, order], axis=-1)
    half = reached[:, -1:] / 2
    low = (reached >= half).argmax(axis=-1)
    high = (reached > half).argmax(axis=-1)
    median: Array = (values[order][low] + values[order][high]) / 2
    return median

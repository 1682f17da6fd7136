"""Whether cyclic classes, such as the days of the week, lie on a circle in their order."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.errors import ActivationError, OptionError
from steerlens.numerics import Estimate
from steerlens.probes._groups import group_blocks, group_codes, group_folds
from steerlens.probes._jackknife import jackknife
from steerlens.probes._pairs import finite_rows, span_coordinates
from steerlens.probes._smoothers import (
    N_FOLDS,
    PENALTIES,
    Fit,
    Kernel,
    chosen_settings,
    held_out_fits,
    no_kernel,
    residual_operators,
)

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

EXACT_UP_TO = 9
"""Up to this many classes all cyclic orders are tried: (9 − 1)!/2 = 20160."""

N_ORDERS = 5000
"""Of more classes so many random orders are tried."""


@final
@dataclass(frozen=True)
class Harmonic:
    """How well (cos 2πkj/p, sin 2πkj/p) of class j can be read from activations.

    Args:
        k: How often the angle goes round while the classes go round once.
        r_squared: Held-out share of their variance that ridge regression explains; noise gives 0 or less.
        null: 0.95 quantile of that where the classes are put in another order (one penalty for all folds).
        p_value: Share of orders, the true one included, that are read as well. Distinct classes can be read in any
            order; classes that follow each other are read better in their own, round a circle or along an arc of one.
    """

    k: int
    r_squared: Estimate
    null: float
    p_value: float

    def __str__(self) -> str:
        return f"R² {self.r_squared}, other orders below {self.null:.3g} (p = {self.p_value:.2g})"


@final
@dataclass(frozen=True, eq=False)
class CirclePlane:
    """Cyclic classes in a plane, and the circle through their means.

    Args:
        rows: Each row in the plane.
        centroids: Mean of each class.
        centre: Centre of the circle through the centroids (least squares).
        radius: Its radius.
        in_order: Whether the centroids follow each other round the centre in the true order, either way, and close:
            no gap between neighbours of half a turn. Points along a line, or an arc of less than half, do not.
    """

    rows: Float[Tensor, "n 2"]
    centroids: Float[Tensor, "class_ 2"]
    centre: Float[Tensor, " 2"]
    radius: float
    in_order: bool


@final
@dataclass(frozen=True, eq=False)
class CircularFit:
    """Classes on a circle: how well their angle is read, and the plane to look at.

    Args:
        harmonics: The angle and its multiples; the first decides.
        principal: First two principal components of the class means, for which the order was not used: 2/(p − 1)! of
            orders are found here by chance.
        read: The angle vectors that were read from each row, by a probe that was fitted to other groups. Noise makes
            the radius less than 1. Order says nothing here: the probe was asked for it, and classes that are merely
            distinct have it too.
        class_index: The class of each row.
        n_orders: Orders behind the p-values.
        exact: Whether these are all.
    """

    harmonics: tuple[Harmonic, ...]
    principal: CirclePlane
    read: CirclePlane
    class_index: Int[Tensor, " n"]
    n_orders: int
    exact: bool

    @property
    def r_squared(self) -> Estimate:
        """Of the first harmonic."""
        return self.harmonics[0].r_squared

    @property
    def p_value(self) -> float:
        """Of the first harmonic."""
        return self.harmonics[0].p_value

    def __str__(self) -> str:
        orders = f"{'all' if self.exact else 'random'} {self.n_orders} orders"
        found, period = self.r_squared, len(self.principal.centroids)
        lines = [
            f"{period} classes on a circle? {found.n} rows in {found.n_clusters} groups ({orders})",
            *(f"  harmonic {h.k}         {h}" for h in self.harmonics),
            f"  in order           {'yes' if self.principal.in_order else 'no'}, in the first two principal components",
        ]
        return "\n".join(lines)


def circular_probe(
    x: Float[Tensor, "n d_model"],
    angle_index: Int[Tensor, " n"],
    period: int,
    groups: Sequence[Hashable],
    *,
    seed: int,
    harmonics: Sequence[int] | None = None,
) -> CircularFit:
    """Read the angle of cyclic classes by ridge regression, and compare their true order with other orders.

    One smoother predicts the classes themselves, and every order is a linear function of these, so that trying an order
    costs nothing. Each order has the penalty that suits it best.

    Args:
        x: Activations.
        angle_index: The class of each row, 0 to period − 1 in cyclic order.
        period: Number of classes.
        groups: What rows have in common besides their class, such as the template; held out as a whole. Not the class.
        seed: Of folds and orders.
        harmonics: Which to report; 1, 2 and 3, as far as they are below half the period, if left out.

    Raises:
        ActivationError: If rows are not finite, or do not match the classes.
        OptionError: If a class is missing or out of range, the period is below 4, or a harmonic above half of it.
        EstimateError: If there are fewer than five groups.

    References:
        engels2024 (circular features).
    """
    rows, index = finite_rows(x), angle_index.detach().cpu().numpy().astype(np.int64)
    _check(index, len(rows), period)
    wanted = tuple(k for k in (1, 2, 3) if 2 * k < period) if harmonics is None else tuple(harmonics)
    if not wanted or any(not 1 <= k <= period / 2 for k in wanted):
        raise OptionError(f"harmonics must lie between 1 and {period // 2}, half the period, but got {wanted}.")
    codes = group_codes(groups, len(rows))
    one_hot = np.eye(period)[index]
    reader = _reader(span_coordinates(rows), one_hot, codes, seed)
    orders, exact = _orders(period, seed)
    read = {k: reader.read(_circle(np.arange(period), k, period)) for k in {1, *wanted}}
    fits = tuple(_harmonic(k, reader, read[k][1], orders, exact) for k in wanted)
    coordinates = read[1][0]
    means = torch.tensor((one_hot / one_hot.sum(axis=0)).T) @ rows
    Vh = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False).Vh
    return CircularFit(
        harmonics=fits,
        principal=_plane(((rows - means.mean(dim=0)) @ Vh[:2].T).numpy(), one_hot),
        read=_plane(coordinates, one_hot),
        class_index=torch.tensor(index),
        n_orders=len(orders),
        exact=exact,
    )


@final
@dataclass(frozen=True, eq=False)
class _Reader:
    """Ridge regression of anything that depends on the class alone, on rows of other groups.

    Args:
        fits: For the mean and each penalty, the fits without each fold.
        residual: I − H of each.
        errors: Zᵀ(I − H)ᵀ(I − H)Z of each, with Z the indicators of classes: angles C leave tr Cᵀ E C.
    """

    one_hot: Array
    codes: Codes
    folds: Codes
    fits: list[list[Fit]]
    residual: Array
    errors: Array

    def best_r_squared(self, angles: Array) -> Array:
        """With the best penalty for each set of angle vectors, shape (..., class_, 2); all folds choose together."""
        left = np.einsum("opc,spq,oqc->so", angles, self.errors, angles, optimize=True)
        found: Array = 1 - left[1:].min(axis=0) / np.maximum(left[0], 1e-300)
        return found

    def read(self, angles: Array) -> tuple[Array, Estimate]:
        """What is read from each row, and R²; each fold's penalty is the best in the other folds."""
        y = self.one_hot @ angles
        squared = ((self.residual @ y) ** 2).sum(axis=2)
        chosen = chosen_settings(squared[1:], self.folds, [len(PENALTIES)])[0] + 1
        blocks = group_blocks(self.codes)
        n_blocks = int(blocks.max()) + 1
        predicted, mean = np.empty((2, 1 + n_blocks, *y.shape))
        for part, setting in enumerate(chosen):
            at, fit = self.folds == part, self.folds != part
            for into, which in ((predicted, setting), (mean, 0)):
                into[:, at] = [*self.fits[which][part].without_each(y[fit], blocks[fit], n_blocks)]
        wrong, total = (((y - of) ** 2).sum(axis=2) for of in (predicted, mean))
        keep = np.arange(-1, n_blocks)[:, None] != blocks
        found = 1 - (wrong * keep).sum(axis=1) / np.maximum((total * keep).sum(axis=1), 1e-300)
        return predicted[0], jackknife(float(found[0]), found[1:], self.codes, within=(-np.inf, 1.0))


def _reader(h: Array, one_hot: Array, codes: Codes, seed: int) -> _Reader:
    folds = group_folds(codes, N_FOLDS, seed)
    centred = h - h.mean(axis=0)
    centred *= np.sqrt(len(h) / max(float((centred**2).sum()), 1e-300))
    few = 4 * centred.shape[1] <= len(h)
    kernel = Kernel(Z=centred) if few else Kernel(centred @ centred.T)
    fits = held_out_fits([(no_kernel(len(h)), 1.0), *((kernel, penalty) for penalty in PENALTIES)], folds)
    residual = residual_operators(fits, folds)
    left = residual @ one_hot
    return _Reader(one_hot, codes, folds, fits, residual, left.mT @ left)


def _harmonic(k: int, reader: _Reader, r_squared: Estimate, orders: Codes, exact: bool) -> Harmonic:
    period = orders.shape[1]
    true = reader.best_r_squared(_circle(np.arange(period)[None], k, period))[0]
    null = reader.best_r_squared(_circle(orders, k, period))
    as_good = int((null >= true - 1e-9).sum())
    return Harmonic(
        k=k,
        r_squared=r_squared,
        null=float(np.quantile(null, 0.95)),
        p_value=as_good / len(null) if exact else (1 + as_good) / (1 + len(null)),
    )


def _circle(position: Codes, k: int, period: int) -> Array:
    angle = 2 * np.pi * k * position / period
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _orders(period: int, seed: int) -> tuple[Codes, bool]:
    """The position of each class in all cyclic orders, turns and reflections counted once; or in random ones."""
    if period > EXACT_UP_TO:
        rng = np.random.default_rng(seed)
        return rng.permuted(np.tile(np.arange(period), (N_ORDERS, 1)), axis=1), False
    rest = np.array(list(itertools.permutations(range(1, period))), dtype=np.int64)
    # Of an order and its reflection, which puts class j at period − position, one has class 1 in the first half; where
    # it sits opposite class 0, class 2 decides.
    half = np.where(2 * rest[:, 0] == period, 2 * rest[:, 1] < period, 2 * rest[:, 0] < period)
    kept = rest[half]
    return np.concatenate([np.zeros((len(kept), 1), dtype=np.int64), kept], axis=1), True


def _plane(rows: Array, one_hot: Array) -> CirclePlane:
    """The circle makes Σ (|p − c|² − r²)² over centroids p least: linear in c and r² − |c|²."""
    centroids = (one_hot / one_hot.sum(axis=0)).T @ rows
    design = np.column_stack([2 * centroids, np.ones(len(centroids))])
    solution = np.linalg.lstsq(design, (centroids**2).sum(axis=1), rcond=None)[0]
    centre = solution[:2]
    around = centroids - centre
    return CirclePlane(
        rows=torch.tensor(rows),
        centroids=torch.tensor(centroids),
        centre=torch.tensor(centre),
        radius=float(np.sqrt(max(solution[2] + centre @ centre, 0.0))),
        in_order=_in_order(np.arctan2(around[:, 1], around[:, 0])),
    )


def _in_order(angles: Array) -> bool:
    order = np.argsort(angles)
    steps = (np.roll(order, -1) - order) % len(order)
    gaps = (np.roll(angles[order], -1) - angles[order]) % (2 * np.pi)
    return bool(((steps == 1).all() or (steps == len(order) - 1).all()) and gaps.max() < np.pi)


def _check(index: Codes, n: int, period: int) -> None:
    if len(index) != n:
        raise ActivationError(f"Every row needs a class, but got {n} rows and {len(index)} classes.")
    if period < 4:
        raise OptionError(f"period must be at least 4, but got {period}: three or fewer points have only one order.")
    if index.min(initial=0) < 0 or index.max(initial=0) >= period:
        raise OptionError(f"angle_index must lie between 0 and {period - 1}, but got {index.min()} to {index.max()}.")
    missing = sorted(set(range(period)) - set(index.tolist()))
    if missing:
        raise OptionError(f"Every class from 0 to {period - 1} needs rows, but {missing} have none.")

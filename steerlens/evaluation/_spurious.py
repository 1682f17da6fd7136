"""How much of the spread of slopes goes with what has nothing to do with the concept: letters, lengths, templates."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]

N_PERMUTATIONS = 499
"""Least p-value 0.002."""


@final
@dataclass(frozen=True)
class FactorShare:
    """What one factor explains of the variance of slopes.

    Args:
        name: The factor.
        n_levels: Different values of it.
        marginal: R² of all factors less that of all others, corrected for chance: 0 on average where the factor has
            nothing of its own to tell. It may come out below 0.
        published: The same difference without correction, as published: never below 0, and above it by chance.
        alone: R² of this factor without the others, corrected. Above ``marginal`` where factors tell the same.
        permuted: Mean of ``published`` where the factor's values are dealt anew: what chance gives.
        p_value: Share of such dealings, the values found included, that give as much.
    """

    name: str
    n_levels: int
    marginal: Estimate
    published: float
    alone: Estimate
    permuted: float
    p_value: float


@final
@dataclass(frozen=True)
class VarianceDecomposition:
    """Shares of the variance of slopes that go with factors.

    Args:
        total: R² of all factors together, corrected for chance.
        published: R² without correction.
        permuted: Mean of ``published`` where the values of all factors are dealt anew.
        p_value: Share of such dealings, the values found included, that give as much.
        factors: In the order given. Marginal shares do not add up to the total where factors are correlated.
        n: Questions.
        n_clusters: Groups.
    """

    total: Estimate
    published: float
    permuted: float
    p_value: float
    factors: tuple[FactorShare, ...]
    n: int
    n_clusters: int

    def __str__(self) -> str:
        lines = [
            f"Variance of slopes of {self.n} questions in {self.n_clusters} groups",
            f"  all factors  {self.total} (p = {self.p_value:.2g}; published R² {self.published:.3g}, by chance "
            f"{self.permuted:.3g})",
        ]
        lines += [
            f"  {f.name}  {f.marginal}, alone {f.alone} (p = {f.p_value:.2g}; published {f.published:.3g}, by chance "
            f"{f.permuted:.3g})"
            for f in self.factors
        ]
        return "\n".join(lines)


def variance_decomposition(
    slopes: npt.ArrayLike, factors: Mapping[str, Sequence[Hashable]], groups: Sequence[Hashable], *, seed: int
) -> VarianceDecomposition:
    """Regress slopes of questions on indicators of factors.

    Shares are corrected as (R² − c) / (1 − c), where c is the mean R² of factors whose values are dealt anew: with
    rows of their own that is the adjusted R² of Ezekiel, and with groups it knows that there are fewer of them.

    A factor that is the same throughout every group is dealt from group to group, any other from question to question:
    the p-values hold if it was assigned so.

    Args:
        slopes: Shape (question,).
        factors: For each factor its value for each question, such as the answer letter. Sort numbers such as lengths
            into a few bins first.
        groups: The cluster of each question.
        seed: Of resampling and dealing.

    Raises:
        OptionError: If there is no factor, one does not have a value for each question, only one value, or more than a
            quarter as many values as there are questions.
        EstimateError: If slopes are not finite or all equal, or there are fewer than five groups.

    References:
        tan2024 (shares of factors); ezekiel1930 (adjusted R²).
    """
    y = np.asarray(slopes, dtype=np.float64)
    _check(y, factors, groups)
    rng = np.random.default_rng(seed)
    every = {name: _indicators(values) for name, values in factors.items()}
    deals = {name: _deals(values, groups, rng) for name, values in factors.items()}
    everything = _Regression(y, list(every.values()))
    by_chance = [_Regression(y, [x[deals[name][i]] for name, x in every.items()]).plain for i in range(N_PERMUTATIONS)]
    total = _Share(everything, _Regression(y, []), np.array(by_chance))
    shares = []
    for name, values in factors.items():
        others = [x for other, x in every.items() if other != name]
        without = _Regression(y, others)
        dealt = [_Regression(y, [*others, every[name][p]]).plain - without.plain for p in deals[name]]
        own = _Share(everything, without, np.array(dealt))
        by_itself = [_Regression(y, [every[name][p]]).plain for p in deals[name]]
        alone = _Share(_Regression(y, [every[name]]), _Regression(y, []), np.array(by_itself))
        shares.append(
            FactorShare(
                name=name,
                n_levels=len(set(values)),
                marginal=bootstrap(own, [groups], seed=seed, bounds=(-np.inf, 1.0)),
                published=own.found,
                alone=bootstrap(alone, [groups], seed=seed, bounds=(-np.inf, 1.0)),
                permuted=own.chance,
                p_value=own.p_value,
            )
        )
    return VarianceDecomposition(
        total=bootstrap(total, [groups], seed=seed, bounds=(-np.inf, 1.0)),
        published=total.found,
        permuted=total.chance,
        p_value=total.p_value,
        factors=tuple(shares),
        n=len(y),
        n_clusters=len(set(groups)),
    )


class _Regression:
    """Least squares on an intercept and indicators, for many weightings of the rows at once."""

    def __init__(self, y: Array, columns: Sequence[Array]) -> None:
        self.x = np.column_stack([np.ones(len(y)), *columns])
        self.y = y - y.mean()
        rest = self.y - self.x @ np.linalg.lstsq(self.x, self.y, rcond=None)[0]
        self.plain = max(1 - float(rest @ rest) / float(self.y @ self.y), 0.0)

    def r2(self, w: Array) -> Array:
        """Share of the variance explained, shape (resample,)."""
        n, k = self.x.shape
        products = (self.x[:, :, None] * self.x[:, None, :]).reshape(n, k * k)
        gram = (w @ products).reshape(-1, k, k)
        moment = w @ (self.x * self.y[:, None])
        # A level that a resample leaves out has no column there.
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-9 * values[:, -1:]
        turned = np.einsum("rij,ri->rj", vectors, moment) ** 2
        explained = np.where(kept, turned / np.where(kept, values, 1.0), 0.0).sum(axis=1)
        level = (w @ self.y) ** 2 / w.sum(axis=1)
        total = w @ self.y**2 - level
        r2 = np.divide(explained - level, total, out=np.zeros_like(total), where=total > 1e-12 * (self.y @ self.y))
        share: Array = np.clip(r2, 0.0, 1.0)
        return share


class _Share:
    """What one regression explains beyond another, less what chance would."""

    def __init__(self, full: _Regression, part: _Regression, null: Array) -> None:
        self.full, self.part = full, part
        self.found = full.plain - part.plain
        self.chance = float(null.mean())
        self.p_value = float((1 + (null >= self.found - 1e-9).sum()) / (1 + len(null)))

    def __call__(self, w: Array) -> Array:
        # A resample holds rows twice, and fits them by chance on top of what the data fit by chance.
        chance = self.chance * (w**2).sum(axis=1) / w.sum(axis=1)
        # Of what the other regression leaves, the share that chance takes.
        share = np.minimum(chance / max(1 - self.part.plain, 1e-12), 0.9)
        before, after = self.part.r2(w), self.full.r2(w)
        corrected: Array = (after - before - share * (1 - before)) / (1 - share)
        return corrected


def _indicators(values: Sequence[Hashable]) -> Array:
    """One column for each value but the first, shape (question, value − 1)."""
    order = {v: i for i, v in enumerate(dict.fromkeys(values))}
    codes = np.array([order[v] for v in values])
    columns: Array = (codes[:, None] == np.arange(1, len(order))).astype(np.float64)
    return columns


def _deals(
    values: Sequence[Hashable], groups: Sequence[Hashable], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Permutations of the questions; for a factor of groups, each question gets the value of another group."""
    first = {g: i for i, g in reversed(list(enumerate(groups)))}
    of_groups = all(values[first[g]] == v for g, v in zip(groups, values, strict=True))
    if not of_groups or len(first) == len(groups):
        return [rng.permutation(len(groups)) for _ in range(N_PERMUTATIONS)]
    names = list(first)
    number = {g: i for i, g in enumerate(names)}
    member, leader = np.array([number[g] for g in groups]), np.array([first[g] for g in names])
    return [np.asarray(leader[rng.permutation(len(names))][member]) for _ in range(N_PERMUTATIONS)]


def _check(y: Array, factors: Mapping[str, Sequence[Hashable]], groups: Sequence[Hashable]) -> None:
    if y.ndim != 1 or len(groups) != len(y):
        raise OptionError(f"Expected one row of slopes and a group for each, but got {y.shape} and {len(groups)}.")
    if not np.isfinite(y).all() or (len(y) and np.ptp(y) == 0):
        raise EstimateError("A decomposition needs finite slopes that vary. Leave broken questions out.")
    if not factors:
        raise OptionError("A decomposition needs at least one factor, such as the answer letter, but got none.")
    for name, values in factors.items():
        levels = len(set(values))
        if len(values) != len(y):
            raise OptionError(f"Factor {name!r} needs a value for each of {len(y)} questions, but has {len(values)}.")
        if not 2 <= levels <= len(y) // 4:
            raise OptionError(
                f"Factor {name!r} has {levels} values over {len(y)} questions; expected 2 to {len(y) // 4}. "
                "Leave out what does not vary, and sort numbers into bins."
            )

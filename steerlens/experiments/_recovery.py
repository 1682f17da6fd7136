"""How much of the few-shot level a method gives back, pair by pair of model and task, and how often that is enough."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate, bootstrap, cluster_mean, cluster_share, wilson

Array = npt.NDArray[np.float64]

RECOVERY_COLUMNS = (
    "model", "task", "method", "setting", "value", "low", "high", "few_shot", "few_shot_low", "few_shot_high",
    "recovery", "recovery_low", "recovery_high", "at_floor", "n", "n_clusters",
)  # fmt: skip
"""One row is one method on one pair of model and task. ``value``: share of answers right. ``recovery``: that over the
few-shot share; missing where the few-shot share is ``at_floor``, and for the few-shot level itself."""

REACHED_COLUMNS = ("method", "threshold", "share", "low", "high", "reached", "surely", "n_pairs", "at_floor", "missing")
"""One row is one method and threshold. ``share``: of pairs whose recovery reaches the threshold, with Wilson's
interval. ``surely``: pairs whose whole interval does. ``at_floor``: pairs set aside. ``missing``: pairs not at the
floor for which the method could not be fitted; they count as not reached."""


def recovery(steered: npt.ArrayLike, few_shot: npt.ArrayLike, clusters: Sequence[Hashable], *, seed: int) -> Estimate:
    """Ratio of two shares of right answers to the same questions, steered over few-shot.

    Resamples without any right few-shot answer count half of one. Where no resample differs, as when steering gets
    nothing right, the interval is that of the two shares, end against end, which is wider than it need be.

    Args:
        steered: Shape (n,), 0 or 1, or a mean of several draws between.
        few_shot: Shape (n,), 0 or 1, of the same questions.
        clusters: The cluster of each question.
        seed: Of the bootstrap.

    Returns:
        0 or more; 1 is the few-shot level.

    Raises:
        EstimateError: There are fewer than five clusters, or no few-shot answer is right.

    References:
        dasilva2025.
    """
    s, f = np.asarray(steered, dtype=np.float64), np.asarray(few_shot, dtype=np.float64)
    if not f.any():
        raise EstimateError("No few-shot answer is right, so there is nothing to recover. Set this pair aside.")
    n = len(f)

    def ratio(weights: Array) -> Array:
        found: Array = (weights @ s) / np.maximum(weights @ f, 0.5 * weights.sum(axis=1) / n)
        return found

    found = bootstrap(ratio, [clusters], seed=seed, bounds=(0.0, np.inf))
    if found.low < found.high:
        return found
    above, below = (share(x, clusters, seed=seed) for x in (s, f))
    low, high = above.low / below.high, above.high / max(below.low, 0.5 / n)
    method = "ends of both shares"
    return Estimate(found.value, min(low, found.value), max(high, found.value), 0.95, n, found.n_clusters, method)


def share(values: npt.ArrayLike, clusters: Sequence[Hashable], *, seed: int) -> Estimate:
    """Share of right answers; means of several draws lie between 0 and 1."""
    x = np.asarray(values, dtype=np.float64)
    of = cluster_share if np.isin(x, (0.0, 1.0)).all() else cluster_mean
    return of(x, clusters, seed=seed)


def recovery_table(items: pd.DataFrame, *, metric: str, few_shot: str, floor: float, seed: int) -> pd.DataFrame:
    """Share right and recovery of every method on every pair (columns `RECOVERY_COLUMNS`).

    Args:
        items: Columns model, task, method, draw, setting, input, group and the metric; every pair has rows of the
            method ``few_shot``. Draws are averaged question by question.
        metric: A column of 0 and 1.
        few_shot: The method that others are measured against.
        floor: Pairs whose few-shot share is not above this are at the floor.
        seed: Of the bootstrap.

    Raises:
        EstimateError: A pair has fewer than five groups of questions.
    """
    rows = []
    for (model, task), pair in items.groupby(["model", "task"], sort=False):
        by_word = pair.groupby(["method", "input"], sort=False).agg({metric: "mean", "group": "first"})
        shown = by_word.loc[few_shot]
        groups = list(shown["group"])
        level = share(shown[metric], groups, seed=seed)
        for method in dict.fromkeys(pair["method"]):
            values = by_word.loc[method].loc[shown.index, metric].to_numpy(float)
            e = share(values, groups, seed=seed)
            at_floor = level.value <= floor
            r = None if at_floor or method == few_shot else recovery(values, shown[metric], groups, seed=seed)
            ratio = (r.value, r.low, r.high) if r else (np.nan,) * 3
            setting = ", ".join(dict.fromkeys(pair.loc[pair["method"] == method, "setting"]))
            rows.append(
                (model, task, method, setting, e.value, e.low, e.high, level.value, level.low, level.high,
                 *ratio, at_floor, e.n, e.n_clusters)
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(RECOVERY_COLUMNS))


def reached_table(found: pd.DataFrame, *, methods: Sequence[str], thresholds: Sequence[float]) -> pd.DataFrame:
    """Of how many pairs each method recovers enough (columns `REACHED_COLUMNS`).

    Args:
        found: From `recovery_table`.
        methods: Which to count.
        thresholds: What is enough, as a share of the few-shot level.
    """
    pairs = found[["model", "task", "at_floor"]].drop_duplicates()
    n, set_aside = int((~pairs["at_floor"]).sum()), int(pairs["at_floor"].sum())
    rows = []
    for method in methods:
        own = found[(found["method"] == method) & ~found["at_floor"]]
        for threshold in thresholds:
            # Shares are sums of ones; what is equal to the threshold must not miss it by rounding.
            reached = int((own["recovery"] >= threshold - 1e-9).sum())
            surely = int((own["recovery_low"] >= threshold - 1e-9).sum())
            e = wilson(reached, n) if n else None
            ends = (e.value, e.low, e.high) if e else (np.nan,) * 3
            rows.append((method, threshold, *ends, reached, surely, n, set_aside, n - len(own)))
    return pd.DataFrame(rows, columns=list(REACHED_COLUMNS))

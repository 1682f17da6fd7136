"""The part of the records that a figure is about."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from steerlens.evaluation import Comparison
from steerlens.reports._numbers import is_number, listed
from steerlens.reports._palette import Look, family_order, looks


def ordered_headline(comparison: Comparison) -> pd.DataFrame:
    """The headline by family, smallest class of functions first; within a family as given."""
    order = family_order(comparison.headline["family"])
    rank = comparison.headline["family"].map(order.index)
    return comparison.headline.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def method_looks(comparison: Comparison) -> dict[str, Look]:
    """How each method is drawn, in all figures."""
    rows = ordered_headline(comparison)
    return looks(zip(rows["method"], rows["family"], strict=True))


def budget_of(comparison: Comparison) -> float:
    """The budget of KL in nats per token; NaN when there is no method."""
    found = [float(b) for b in comparison.headline["budget"] if is_number(b)]
    return found[0] if found else float("nan")


def short_of_budget(row: Any) -> str:
    """Of a headline's row: how many of its random directions reached the budget, if not all; else nothing."""
    n, reached = row["random_n"], row["random_reached"]
    return f"{int(reached)} of {int(n)}" if is_number(n) and is_number(reached) and reached < n else ""


def each(frame: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples, whose fields pandas cannot type."""
    yield from frame.itertuples(index=False)


def level_of(comparison: Comparison) -> str:
    """The level of the intervals on the test half, as text."""
    r = comparison.records
    levels = sorted({f"{100 * x:.3g} %" for x in r.loc[r["split"] == "test", "level"] if is_number(x)})
    return listed(levels)


def chosen_records(comparison: Comparison, metric: str) -> pd.DataFrame:
    """Test estimates of one metric for every method at its chosen site, by strength."""
    r = comparison.records
    rows = r[(r["split"] == "test") & (r["role"] == "method") & (r["metric"] == metric)]
    rows = rows.merge(comparison.headline[["method", "site"]], on=["method", "site"])
    return rows.sort_values(["method", "strength"], kind="stable").reset_index(drop=True)


def random_records(comparison: Comparison, metric: str) -> pd.DataFrame:
    """Test estimates of one metric for the random directions, at every site they were drawn at."""
    r = comparison.records
    return r[(r["split"] == "test") & (r["role"] == "random") & (r["metric"] == metric)].reset_index(drop=True)

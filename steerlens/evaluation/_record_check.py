"""Stored tables, checked before anything is drawn or computed from them."""

import numpy as np
import pandas as pd

from steerlens.errors import ArtefactError


def check_numbers(frame: pd.DataFrame, columns: tuple[str, ...], where: str) -> None:
    """Refuse columns that do not hold finite numbers.

    Args:
        frame: The table.
        columns: That should hold numbers, none of them missing.
        where: What to call the table.

    Raises:
        ArtefactError: If a column holds something else, naming it and its first row that does.
    """
    for name in columns:
        values = frame[name]
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            raise ArtefactError(f"{where}: the column {name!r} should hold numbers, but holds {values.dtype}.")
        broken = ~np.isfinite(values.to_numpy(dtype=np.float64, na_value=np.nan))
        if broken.any():
            raise ArtefactError(
                f"{where}: the column {name!r} should hold finite numbers, but {int(broken.sum())} of {len(frame)} are "
                f"NaN or infinite, the first in row {int(broken.argmax())}. It was changed after it was written."
            )


def check_range(frame: pd.DataFrame, column: str, low: float, high: float, where: str) -> None:
    """Refuse numbers outside a range, give or take rounding.

    Raises:
        ArtefactError: If there is one.
    """
    values = frame[column].to_numpy(dtype=np.float64)
    out = (values < low - 1e-9) | (values > high + 1e-9)
    if out.any():
        row = int(out.argmax())
        raise ArtefactError(f"{where}: {column!r} should be in [{low:g}, {high:g}], but is {values[row]} in row {row}.")


def check_ordered(frame: pd.DataFrame, low: str, high: str, where: str) -> None:
    """Refuse intervals whose ends are the wrong way round.

    Raises:
        ArtefactError: If there is one.
    """
    wrong = frame[low].to_numpy(dtype=np.float64) > frame[high].to_numpy(dtype=np.float64)
    if wrong.any():
        raise ArtefactError(f"{where}: {low!r} should not be above {high!r}, but is in row {int(wrong.argmax())}.")


def check_items(items: pd.DataFrame, where: str) -> None:
    """Refuse records of questions with columns of the wrong type, numbers that are not finite, or rows twice over.

    Raises:
        ArtefactError: If there are such.
    """
    check_numbers(items, ("strength", "positive", "negative"), where)
    _check_keys(items, ("role", "arm", "strength", "question"), ("group", "side"), where)


def check_texts(texts: pd.DataFrame, where: str) -> None:
    """Refuse records of neutral texts with columns of the wrong type, numbers out of range, or rows twice over.

    Raises:
        ArtefactError: If there are such.
    """
    check_numbers(texts, ("strength", "kl", "nll", "n_tokens"), where)
    check_range(texts, "n_tokens", 1, np.inf, where)
    _check_keys(texts, ("role", "arm", "strength", "text"), (), where)


def _check_keys(frame: pd.DataFrame, key: tuple[str, ...], also: tuple[str, ...], where: str) -> None:
    """``role`` and ``arm`` are text, nothing that names a row is missing, and no row stands twice."""
    for name in (*key, *also):
        if frame[name].isna().any():
            raise ArtefactError(f"{where}: the column {name!r} lacks {int(frame[name].isna().sum())} values.")
    for name in ("role", "arm"):
        if not frame[name].map(lambda v: isinstance(v, str)).all():
            raise ArtefactError(f"{where}: the column {name!r} should hold text, but holds {frame[name].dtype}.")
    twice = frame.duplicated(list(key))
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise ArtefactError(
            f"{where}: {int(twice.sum())} of {len(frame)} rows stand there twice, the first again in row {row}; each "
            f"{', '.join(key)} should be there once."
        )

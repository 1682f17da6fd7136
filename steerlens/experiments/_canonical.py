"""One form for values that mean the same, so that equal specs are equal text."""

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from steerlens.errors import OptionError

_EXACT = 2**53
"""Below this every whole number is exactly a float."""


def canonical(value: object, where: str) -> Any:
    """The one form of a value: None, bool, int, float, str, tuple, or dict with sorted keys.

    1.0 becomes 1 and −0.0 becomes 0; lists become tuples; text takes Unicode's composed form (NFC).

    Args:
        value: Anything that JSON could hold.
        where: Whose it is, for the message.

    Raises:
        OptionError: If it is NaN, infinite, or of another type, or if two keys become one.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, where)
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list | tuple):
        return tuple(canonical(v, f"{where}[{i}]") for i, v in enumerate(value))
    if isinstance(value, Mapping):
        return _mapping(value, where)
    raise OptionError(
        f"{where} must be made of numbers, text, lists and tables, but holds a {type(value).__name__}. "
        "Give methods by name, with their hyperparameters as data."
    )


def canonical_json(value: object, where: str) -> str:
    """The canonical form as JSON, in ASCII, on one line."""
    form = canonical(value, where)
    return json.dumps(form, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def _number(value: float, where: str) -> float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OptionError(f"{where} must be finite, but is {value}.")
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if abs(value) < _EXACT:
        return int(value)
    try:
        near = float(value)
    except OverflowError:
        return value
    return near if near == value else value


def _mapping(value: Mapping[Any, object], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, entry in value.items():
        if not isinstance(key, str):
            raise OptionError(f"{where} must have text as keys, but has {key!r}.")
        name = unicodedata.normalize("NFC", key)
        if name in found:
            raise OptionError(f"{where} has the key {name!r} twice, in two Unicode forms. Keep one.")
        found[name] = canonical(entry, f"{where}.{name}")
    return dict(sorted(found.items()))

"""Reading a steering card back: its schema, and whether its numbers can be, and follow from its records."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pandas as pd

from steerlens.errors import ArtefactError, EstimateError, SteerlensError
from steerlens.evaluation._card import CARD, CARD_ITEMS, CARD_SCHEMA, CARD_TEXTS, SteeringCard, check_finite
from steerlens.evaluation._card_check import check_follows, check_ranges
from steerlens.evaluation._comparison import ITEM_COLUMNS, TEXT_COLUMNS
from steerlens.evaluation._record_check import check_items, check_texts


def load_card(folder: str | Path) -> SteeringCard:
    """Read what `SteeringCard.save` wrote; every field is checked against the schema and against the records.

    Raises:
        ArtefactError: If a file is missing, malformed or of another schema; a field is missing, unknown or of another
            type; a number is not finite or out of its range; records are broken; or a number does not follow from
            them.
    """
    folder = Path(folder)
    path = folder / CARD
    try:
        document = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(f"{folder} has no {CARD}. Expected a folder written by `steerlens card`.") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}. Expected a file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}). Write the card again.") from None
    if not isinstance(document, dict) or document.get("schema") != CARD_SCHEMA:
        given = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise ArtefactError(f"{path} has schema {given!r}, but this version of steerlens reads {CARD_SCHEMA!r}.")
    fields = {k: v for k, v in document.items() if k != "schema"}
    frames = {
        "items": _frame(folder / CARD_ITEMS, ITEM_COLUMNS),
        "texts": _frame(folder / CARD_TEXTS, TEXT_COLUMNS),
    }
    check_items(frames["items"], str(folder / CARD_ITEMS))
    check_texts(frames["texts"], str(folder / CARD_TEXTS))
    try:
        check_finite(fields, "card")
        card = _value(SteeringCard, fields, "card", given=frames)
        assert isinstance(card, SteeringCard)
        check_ranges(card)
        check_follows(card)
    except SteerlensError as error:
        raise ArtefactError(f"{path}: {error}") from None
    return card


def _value(wanted: Any, found: Any, where: str, *, given: Mapping[str, Any] | None = None) -> Any:
    """JSON as the type wanted, or an error that names the place."""
    origin = get_origin(wanted)
    if wanted is Any:
        return found
    if origin in (Union, UnionType):
        inner = [a for a in get_args(wanted) if a is not type(None)]
        return None if found is None else _value(inner[0], found, where)
    if origin is Literal:
        if found not in get_args(wanted):
            raise ArtefactError(f"{where} should be one of {', '.join(get_args(wanted))}, but is {found!r}.")
        return found
    if origin is tuple:
        if not isinstance(found, list):
            raise ArtefactError(f"{where} should be a list, but is {found!r}.")
        return tuple(_value(get_args(wanted)[0], v, f"{where}[{i}]") for i, v in enumerate(found))
    if origin is not None:  # Mapping
        if not isinstance(found, dict):
            raise ArtefactError(f"{where} should be an object, but is {found!r}.")
        return found
    if dataclasses.is_dataclass(wanted):
        return _object(wanted, found, where, given or {})
    if wanted is float and type(found) is int:
        return float(found)
    if type(found) is not wanted:
        raise ArtefactError(f"{where} should be of type {wanted.__name__}, but is {found!r}.")
    return found


def _object(wanted: Any, found: Any, where: str, given: Mapping[str, Any]) -> Any:
    if not isinstance(found, dict):
        raise ArtefactError(f"{where} should be an object, but is {found!r}.")
    hints = {k: v for k, v in get_type_hints(wanted).items() if k not in given}
    missing, unknown = sorted(set(hints) - set(found)), sorted(set(found) - set(hints))
    if missing or unknown:
        raise ArtefactError(f"{where} lacks {missing} and has unknown {unknown}.")
    values = {k: _value(t, found[k], f"{where}.{k}") for k, t in hints.items()}
    try:
        return wanted(**values, **given)
    except EstimateError as error:
        raise ArtefactError(f"{where}: {error}") from None


def _frame(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing. Write the card again.") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is not a readable Parquet file ({error}).") from None
    if tuple(frame.columns) != columns:
        raise ArtefactError(f"{path} should have the columns {columns}, but has {tuple(frame.columns)}.")
    return frame

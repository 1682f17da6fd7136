"""What a study has measured so far, in a folder, so that a killed study goes on where it stopped."""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import pandas as pd

from steerlens.errors import ArtefactError, ModelError, OptionError
from steerlens.experiments._code import protocol_version
from steerlens.experiments._files import locked, not_written, write_whole

STUDY, LOCK = "study.json", "lock"
PATIENCE = 60.0
"""Seconds to wait for another writer, who holds the lock for as long as it takes to write one part."""


@final
@dataclass(frozen=True, eq=False)
class StudyPart:
    """What was measured of one model on one task.

    Args:
        frame: One row for each observation.
        notes: What could not be measured of it, with the reason, by name.
    """

    frame: pd.DataFrame
    notes: Mapping[str, str] = field(default_factory=dict)


@final
class StoredParts:
    """Parts of one study, each a Parquet file beside a JSON file with its SHA-256.

    The JSON file is written last, and both under another name first: a part is there whole or not at all. One whose
    Parquet file is missing or not what the hash says, or whose JSON file cannot be read, is not stored: it is measured
    again. Several processes may write at once, under a lock; a part that is stored is not stored again. Parts of other
    data have other names. The folder belongs to one study with one plan, measured by one version of the code.

    Args:
        folder: Made if it does not exist.
        plan: What determines the numbers beside model, data and code, as text.

    Raises:
        OptionError: The folder is a file, or holds a study with another plan or of other code.
        ArtefactError: The folder's plan cannot be read or written.
    """

    def __init__(self, folder: str | Path, plan: str) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise OptionError(f"A study needs a folder, but {self.folder} is a file. Give another name.")
        _make(self.folder)
        path, ours = self.folder / STUDY, {"plan": plan, "code": protocol_version()}
        if not path.exists():
            with self._writing():
                if not path.exists():
                    write_whole(path, json.dumps(ours, indent=1).encode("utf-8"))
        known = _read_json(path)
        if known.get("plan") != plan:
            raise OptionError(
                f"{self.folder} holds a study with another plan: {_difference(str(known.get('plan')), plan)}. Results "
                "of two plans are not mixed: give another folder."
            )
        if known.get("code") != ours["code"]:
            raise OptionError(
                f"{self.folder} holds a study that was measured by other code: {known.get('code', 'unknown')} there, "
                f"{ours['code']} here. Results of two versions are not mixed: give another folder."
            )

    def has(self, model: str, precision: str, part: str, data: str) -> bool:
        """Whether this part is stored, whole."""
        return _whole(self._path(model, precision, part, data)) is not None

    def read(self, model: str, precision: str, part: str, data: str) -> StudyPart | None:
        """A part, or None if it is not stored, or not as it was written."""
        found = _whole(self._path(model, precision, part, data))
        return None if found is None else StudyPart(pd.read_parquet(io.BytesIO(found[1])), found[0]["notes"])

    def write(self, model: str, precision: str, part: str, data: str, revision: str, found: StudyPart) -> None:
        """Store a part, unless it is; on return it is there, whole.

        Raises:
            ModelError: Another process has stored parts of other weights under this name.
            ArtefactError: It cannot be written.
        """
        path = self._path(model, precision, part, data)
        rows = found.frame.to_parquet(None, index=False)
        about = {"model": model, "revision": revision, "precision": precision, "part": part, "data": data,
                 "sha256": hashlib.sha256(rows).hexdigest(), "notes": dict(found.notes)}  # fmt: skip
        with self._writing():
            self.check_weights(model, precision, revision)
            if _whole(path) is not None:
                return
            _make(path.parent)
            write_whole(path, rows)
            write_whole(path.with_suffix(".json"), json.dumps(about, indent=1).encode("utf-8"))

    def holds(self, model: str, precision: str) -> bool:
        """Whether anything is stored of a model."""
        return bool(self._revisions(model, precision))

    def check_weights(self, model: str, precision: str, revision: str) -> None:
        """Refuse a model whose weights are not those of the parts that are stored under its name.

        Raises:
            ModelError: They are others.
        """
        for known in self._revisions(model, precision):
            if known != revision:
                raise ModelError(
                    f"{model!r} has the weights {revision!r}, but {self.folder} holds parts measured with "
                    f"{known!r} under this name. Give another folder."
                )

    def _revisions(self, model: str, precision: str) -> list[object]:
        """Of all whole parts of a model."""
        folder = self._path(model, precision, "", "").parent
        whole = [_whole(path.with_suffix(".parquet")) for path in sorted(folder.glob("*.json"))]
        return list(dict.fromkeys(found[0].get("revision") for found in whole if found is not None))

    def _writing(self) -> AbstractContextManager[None]:
        return locked(self.folder / LOCK, patience=PATIENCE)

    def _path(self, model: str, precision: str, part: str, data: str) -> Path:
        folder = f"{_plain(model)}-{_short(model, precision)}"
        return self.folder / "parts" / folder / f"{_plain(part)}-{_short(part, data)}.parquet"


def _whole(path: Path) -> tuple[dict[str, Any], bytes] | None:
    """What is said of a part, and its rows; None unless both are there and the rows are those that were written."""
    try:
        rows, about = path.read_bytes(), json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or not isinstance(about.get("notes"), dict):
        return None
    return (about, rows) if about.get("sha256") == hashlib.sha256(rows).hexdigest() else None


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:60] or "part"


def _short(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()[:10]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}). Give another folder.") from None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path} holds a {type(found).__name__}, not an object. Give another folder.")
    return found


def _difference(known: str, given: str) -> str:
    """Where two plans begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(known, given, strict=False)) if a != b), min(len(known), len(given)))
    start = max(0, at - 30)
    return f"…{known[start : at + 30]!r} there, …{given[start : at + 30]!r} here"

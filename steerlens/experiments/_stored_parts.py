"""What a study has measured so far, in a folder, so that a killed study goes on where it stopped."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import pandas as pd

from steerlens.errors import ArtefactError, ModelError, OptionError


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
    """Parts of one study, each a Parquet file beside a JSON file.

    The JSON file is written last, and both under another name first: a part is there whole or not at all. Parts of
    other data have other names. The folder belongs to one study with one plan.

    Args:
        folder: Made if it does not exist.
        plan: What determines the numbers beside model and data, as text.

    Raises:
        OptionError: The folder is a file, or holds a study with another plan.
        ArtefactError: The folder's plan cannot be read.
    """

    def __init__(self, folder: str | Path, plan: str) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise OptionError(f"A study needs a folder, but {self.folder} is a file. Give another name.")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "study.json"
        if not path.exists():
            _write(path, lambda to: to.write_text(json.dumps({"plan": plan}, indent=1), encoding="utf-8"))
        elif (known := _read_json(path).get("plan")) != plan:
            raise OptionError(
                f"{self.folder} holds a study with another plan: {_difference(str(known), plan)}. Results of two plans "
                "are not mixed: give another folder."
            )

    def has(self, model: str, precision: str, part: str, data: str) -> bool:
        """Whether this part is stored."""
        return self._path(model, precision, part, data).with_suffix(".json").exists()

    def read(self, model: str, precision: str, part: str, data: str) -> StudyPart | None:
        """A part, or None if it is not stored.

        Raises:
            ArtefactError: A file is damaged.
        """
        path = self._path(model, precision, part, data)
        if not path.with_suffix(".json").exists():
            return None
        about = _read_json(path.with_suffix(".json"))
        try:
            return StudyPart(pd.read_parquet(path), about["notes"])
        except (OSError, ValueError, KeyError) as error:
            raise ArtefactError(
                f"{path} cannot be read ({error}). Delete it and its .json; it is made again."
            ) from None

    def write(self, model: str, precision: str, part: str, data: str, revision: str, found: StudyPart) -> None:
        """Store a part; on return it is there, whole."""
        path = self._path(model, precision, part, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"model": model, "revision": revision, "precision": precision, "part": part, "data": data}
        text = json.dumps(about | {"notes": dict(found.notes)}, indent=1)
        _write(path, lambda to: found.frame.to_parquet(to, index=False))
        _write(path.with_suffix(".json"), lambda to: to.write_text(text, encoding="utf-8"))

    def check_weights(self, model: str, precision: str, revision: str) -> None:
        """Refuse a model whose weights are not those of the parts that are stored under its name.

        Raises:
            ModelError: They are others.
        """
        for about in self._stored_of(model, precision):
            if about.get("revision") != revision:
                raise ModelError(
                    f"{model!r} has the weights {revision!r}, but {self.folder} holds parts measured with "
                    f"{about.get('revision')!r} under this name. Give another folder."
                )

    def _stored_of(self, model: str, precision: str) -> Iterator[dict[str, Any]]:
        for path in sorted(self._path(model, precision, "", "").parent.glob("*.json")):
            yield _read_json(path)

    def _path(self, model: str, precision: str, part: str, data: str) -> Path:
        folder = f"{_plain(model)}-{_short(model, precision)}"
        return self.folder / "parts" / folder / f"{_plain(part)}-{_short(part, data)}.parquet"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:60] or "part"


def _short(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()[:10]


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Under another name first, then in one step."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}). Delete it; its part is measured again.") from None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path} holds a {type(found).__name__}, not an object. Delete it.")
    return found


def _difference(known: str, given: str) -> str:
    """Where two plans begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(known, given, strict=False)) if a != b), min(len(known), len(given)))
    start = max(0, at - 30)
    return f"…{known[start : at + 30]!r} there, …{given[start : at + 30]!r} here"

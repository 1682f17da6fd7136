"""An append-only log of trials that survives a power cut in the middle of a line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

from steerlens.errors import ArtefactError
from steerlens.experiments._trial import TrialRecord, TrialSpec


@final
class ResultStore:
    """Records in a JSONL file: appended, flushed to disk one by one, never edited.

    A last line without its newline was cut off while it was written: it is ignored, and the next record starts on a
    line of its own. Any other malformed line is an error.

    Args:
        path: The file; it and its folder are made by the first `append`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, record: TrialRecord) -> None:
        """Add a record; on return it is on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end > 0:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.truncate(self._whole_lines())
            file.write(record.to_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[TrialRecord]:
        if not self.path.exists():
            return
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                yield TrialRecord.from_json(line.decode())
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise ArtefactError(f"{self.path}, line {number} is not a trial record ({error}).") from None

    def __contains__(self, spec: TrialSpec) -> bool:
        return any(record.spec.fingerprint == spec.fingerprint for record in self)

    def _whole_lines(self) -> int:
        return self.path.read_bytes().rfind(b"\n") + 1

"""A folder of trials that survives kills, power cuts, full disks and several writers."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import pandas as pd

from steerlens.errors import ArtefactError, OptionError
from steerlens.experiments._files import UNFINISHED, append_whole, locked, not_written, sync_folder, write_whole
from steerlens.experiments._items import items_file, read_items
from steerlens.experiments._layout import ITEMS, LOCK, LOG, StoreNote, new_note, note_payload, record_of, trial_payload
from steerlens.experiments._log import Damage, LogLine, framed, scan
from steerlens.experiments._repair import Repair, examine, repair_folder
from steerlens.experiments._trial import TrialRecord, TrialSpec

PATIENCE = 60.0
"""Seconds to wait for another writer, who holds the lock for milliseconds."""


@final
@dataclass(frozen=True)
class _Place:
    """Where a line stands in the log, and the table that it names."""

    number: int
    start: int
    stop: int
    items: str


@final
class ResultStore:
    """Trials in a folder: appended, on disk when `append` returns, never edited.

    ``log`` has one line for each trial or note, with its number, length and SHA-256; ``items`` a Parquet file for each
    trial, named by the SHA-256 of its content, which holds a row for each question and text, and the record once more.
    The file is written first, under another name, and the line last; both are synced with their folders. So a trial
    is there whole or not at all, and one whose line is lost can be put back. All names are relative: move or copy the
    folder as you like.

    Reading takes one pass over the log, then only what was added since; asking whether a trial is stored costs a
    look-up. Every line is checked each time it is read. A damaged store is not read: the error names file, line
    and byte, and `repair` is for you to call. The unfinished end that a killed writer leaves is no trial and hides
    none: reading passes it over, and the next `append` repairs it first, with a note. So it does with tables whose
    line is lost, also where the log was cut between two lines, or is gone; until then reading does not see them.

    Several processes may write at once: each append holds a lock on the file ``lock``, and a trial that is
    stored is not stored again.

    Args:
        path: The folder; made by the first `append`.

    Raises:
        ArtefactError: If the path is a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_file():
            raise ArtefactError(
                f"{self.path} is a file, but a store is a folder. Give a folder, or a name that does not exist."
            )
        self._forget()

    def append(self, record: TrialRecord, items: pd.DataFrame) -> bool:
        """Store a trial; on return it is on disk.

        Args:
            record: What was found.
            items: A row for each question and text.

        Returns:
            Whether it was added; False if the trial was stored already.

        Raises:
            ArtefactError: If it cannot be written, or the store is damaged; nothing is added then.
        """
        name, data = items_file(record, items)
        with self._writing():
            if record.spec.fingerprint in self._trials:
                return False
            write_whole(self.path / ITEMS / name, data)
            self._add(trial_payload(record, name))
        return True

    def append_note(self, kind: str, content: Mapping[str, Any]) -> StoreNote:
        """Store something that is no trial, with the time.

        Raises:
            OptionError: If the content is not data, or not finite.
            ArtefactError: As `append` does.
        """
        note = new_note(kind, content)
        with self._writing():
            self._add(note_payload(note))
        return note

    def __iter__(self) -> Iterator[TrialRecord]:
        """Trials in the order in which they were stored."""
        self._require_whole()
        for place in list(self._trials.values()):
            yield record_of(self._document(place))

    def __len__(self) -> int:
        self._require_whole()
        return len(self._trials)

    def __contains__(self, spec: object) -> bool:
        self._require_whole()
        return isinstance(spec, TrialSpec) and spec.fingerprint in self._trials

    def __getitem__(self, spec: TrialSpec) -> TrialRecord:
        """The record of a trial.

        Raises:
            OptionError: If it is not stored.
        """
        return record_of(self._document(self._place(spec)))

    def items(self, spec: TrialSpec) -> pd.DataFrame:
        """The rows of a trial.

        Raises:
            OptionError: If the trial is not stored.
            ArtefactError: If its file is missing or not as it was written.
        """
        return read_items(self.path / ITEMS / self._place(spec).items, self.path)

    def notes(self, kind: str | None = None) -> list[StoreNote]:
        """Notes of a kind, or all, in the order in which they were stored."""
        self._require_whole()
        found = [StoreNote(**self._document(place)["note"]) for place in self._notes]
        return [note for note in found if kind in (None, note.kind)]

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of each trial: what determined it, and value, interval, n and clusters."""
        rows = []
        for record in self:
            spec = json.loads(record.spec.to_json())
            spec |= {name: json.dumps(spec[name]) for name in ("options", "metrics", "strengths")}
            for m in record.metrics:
                estimate = asdict(m.estimate)
                estimate["interval"] = estimate.pop("method")
                own = {"metric": m.name, "strength": m.strength, **estimate}
                rows.append({**spec, **own, "fingerprint": record.spec.fingerprint})
        return pd.DataFrame(rows)

    def damage(self) -> list[Damage]:
        """Everything that is not as it was written; looks at every byte, and changes nothing.

        A finished table whose writer was killed before its line is listed, too: `repair` puts it back.
        """
        if not self.path.exists():
            return []
        with locked(self.path / LOCK, patience=PATIENCE):
            return list(examine(self.path).damage)

    def repair(self) -> Repair:
        """Bring the store to its whole records: drop what is damaged, put back what can be.

        The log is rewritten from its whole lines; trials whose line is lost come back from their tables. Damaged bytes
        are moved into the folder ``damaged``, and a note of kind "repair" says what was done. A whole store is left as
        it is.

        Raises:
            ArtefactError: If it cannot be written.
        """
        if not self.path.exists():
            return Repair((), 0, 0, (), ())
        with locked(self.path / LOCK, patience=PATIENCE):
            self._forget()
            return repair_folder(self.path)

    def put_back(self) -> int:
        """Put trials back whose table is there and whose line is lost, as `append` does; how many there were.

        Raises:
            ArtefactError: If the store cannot be written, or is damaged otherwise.
        """
        if not self.path.exists():
            return 0
        before = len(self)
        with self._writing():
            return len(self._trials) - before

    def __repr__(self) -> str:
        return f"ResultStore({str(self.path)!r})"

    def _forget(self) -> None:
        self._trials: dict[str, _Place] = {}
        self._notes: list[_Place] = []
        self._torn = False
        self._read_to, self._next_number = 0, 1
        self._seen: tuple[int, int, int] | None = None

    def _require_whole(self) -> None:
        """Read what was added to the log since the last look; all of it, if the file is another.

        Raises:
            ArtefactError: If anything but an unfinished end is wrong.
        """
        log = self.path / LOG
        try:
            facts = log.stat()
        except FileNotFoundError:
            self._forget()
            return
        seen = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if seen == self._seen:
            return
        if self._seen is not None and (seen[0] != self._seen[0] or seen[1] <= self._seen[1]):
            self._forget()
        with log.open("rb") as file:
            file.seek(self._read_to)
            raw = file.read()
        lines, damage = scan(raw, LOG, number=self._next_number, start=self._read_to)
        bad = next((d for d in damage if not d.torn), None)
        if bad is not None:
            self._forget()
            raise ArtefactError(
                f"The store {self.path} is damaged: {bad}. Call ResultStore({str(self.path)!r}).repair(): it keeps "
                "every whole trial and moves the damaged bytes aside."
            )
        for line in lines:
            self._index(line)
        self._torn, self._seen = bool(damage), seen

    def _index(self, line: LogLine) -> None:
        document = json.loads(line.payload)
        place = _Place(line.number, line.start, line.stop, document.get("items", ""))
        if document["kind"] == "trial":
            self._trials.setdefault(record_of(document).spec.fingerprint, place)
        else:
            self._notes.append(place)
        self._read_to, self._next_number = line.stop, line.number + 1

    def _place(self, spec: TrialSpec) -> _Place:
        self._require_whole()
        found = self._trials.get(spec.fingerprint)
        if found is None:
            raise OptionError(f"{self.path} holds no trial {spec.label!r}. Run it, or ask for one that `in` finds.")
        return found

    def _document(self, place: _Place) -> dict[str, Any]:
        """What a line says; it is read and checked anew."""
        with (self.path / LOG).open("rb") as file:
            file.seek(place.start)
            raw = file.read(place.stop - place.start)
        lines, damage = scan(raw, LOG, number=place.number, start=place.start)
        if damage or len(lines) != 1:
            raise ArtefactError(
                f"The store {self.path} is damaged: {LOG}, line {place.number}, byte {place.start} is no longer what "
                f"was read before. Call ResultStore({str(self.path)!r}).repair()."
            )
        document: dict[str, Any] = json.loads(lines[0].payload)
        return document

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, with the log read to its end and its end whole."""
        try:
            if not (self.path / ITEMS).is_dir():
                (self.path / ITEMS).mkdir(parents=True, exist_ok=True)
                sync_folder(self.path)
                sync_folder(self.path.parent)
        except OSError as error:
            raise not_written(self.path, error) from None
        with locked(self.path / LOCK, patience=PATIENCE):
            self._require_whole()
            if self._torn or self._unnamed():
                self._forget()
                repair_folder(self.path)
                self._require_whole()
            yield

    def _unnamed(self) -> bool:
        """Whether there is a table that no line names; the lock is held, so that no writer is between the two."""
        named = {place.items for place in self._trials.values()}
        return any(name not in named for name in os.listdir(self.path / ITEMS) if not name.endswith(UNFINISHED))

    def _add(self, payload: bytes) -> None:
        append_whole(self.path / LOG, framed(self._next_number, payload))
        self._require_whole()

"""What stands where in a store, and what its lines say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from steerlens.experiments._canonical import canonical_json
from steerlens.experiments._trial import TrialRecord

LOG, ITEMS, LOCK, DAMAGED = "log", "items", "lock", "damaged"


@final
@dataclass(frozen=True)
class StoreNote:
    """Something kept in a store beside trials: a failure, a repair, a hypothesis registered beforehand.

    Args:
        kind: What it is, such as ``"failure"``.
        written: When, in UTC.
        content: What it says, as JSON can.
    """

    kind: str
    written: str
    content: Mapping[str, Any]


def trial_payload(record: TrialRecord, items: str) -> bytes:
    """What the log says of a trial."""
    return _compact({"kind": "trial", "items": items, "record": json.loads(record.to_json())})


def new_note(kind: str, content: Mapping[str, Any]) -> StoreNote:
    """A note of now; its content in canonical form.

    Raises:
        OptionError: If the content is not data, or not finite.
    """
    written = datetime.now(UTC).isoformat(timespec="seconds")
    return StoreNote(kind, written, json.loads(canonical_json(content, f"the note {kind!r}")))


def note_payload(note: StoreNote) -> bytes:
    """What the log says of a note."""
    return _compact({"kind": "note", "note": {"kind": note.kind, "written": note.written, "content": note.content}})


def record_of(document: Mapping[str, Any]) -> TrialRecord:
    """The record that a line of the log holds."""
    return TrialRecord.from_json(json.dumps(document["record"]))


def _compact(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

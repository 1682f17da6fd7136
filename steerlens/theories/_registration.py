"""Freezing hypotheses before the test half is read: an append-only log of what was asserted, and when."""

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from steerlens.errors import ArtefactError, OptionError
from steerlens.theories._frozen_code import rule_version
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._verdict import Registration

REGISTRATIONS = "registrations.jsonl"
"""The log in a study's folder: one JSON object a line."""


def register(hypotheses: Sequence[Hypothesis], folder: str | Path, *, when: datetime) -> tuple[Registration, ...]:
    """Freeze hypotheses into a folder's log; on return they are on disk.

    The log is only ever added to. Registering an equal hypothesis again changes nothing and keeps the first time
    stamp.

    Args:
        hypotheses: With different ids.
        folder: Of the study; made if it is not there.
        when: The time stamp, with its time zone.

    Raises:
        OptionError: If an id occurs twice, was registered before with another fingerprint, or ``when`` has no zone.
        ArtefactError: If the log cannot be read.
    """
    if when.tzinfo is None:
        raise OptionError("A time stamp needs a time zone. Use datetime.now(timezone.utc).")
    ids = [h.id for h in hypotheses]
    if len(set(ids)) < len(ids):
        raise OptionError(f"Every hypothesis needs an id of its own, but got {', '.join(ids)}.")
    before = registrations(folder)
    given = [Registration(h.id, h.fingerprint, when, h.canonical, rule_version()) for h in hypotheses]
    for h, r in zip(hypotheses, given, strict=True):
        if r.hypothesis in before and not h.is_registered_as(before[r.hypothesis]):
            raise OptionError(
                f"{r.hypothesis} was registered on {before[r.hypothesis].when:%Y-%m-%d %H:%M} with other content. "
                "A changed hypothesis needs new data and a folder of its own."
            )
    new = [r for r in given if r.hypothesis not in before]
    _append(Path(folder) / REGISTRATIONS, new)
    return tuple(before.get(r.hypothesis, r) for r in given)


def registrations(folder: str | Path) -> dict[str, Registration]:
    """What was registered in a folder, by id; nothing if there is no log.

    A last line without its newline was cut off while it was written, and is ignored.

    Raises:
        ArtefactError: If a whole line is malformed, its fingerprint is not that of its text, or an id occurs twice.
    """
    path = Path(folder) / REGISTRATIONS
    if not path.exists():
        return {}
    found: dict[str, Registration] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        one = _read(line, f"{path}, line {number}")
        if one.hypothesis in found:
            raise ArtefactError(f"{path}, line {number} registers {one.hypothesis} a second time. Was it edited?")
        found[one.hypothesis] = one
    return found


def _read(line: bytes, where: str) -> Registration:

    try:
        document = json.loads(line)
        fields = {k: document[k] for k in ("hypothesis", "fingerprint", "text")} | {"rule": document.get("rule", "")}
        when = datetime.fromisoformat(document["when"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{where} is not a registration ({error}).") from None
    if not all(isinstance(v, str) for v in fields.values()) or when.tzinfo is None:
        raise ArtefactError(f"{where} is not a registration: expected texts and a time with its zone.")
    if hashlib.sha256(fields["text"].encode()).hexdigest() != fields["fingerprint"]:
        raise ArtefactError(
            f"{where}: the fingerprint of {fields['hypothesis']} is not that of its text. Was it edited?"
        )
    return Registration(fields["hypothesis"], fields["fingerprint"], when, fields["text"], fields["rule"])


def _append(path: Path, new: Sequence[Registration]) -> None:
    if not new:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{str(path.parent)!r} cannot be made a folder: {error.strerror}. Choose another.") from None
    with path.open("ab+") as file:
        whole = path.read_bytes().rfind(b"\n") + 1
        file.truncate(whole)
        for r in new:
            fields = {"hypothesis": r.hypothesis, "fingerprint": r.fingerprint, "when": r.when.isoformat()}
            file.write(json.dumps(fields | {"rule": r.rule, "text": r.text}, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())

"""Finding what is damaged in a store, and bringing it to its whole records. The caller holds the lock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from steerlens.errors import ArtefactError
from steerlens.experiments._files import UNFINISHED, not_written, sync_folder, write_whole
from steerlens.experiments._items import is_whole, read_record
from steerlens.experiments._layout import DAMAGED, ITEMS, LOG, new_note, note_payload, record_of, trial_payload
from steerlens.experiments._log import Damage, LogLine, framed, scan
from steerlens.experiments._trial import TrialRecord


@final
@dataclass(frozen=True)
class Repair:
    """What `ResultStore.repair` did.

    Args:
        damage: What was found.
        kept: Trials that were whole.
        recovered: Trials whose line was lost, put back from their tables.
        lost: Fingerprints of trials whose line is whole and whose table is not; they will run again.
        moved: Files in the store's folder ``damaged``: the damaged bytes, and tables of trials that have a newer one.
    """

    damage: tuple[Damage, ...]
    kept: int
    recovered: int
    lost: tuple[str, ...]
    moved: tuple[str, ...]

    def __str__(self) -> str:
        if not self.damage:
            return f"{self.kept} trials, all whole"
        found = "; ".join(str(d) for d in self.damage[:3]) + ("; …" if len(self.damage) > 3 else "")
        return (
            f"{self.kept} trials kept, {self.recovered} put back from their tables, {len(self.lost)} to run again. "
            f"Found: {found}. Damaged bytes are kept in {DAMAGED}/."
        )


@final
@dataclass(frozen=True, eq=False)
class Examined:
    """A store, looked at byte by byte.

    Args:
        raw: The log.
        lines: Its whole lines, with what they say.
        damage: What is wrong.
        broken: Tables that are not what their names promise.
        orphans: Records in whole tables that no line names, by file name; one for each trial, the newest.
        superseded: Whole tables that no line names, of trials that have a line or a newer table.
    """

    raw: bytes
    lines: tuple[tuple[LogLine, dict[str, Any]], ...]
    damage: tuple[Damage, ...]
    broken: frozenset[str]
    orphans: dict[str, TrialRecord]
    superseded: frozenset[str]


def examine(folder: Path) -> Examined:
    """Check every line and every table."""
    log = folder / LOG
    raw = log.read_bytes() if log.exists() else b""
    found, damage = scan(raw, LOG)
    lines = tuple((line, json.loads(line.payload)) for line in found)
    named = {document["items"]: line for line, document in lines if document["kind"] == "trial"}
    tables = {p.name: p for p in (folder / ITEMS).glob("*") if not p.name.endswith(UNFINISHED)}
    broken = {name for name, path in tables.items() if not is_whole(path)}
    for name, line in named.items():
        if name not in tables or name in broken:
            state = "is not what its name promises" if name in tables else "is missing"
            damage.append(Damage(f"{ITEMS}/{name}", None, 0, f"the table of line {line.number} of the log {state}"))
    damage += [Damage(f"{ITEMS}/{n}", None, 0, "not what its name promises") for n in sorted(broken - set(named))]
    strays = {}
    for name in sorted(set(tables) - broken - set(named)):
        try:
            strays[name] = read_record(tables[name])
        except ArtefactError:
            broken.add(name)
            damage.append(Damage(f"{ITEMS}/{name}", None, 0, "no table of a trial"))
    stored = {record_of(d).spec.fingerprint for _, d in lines if d["kind"] == "trial" and d["items"] not in broken}
    orphans = _newest({n: r for n, r in strays.items() if r.spec.fingerprint not in stored}, tables)
    damage += [
        Damage(f"{ITEMS}/{n}", None, 0, "a whole table that no line of the log names", torn=True) for n in orphans
    ]
    return Examined(raw, lines, tuple(damage), frozenset(broken), orphans, frozenset(strays) - frozenset(orphans))


def _newest(found: Mapping[str, TrialRecord], tables: Mapping[str, Path]) -> dict[str, TrialRecord]:
    """One table of each trial: the last by its record's date, which has minutes, then by its file's."""

    def age(name: str) -> tuple[str, int]:
        return str(found[name].environment.get("date", "")), tables[name].stat().st_mtime_ns

    last = {found[name].spec.fingerprint: name for name in sorted(found, key=age)}
    return {name: found[name] for name in sorted(last.values())}


def repair_folder(folder: Path) -> Repair:
    """Rewrite the log from what is whole, put back what lost its line, move the rest aside."""
    seen = examine(folder)
    for path in (folder / ITEMS).glob(f"*{UNFINISHED}"):
        path.unlink()  # of a writer that was killed: the lock is ours
    for path in folder.glob(f"{LOG}.*{UNFINISHED}"):
        path.unlink()
    whole = {p.name for p in (folder / ITEMS).glob("*.parquet")} - seen.broken
    payloads, lost, kept = [], [], 0
    for line, document in seen.lines:
        if document["kind"] == "trial" and document["items"] not in whole:
            lost.append(record_of(document).spec.fingerprint)
            continue
        kept += document["kind"] == "trial"
        payloads.append(line.payload)
    if not seen.damage:
        return Repair((), kept, 0, (), ())
    payloads += [trial_payload(record, name) for name, record in seen.orphans.items()]
    moved = _moved_aside(folder, seen)
    back = {record.spec.fingerprint for record in seen.orphans.values()}
    done = Repair(seen.damage, kept, len(seen.orphans), tuple(f for f in lost if f not in back), moved)
    payloads.append(note_payload(new_note("repair", {
        "damage": [str(d) for d in done.damage], "kept": done.kept, "recovered": done.recovered,
        "lost": done.lost, "moved": done.moved,
    })))  # fmt: skip
    write_whole(folder / LOG, b"".join(framed(n, p) for n, p in enumerate(payloads, start=1)))
    return done


def _moved_aside(folder: Path, seen: Examined) -> tuple[str, ...]:
    """Keep the damaged bytes: stretches of the log that are no whole line, broken tables, and superseded ones."""
    aside = folder / DAMAGED
    try:
        aside.mkdir(exist_ok=True)
    except FileExistsError:
        raise ArtefactError(
            f"{aside} is a file, but damaged bytes are moved into a folder of this name. Rename it, and repair again."
        ) from None
    except OSError as error:
        raise not_written(aside, error) from None
    moved = []
    at = 0
    for start, stop in [*((line.start, line.stop) for line, _ in seen.lines), (len(seen.raw), len(seen.raw))]:
        if start > at:
            moved.append(_free_name(aside, f"log-{at}"))
            write_whole(aside / moved[-1], seen.raw[at:start])
        at = stop
    for name in sorted(seen.broken | seen.superseded):
        moved.append(_free_name(aside, name))
        (folder / ITEMS / name).replace(aside / moved[-1])
    sync_folder(aside)
    if seen.broken or seen.superseded:
        sync_folder(folder / ITEMS)
    return tuple(f"{DAMAGED}/{name}" for name in moved)


def _free_name(folder: Path, name: str) -> str:
    taken = {p.name for p in folder.iterdir()}
    return next(n for i in range(len(taken) + 1) if (n := f"{name}-{i}" if i else name) not in taken)

r"""Lines that know whether they are whole.

A line is ``number length sha256 payload\n``. The hash is of number and payload, so that a line cut, overwritten, lost,
repeated or moved is told from a whole one in its place. The payload is ASCII without line breaks.
"""

import hashlib
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class LogLine:
    """A whole line.

    Args:
        number: Its place in the log, from 1.
        start: Byte at which it begins.
        stop: Byte after its line break.
        payload: What it says.
    """

    number: int
    start: int
    stop: int
    payload: bytes


@final
@dataclass(frozen=True)
class Damage:
    """Something in a store that is not as it was written.

    Args:
        file: Path within the store.
        line: Line of the log, or None for another file.
        byte: Byte at which it begins.
        what: What is wrong.
        torn: Whether it is the unfinished end of the log, as a killed writer leaves it, or a finished table without its
            line; everything else stored is whole then.
    """

    file: str
    line: int | None
    byte: int
    what: str
    torn: bool = False

    def __str__(self) -> str:
        line = "" if self.line is None else f", line {self.line}"
        return f"{self.file}{line}, byte {self.byte}: {self.what}"


def framed(number: int, payload: bytes) -> bytes:
    """The line that says ``payload`` at this place."""
    return b"%d %d %s %s\n" % (number, len(payload), _hash(number, payload), payload)


def scan(raw: bytes, file: str, *, number: int = 1, start: int = 0) -> tuple[list[LogLine], list[Damage]]:
    """Whole lines and damage in a piece of log that should begin with this number at this byte."""
    lines: list[LogLine] = []
    damage: list[Damage] = []
    at, hole = 0, False
    while at < len(raw):
        end = raw.find(b"\n", at)
        if end < 0:
            what = f"the last line stops after {len(raw) - at} bytes without its end"
            damage.append(Damage(file, number, start + at, what, torn=True))
            break
        line = _parsed(raw[at:end], start + at)
        if line is None:
            damage.append(Damage(file, number, start + at, "the line is not what its length and hash say"))
            number, hole = number + 1, True
        elif line.number < number and not (hole and (not lines or line.number > lines[-1].number)):
            damage.append(Damage(file, number, start + at, f"line {line.number} stands here again"))
        else:
            if line.number != number and not hole:
                damage.append(Damage(file, number, start + at, f"lines {number} to {line.number - 1} are missing"))
            lines.append(line)
            number, hole = line.number + 1, False
        at = end + 1
    return lines, damage


def _parsed(text: bytes, start: int) -> LogLine | None:
    parts = text.split(b" ", 3)
    if len(parts) < 4 or not (parts[0].isdigit() and parts[1].isdigit()) or len(parts[0]) > 18:
        return None
    number, payload = int(parts[0]), parts[3]
    if framed(number, payload) != text + b"\n":
        return None
    return LogLine(number, start, start + len(text) + 1, payload)


def _hash(number: int, payload: bytes) -> bytes:
    return hashlib.sha256(b"%d %s" % (number, payload)).hexdigest().encode("ascii")

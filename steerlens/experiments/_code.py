"""Which code a result was made by: the package's version, and a hash of the sources that trials run."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).parent.parent

COMPUTING = ("activations", "concepts", "evaluation", "interventions", "maps", "models", "numerics")
"""Subpackages that decide what a trial finds. Reports, theories and the command line do not."""


@cache
def code_version() -> str:
    """Such as ``0.1.0+3f2a…``: the version, and twelve digits of the SHA-256 of the sources of `COMPUTING`.

    Two installations of one release agree; a checkout in which one of these files was edited does not, so that no
    trial of the old code is taken for one of the new.
    """
    return _named([_ROOT / "experiments" / "_measure.py"])


@cache
def protocol_version() -> str:
    """The same with all sources of `experiments`, where protocols such as `off_course` measure."""
    return _named((_ROOT / "experiments").rglob("*.py"))


def _named(beside: Iterable[Path]) -> str:
    """The version, with a hash of the sources of `COMPUTING` and of these files."""
    files = [*beside, *(path for name in COMPUTING for path in (_ROOT / name).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in sorted(files):
        source = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(_ROOT).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return f"{version('steerlens')}+{digest.hexdigest()[:12]}"

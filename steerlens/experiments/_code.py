"""Which code a result was made by: the package's version, and a hash of the sources that trials run."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

COMPUTING = ("activations", "concepts", "evaluation", "interventions", "maps", "models", "numerics")
"""Subpackages that decide what a trial finds. Reports, theories and the command line do not."""


@cache
def code_version() -> str:
    """Such as ``0.1.0+3f2a…``: the version, and twelve digits of the SHA-256 of the sources of `COMPUTING`.

    Two installations of one release agree; a checkout in which one of these files was edited does not, so that no
    trial of the old code is taken for one of the new.
    """
    root = Path(__file__).parent.parent
    files = [root / "experiments" / "_measure.py"]
    files += [path for name in COMPUTING for path in (root / name).rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        source = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(root).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return f"{version('steerlens')}+{digest.hexdigest()[:12]}"

"""The identity of a folder's model: what its files hold, wherever they lie and whenever they were copied."""

import hashlib
from functools import cache
from pathlib import Path

from steerlens.errors import ModelError

IDENTIFYING = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
)  # fmt: skip
"""Files that decide what a model computes: shape, weights, tokenizer, and where it stops. A README does not."""

_LARGE = 1 << 20
"""From this size on, digests are kept. Below it reading costs nothing, and a file changed twice within one tick of the
file system's clock is still seen."""


def folder_identity(folder: Path) -> str:
    """Hash of the contents of `IDENTIFYING`, in order of their names: copies agree, and other weights do not.

    Large files are read once in a process, as long as path, size, times and inode stay.

    Raises:
        ModelError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted({p for pattern in IDENTIFYING for p in folder.glob(pattern) if p.is_file()}):
            digest.update(f"{path.name}\0{_content(path)}\n".encode())
    except OSError as error:
        raise ModelError(
            f"The folder {str(folder)!r} cannot be identified, for {error.filename!r} cannot be read: {error.strerror}."
        ) from error
    return digest.hexdigest()[:24]


def _content(path: Path) -> str:
    facts = path.stat()
    if facts.st_size < _LARGE:
        return _read(path)
    return _kept(path.absolute(), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


@cache
def _kept(path: Path, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    """The digest of a file that looks like this from outside."""
    return _read(path)


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Writing so that a file is there whole or not at all."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steerlens.errors import ArtefactError

UNFINISHED = ".unfinished"
"""Ending of a file that is being written."""


def write_whole(path: Path, data: bytes) -> None:
    """Put a file under its name only after all of it is on disk.

    Raises:
        ArtefactError: If it cannot be written; nothing is left behind.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise not_written(path, error) from None


def append_whole(path: Path, data: bytes) -> None:
    """Add to the end of a file; on return it is on disk, and on failure the file is as it was.

    Raises:
        ArtefactError: If it cannot be written.
    """
    is_new = not path.exists()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise not_written(path, error) from None
    try:
        before = os.fstat(handle).st_size
        try:
            _write(handle, data)
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, before)
            raise not_written(path, error) from None
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, patience: float) -> Iterator[None]:
    """Hold a file's lock, which dies with its holder.

    Args:
        path: Made if it does not exist.
        patience: Seconds to wait for another holder.

    Raises:
        ArtefactError: If another process holds it for longer, or the file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise not_written(path, error) from None
    try:
        until = time.monotonic() + patience
        while not _taken(handle):
            if time.monotonic() > until:
                raise ArtefactError(
                    f"Another process has held {path} for {patience:g} s. Wait for it, or end it: the lock ends "
                    "with its holder, so there is nothing to delete."
                )
            time.sleep(0.005)
        yield
    finally:
        os.close(handle)


def not_written(path: Path, error: OSError) -> ArtefactError:
    """The error of a write that failed, and what to do."""
    advice = "Make it writable, or choose another folder."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "Free some space and run the same again: what was stored before is whole, and is skipped."
    return ArtefactError(f"{path} could not be written: {error.strerror}. {advice}")


def _write(handle: int, data: bytes) -> None:
    """All of it: the system may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

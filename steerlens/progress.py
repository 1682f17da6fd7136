"""Progress of long work: bars in a terminal or notebook, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]

_shown: ContextVar[Progress | None] = ContextVar("steerlens_progress", default=None)


@contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Show work of ``total`` steps; the value is called with the number of steps just done.

    Bars nest: an inner one stands below the outer one while it runs. Goes to standard error. Set
    ``STEERLENS_PROGRESS=0`` to show nothing.
    """
    if os.environ.get("STEERLENS_PROGRESS") == "0":
        yield lambda steps: None
    elif Console(stderr=True).is_terminal or Console(stderr=True).is_jupyter:
        with _bars() as bars:
            task = bars.add_task(description, total=total)
            try:
                yield lambda steps: bars.advance(task, steps)
            finally:
                if _shown.get() is not None:
                    bars.remove_task(task)
    else:
        with _lines(description, total) as advance:
            yield advance


@contextmanager
def _bars() -> Iterator[Progress]:
    outer = _shown.get()
    if outer is not None:
        yield outer
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        token = _shown.set(bars)
        try:
            yield bars
        finally:
            _shown.reset(token)


@contextmanager
def _lines(description: str, total: int) -> Iterator[Advance]:
    """A line at the start, one every twenty seconds, and one at the end: for logs."""
    start = last = time.monotonic()
    done = 0

    def say(text: str) -> None:
        print(f"{description}: {text}", file=sys.stderr, flush=True)

    def advance(steps: int) -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last > 20:
            last = time.monotonic()
            left = (last - start) * (total - done) / done
            say(f"{done} of {total}, {last - start:.0f} s, about {left:.0f} s left")

    say(f"{total} steps")
    yield advance
    say(f"done, {time.monotonic() - start:.1f} s")

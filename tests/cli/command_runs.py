"""What a command did, and what a refusal looks like."""

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]
"""Takes the words behind ``steerlens``; see the fixture ``run``."""


def assert_refused(ran: Ran, message: str) -> None:
    """Exit code 2, and the last line says why; libraries may have warned before."""
    assert ran.code == 2, ran
    last = ran.err.splitlines()[-1]
    assert last.startswith("steerlens: ")
    assert message in last
    assert "Traceback" not in ran.out + ran.err


def assert_refused_at_once(ran: Ran, message: str) -> None:
    """Refused, and nothing else is said."""
    assert_refused(ran, message)
    assert len(ran.err.splitlines()) == 1, ran.err

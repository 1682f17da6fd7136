"""The command line: every command is a few lines over the library."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

from steerlens.cli import _compare, _lists, _measure
from steerlens.cli._app import app
from steerlens.errors import SteerlensError

__all__ = ["app", "main"]

_COMMANDS = (_compare, _measure, _lists)
"""Importing these files is what makes their commands known."""


def main() -> None:
    """Entry point: what goes wrong on purpose becomes one line and exit code 2, Ctrl-C one line and 130."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except SteerlensError as error:
        _fail(str(error), 2)
    except _USAGE_ERROR as error:
        _fail(f"{error.format_message()} See `steerlens {' '.join(sys.argv[1:2])} --help`.", 2)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    if code == _STOPPED:  # what typer makes of Ctrl-C
        _fail("stopped by Ctrl-C. Run the same command to start again.", _STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


_STOPPED = 130
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""An unknown option, a missing one, a bad value; typer exports only its subclass."""


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(
        "steerlens: " + " ".join(message.split()), style="red", highlight=False, markup=False, soft_wrap=True
    )
    sys.exit(code)

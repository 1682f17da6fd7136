"""The command line: every command is a few lines over the library."""

import sys
from typing import NoReturn

import typer
from rich.console import Console

from steerlens.cli import _agreement, _compare, _lists, _measure, _study, _sweep, _theory
from steerlens.cli._app import app
from steerlens.errors import SteerlensError

__all__ = ["app", "main"]

_COMMANDS = (_compare, _measure, _agreement, _sweep, _study, _theory, _lists)
"""Importing these files is what makes their commands known."""


def main() -> None:
    """Entry point: what goes wrong on purpose becomes one line and exit code 2, Ctrl-C one line and 130."""
    try:
        code = app(args=_with_ray_address(sys.argv[1:]) or ["--help"], standalone_mode=False)
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


def _with_ray_address(words: list[str]) -> list[str]:
    """``--ray`` may stand alone: then it means a cluster on this machine."""
    alone = [
        word == "--ray" and (not rest or rest[0].startswith("-") or rest[0].endswith(".toml"))
        for word, *rest in (words[i : i + 2] for i in range(len(words)))
    ]
    return [w for word, is_alone in zip(words, alone, strict=True) for w in ((word, "local") if is_alone else (word,))]


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(
        "steerlens: " + " ".join(message.split()), style="red", highlight=False, markup=False, soft_wrap=True
    )
    sys.exit(code)

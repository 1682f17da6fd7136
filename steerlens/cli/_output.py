"""Where commands write, and what they print."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from steerlens.errors import OptionError

if TYPE_CHECKING:
    from steerlens.activations import Site


def check_folder(out: Path) -> None:
    """Make the folder of results, so that hours of work are not lost for want of it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"--out must be a folder that can be made, but {str(out)!r} cannot: {error.strerror}."
        ) from None
    if not os.access(out, os.W_OK):
        raise OptionError(f"--out must be a folder that can be written to, but {str(out)!r} cannot.")


def folder_name(name: str) -> str:
    """A concept's name as a name of a folder: letters, digits, dots within, and dashes for all else."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "concept"


def map_provenance(
    model: Mapping[str, Any], concept: Mapping[str, Any], site: "Site", method: str
) -> dict[str, str | int]:
    """What stands beside a saved map: enough to steer with it again, and to know its fitting pairs."""
    return {
        "model": model["name"],
        "revision": model["revision"],
        "site": site.hook_name,
        "tokens": repr(site.tokens),
        "method": method,
        "concept": concept["name"],
        "fit_fingerprint": concept["fit_fingerprint"],
        "fit_pairs": concept["fit_pairs"],
    }


def print_table(title: str, columns: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    Console().print(table)


def command_line() -> str:
    return "steerlens " + shlex.join(sys.argv[1:])


def say(path: Path) -> None:
    """The path alone on the last line, never wrapped."""
    print(path, flush=True)

"""Entanglement of concepts as a heat map."""

from dataclasses import dataclass
from typing import final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap

from steerlens.evaluation import Entanglement
from steerlens.evaluation._entanglement import UNMET
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import NotebookFigure
from steerlens.reports._numbers import estimate, number
from steerlens.reports._palette import INK, MUTED, PAPER, family_colour

DEEPEST = 8.0
"""The |z| from which on colours no longer deepen."""
CLEAR = 2.0
"""The |z| below which an effect is what random directions do, and is written in grey."""


@final
@dataclass(frozen=True, eq=False)
class EntanglementSquare:
    """What the heat map shows.

    Args:
        steered: Rows.
        measured: Columns.
        z: Distance of each effect from those of random directions, shape (row, column).
        texts: Effect with its interval, by row and column.
        title: Above the figure.
        note: Below it: which maps never met the budget; empty if all did, or there was none.
    """

    steered: tuple[str, ...]
    measured: tuple[str, ...]
    z: npt.NDArray[np.float64]
    texts: tuple[tuple[str, ...], ...]
    title: str
    note: str = ""


def prepare_entanglement(found: Entanglement) -> EntanglementSquare:
    """Rows and columns in the order in which they were measured."""
    frame = found.to_frame()
    steered, measured = (tuple(dict.fromkeys(frame[c])) for c in ("steered", "measured"))
    cells = frame.set_index(["steered", "measured"])
    rows = [[cells.loc[(a, b)] for b in measured] for a in steered]
    unmet = found.unmet
    return EntanglementSquare(
        steered=tuple(f"{name} {UNMET}" if name in unmet else name for name in steered),
        measured=measured,
        z=np.array([[float(cell["z"]) for cell in row] for row in rows]),
        texts=tuple(tuple(estimate(c["effect"], c["low"], c["high"], signed=True) for c in row) for row in rows),
        title=f"Effect in nats at {found.site.hook_name}, and z among random directions",
        note=f"{UNMET} never met the budget: not at equal cost with the others" if unmet else "",
    )


def draw_entanglement(found: Entanglement) -> NotebookFigure:
    """Effect of every map on every concept; coloured by z, so that concepts of different scales compare."""
    square = prepare_entanglement(found)
    shades = LinearSegmentedColormap.from_list("z", [family_colour("affine"), PAPER, family_colour("additive")])
    n_rows, n_columns = square.z.shape
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(2.0 + 1.75 * n_columns, 1.3 + 0.62 * n_rows), layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.nan_to_num(square.z), cmap=shades, vmin=-DEEPEST, vmax=DEEPEST, aspect="auto")
        for i in range(n_rows):
            for j in range(n_columns):
                z = square.z[i, j]
                quiet = INK if abs(z) >= CLEAR else MUTED
                text = f"{square.texts[i][j]}\nz = {number(z, 1)}"
                colour = PAPER if abs(z) > 0.7 * DEEPEST else quiet
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour, parse_math=False)
        axes.set_xticks(range(n_columns), square.measured)
        axes.set_yticks(range(n_rows), square.steered)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_xlabel("measured")
        axes.set_ylabel("steered")
        if square.note:
            figure.supxlabel(square.note, fontsize=8, color=MUTED, x=0.01, ha="left")
        axes.set_title(square.title, loc="left", fontsize=9.5, fontweight="bold", parse_math=False)
    return figure

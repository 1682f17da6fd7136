"""Transfer between data sets as a heat map."""

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap

from steerlens.evaluation import Transfer
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import NotebookFigure
from steerlens.reports._numbers import bounds, number
from steerlens.reports._palette import INK, PAPER, family_colour


def draw_transfer(transfer: Transfer) -> NotebookFigure:
    """AUROC of every data set's probe on every data set: blue above 0.5, orange below, where labels flip."""
    frame = transfer.to_frame()
    names = list(dict.fromkeys(frame["trained_on"]))
    shades = LinearSegmentedColormap.from_list("flip", [family_colour("affine"), PAPER, family_colour("additive")])
    cells = frame.set_index(["trained_on", "tested_on"])
    values = frame.pivot(index="trained_on", columns="tested_on", values="auroc").loc[names, names].to_numpy(float)
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(2.6 + 1.3 * len(names), 1.3 + 0.75 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto")
        for i, trained in enumerate(names):
            for j, tested in enumerate(names):
                row = cells.loc[(trained, tested)]
                strong = abs(values[i, j] - 0.5) > 0.35
                text = f"{number(row['auroc'])}\n{bounds(row['auroc_low'], row['auroc_high'], 2)}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8.5, color=PAPER if strong else INK)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_xlabel("tested on")
        axes.set_ylabel("trained on")
        axes.set_title(
            f"AUROC at {transfer.site.hook_name}", loc="left", fontsize=9.5, fontweight="bold", parse_math=False
        )
    return figure

"""Contrast of layers: trajectories of right and wrong tokens, and which layers were chosen."""

from dataclasses import dataclass
from typing import final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from steerlens.evaluation import DoLaChoice, TokenTrajectories
from steerlens.reports._drawing import SETTINGS, draw_key, key, style_plain
from steerlens.reports._figures import NotebookFigure
from steerlens.reports._numbers import percent
from steerlens.reports._palette import DASHES, INK, MARKERS, PAPER, Look, family_colour

Array = npt.NDArray[np.float64]

_LOOKS = {
    "right": Look(family_colour("additive"), MARKERS[0], DASHES[0]),
    "wrong": Look(family_colour("affine"), MARKERS[1], DASHES[1]),
}
_QUANTITIES = (
    ("probability", "mean probability"),
    ("log_prob", "mean log-probability (nats)"),
    ("first", "share where it is the likeliest"),
)
BAR = 0.4
"""Width of a bar, in layers; those of right and wrong tokens stand side by side."""


@final
@dataclass(frozen=True, eq=False)
class TrajectoryPanel:
    """One quantity over layers; ``lines`` have the columns layer, value, low, high, by name of the token."""

    label: str
    lines: dict[str, pd.DataFrame]


@final
@dataclass(frozen=True, eq=False)
class TrajectoryPanels:
    """What is drawn of trajectories.

    Args:
        panels: Probability, log-probability, and share of first ranks.
        spikes: Share of items whose token rises most at each layer from 1 on, by name of the token.
        note: The share that rises at one layer, and that of strangers.
        title: Above the figure.
    """

    panels: tuple[TrajectoryPanel, ...]
    spikes: dict[str, Array]
    note: str
    title: str


def prepare_trajectories(found: TokenTrajectories) -> TrajectoryPanels:
    """Lines of the right and the wrong token, and where each item's tokens rise most."""
    frame, panels = found.to_frame(), []
    for quantity, label in _QUANTITIES:
        columns = {"layer": "layer", quantity: "value", f"{quantity}_low": "low", f"{quantity}_high": "high"}
        panels.append(
            TrajectoryPanel(
                label, {t: frame[frame["token"] == t][list(columns)].rename(columns=columns) for t in _LOOKS}
            )
        )
    n_layers = found.log_prob.shape[-1] - 1
    spikes = {
        name: np.bincount(found.spike[side].numpy(), minlength=n_layers + 1)[1:] / found.spike.shape[1]
        for side, name in enumerate(_LOOKS)
    }
    same, strangers = (percent(e.value, e.low, e.high) for e in (found.same_spike, found.strangers))
    note = f"both at one layer: {same}; strangers: {strangers}"
    return TrajectoryPanels(tuple(panels), spikes, note, f"{found.concept} in {found.model}, by the logit lens")


def draw_trajectory_panel(panel: TrajectoryPanel, axes: Axes) -> None:
    """Lines with bands of their intervals."""
    style_plain(axes)
    for name, points in panel.lines.items():
        look = _LOOKS[name]
        axes.fill_between(points["layer"], points["low"], points["high"], color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(
            points["layer"], points["value"], color=look.colour, linestyle=look.dashes, linewidth=1.6,
            marker=look.marker, markersize=3.5, markeredgewidth=0, zorder=3,
        )  # fmt: skip
    _label_layers(axes)
    draw_key(axes, panel.label, [key(f"{name} token", _LOOKS[name]) for name in panel.lines])


def draw_spikes(panels: TrajectoryPanels, axes: Axes) -> None:
    """Bars: where tokens rise most."""
    style_plain(axes)
    for k, (name, share) in enumerate(panels.spikes.items()):
        axes.bar(np.arange(1, len(share) + 1) + (k - 0.5) * BAR, share, width=BAR, color=_LOOKS[name].colour)
    _label_layers(axes)
    axes.set_ylabel("share of items")
    axes.set_title(f"layer of the largest rise\n{panels.note}", loc="left", fontsize=8.5, color=INK, parse_math=False)


def draw_trajectories(found: TokenTrajectories) -> NotebookFigure:
    """Probability, log-probability and first ranks over layers, and the layers of the largest rise."""
    data = prepare_trajectories(found)
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        figure = NotebookFigure(figsize=(9.5, 7.0), layout="constrained")
        axes = figure.subplots(2, 2).flatten()
        for panel, place in zip(data.panels, axes, strict=False):
            draw_trajectory_panel(panel, place)
        draw_spikes(data, axes[-1])
        figure.suptitle(data.title, x=0.01, ha="left", fontsize=10, fontweight="bold", parse_math=False)
    return figure


def _label_layers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (0 is the embedding)")


@final
@dataclass(frozen=True, eq=False)
class LayerChoices:
    """Shares of the candidate layers.

    Args:
        arms: Rows; arms whose layers were chosen alike stand in one, with their names.
        layers: Columns.
        share: By row and column; NaN where a layer is no candidate.
        modal: The commonest layer of each row with its share.
        title: Above the figure.
    """

    arms: tuple[str, ...]
    layers: tuple[int, ...]
    share: Array
    modal: tuple[str, ...]
    title: str


def prepare_layer_choices(found: DoLaChoice) -> LayerChoices:
    """One row for all arms that choose alike, as those that differ in normalisation and cut alone do."""
    frame = found.choices
    layers = tuple(sorted({int(layer) for layer in frame["layer"]}))
    rows: dict[tuple[float, ...], list[str]] = {}
    modal: dict[tuple[float, ...], str] = {}
    for arm, own in frame.groupby("arm", sort=False):
        shares = own.set_index("layer")["share"].reindex(layers).to_numpy(float)
        same = tuple(np.where(np.isnan(shares), -1.0, shares).tolist())
        rows.setdefault(same, []).append(str(arm))
        top = own.iloc[int(own["share"].to_numpy().argmax())]
        text = percent(top["share"], top["share_low"], top["share_high"])
        modal[same] = f"mostly layer {int(top['layer'])}: {text}"
    share = np.array([np.where(np.array(row) < 0, np.nan, row) for row in rows])
    return LayerChoices(
        arms=tuple("\n".join(names) for names in rows.values()),
        layers=layers,
        share=share,
        modal=tuple(modal[row] for row in rows),
        title=f"Layers that tokens were contrasted with, in {found.model} of {found.n_layers} blocks",
    )


def draw_layer_choices(found: DoLaChoice) -> NotebookFigure:
    """Shares as a heat map, arms by layers; at the right the commonest layer with the interval of its share."""
    data = prepare_layer_choices(found)
    shades = LinearSegmentedColormap.from_list("share", [PAPER, family_colour("additive")])
    lines = sum(name.count("\n") + 1 for name in data.arms)
    with mpl.rc_context(SETTINGS | {"figure.facecolor": PAPER}):
        size = (5.2 + 0.42 * len(data.layers), 1.1 + 0.2 * lines + 0.25 * len(data.arms))
        figure = NotebookFigure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.imshow(np.ma.masked_invalid(data.share), cmap=shades, vmin=0, vmax=1, aspect="auto")
        for i, j in np.argwhere(np.isfinite(data.share)):
            share = float(data.share[i, j])
            text = f"{100 * share:.0f}" if share else "·"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=PAPER if share > 0.6 else INK)
        for i, text in enumerate(data.modal):
            axes.annotate(
                text, (1, i), xycoords=axes.get_yaxis_transform(), xytext=(8, 0), textcoords="offset points",
                va="center", fontsize=8, color=INK, annotation_clip=False, parse_math=False,
            )  # fmt: skip
        axes.set_xticks(range(len(data.layers)), [str(j) for j in data.layers])
        axes.set_yticks(range(len(data.arms)), data.arms)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.tick_params(length=0, labelcolor=INK)
        axes.set_xlabel("layer (0 is the embedding); per cent of scored tokens, blank: no candidate")
        axes.set_title(data.title, loc="left", fontsize=9.5, fontweight="bold", parse_math=False)
    return figure

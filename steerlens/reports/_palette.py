"""Colours and marks that mean the same thing in every figure, readable without colour vision.

Figures are drawn in the light colours. Inside the page each of them is replaced by a custom property of the
style sheet, so that one drawing serves light and dark.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

INK = "#1c2128"
MUTED = "#5c6670"
RULE = "#d3d9df"
PAPER = "#fdfdfc"
NULL = "#8a939c"
"""Of random directions."""

_FAMILIES = {
    "additive": "#0067a5",
    "affine": "#c44e00",
    "nonlinear": "#00815f",
    "custom": "#a3488b",
    "random": NULL,
}
_OTHERS = ("#7a5c00", "#5b5bd6")

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    NULL: "--null",
    **{colour: f"--{family}" for family, colour in _FAMILIES.items() if family != "random"},
    _OTHERS[0]: "--other-0",
    _OTHERS[1]: "--other-1",
}
"""The custom property that stands for each colour in the page."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
DASHES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, ()), (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)),
)  # fmt: skip


@final
@dataclass(frozen=True)
class Look:
    """How one method is drawn: the colour is its family's, mark and dashes are its own within the family."""

    colour: str
    marker: str
    dashes: tuple[float, tuple[float, ...]]


def family_colour(family: str) -> str:
    """The family's colour; families steerlens does not know share two spare ones."""
    return _FAMILIES.get(family, _OTHERS[sum(family.encode()) % len(_OTHERS)])


def family_order(families: Iterable[str]) -> tuple[str, ...]:
    """Families from the smallest class of functions to the largest, unknown ones last."""
    known = list(_FAMILIES)
    return tuple(sorted(set(families), key=lambda f: (known.index(f) if f in known else len(known), f)))


def looks(methods: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """The look of each ``(method, family)``, in the order given."""
    seen: dict[str, int] = {}
    found = {}
    for method, family in methods:
        k = seen.get(family, 0)
        seen[family] = k + 1
        found[method] = Look(family_colour(family), MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)])
    return found

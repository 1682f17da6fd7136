"""Whether the numbers on a steering card can be, and whether they follow from its records."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import ArtefactError, SteerlensError
from steerlens.evaluation._card import CARD_ITEMS, SteeringCard
from steerlens.evaluation._reliability import SCORE_RESOLUTION, propensity_rounding, slope_rounding, steerability
from steerlens.numerics import Estimate

Array = npt.NDArray[np.float64]

ROUNDING = 1e-5
"""What a bound may be passed by: a KL of nothing is a difference of numbers in float32, and may fall below 0."""

RELATIVE = 1e-6
"""By how much, of its size, a number may differ from that computed from the records: sums have another order."""

_AMOUNT, _SHARE, _SIGNED = (0.0, math.inf), (0.0, 1.0), (-1.0, 1.0)

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "effect.strength", "effect.kl", "effect.detectable", "cost.strength", "cost.kl",
                "cost.perplexity_ratio", "cost.displacement", "controls.strength", "controls.kl",
            ),
            _AMOUNT,
        ),
        **dict.fromkeys(
            (
                "reliability.anti_steerable", "reliability.anti_at_one", "reliability.anti_shown",
                "reliability.unmoved", "reliability.missed", "reliability.bimodal_p", "cost.capability_before",
            ),
            _SHARE,
        ),
        **dict.fromkeys(
            (
                "reliability.monotonicity", "reliability.split_half", "reliability.coherence", "cost.option_mass",
                "cost.capability", "shifts.correlation",
            ),
            _SIGNED,
        ),
    }
)  # fmt: skip
"""Where numbers and intervals of a card can lie, by field."""


def check_ranges(card: SteeringCard) -> None:
    """Refuse a card with numbers that cannot be, or without what its readers need.

    Raises:
        ArtefactError: If there is one, naming the field.
    """
    for part, keys in (("model", ("name", "dtype")), ("concept", ("name",))):
        for key in keys:
            if not isinstance(getattr(card, part).get(key), str):
                raise ArtefactError(f"card.{part}.{key} should be text, but is {getattr(card, part).get(key)!r}.")
    if card.model["dtype"] not in SCORE_RESOLUTION:
        raise ArtefactError(
            f"card.model.dtype should be one of {', '.join(SCORE_RESOLUTION)}, but is {card.model['dtype']!r}."
        )
    if not card.budget > 0:
        raise ArtefactError(f"card.budget should be positive, but is {card.budget}.")
    if card.random.n < 1 or card.random.low > card.random.high:
        raise ArtefactError(
            f"card.random should have n > 0 and low <= high, but has n {card.random.n}, low {card.random.low} and high "
            f"{card.random.high}."
        )
    for where, value in _numbers(card, "card"):
        low, high = RANGES.get(re.sub(r"\[\d+\]", "", where).removeprefix("card."), (-math.inf, math.inf))
        ends = (value.low, value.value, value.high) if isinstance(value, Estimate) else (value,)
        if min(ends) < low - ROUNDING or max(ends) > high + ROUNDING:
            raise ArtefactError(f"{where} should be in [{low:g}, {high:g}], but is {value}.")
        if isinstance(value, Estimate):
            _check_estimate(value, where)


def _check_estimate(e: Estimate, where: str) -> None:
    slack = ROUNDING + RELATIVE * abs(e.value)
    if not e.low - slack <= e.value <= e.high + slack:
        raise ArtefactError(f"{where} should lie in its interval, but is {e}.")
    if not 1 <= e.n_clusters <= e.n:
        raise ArtefactError(f"{where} should have 1 <= n_clusters <= n, but has n {e.n} and n_clusters {e.n_clusters}.")


def _numbers(value: Any, where: str) -> Iterator[tuple[str, float | Estimate]]:
    """Every number and estimate in the dataclasses of a card, with its place."""
    if isinstance(value, Estimate) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield where, value
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _numbers(part, f"{where}[{i}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{where}.{field.name}")


def check_follows(card: SteeringCard) -> None:
    """Refuse a card whose numbers do not follow from its records.

    Effects and their strengths, slopes and shares, costs on neutral text, the range of random directions and the
    effects of controls that have a dose are computed again; intervals, which are resampled, are not.

    Raises:
        ArtefactError: If the records do not hold what is needed, or a number differs, naming its field.
    """
    try:
        found = {**_of_method(card), **_of_others(card)}
    except (SteerlensError, KeyError, IndexError, ValueError, TypeError) as error:
        raise ArtefactError(f"The records ({CARD_ITEMS}) do not hold what the card was made from: {error}") from None
    for where, value in found.items():
        said = _at(card, where)
        if not math.isclose(said, value, rel_tol=RELATIVE, abs_tol=1e-9):
            raise ArtefactError(
                f"card.{where} is {said!r}, but the records give {value!r}. The card was changed after it was made."
            )


def _of_method(card: SteeringCard) -> dict[str, float]:
    """What the records say of the method, by field."""
    curve, grid, m, texts = _arm(card, "method", None)
    on_grid = m[[list(curve).index(s) for s in grid]]
    resolution = SCORE_RESOLUTION[str(card.model["dtype"])]
    slopes, rounding = steerability(on_grid, grid), slope_rounding(on_grid, grid, resolution=resolution)
    falls = on_grid[grid.index(1.0)] - on_grid[grid.index(0.0)] < -2 * propensity_rounding(on_grid, resolution)
    items = card.items[card.items["role"] == "method"]
    strength, cost_at = (_nearest(curve, part.strength) for part in (card.effect, card.cost))
    at, here, none = texts.loc[strength], texts.loc[cost_at], texts.loc[0.0]
    return {
        "effect.strength": strength,
        "cost.strength": cost_at,
        "effect.at_budget.value": _effect(curve, m, strength),
        "effect.at_budget.n": m.shape[1],
        "effect.at_budget.n_clusters": items["group"].nunique(),
        "effect.kl": float(np.asarray(at["kl"] / at["n_tokens"])),
        "effect.slope.value": float(slopes.mean()),
        "reliability.anti_steerable.value": float((slopes <= rounding).mean()),
        "reliability.unmoved.value": float((np.abs(slopes) <= rounding).mean()),
        "reliability.anti_at_one.value": float(falls.mean()),
        "cost.kl.value": float(np.asarray(here["kl"] / here["n_tokens"])),
        "cost.perplexity_ratio.value": float(np.exp((here["nll"] - none["nll"]) / here["n_tokens"])),
    }


def _of_others(card: SteeringCard) -> dict[str, float]:
    """What the records say of random directions, and of controls with a dose, by field."""
    found: dict[str, float] = {}
    drawn = [_arm(card, "random", str(n)) for n in card.items.loc[card.items["role"] == "random", "arm"].unique()]
    found["random.n"] = float(len(drawn))
    chosen = [[s for s in curve if s not in grid] for curve, grid, _, _ in drawn]
    if all(len(beside) == 1 for beside in chosen):  # one that stays on the grid does not show which it is
        null = [_effect(curve, m, beside[0]) for (curve, _, m, _), beside in zip(drawn, chosen, strict=True)]
        found["random.low"], found["random.high"] = (float(q) for q in np.quantile(null, [0.025, 0.975]))
        spread = float(np.std(null, ddof=1))
        if card.random.z is not None and spread > 0:
            found["random.z"] = (card.effect.at_budget.value - float(np.mean(null))) / spread
    for i, control in enumerate(card.controls):
        if control.site != "text":
            curve, _, m, texts = _arm(card, control.role, control.name)
            strength = _nearest(curve, control.strength)
            at, found[f"controls[{i}].strength"] = texts.loc[strength], strength
            found[f"controls[{i}].effect.value"] = _effect(curve, m, strength)
            found[f"controls[{i}].kl"] = float(np.asarray(at["kl"] / at["n_tokens"]))
    return found


def _nearest(curve: tuple[float, ...], strength: float) -> float:
    """The strength that was measured and lies nearest."""
    return min(curve, key=lambda s: abs(s - strength))


def _effect(curve: tuple[float, ...], m: Array, strength: float) -> float:
    """Mean change of propensity at a strength that was measured."""
    return float((m[curve.index(strength)] - m[curve.index(0.0)]).mean())


def _arm(card: SteeringCard, role: str, name: str | None) -> tuple[tuple[float, ...], list[float], Array, pd.DataFrame]:
    """Strengths of one arm, those of the grid, its propensities by strength and question, and its sums over texts."""
    items, texts = (
        frame[(frame["role"] == role) & ((frame["arm"] == name) if name is not None else True)]
        for frame in (card.items, card.texts)
    )
    if items.empty or texts.empty:
        raise ArtefactError(f"there are no rows of {name or 'an arm'!r} with the role {role!r}.")
    propensity = items.assign(propensity=items["positive"] - items["negative"])
    wide = propensity.pivot(index="strength", columns="question", values="propensity").sort_index()
    curve = tuple(float(s) for s in wide.index)
    planned = {float(s) for s in card.provenance["strengths"]}
    sums = texts.groupby("strength")[["kl", "nll", "n_tokens"]].sum()
    return curve, [s for s in curve if s in planned], wide.to_numpy(dtype=np.float64), sums


def _at(card: SteeringCard, where: str) -> float:
    """The number at a place such as ``controls[2].effect.value``."""
    found: Any = card
    for name, number in re.findall(r"(\w+)(?:\[(\d+)\])?", where):
        found = getattr(found, name)
        found = found[int(number)] if number else found
    return float(found)

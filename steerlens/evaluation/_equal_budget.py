"""Strengths at equal budgets: how strong a map must be to cost, or to move, as much as another."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site
from steerlens.errors import OptionError, SiteError
from steerlens.evaluation._scores import score_neutral
from steerlens.evaluation._texts import document_of_each, documents_of
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]
Costs = Callable[[Sequence[float]], tuple[Array, Array]]
"""Strengths to the cost summed over each text, shape (strength, text), and what each sum is divided by."""

POINTS = 8
"""Strengths of the first round, which looks for a bracket."""
ROUNDS = 12
DECADES = 3
"""How far below the largest strength the search for a bracket begins, in powers of ten."""


@final
@dataclass(frozen=True)
class KLBudget:
    """KL(unsteered ‖ steered) of next tokens of neutral text, in nats per token."""

    value: float

    def __post_init__(self) -> None:
        _check_value("A KL budget", self.value)


@final
@dataclass(frozen=True)
class DisplacementBudget:
    """Relative displacement E‖step‖ / E‖x‖ of activations at the site."""

    value: float

    def __post_init__(self) -> None:
        _check_value("A displacement budget", self.value)


@final
@dataclass(frozen=True)
class CalibratedStrength:
    """The strength at which a map meets a budget.

    Args:
        strength: Where the cost first meets the budget; if it never does, the tried strength that comes closest.
        cost: There, with its interval over documents of texts. The strength was chosen on these texts, so the interval
            says how well they tell the cost, not what other texts will cost.
        budget: What was asked for.
        reached: Whether the cost at ``strength`` is the budget, up to the tolerance. It is not where the largest
            strength costs less, or where cost jumps over the budget.
        tried: Every (strength, cost) that was computed, ascending by size of strength.
    """

    strength: float
    cost: Estimate
    budget: KLBudget | DisplacementBudget
    reached: bool
    tried: tuple[tuple[float, float], ...]


def calibrate_strength(
    model: LensModel,
    site: Site,
    steering_map: SteeringMap,
    *,
    texts: Sequence[str],
    budget: KLBudget | DisplacementBudget,
    seed: int,
    tolerance: float = 0.01,
    largest: float = 16.0,
) -> CalibratedStrength:
    """Find the strength at which a map meets a budget, the same for all maps.

    First eight strengths on a geometric grid up to ``largest``; then, within the first pair of neighbours that bracket
    the budget, the strength where a power law through both would meet it, one on each side of that, and the middle; and
    so on. As in `DoseCurve`, the first crossing counts where cost falls again. For KL a round is one replayed call; for
    displacement nothing is run but one extraction.

    Calibrate on texts of the selection half, and report with the strength fixed on others.

    Args:
        model: What to steer.
        site: Where.
        steering_map: Fitted.
        texts: Neutral texts for a `KLBudget`; for a `DisplacementBudget` texts whose activations the map moves, such
            as the negative texts of the selection half. A `TextSet` brings its documents.
        budget: What to meet.
        seed: Of the bootstrap of the cost.
        tolerance: Of the cost, relative to the budget.
        largest: The last strength to try. Negative: strengths downwards, with the map's reverse.

    Returns:
        The strength, and whether the budget was reached.

    Raises:
        OptionError: If there are fewer than five texts or documents, or an option is out of range.
        SteerlensError: If the map does not fit the site.
    """
    if not 0 < tolerance < 1 or largest == 0 or not np.isfinite(largest):
        raise OptionError(
            f"A calibration needs 0 < tolerance < 1 and a finite largest strength other than 0, but got {tolerance} "
            f"and {largest}."
        )
    documents = documents_of(texts)
    if isinstance(texts, str) or len(set(documents)) < 5:
        raise OptionError(
            f"A calibration needs at least 5 texts, of 5 documents, but got {len(texts)} of {len(set(documents))}."
        )
    if isinstance(budget, KLBudget):
        costs = _kl_costs(model, site, steering_map, texts)
    else:
        costs = _displacement_costs(read_texts(model, texts, site), steering_map)
    return _search(costs, budget, tolerance, largest, seed, documents)


def read_texts(model: LensModel, texts: Sequence[str], site: Site) -> Float[Tensor, "batch d_model"]:
    """Activations of whole texts at a site; several selected tokens of a text are averaged.

    Raises:
        SiteError: If the site does not fit the model, or its selector reads no token of a text.
    """
    site.check(model)
    rows: list[Tensor] = []
    for text in texts:
        tokens = model.to_tokens(text)
        chosen = site.tokens.read(tokens.index, tokens.n_prompt)[0]
        if not chosen.any():
            raise SiteError(f"{site.tokens} selects no token of {text!r}. Use longer texts or another selector.")

        def keep(name: str, value: Tensor, chosen: Tensor = chosen) -> None:
            of_head = value if site.head is None else value[:, :, site.head]
            rows.append(of_head[0, chosen].double().mean(dim=0).cpu())

        model.read(tokens, [site.hook_name], keep)
    return torch.stack(rows)


def _kl_costs(model: LensModel, site: Site, steering_map: SteeringMap, texts: Sequence[str]) -> Costs:
    def of(strengths: Sequence[float]) -> tuple[Array, Array]:
        scores = score_neutral(model, texts, [Intervention({site: steering_map}, s) for s in strengths])
        return scores.kl.numpy(), scores.n_tokens.double().numpy()

    return of


def _displacement_costs(x: Float[Tensor, "batch d_model"], steering_map: SteeringMap) -> Costs:
    def of(strengths: Sequence[float]) -> tuple[Array, Array]:
        moved = [steering_map.step(x, strength=s).norm(dim=1).numpy() for s in strengths]
        return np.stack(moved), x.norm(dim=1).numpy()

    return of


def _search(
    costs: Costs,
    budget: KLBudget | DisplacementBudget,
    tolerance: float,
    largest: float,
    seed: int,
    documents: tuple[Hashable, ...] = (),
) -> CalibratedStrength:
    tried: dict[float, Array] = {}
    mean: dict[float, float] = {}
    out_of = np.ones(0)
    grid = largest * np.logspace(-DECADES, 0, POINTS)
    for _ in range(ROUNDS):
        sums, out_of = costs([float(s) for s in grid])
        for s, row in zip(grid, sums, strict=True):
            tried[float(s)], mean[float(s)] = row, float(row.sum() / out_of.sum())
        low, high = _bracket(mean, budget.value)
        if high is None or _off(mean, budget.value, (low, high)) <= tolerance * budget.value:
            break
        grid = _within(mean, budget.value, low, high)
    ends = mean if high is None else (low, high)
    strength = min((s for s in ends if s), key=lambda s: abs(mean[s] - budget.value))
    row = tried[strength]
    clusters = document_of_each(documents, len(row))
    interval = bootstrap(lambda w: (w @ row) / (w @ out_of), [clusters], seed=seed, bounds=(0.0, np.inf))
    return CalibratedStrength(
        strength=strength,
        cost=interval,
        budget=budget,
        reached=abs(mean[strength] - budget.value) <= tolerance * budget.value,
        tried=tuple((s, mean[s]) for s in sorted(mean, key=abs)),
    )


def _bracket(mean: Mapping[float, float], wanted: float) -> tuple[float, float | None]:
    """The neighbours between which cost first rises to what is wanted; the second is None if it never does."""
    low = 0.0
    for s in sorted(mean, key=abs):
        if mean[s] >= wanted:
            return low, s
        low = s
    return low, None


def _within(mean: Mapping[float, float], wanted: float, low: float, high: float) -> Array:
    """Strengths between two to try next: the middle halves the bracket whatever the curve, the others aim."""
    middle, side = (low + high) / 2, (high - low) / 16
    aim = middle
    if mean.get(low, 0.0) > 0:
        share = np.log(wanted / mean[low]) / np.log(mean[high] / mean[low])
        aim = low * (high / low) ** share
    least, most = sorted((low + side / 8, high - side / 8))
    near = np.clip(np.array([aim - side, aim, aim + side]), least, most)
    return np.array(sorted({*near.tolist(), middle}))


def _off(mean: Mapping[float, float], wanted: float, ends: tuple[float, float]) -> float:
    """How far the nearer end's cost is from what is wanted; 0 itself costs nothing."""
    return min(abs(mean.get(s, 0.0) - wanted) for s in ends)


def _check_value(what: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise OptionError(f"{what} must be positive and finite, but got {value}.")

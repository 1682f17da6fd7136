"""Strengths at which many arms meet one budget, found together on texts that nothing is reported on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from steerlens.evaluation._crossing import first_crossing
from steerlens.evaluation._measure import Arm, Measured
from steerlens.evaluation._reliability import ChosenStrength
from steerlens.evaluation._scores import score_neutral
from steerlens.interventions import Intervention
from steerlens.models import LensModel

TOLERANCE = 0.01
"""Of KL, relative to the budget, within which the budget counts as met."""
BEYOND = 4.0
"""Arms that fall short at the largest strength of their grid are tried up to so many times that strength."""
ROUNDS = 10
SATURATED = 1.1
"""Beyond the grid a strength is used only where it costs more than so many times what the grid's largest does."""

Tried = dict[float, float]
"""KL in nats per token by strength, with 0; infinite where the model breaks down."""
Costs = Callable[[Mapping[int, float]], Sequence[float]]


def at_equal_budget(
    model: LensModel,
    arms: Sequence[Arm],
    texts: Sequence[str],
    budget: float,
    *,
    known: Mapping[int, Tried] | None = None,
) -> list[Arm]:
    """The same arms, each with the strength added at which its KL on these texts is the budget.

    All arms are tried together, one strength each in a round, beginning with the smallest of their grid: a round is one
    pass over the texts. Upwards an arm follows the power law of its last two strengths, from a first one the square;
    between two strengths that hold the budget between them it follows `first_crossing`, and now and then their
    geometric mean. So the first crossing counts, except that a cost which rises over the budget and falls again between
    two strengths tried is not seen. An arm that falls short at the largest strength of its grid is tried further, up to
    `BEYOND` times that; if it falls short there, too, it takes the strength that costs most, or the largest of the
    grid where cost no longer rises.

    Args:
        model: What to steer.
        arms: With their grids of strengths.
        texts: Neutral texts of the selection half.
        budget: KL in nats per token.
        known: KL on the same texts, by number of arm, where it was measured before.
    """

    def costs(asked: Mapping[int, float]) -> list[float]:
        steps = [Intervention({arms[k].site: arms[k].steering_map}, s) for k, s in asked.items()]
        scores = score_neutral(model, texts, steps)
        return [float(c) for c in scores.kl.sum(dim=1) / scores.n_tokens.sum()]

    chosen = meet_budget([a.strengths for a in arms], costs, budget, known=known or {})
    return [
        replace(a, strengths=tuple(sorted({*a.strengths, at.strength})), grid=a.strengths, chosen=at)
        for a, at in zip(arms, chosen, strict=True)
    ]


def known_costs(measured: Sequence[Measured], arms: Sequence[Arm]) -> dict[int, Tried]:
    """KL of arms whose map was measured before, at the same site, by number of arm."""
    found: dict[int, Tried] = {}
    for m in measured:
        for k, arm in enumerate(arms):
            if arm.site == m.arm.site and arm.steering_map is m.arm.steering_map:
                kl = m.kl.sum(axis=1) / m.n_tokens.sum()
                found[k] = {s: float(c) for s, c in zip(m.arm.strengths, kl, strict=True) if s >= 0}
    return found


def meet_budget(
    grids: Sequence[Sequence[float]], costs: Costs, budget: float, *, known: Mapping[int, Tried]
) -> list[ChosenStrength]:
    """`at_equal_budget` for costs by any law.

    Args:
        grids: The strengths of every arm.
        costs: Strengths by number of arm, one round, to what they cost.
        budget: Where all costs are to meet.
        known: What is known of some arms.
    """
    tried: list[Tried] = [{0.0: 0.0, **known.get(k, {})} for k in range(len(grids))]
    upward = [sorted(s for s in grid if s > 0) for grid in grids]
    for turn in range(ROUNDS):
        asked = {k: s for k, of in enumerate(upward) if (s := _next(tried[k], of, budget, turn)) is not None}
        if not asked:
            break
        for (k, s), cost in zip(asked.items(), costs(asked), strict=True):
            tried[k][s] = float(cost) if np.isfinite(cost) else float("inf")
    return [_chosen(of, above[-1], budget) for of, above in zip(tried, upward, strict=True)]


def _next(tried: Tried, upward: Sequence[float], budget: float, turn: int) -> float | None:
    """The strength to try next; None where nothing is left to find."""
    low, high = _bracket(tried, budget)
    if min(_off(tried[s], budget) for s in (low, *([high] if high is not None else []))) <= TOLERANCE:
        return None
    if high is None:
        return _higher(tried, upward, budget, turn)
    if not np.isfinite(tried[high]) or (turn > 3 and turn % 2):
        return (low * high) ** 0.5 if low > 0 else high / 2
    ends = (0.0, low, high) if low > 0 else (0.0, high)
    return float(first_crossing(ends, np.array([[tried[s] for s in ends]]), budget)[0])


def _higher(tried: Tried, upward: Sequence[float], budget: float, turn: int) -> float | None:
    """A strength above all tried, which cost too little; None at the bound. The largest of the grid is not left out."""
    last, largest = max(tried), upward[-1]
    if last == 0:
        return upward[0]
    bound = BEYOND * largest
    if last >= bound:
        return None
    aim = np.inf
    if tried[last] > 0 and turn < 4:
        below = [s for s in tried if 0 < s < last and tried[s] > 0]
        power = np.log(tried[last] / tried[max(below)]) / np.log(last / max(below)) if below else 2.0
        aim = last * (budget / tried[last]) ** (1 / np.clip(power, 1.0, 4.0))
    return float(largest if last < largest < aim else min(aim, bound))


def _bracket(tried: Tried, budget: float) -> tuple[float, float | None]:
    """The neighbours between which KL first rises to the budget; the second is None if it never does."""
    low = 0.0
    for s in sorted(tried):
        if tried[s] >= budget:
            return low, s
        low = s
    return low, None


def _off(cost: float, budget: float) -> float:
    return abs(cost - budget) / budget


def _chosen(tried: Tried, largest: float, budget: float) -> ChosenStrength:
    low, high = _bracket(tried, budget)
    if high is not None or _off(tried[low], budget) <= TOLERANCE:
        ends = [s for s in (low, high) if s and np.isfinite(tried[s])]
        strength = min(ends, key=lambda s: _off(tried[s], budget)) if ends else largest
    else:
        most = max((s for s in tried if s >= largest), key=lambda s: tried[s])
        strength = most if tried[most] > SATURATED * tried[largest] else largest
    cost = tried.get(strength, float("inf"))
    return ChosenStrength(strength, budget, cost, _off(cost, budget) <= TOLERANCE)

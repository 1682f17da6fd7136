"""Effect and reliability of steering, from propensities of questions over a grid of strengths."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._crossing import between, first_crossing
from steerlens.evaluation._strength_grid import checked_grid
from steerlens.evaluation._texts import document_of_each
from steerlens.numerics import Estimate, bootstrap, cluster_share

Array = npt.NDArray[np.float64]

SLOPE_RANGE = 1.5
"""Strengths up to this size enter the slope, as published."""
ROUNDING = 1e-6
"""KL per token that doing nothing may be said to cost."""


SCORE_RESOLUTION: Mapping[str, float] = MappingProxyType(
    {"float64": 1e-9, "float32": 5e-5, "float16": 0.02, "bfloat16": 0.1}
)
"""How far apart, in nats, two scores of one propensity may be where nothing was done to the model, by its precision:
batches of other shapes round differently. A map that moves nothing changed propensities of SmolLM2-135M by up to
1.2e-5, 0.012 and 0.094 in the last three; float32 leaves room for models whose logits are five times as large."""

EXACT = 1e-12
"""Share of a propensity that sums in float64 may be off by, however exactly it is known."""


def steerability(propensity: npt.ArrayLike, strengths: Sequence[float]) -> Array:
    """Least-squares slope of each question's propensity on strength, in nats per unit of strength.

    Strengths beyond 1.5 are left out: the published grid ends there, and saturation would bend the line.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row.

    Returns:
        Shape (question,).

    Raises:
        OptionError: If there is not one row for each strength, or a strength is not finite or given twice.
        EstimateError: If a propensity is not finite, or fewer than two strengths lie within the range.

    References:
        tan2024, section 3.2.
    """
    grid, m = checked_grid(propensity, strengths)
    within = np.abs(grid) <= SLOPE_RANGE
    centred = _centred(grid)
    slopes: Array = centred @ m[within] / (centred @ centred)
    return slopes


def propensity_rounding(propensity: npt.ArrayLike, resolution: float) -> Array:
    """By how much rounding may put each question's propensity off, in nats, shape (question,).

    It is ``resolution``, or 1e-12 of the question's largest propensity where that is more.

    Raises:
        OptionError: If the resolution is negative or not finite.
    """
    if not 0 <= resolution < float("inf"):
        raise OptionError(f"A resolution is zero or more nats, and finite, but got {resolution}.")
    largest = np.abs(np.asarray(propensity, dtype=np.float64)).max(axis=0)
    found: Array = np.maximum(resolution, EXACT * largest)
    return found


def beyond_rounding(apart: npt.ArrayLike, resolution: float) -> Array:
    """Differences of two methods' effects on the same questions, or zeros where rounding alone may make all of them.

    Each effect is a propensity less the same unsteered one, so that a difference may be off by twice the resolution.
    Without this, two maps that are one and the same differ by the sign of their rounding, on every question alike.

    Args:
        apart: Shape (question,), in nats.
        resolution: What propensities are known to, in nats; see `SCORE_RESOLUTION`.
    """
    found = np.asarray(apart, dtype=np.float64)
    return found if (np.abs(found) > 2 * resolution).any() else np.zeros_like(found)


def slope_rounding(
    propensity: npt.ArrayLike, strengths: Sequence[float], *, resolution: float = SCORE_RESOLUTION["float32"]
) -> Array:
    """The largest slope that rounding can make of none, for each question, in nats per unit of strength.

    Where each propensity may be off by r, a slope may be by r Σ|s − s̄| / Σ(s − s̄)²: 0.86 r on the published grid, 2 r
    with strengths 0 and 1 alone. A smaller slope has no sign, and its question counts as unmoved.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row.
        resolution: What propensities are known to, in nats: by default that of models in float32, see
            `SCORE_RESOLUTION`. 0 leaves the rounding of float64 alone, 1e-12 of a question's largest propensity.

    Returns:
        Shape (question,).

    Raises:
        OptionError: As `steerability`, or if the resolution is negative or not finite.
        EstimateError: As `steerability`.
    """
    grid, m = checked_grid(propensity, strengths)
    centred = _centred(grid)
    found: Array = propensity_rounding(m, resolution) * np.abs(centred).sum() / (centred @ centred)
    return found


def _centred(strengths: Sequence[float]) -> Array:
    """Strengths within the range, less their mean."""
    s = np.asarray(strengths, dtype=np.float64)
    within = s[np.abs(s) <= SLOPE_RANGE]
    if len(within) < 2:
        raise EstimateError(
            f"A slope needs two strengths within ±{SLOPE_RANGE}, but got {sorted(s.tolist())}. Add 0 and 1."
        )
    centred: Array = within - within.mean()
    return centred


@final
@dataclass(frozen=True)
class AntiSteerable:
    """Share of questions that steering moves the wrong way, in both published definitions.

    Args:
        slope: Share whose slope is not above zero (tan2024). Slopes of rounding are zero, so that it holds every
            unmoved question, whatever the sign of its rounding: it never falls below ``unmoved``.
        unit: Share whose propensity falls between strength 0 and 1 (braun2025), by more than rounding.
        unmoved: Share whose slope is no larger than rounding makes it, see `slope_rounding`. ``slope`` less this is
            the share that is moved the wrong way.
    """

    slope: Estimate
    unit: Estimate
    unmoved: Estimate


def anti_steerable(
    propensity: npt.ArrayLike,
    strengths: Sequence[float],
    groups: Sequence[Hashable],
    *,
    seed: int,
    resolution: float = SCORE_RESOLUTION["float32"],
) -> AntiSteerable:
    """Anti-steerable shares with cluster-bootstrap intervals.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row; must include 0 and 1.
        groups: The cluster of each question.
        seed: Of the bootstrap.
        resolution: What propensities are known to, in nats; see `slope_rounding`.

    Raises:
        OptionError: If strength 0 or 1 is missing, shapes do not fit, or a strength is not finite or given twice.
        EstimateError: If a propensity is not finite, or there are fewer than five groups.

    References:
        tan2024 (slope), braun2025 (one strength).
    """
    missing = [s for s in (0.0, 1.0) if s not in strengths]
    if missing:
        raise OptionError(
            f"Anti-steerable shares compare strengths 0 and 1, but {missing} is not in {list(strengths)}."
        )
    grid, m = checked_grid(propensity, strengths, len(groups))
    change = m[grid.index(1.0)] - m[grid.index(0.0)]
    slopes, rounding = steerability(m, grid), slope_rounding(m, grid, resolution=resolution)

    def share(which: npt.NDArray[np.bool_]) -> Estimate:
        return cluster_share(which, groups, seed=seed)

    return AntiSteerable(
        slope=share(slopes <= rounding),
        unit=share(change < -2 * propensity_rounding(m, resolution)),
        unmoved=share(np.abs(slopes) <= rounding),
    )


@final
@dataclass(frozen=True)
class AtBudget:
    """What a method achieves when its side effects are held at a budget.

    Args:
        effect: Mean change of propensity at that strength, in nats.
        strength: Chosen on other texts to meet the budget; else where KL on these first meets it. Where it is never
            met: the largest tried, or the one chosen instead.
        kl: KL there, in nats per token: measured at a chosen strength, else interpolated.
        reached: Whether the budget was met: on the texts it was chosen on, or on these.
    """

    effect: Estimate
    strength: float
    kl: float
    reached: bool


@final
@dataclass(frozen=True)
class ChosenStrength:
    """A strength that was chosen to meet a budget, on other neutral texts than those of the curve it belongs to.

    Args:
        strength: What was chosen.
        budget: What it was to meet, KL in nats per token.
        kl: KL at it, on the texts it was chosen on.
        reached: Whether that is the budget, up to a tolerance.
    """

    strength: float
    budget: float
    kl: float
    reached: bool


@final
@dataclass(frozen=True, eq=False)
class DoseCurve:
    """Effect and cost of one method over strengths from 0 upwards.

    At the budget that a strength was chosen for, effect and KL are those measured at this strength. At any other, and
    without such a strength, KL is interpolated as a power of strength and the effect linearly (`first_crossing`).

    Args:
        strengths: Ascending from 0.
        change: Change of each question's propensity, shape (strength, question); the first row is zero.
        groups: The cluster of each question.
        kl: KL of each neutral text summed over its tokens, shape (strength, text); the first row is zero.
        n_tokens: Scored tokens of each text.
        chosen: A strength among ``strengths`` that was chosen to meet a budget.
        documents: The cluster of each text; empty, each text is its own.

    Raises:
        OptionError: If strengths do not ascend from 0, shapes do not fit, or the chosen strength is not among them.
        EstimateError: If a number is not finite.
    """

    strengths: tuple[float, ...]
    change: Array
    groups: tuple[Hashable, ...]
    kl: Array
    n_tokens: Array
    chosen: ChosenStrength | None = None
    documents: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        s = list(self.strengths)
        if len(s) < 2 or s[0] != 0 or s != sorted(set(s)) or not np.isfinite(s).all():
            raise OptionError(f"A dose curve needs two or more ascending, finite strengths from 0, but got {s}.")
        _check_shapes(self)
        object.__setattr__(self, "documents", document_of_each(self.documents, len(self.n_tokens)))
        for what, values in (("changes of propensity", self.change), ("KL", self.kl)):
            bad = [k for k, row in zip(s, values, strict=True) if not np.isfinite(row).all()]
            if bad:
                raise EstimateError(
                    f"A dose curve needs finite {what}, but some are not at the strengths {bad}. Leave out strengths "
                    "under which the model breaks down, or use a wider dtype."
                )
        if self.chosen is not None and self.chosen.strength not in s:
            raise OptionError(f"The chosen strength {self.chosen.strength} is not among those measured, {s}.")

    def effect_at(self, budget: float, question_weights: Array, text_weights: Array) -> Array:
        """Effect at the budget for every resample; shapes (resample, question), (resample, text) → (resample,).

        Where the budget is not met, and no strength was chosen for it, the effect at the largest strength stands.
        """
        effect = question_weights @ self.change.T / question_weights.sum(axis=-1, keepdims=True)
        chosen = self.chosen_for(budget)
        if chosen is not None:
            own: Array = effect[:, self.strengths.index(chosen.strength)]
            return own
        return between(self.strengths, effect, first_crossing(self.strengths, self._mean_kl(text_weights), budget))

    def changes_at(self, budget: float) -> Array:
        """Change of each question's propensity at the strength that meets the budget, shape (question,)."""
        n = self.change.shape[1]
        return between(self.strengths, self.change.T, np.full(n, self.strength_at(budget)))

    def strength_at(self, budget: float) -> float:
        """The strength that was chosen for the budget, or where KL on these texts first meets it.

        Raises:
            OptionError: If the budget is not positive and finite.
        """
        _check_budget(budget)
        chosen = self.chosen_for(budget)
        return float(self._meets(budget)[0]) if chosen is None else chosen.strength

    def at_budget(self, budget: float, *, seed: int) -> AtBudget:
        """Effect at the budget, resampling groups of questions.

        Neutral texts are resampled with them, by document, unless a strength was chosen for this budget on others: then
        it stays.

        Raises:
            OptionError: If the budget is not positive.
            EstimateError: If there are fewer than five groups or documents.
        """
        strength, chosen = self.strength_at(budget), self.chosen_for(budget)
        effect = _over_resamples(budget, (self,), lambda *weights: self.effect_at(budget, *weights), seed)
        kl = self._mean_kl(np.ones((1, len(self.n_tokens))))[0]
        if chosen is not None:
            return AtBudget(effect, strength, float(kl[self.strengths.index(strength)]), chosen.reached)
        reached = bool((kl >= budget).any())
        return AtBudget(effect, strength, budget if reached else float(kl[-1]), reached)

    def chosen_for(self, budget: float) -> ChosenStrength | None:
        """The strength that was chosen for this very budget, if any."""
        return self.chosen if self.chosen is not None and self.chosen.budget == budget else None

    def _mean_kl(self, text_weights: Array) -> Array:
        mean: Array = text_weights @ self.kl.T / (text_weights @ self.n_tokens)[:, None]
        return mean

    def _meets(self, budget: float) -> Array:
        return first_crossing(self.strengths, self._mean_kl(np.ones((1, len(self.n_tokens)))), budget)


def _check_shapes(curve: DoseCurve) -> None:
    n, questions, texts = len(curve.strengths), len(curve.groups), np.size(curve.n_tokens)
    for name, array, wanted in (
        ("change", curve.change, (n, questions)),
        ("kl", curve.kl, (n, texts)),
        ("n_tokens", curve.n_tokens, (texts,)),
    ):
        if np.shape(array) != wanted or not all(wanted):
            raise OptionError(
                f"A dose curve of {n} strengths, {questions} questions and {texts} texts needs {name} of shape "
                f"{wanted}, without an empty axis, but got {np.shape(array)}."
            )
    if not (np.asarray(curve.n_tokens) > 0).all() or not np.isfinite(curve.n_tokens).all():
        raise OptionError(f"Every neutral text needs scored tokens, but got {np.asarray(curve.n_tokens).tolist()[:8]}.")
    if np.any(np.asarray(curve.change[0]) != 0) or np.any(np.abs(curve.kl[0]) > ROUNDING * curve.n_tokens):
        raise OptionError(
            "At strength 0 nothing changes and nothing costs, but the first row of change or kl is not zero. Give "
            "differences from strength 0."
        )


def _check_budget(budget: float) -> None:
    if not 0 < budget < float("inf"):
        raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {budget}.")


def contrast(a: DoseCurve, b: DoseCurve, budget: float, *, seed: int) -> Estimate:
    """Paired difference of two methods' effects at one budget, a − b, on the same questions and texts.

    Each at the strength chosen for it, if one was; see `DoseCurve`.

    Raises:
        OptionError: If the budget is not positive.
        EstimateError: If the curves are not of the same questions and texts.
    """
    _check_budget(budget)
    if (a.groups, a.documents) != (b.groups, b.documents) or not np.array_equal(a.n_tokens, b.n_tokens):
        raise EstimateError("A paired contrast needs both methods measured on the same questions and neutral texts.")
    return _over_resamples(
        budget, (a, b), lambda *weights: a.effect_at(budget, *weights) - b.effect_at(budget, *weights), seed
    )


def _over_resamples(
    budget: float, curves: Sequence[DoseCurve], of: Callable[[Array, Array], Array], seed: int
) -> Estimate:
    """Bootstrap of a statistic of questions and, where one curve's strength depends on them, of neutral texts."""
    first = curves[0]
    if any(c.chosen_for(budget) is None for c in curves):
        return bootstrap(of, [first.groups, first.documents], seed=seed)
    texts = np.ones((1, len(first.n_tokens)))
    return bootstrap(lambda questions: of(questions, texts), [first.groups], seed=seed)

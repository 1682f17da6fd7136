"""A balanced factorial with a dose: what each factor does to the level, and to what the dose does."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._codes import codes_of
from steerlens.numerics._estimate import Estimate
from steerlens.numerics._resample import bootstrap, cluster_mean

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class DoseEffect:
    """One coefficient.

    Args:
        term: Such as ``"format × dose"``.
        level: Of the factor, as its number; None where the term has no levels.
        estimate: In units of the value; times one unit of dose, or one of context, where the term names them.
    """

    term: str
    level: int | None
    estimate: Estimate


@final
@dataclass(frozen=True, eq=False)
class DoseEffects:
    """Effects of a balanced factorial.

    Args:
        effects: All coefficients.
        format_share: Size of the format × dose interaction over that of the dose; None where the interval of the dose's
            effect contains 0, for then there is nothing to be a share of.
        context_share: The same of context × dose, over the range of contexts.
    """

    effects: tuple[DoseEffect, ...]
    format_share: Estimate | None
    context_share: Estimate | None

    def of(self, term: str) -> tuple[Estimate, ...]:
        """The coefficients of a term, level by level."""
        return tuple(e.estimate for e in self.effects if e.term == term)


def dose_effects(
    values: npt.ArrayLike,
    *,
    doses: Sequence[float],
    contexts: Sequence[float],
    clusters: Sequence[Hashable],
    seed: int,
) -> DoseEffects:
    """Effects of format, context, layer and dose, and of their interactions with the dose, with an intercept per word.

    y = a_word + format + β·context + layer + dose · (δ + format' + β'·context + layer' + format'' · context) + error

    Formats and layers are deviations that sum to zero; contexts are measured from their mean; the dose from 0. Every
    word is seen in every cell, so that least squares within words gives, for every coefficient, the mean over words of
    that word's own; a linear mixed model with an intercept per word gives the same numbers. Words are resampled, which
    also covers words that answer to the dose in different measure, as an intercept per word alone does not.

    The slopes themselves, level by level, are the terms "dose, by format", "dose, by context" and "dose, by layer".

    A *share* is the root mean square of the formats' deviations of slope, less what noise adds to the squares, over the
    mean slope: 0 says that the dose does the same in all formats, 1 that formats differ as much as it acts. For
    contexts it is what the whole range of contexts changes, over the mean slope.

    Args:
        values: Shape (word, format, context, layer, dose).
        doses: Of the last axis, two or more.
        contexts: Of the third axis, such as numbers of distractors.
        clusters: The cluster of each word.
        seed: Of the bootstrap.

    Raises:
        OptionError: Shapes do not fit, or there are fewer than two different doses.
        EstimateError: A value is not finite, or there are fewer than five clusters.

    References:
        niranjan2025 (the question); the factorial is ours.
    """
    y, s, c = (np.asarray(x, dtype=np.float64) for x in (values, doses, contexts))
    _check(y, s, c, clusters)
    centred = s - s.mean()
    slopes = y @ centred / (centred @ centred)
    at_zero = y.mean(axis=-1) - slopes * s.mean()
    found: list[DoseEffect] = []

    def add(term: str, of_words: Array) -> None:
        """``of_words`` has shape (word,) or (word, level)."""
        levels = [None] if of_words.ndim == 1 else list(range(of_words.shape[1]))
        columns = of_words[:, None] if of_words.ndim == 1 else of_words
        found.extend(
            DoseEffect(term, k, cluster_mean(x, clusters, seed=seed)) for k, x in zip(levels, columns.T, strict=True)
        )

    per_context = _context_slopes(slopes, c)
    add("dose", slopes.mean(axis=(1, 2, 3)))
    by_format = _deviations(slopes.mean(axis=(2, 3)))
    for name, of_levels in (("format", (2, 3)), ("context", (1, 3)), ("layer", (1, 2))):
        add(f"dose, by {name}", slopes.mean(axis=of_levels))
    for term, level_effect, slope_effect in (
        ("format", _deviations(at_zero.mean(axis=(2, 3))), by_format),
        ("layer", _deviations(at_zero.mean(axis=(1, 2))), _deviations(slopes.mean(axis=(1, 2)))),
    ):
        add(term, level_effect)
        add(f"{term} × dose", slope_effect)
    if per_context is not None:
        add("context", _per_context(at_zero, c).mean(axis=(1, 2)))
        add("context × dose", per_context.mean(axis=(1, 2)))
        add("format × context × dose", _deviations(per_context.mean(axis=2)))
    mean = slopes.mean(axis=(1, 2, 3))
    context = None if per_context is None else (per_context.mean(axis=(1, 2)) * (c.max() - c.min()))[:, None]
    shown = cluster_mean(mean, clusters, seed=seed).excludes(0.0)
    return DoseEffects(
        tuple(found),
        _share(by_format, mean, clusters, seed=seed) if shown and y.shape[1] > 1 else None,
        _share(context, mean, clusters, seed=seed) if shown and context is not None else None,
    )


def _deviations(x: Array) -> Array:
    """Of each level from the mean of levels, word by word."""
    found: Array = x - x.mean(axis=1, keepdims=True)
    return found


def _context_slopes(x: Array, contexts: Array) -> Array | None:
    return None if len(set(contexts.tolist())) < 2 else _per_context(x, contexts)


def _per_context(x: Array, contexts: Array) -> Array:
    """Slope over contexts, shape (word, format, layer)."""
    centred = contexts - contexts.mean()
    found: Array = np.einsum("wfcl,c->wfl", x, centred) / (centred @ centred)
    return found


def _share(parts: Array, mean: Array, clusters: Sequence[Hashable], *, seed: int) -> Estimate:
    """Root mean square over levels of the mean of ``parts`` (word, level), noise removed, over the size of the mean."""
    codes = codes_of(clusters)
    n_clusters = int(codes.max()) + 1
    first = np.array([int(np.flatnonzero(codes == g)[0]) for g in range(n_clusters)])
    size = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column) for column in parts.T], axis=1)

    def statistic(weights: Array) -> Array:
        drawn, total = weights[:, first], weights.sum(axis=1, keepdims=True)
        m = (weights @ parts) / total
        spread = drawn @ sums**2 - 2 * m * (drawn @ (sums * size[:, None])) + m**2 * (drawn @ size**2)[:, None]
        noise = spread / total**2 * n_clusters / (n_clusters - 1)
        square = (m**2 - noise).mean(axis=1)
        found: Array = np.sqrt(np.maximum(square, 0.0)) / np.maximum(np.abs(weights @ mean) / total[:, 0], 1e-12)
        return found

    return bootstrap(statistic, [clusters], seed=seed, bounds=(0.0, np.inf))


def _check(y: Array, doses: Array, contexts: Array, clusters: Sequence[Hashable]) -> None:
    if y.ndim != 5 or y.shape[0] != len(clusters) or y.shape[2] != len(contexts) or y.shape[4] != len(doses):
        raise OptionError(
            f"Expected values of shape (word, format, context, layer, dose) for {len(clusters)} words, {len(contexts)} "
            f"contexts and {len(doses)} doses, but got {y.shape}."
        )
    if len(set(doses.tolist())) < 2:
        raise OptionError(f"What a dose does needs two different doses, but got {doses.tolist()}. Add 0.")
    if not np.isfinite(y).all():
        raise EstimateError("Some values are not finite, or a cell of the factorial is missing for some word.")

"""How much probability is left on the two options: a propensity between two words nobody says is worth little."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import Estimate, cluster_mean


@final
@dataclass(frozen=True)
class OptionMass:
    """Probability of the two options together, at every strength.

    Args:
        strengths: Ascending.
        mass: Mean over questions of p(positive) + p(negative), in [0, 1].
        change: Of ``mass`` from strength 0, question by question; below 0 steering drives the answer elsewhere.
    """

    strengths: tuple[float, ...]
    mass: tuple[Estimate, ...]
    change: tuple[Estimate, ...]

    def __str__(self) -> str:
        rows = zip(self.strengths, self.mass, self.change, strict=True)
        return "\n".join(f"strength {s:g}: mass {m}, change {c}" for s, m, c in rows)


def option_mass(
    log_prob_positive: npt.ArrayLike,
    log_prob_negative: npt.ArrayLike,
    strengths: Sequence[float],
    groups: Sequence[Hashable],
    *,
    seed: int,
) -> OptionMass:
    """Probability mass on the two options, and how it changes under steering.

    Args:
        log_prob_positive: Shape (strength, question), in nats.
        log_prob_negative: Shape (strength, question), in nats.
        strengths: The strength of each row, in any order; with 0.
        groups: The cluster of each question.
        seed: Of the resampling.

    Raises:
        OptionError: If shapes do not fit, strength 0 is missing, one is given twice, or two options have more mass
            than 1.
        EstimateError: If a probability is NaN, or there are fewer than five groups.
    """
    if not len(groups):
        raise EstimateError("option_mass needs questions in at least five groups, but got none.")
    positive, negative = (np.asarray(p, dtype=np.float64) for p in (log_prob_positive, log_prob_negative))
    shape = (len(strengths), len(groups))
    if positive.shape != shape or negative.shape != shape:
        raise OptionError(
            f"Expected log-probabilities of shape (strength, question), {shape}, but got {positive.shape} and "
            f"{negative.shape}."
        )
    if 0.0 not in strengths or len(set(strengths)) < len(strengths):
        raise OptionError(f"Strengths should hold 0, and each once, but got {list(strengths)}.")
    mass = np.exp(positive) + np.exp(negative)
    if np.isnan(mass).any():
        raise EstimateError(f"Log-probabilities of {int(np.isnan(mass).any(axis=0).sum())} questions are NaN.")
    # Half precision leaves a sum of probabilities up to a thousandth above 1.
    if mass.max() > 1 + 1e-3:
        raise OptionError(
            f"Two options share a probability of at most 1, but got {mass.max():.4g}. Give logarithms of "
            "probabilities, of continuations of which neither begins the other."
        )
    base = mass[list(strengths).index(0.0)]
    rows = sorted(zip(strengths, mass, strict=True), key=lambda row: row[0])
    return OptionMass(
        strengths=tuple(float(s) for s, _ in rows),
        mass=tuple(cluster_mean(np.minimum(m, 1.0), groups, seed=seed) for _, m in rows),
        change=tuple(cluster_mean(m - base, groups, seed=seed) for _, m in rows),
    )

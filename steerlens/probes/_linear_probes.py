"""Linear probes: four estimators of one function class, whose spread is the noise of the estimator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from steerlens.probes._logistic import logistic_paths
from steerlens.probes._probe import Candidate, FunctionClass, Probe, Scorer
from steerlens.probes._span import FitData, Problem

Array = npt.NDArray[np.float64]

PENALTIES = tuple(10.0**k for k in range(-4, 3))
"""C of logistic regression, scikit-learn's inverse penalty on the sum of losses."""


def linear_candidates(
    weights: Array, settings: Sequence[str], select: Array, features: Callable[[Array], Array] | None = None
) -> list[Candidate]:
    """Candidates w·φ(z), one for each row of weights; φ(z) is z if left out.

    Args:
        weights: Shape (setting, feature).
        settings: In words.
        select: φ of the select rows, shape (m, feature).
        features: φ.
    """

    def scorer(w: Array) -> Scorer:
        return lambda z: (z if features is None else features(z)) @ w

    scores = weights @ select.T
    return [Candidate(s, scorer(w), f) for w, s, f in zip(weights, settings, scores, strict=True)]


def logistic_candidates(
    fit: Array,
    select: Array,
    problems: Sequence[Problem],
    label: str = "",
    features: Callable[[Array], Array] | None = None,
) -> list[list[Candidate]]:
    """Logistic regression on features, for each problem one candidate for each C."""
    weights, _ = logistic_paths(fit, np.stack([p.y for p in problems]), np.array(PENALTIES))
    settings = [f"{label}C = {c:g}" for c in PENALTIES]
    return [linear_candidates(w, settings, select, features) for w in weights]


@final
@dataclass(frozen=True)
class LogisticProbe(Probe):
    """Logistic regression with a ridge penalty, its C from 10⁻⁴ … 10² by the select rows.

    References:
        pedregosa2011 (the objective is LogisticRegression's).
    """

    function_class: ClassVar[FunctionClass] = "linear"

    @property
    def name(self) -> str:
        """``logistic``."""
        return "logistic"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One for each C."""
        return logistic_candidates(data.fit, data.select, problems)


@final
@dataclass(frozen=True)
class LDAProbe(Probe):
    """Fisher's discriminant, Σ_W⁻¹Δ, with Ledoit and Wolf's shrinkage of the within-class covariance.

    The intensity is found in closed form from the fit rows, in all d dimensions, though computed in their span.

    References:
        fisher1936; ledoit2004 (equation 14, as scikit-learn's `ledoit_wolf_shrinkage` computes it).
    """

    function_class: ClassVar[FunctionClass] = "linear"

    @property
    def name(self) -> str:
        """``lda``."""
        return "lda"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One: the shrinkage is not chosen."""
        found = []
        for p in problems:
            w, intensity = lda_weights(data.fit, p.y, len(data.span.mean))
            found.append(linear_candidates(w[None], [f"shrinkage = {intensity:.3g}"], data.select))
        return found


@final
@dataclass(frozen=True)
class RidgeProbe(Probe):
    """Least squares on the labels with a ridge penalty, (ZᵀZ/n + λ)⁻¹Δ, its λ by the select rows.

    By Sherman and Morrison's formula the direction is that of a discriminant with shrinkage λ, so that the four linear
    probes differ in how they regularise, and their spread is the noise of the estimator.

    References:
        hoerl1970.
    """

    function_class: ClassVar[FunctionClass] = "linear"

    @property
    def name(self) -> str:
        """``ridge``."""
        return "ridge"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One for each λ, from 100 mean eigenvalues of the covariance to a ten-thousandth of one."""
        variances = data.span.singular**2 / len(data.fit)
        penalties = variances.mean() * 10.0 ** np.arange(2, -5, -1)
        settings = [f"λ = {v:.3g}" for v in penalties]
        return [
            linear_candidates(mean_difference(data.fit, p.y) / (variances + penalties[:, None]), settings, data.select)
            for p in problems
        ]


@final
@dataclass(frozen=True)
class MassMeanProbe(Probe):
    """The mean difference as a classifier, Δ·x, in the units of the activations.

    The one probe that does not standardise: its direction is the one that a mean shift adds. With Σ⁻¹Δ in place of Δ
    it is `LDAProbe`, which classifies better; to confuse the two is a standard bug.

    References:
        marks2023, section 5.
    """

    function_class: ClassVar[FunctionClass] = "linear"

    @property
    def name(self) -> str:
        """``mass-mean``."""
        return "mass-mean"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One."""
        variances, axes = data.span.scale**2, data.span.axes
        unscaled = axes.T @ (
            variances[:, None] * (axes @ np.stack([mean_difference(data.fit, p.y) for p in problems]).T)
        )
        return [linear_candidates(w[None], [""], data.select) for w in unscaled.T]


def mean_difference(z: Array, y: npt.NDArray[np.int64]) -> Array:
    """Mean of the rows labelled 1 less that of the others."""
    found: Array = z[y == 1].mean(axis=0) - z[y == 0].mean(axis=0)
    return found


def lda_weights(z: Array, y: npt.NDArray[np.int64], width: int) -> tuple[Array, float]:
    """((1 − ρ) S_W + ρ tr(S_W)/d)⁻¹ Δ and ρ, from coordinates in the span of rows of ``width`` dimensions."""
    delta = mean_difference(z, y)
    about = z - np.where(y[:, None] == 1, z[y == 1].mean(axis=0), z[y == 0].mean(axis=0))
    n = len(z)
    within = about.T @ about / n
    trace, squared = np.trace(within), float((within**2).sum())
    noise = max(float((about**2).sum(axis=1) @ (about**2).sum(axis=1)) / n - squared, 0.0) / n
    spread = squared - trace**2 / width
    intensity = 1.0 if spread <= 0 else min(noise / spread, 1.0)
    shrunk = (1 - intensity) * within + intensity * trace / width * np.eye(len(within))
    if trace <= 1e-12 * float(delta @ delta):
        return delta, 1.0
    # A floor far below what shrinks: the rows of fewer dimensions than rows leave none of it to chance.
    shrunk += 1e-10 * trace / len(within) * np.eye(len(within))
    return np.linalg.solve(shrunk, delta), intensity

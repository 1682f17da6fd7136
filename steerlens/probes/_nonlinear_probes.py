"""Probes that see more than class means: products, kernels, neighbours, a hidden layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from steerlens.errors import OptionError
from steerlens.probes._batched import NetworkTask, train_networks
from steerlens.probes._discriminant import ROUNDNESS, discriminant_score, two_axes_score
from steerlens.probes._linear_probes import logistic_candidates
from steerlens.probes._probe import Candidate, FittedProbe, FunctionClass, Probe, Scorer
from steerlens.probes._span import FitData, Problem

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class QuadraticProbe(Probe):
    """Functions of second order with as many parameters as the select rows prefer, from none to all products.

    * The coordinates alone, which is `LogisticProbe`, so that the class contains the linear one.
    * Coordinates and squared length |z|²: one parameter more, all that two spreads about one mean ask for.
    * The quadratic discriminant of two shrunk Gaussians in the leading coordinates: see `discriminant_score`.
    * The discriminant of two Gaussians that differ in spread along two axes only: see `two_axes_score`.
    * Coordinates and all squares and products of the leading ones: any function of second order of these, but with
      136 products of 16 coordinates it needs rows by the hundred.

    Logistic regression, but for the discriminants. Lengths, squares and products are standardised on the fit rows. The
    select rows choose among all these, the number of leading coordinates and C.

    Args:
        ranks: Numbers of leading coordinates, at most 64.

    Raises:
        OptionError: If a rank is below 1 or above 64.

    References:
        friedman1989 (the discriminant); fukunaga1990 (the axes).
    """

    ranks: tuple[int, ...] = (4, 16, 64)

    function_class: ClassVar[FunctionClass] = "quadratic"

    def __post_init__(self) -> None:
        if not self.ranks or not all(1 <= r <= 64 for r in self.ranks):
            raise OptionError(f"A quadratic probe needs ranks from 1 to 64, but got {self.ranks}.")

    @property
    def name(self) -> str:
        """``quadratic``."""
        return "quadratic"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """The linear ones, those with the length, discriminants, and products for each rank and C."""
        ranks = sorted({min(r, data.span.rank) for r in self.ranks})
        found = logistic_candidates(data.fit, data.select, problems, "linear, ")
        found = _joined(found, _logistic(data, problems, _squared_length, "|z|², "))
        found = _joined(found, _discriminants(data, problems, ranks))
        for rank in ranks:
            found = _joined(found, _logistic(data, problems, _products(data.fit, rank), f"rank {rank}, "))
        return found


def _joined(found: list[list[Candidate]], more: list[list[Candidate]]) -> list[list[Candidate]]:
    return [a + b for a, b in zip(found, more, strict=True)]


def _logistic(
    data: FitData, problems: Sequence[Problem], second: Callable[[Array], Array], label: str
) -> list[list[Candidate]]:
    """Logistic regression on coordinates and standardised features of second order, one candidate for each C."""
    at_fit = second(data.fit)
    mean, deviation = at_fit.mean(axis=0), at_fit.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def features(z: Array) -> Array:
        return np.concatenate([z, (second(z) - mean) / deviation], axis=1)

    return logistic_candidates(features(data.fit), features(data.select), problems, label, features)


def _discriminants(data: FitData, problems: Sequence[Problem], ranks: Sequence[int]) -> list[list[Candidate]]:
    """For each problem one candidate for each rank and shrinkage, round classes first, and one for each rank's axes."""
    found: list[list[Candidate]] = []
    for p in problems:
        of: list[Candidate] = []
        for rank in ranks:
            for roundness in ROUNDNESS:
                score = discriminant_score(data.fit, p.y, rank, roundness)
                label = f"discriminant of rank {rank}, β = {roundness:g}"
                of.append(Candidate(label, score, score(data.select)))
            score = two_axes_score(data.fit, p.y, rank)
            of.append(Candidate(f"two axes of rank {rank}", score, score(data.select)))
        found.append(of)
    return found


def _squared_length(z: Array) -> Array:
    """|z|², shape (n, 1)."""
    found: Array = (z**2).sum(axis=1, keepdims=True)
    return found


def _products(fit: Array, rank: int) -> Callable[[Array], Array]:
    """Coordinates → products of pairs of the first ``rank``, squares among them."""
    rows, columns = np.triu_indices(rank)
    scale = np.maximum(fit[:, :rank].std(axis=0), np.finfo(np.float64).tiny)

    def products(z: Array) -> Array:
        u = z[:, :rank] / scale
        found: Array = u[:, rows] * u[:, columns]
        return found

    return products


@final
@dataclass(frozen=True)
class KernelProbe(Probe):
    """Logistic regression in the space of the kernel exp(−γ|x − x'|²), γ = scale / median² of the distances.

    Exact up to ``landmarks`` rows; beyond, Nyström's approximation by that many rows, evenly spaced in their order.
    The scale of γ and C are chosen by the select rows.

    Args:
        scales: Of γ.
        landmarks: Rows that the kernel is expanded in.

    Raises:
        OptionError: If a scale is not positive, or there are fewer than two landmarks.

    References:
        williams2001 (Nyström).
    """

    scales: tuple[float, ...] = (0.25, 1.0, 4.0)
    landmarks: int = 512

    function_class: ClassVar[FunctionClass] = "kernel"

    def __post_init__(self) -> None:
        if not self.scales or not all(s > 0 for s in self.scales) or self.landmarks < 2:
            raise OptionError(
                f"A kernel probe needs positive scales and at least two landmarks, but got {self.scales} and "
                f"{self.landmarks}."
            )

    @property
    def name(self) -> str:
        """``kernel``."""
        return "kernel"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One for each scale and C, smooth kernels first."""
        n = len(data.fit)
        landmarks = data.fit[np.linspace(0, n - 1, min(n, self.landmarks)).round().astype(int)]
        distances = squared_distances(landmarks, landmarks)
        median = float(np.median(distances[np.triu_indices(len(landmarks), 1)])) or 1.0
        found: list[list[Candidate]] = [[] for _ in problems]
        for scale in self.scales:
            features = _nystroem(landmarks, distances, scale / median)
            at = logistic_candidates(features(data.fit), features(data.select), problems, f"γ × {scale:g}, ", features)
            found = [a + b for a, b in zip(found, at, strict=True)]
        return found


def squared_distances(x: Array, z: Array) -> Array:
    """|xᵢ − zⱼ|², shape (n, m)."""
    found: Array = np.maximum((x**2).sum(axis=1)[:, None] + (z**2).sum(axis=1) - 2 * x @ z.T, 0.0)
    return found


def _nystroem(landmarks: Array, distances: Array, gamma: float) -> Callable[[Array], Array]:
    """Coordinates → features φ with φ(x)·φ(x') = k(x, x') at the landmarks."""
    values, vectors = np.linalg.eigh(np.exp(-gamma * distances))
    keep = values > 1e-8 * values[-1]
    root = vectors[:, keep] / np.sqrt(values[keep])

    def features(z: Array) -> Array:
        found: Array = np.exp(-gamma * squared_distances(z, landmarks)) @ root
        return found

    return features


@final
@dataclass(frozen=True)
class NearestNeighbours(Probe):
    """The labels of the k nearest rows; k and the distance (Euclidean, or of directions) by the select rows.

    In the leading 64 principal coordinates, as distances in more are noise. The score is log (n₊ + ½)/(n₋ + ½).

    Args:
        neighbours: The values of k; those with more neighbours than half of the rows are left out.
        rank: Principal coordinates.

    Raises:
        OptionError: If k or the rank is below 1.

    References:
        cover1967.
    """

    neighbours: tuple[int, ...] = (51, 15, 5)
    rank: int = 64

    function_class: ClassVar[FunctionClass] = "knn"

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1 or self.rank < 1:
            raise OptionError(f"k and rank must be at least 1, but got {self.neighbours} and {self.rank}.")

    @property
    def name(self) -> str:
        """``knn``."""
        return "knn"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One for each distance and k, many neighbours first."""
        counts = [k for k in self.neighbours if k <= len(data.fit) // 2] or [min(*self.neighbours, len(data.fit))]
        found: list[list[Candidate]] = [[] for _ in problems]
        for by_angle in (False, True):
            near = nearest(data.fit[:, : self.rank], max(counts), by_angle)
            nearest_rows = near(data.select)
            for k in counts:
                label = f"k = {k}, {'cosine' if by_angle else 'Euclidean'}"
                for of, p in zip(found, problems, strict=True):
                    votes = p.y.astype(np.float64)
                    score = _votes(near, votes, k)
                    of.append(Candidate(label, score, _odds(votes[nearest_rows[:, :k]])))
        return found


def nearest(rows: Array, k: int, by_angle: bool) -> Callable[[Array], npt.NDArray[np.int64]]:
    """Coordinates → the k nearest rows, nearest first, shape (n, k)."""

    def prepared(z: Array) -> Array:
        leading = z[:, : rows.shape[1]]
        lengths = np.linalg.norm(leading, axis=1, keepdims=True)
        return leading / np.maximum(lengths, np.finfo(np.float64).tiny) if by_angle else leading

    at = prepared(rows)

    def find(z: Array) -> npt.NDArray[np.int64]:
        distances = squared_distances(prepared(z), at)
        some = np.argpartition(distances, min(k, len(rows)) - 1, axis=1)[:, :k]
        order = np.take_along_axis(distances, some, axis=1).argsort(axis=1, kind="stable")
        return np.take_along_axis(some, order, axis=1)

    return find


def _odds(votes: Array) -> Array:
    positives = votes.sum(axis=1)
    found: Array = np.log((positives + 0.5) / (votes.shape[1] - positives + 0.5))
    return found


def _votes(near: Callable[[Array], npt.NDArray[np.int64]], labels: Array, k: int) -> Scorer:
    return lambda z: _odds(labels[near(z)[:, :k]])


@final
@dataclass(frozen=True)
class MLPProbe(Probe):
    """One hidden layer of GELU units, weight decay, stopped where the select rows stop gaining.

    Args:
        width: Hidden units.

    Raises:
        OptionError: If ``width`` is below 1.

    References:
        hendrycks2016 (GELU); loshchilov2019 (AdamW).
    """

    width: int = 64

    function_class: ClassVar[FunctionClass] = "mlp"
    seeded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise OptionError(f"A hidden layer needs at least one unit, but got width {self.width}.")

    @property
    def name(self) -> str:
        """``mlp-`` and the width."""
        return f"mlp-{self.width}"

    def candidates(self, data: FitData, problems: Sequence[Problem]) -> list[list[Candidate]]:
        """One for each problem."""
        networks = train_networks(data, [NetworkTask(self.width, p) for p in problems])
        return [[Candidate(f"{n.steps} steps", n, n(data.select))] for n in networks]


def fit_networks(probes: Sequence[MLPProbe], data: FitData, problems: Sequence[Problem]) -> list[list[FittedProbe]]:
    """Train networks of all widths, seeds and labellings in one computation; a list for each probe."""
    tasks = [NetworkTask(p.width, q) for p in probes for q in problems]
    trained = iter(train_networks(data, tasks) if tasks else [])
    found = []
    for probe in probes:
        networks = [next(trained) for _ in problems]
        found.append(
            [
                probe.choose(data.span, [Candidate(f"{n.steps} steps", n, n(data.select))], q)
                for n, q in zip(networks, problems, strict=True)
            ]
        )
    return found

"""Classifiers of source against target, and the map that climbs the gradient of one."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from steerlens.errors import FitError, OptionError
from steerlens.maps._base import Family, SteeringMap, widened
from steerlens.maps._nonlinear import Biases, Weights, check_hidden, initial_network, network
from steerlens.maps._samples import checked
from steerlens.maps._training import Training, cut, some, train
from steerlens.numerics import moments, principal_subspace

MOST_STEPS = 200
"""Gradient steps after which a row stays where it is, whatever the classifier says."""


@final
@dataclass(frozen=True, eq=False)
class GradientMap(SteeringMap):
    """T(x): steps of one length along ∇f from x, until f(T(x)) ≥ ``enough`` or ‖T(x) − x‖ = ``radius``.

    f is the log-odds of the target: a GELU network of (x − c) / σ. A row with f(x) ≥ ``enough`` stays where it is.
    The path is the straight line to T(x); only at strength 1 does it end where the classifier is convinced.

    Args:
        center: c.
        scale: σ, one number for all coordinates, so that directions are those of the raw activations.
        weights: Matrices of f, input first.
        biases: Their biases.
        curve: Step and held-out loss (nats) during training.
        enough: Log-odds at which a row stops.
        step_length: Of one step, in units of the activations.
        radius: Of the trust region, in units of the activations.
    """

    center: Float[Tensor, " d_model"]
    scale: Float[Tensor, ""]
    weights: Weights
    biases: Biases
    curve: Float[Tensor, "look 2"]
    enough: float
    step_length: float
    radius: float

    def log_odds(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """f: log P(target | x) − log P(source | x), for classes of equal size."""
        return self._log_odds_and_slope(x)[0]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        start = widened(x)
        moved = torch.zeros_like(start)
        active = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
        for _ in range(MOST_STEPS):
            odds, slope = self._log_odds_and_slope(start + moved)
            active = active & (odds < self.enough)
            if not active.any():
                break
            further = moved + self.step_length * uphill(slope)
            length = further.norm(dim=-1, keepdim=True)
            inside = further * (self.radius / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(max=1.0)
            moved = torch.where(active.unsqueeze(-1), inside, moved)
            active = active & (length.squeeze(-1) < self.radius)
        return moved.to(x.dtype)

    def _log_odds_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f and ∇f up to a positive factor, written out: autograd would not work under `torch.inference_mode`."""
        layers = [(W.to(x), b.to(x)) for W, b in zip(self.weights, self.biases, strict=True)]
        z, bends = (x - self.center.to(x)) / self.scale.to(x), []
        for W, b in layers[:-1]:
            before = functional.linear(z, W, b)
            bends.append(_gelu_slope(before))
            z = functional.gelu(before)
        odds = functional.linear(z, *layers[-1]).squeeze(-1)
        slope = layers[-1][0].squeeze(0)
        for (W, _), bend in zip(layers[-2::-1], reversed(bends), strict=True):
            slope = (slope * bend) @ W
        return odds, slope

    @property
    def reverse(self) -> "GradientMap":
        """The same classifier with its sign turned."""
        *weights, last = self.weights
        *biases, bias = self.biases
        return replace(self, weights=(*weights, -last), biases=(*biases, -bias))


@final
@dataclass(frozen=True)
class ClassifierGradient:
    """Move each row uphill on a small classifier of source against target, until it is convinced.

    A GELU network is trained on the activations (shifted, and divided by one number, so that gradients are those of
    the activations themselves), and each row takes steps of one length along the gradient of the target's log-odds;
    see `GradientMap`. Training knows labels and no distribution: a row stops where the classifier is convinced, which
    is short of where the target lies. That a classifier is convinced, even one that was trained independently, is
    therefore no evidence that steered rows look like the target; compare energy distances.

    Differs from the paper: one concept instead of K; steps of one length instead of raw gradients; a stop and a
    trust region for each row; GELU instead of ReLU, whose gradient is zero in places; and directions in which no row
    varies are left out, as the network would keep its initial weights there and its gradient would be noise.

    Args:
        seed: Of the initial weights and the held-out rows.
        hidden: Widths of the hidden layers.
        stop: P(target) at which a row has gone far enough.
        step: Length of a step, relative to the root mean square distance of a source row from a target row.
        trust: Farthest a row may move, relative to the mean norm of the rows of both samples. 2 reaches every point of
            equal norm.
        training: Steps, rate, patience and batch. Few steps at the published rate: a classifier trained further is
            sure close to its boundary, and rows then stop where another classifier is not.

    References:
        oozeer2025 (K-steering).
    """

    seed: int = 0
    hidden: tuple[int, ...] = (64, 64)
    stop: float = 0.95
    step: float = 0.05
    trust: float = 2.0
    training: Training = Training(steps=200, learning_rate=1e-3)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "where a classifier is convinced, the concept is present"

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        if not 0 < self.stop < 1:
            raise OptionError(f"stop must lie between 0 and 1, but got {self.stop}.")
        if not self.step > 0 or not self.trust > 0:
            raise OptionError(f"step and trust must be positive, but got {self.step} and {self.trust}.")

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> GradientMap:
        """Train the classifier.

        Raises:
            FitError: If a sample has fewer than 20 rows, nothing varies, or the classifier tells held-out rows no
                better apart than a coin.
        """
        source, target = checked(source, target, at_least=20)
        both = torch.cat([source, target])
        pooled = moments(both)
        U, variances = principal_subspace(pooled.cov, min(len(both) - 1, both.shape[1]))
        if len(variances) == 0:
            raise FitError("A classifier needs activations that vary, but all rows are equal.")
        center, scale = pooled.mean, variances.mean().sqrt()
        weights, biases, curve = self._trained((source - center) @ U / scale, (target - center) @ U / scale)
        if curve[:, 1].min() >= curve[0, 1]:
            raise FitError(
                "The classifier tells held-out rows of source and target no better apart than a coin, so there is no "
                "gradient to follow. Extract more pairs, or choose another site."
            )
        apart = (target.mean(dim=0) - source.mean(dim=0)).square().sum() + sum(
            x.var(dim=0, correction=0).sum() for x in (source, target)
        )
        return GradientMap(
            center,
            scale,
            (weights[0] @ U.T, *weights[1:]),
            biases,
            curve,
            enough=math.log(self.stop / (1 - self.stop)),
            step_length=self.step * float(apart.sqrt()),
            radius=self.trust * float(both.norm(dim=1).mean()),
        )

    def _trained(self, source: Tensor, target: Tensor) -> tuple[Weights, Biases, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        source_fit, source_held = cut(source, self.seed)
        target_fit, target_held = cut(target, self.seed)
        weights, biases = initial_network((source.shape[1], *self.hidden, 1), generator)

        def cross_entropy(x: Tensor, y: Tensor) -> Tensor:
            """Nats per row, both classes counting alike whatever their sizes."""
            low, high = (network(rows, weights, biases) for rows in (x, y))
            return (functional.softplus(low).mean() + functional.softplus(-high).mean()) / 2

        def loss() -> Tensor:
            return cross_entropy(
                *(some(rows, self.training.batch_size, generator) for rows in (source_fit, target_fit))
            )

        curve = train([*weights, *biases], loss, lambda: cross_entropy(source_held, target_held), self.training)
        return weights, biases, curve


def log_odds(
    source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]
) -> tuple[Float[Tensor, " d_model"], Float[Tensor, ""]]:
    """w and b of log P(target | x) − log P(source | x) = w · x + b, by logistic regression.

    On standardised coordinates, with scikit-learn's default penalty; classes count alike whatever their sizes.

    Raises:
        FitError: If nothing tells the classes apart.

    References:
        pedregosa2011.
    """
    both = torch.cat([source, target])
    center, scale = both.mean(dim=0), both.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-12 * center.abs().clamp(min=1e-300), scale, torch.inf)
    y = [0] * len(source) + [1] * len(target)
    probe = LogisticRegression(class_weight="balanced", max_iter=10_000, tol=1e-8)
    probe.fit(((both - center) / scale).numpy(), y)
    w, b = torch.from_numpy(probe.coef_[0]), torch.from_numpy(probe.intercept_)[0]
    if w.norm() < 1e-8:
        raise FitError("A probe needs classes that differ, but it cannot tell source and target apart.")
    read = w / scale
    return read, b - read @ center


def uphill(slope: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Every row at length one; a row without a direction stays zero."""
    # The root of the smallest number is the smallest norm whose square does not underflow.
    return functional.normalize(slope, dim=-1, eps=torch.finfo(slope.dtype).tiny ** 0.5)


def _gelu_slope(z: Tensor) -> Tensor:
    """Derivative of z Φ(z)."""
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    slope: Tensor = torch.special.ndtr(z) + z * density
    return slope

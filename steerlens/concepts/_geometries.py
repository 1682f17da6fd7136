"""Laws of planted concepts in the few coordinates that carry the signal, each with its answer in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from steerlens.errors import OptionError

SURE = 4.0
"""The behaviour's log-odds in the middle of the target, in nats; minus this in the middle of the source."""


@final
@dataclass(frozen=True, eq=False)
class Geometry:
    """A source law, the map that makes the target law of it, and a behaviour.

    Args:
        about: What it looks like, in a clause.
        rank: Coordinates that carry the signal.
        order: The lowest moment in which source and target differ; None if their laws are equal.
        draw: Rows of the source from a number of rows and a generator.
        move: How far each row has gone along the true path at a strength in [0, 1]; 1 leads into the target.
        logit: Log-odds of the behaviour.
        mean_difference: E target − E source.
        anti_steered: Share of rows whose log-odds fall under the mean shift, where that is known.
    """

    about: str
    rank: int
    order: int | None
    draw: Callable[[int, torch.Generator], Tensor]
    move: Callable[[Tensor, float], Tensor]
    logit: Callable[[Tensor], Tensor]
    mean_difference: tuple[float, ...]
    anti_steered: float | None = None


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _uniform(generator: torch.Generator, n: int) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _signs(generator: torch.Generator, n: int, share: float = 0.5) -> Tensor:
    """+1 with probability ``share``, else −1."""
    return torch.where(_uniform(generator, n) < share, 1.0, -1.0).double()


def _sign(z: Tensor) -> Tensor:
    """±1, never 0."""
    return torch.where(z >= 0, 1.0, -1.0).to(z)


def _along(z: Tensor, axis: int, amount: Tensor | float) -> Tensor:
    """A displacement along one axis."""
    d = torch.zeros_like(z)
    d[..., axis] = amount
    return d


def _turned(z: Tensor, angle: Tensor | float) -> Tensor:
    """The displacement of a rotation of the first two coordinates."""
    t = torch.as_tensor(angle, dtype=z.dtype)
    d = torch.zeros_like(z)
    d[..., 0] = (t.cos() - 1) * z[..., 0] - t.sin() * z[..., 1]
    d[..., 1] = t.sin() * z[..., 0] + (t.cos() - 1) * z[..., 1]
    return d


def _on_circle(angle: Tensor, radius: Tensor | float) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def linear() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        return torch.tensor([-1.0, 0.0]).double() + 0.5 * _normal(g, n, 2)

    return Geometry(
        "two blobs that differ in mean", 2, 1, draw,
        lambda z, s: _along(z, 0, 2.0 * s), lambda z: SURE * z[..., 0], (2.0, 0.0),
    )  # fmt: skip


def xor2() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        a = _signs(g, n)
        return torch.stack([a, -a], dim=1) + 0.25 * _normal(g, n, 2)

    return Geometry(
        "exclusive or of two signs: clusters on one diagonal and on the other", 2, 2, draw,
        lambda z, s: _along(z, 1, 2 * s * _sign(z[..., 0])), lambda z: SURE * z[..., 0] * z[..., 1], (0.0, 0.0),
    )  # fmt: skip


def onion3() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        direction = torch.nn.functional.normalize(_normal(g, n, 3), dim=1)
        return direction * (1 + 0.1 * _normal(g, n))[:, None]

    return Geometry(
        "a sphere within a larger one", 3, 2, draw,
        lambda z, s: s * torch.nn.functional.normalize(z, dim=-1),
        lambda z: 2 * SURE * (z.norm(dim=-1) - 1.5), (0.0, 0.0, 0.0),
    )  # fmt: skip


def gauss2() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        return _normal(g, n, 3) * torch.tensor([1.0, 0.4, 0.4]).double()

    def move(z: Tensor, s: float) -> Tensor:
        return s * z * torch.tensor([-0.6, 1.5, 0.0]).to(z)

    return Geometry(
        "two Gaussians of one mean, long in different directions", 3, 2, draw, move,
        lambda z: (1 / 0.16 - 1) / 2 * (z[..., 1] ** 2 - z[..., 0] ** 2), (0.0, 0.0, 0.0),
    )  # fmt: skip


def ctx(pi: float) -> Geometry:
    if not 0 <= pi <= 1:
        raise OptionError(f"pi is a share of contexts and must lie between 0 and 1, but got {pi}.")

    def draw(n: int, g: torch.Generator) -> Tensor:
        c = _signs(g, n, pi)
        return torch.stack([-c, 2 * c], dim=1) + 0.25 * _normal(g, n, 2)

    return Geometry(
        f"a direction whose sign a context decides, + in {pi:g} of the rows", 2, 2 if pi == 0.5 else 1, draw,
        lambda z, s: _along(z, 0, 2 * s * _sign(z[..., 1])), lambda z: SURE / 2 * z[..., 0] * z[..., 1],
        (2 * (2 * pi - 1), 0.0), min(pi, 1 - pi),
    )  # fmt: skip


def parity3() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        a, b = _signs(g, n), _signs(g, n)
        return torch.stack([a, b, -a * b], dim=1) + 0.25 * _normal(g, n, 3)

    return Geometry(
        "parity of three signs: every second corner of a cube", 3, 3, draw,
        lambda z, s: _along(z, 2, 2 * s * _sign(z[..., 0] * z[..., 1])), lambda z: SURE * z.prod(dim=-1),
        (0.0, 0.0, 0.0),
    )  # fmt: skip


def ring6() -> Geometry:
    width = 0.7 * math.pi / 3

    def draw(n: int, g: torch.Generator) -> Tensor:
        arc = torch.randint(0, 3, (n,), generator=g).double()
        angle = arc * 2 * math.pi / 3 + width * (_uniform(g, n) - 0.5)
        return _on_circle(angle, 2 + 0.1 * _normal(g, n))

    def move(z: Tensor, s: float) -> Tensor:
        # Half an arc goes to the left, half to the right, in order: the cheapest way on a circle.
        theta = torch.atan2(z[..., 1], z[..., 0])
        off_center = theta - (theta / (2 * math.pi / 3)).round() * 2 * math.pi / 3
        return _turned(z, s * (math.pi / 3 - width / 2) * _sign(off_center))

    def logit(z: Tensor) -> Tensor:
        x, y = z[..., 0], z[..., 1]
        return -SURE * (x**3 - 3 * x * y**2) / 8

    return Geometry("six arcs of a circle, of either class in turn", 2, 3, draw, move, logit, (0.0, 0.0))


def ring(points: int) -> Geometry:
    if points < 3:
        raise OptionError(f"points on a ring must be at least 3, but got {points}.")

    def draw(n: int, g: torch.Generator) -> Tensor:
        j = torch.randint(0, points, (n,), generator=g).double()
        return _on_circle(2 * math.pi * j / points, 2.0) + 0.1 * _normal(g, n, 2)

    return Geometry(
        f"{points} ordered points on a circle, each led to the next", 2, None, draw,
        lambda z, s: _turned(z, s * 2 * math.pi / points), lambda z: SURE * z[..., 0] / 2, (0.0, 0.0),
    )  # fmt: skip


def sphere() -> Geometry:
    lowest = math.cos(math.pi / 6)

    def draw(n: int, g: torch.Generator) -> Tensor:
        height = lowest + (1 - lowest) * _uniform(g, n)
        rest = _on_circle(2 * math.pi * _uniform(g, n), (1 - height**2).sqrt())
        return 2 * torch.cat([height[:, None], rest], dim=1)

    mean = 1 + lowest
    return Geometry(
        "two caps of one sphere, a quarter turn apart", 3, 1, draw, lambda z, s: _turned(z, s * math.pi / 2),
        lambda z: SURE * (z[..., 1] - z[..., 0]) / 2, (-mean, mean, 0.0),
    )  # fmt: skip


def helix() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        t = math.pi * _uniform(g, n)
        on = torch.cat([_on_circle(t, 2.0), (t / math.pi - 1)[:, None]], dim=1)
        return on + 0.1 * _normal(g, n, 3)

    return Geometry(
        "the lower and the upper half of one turn of a helix", 3, 1, draw,
        lambda z, s: _turned(z, s * math.pi) + _along(z, 2, s),
        lambda z: 2 * SURE * z[..., 2], (0.0, -8 / math.pi, 1.0),
    )  # fmt: skip


def heteroscedastic() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        return torch.tensor([-1.0, 0.0]).double() + 0.5 * _normal(g, n, 2)

    def move(z: Tensor, s: float) -> Tensor:
        return s * torch.stack([3 + z[..., 0], -0.5 * z[..., 1]], dim=-1)

    return Geometry(
        "two Gaussians that differ in mean and in covariance", 2, 1, draw, move, lambda z: SURE * z[..., 0], (2.0, 0.0)
    )


def bimodal() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        return 0.25 * _normal(g, n, 2)

    def move(z: Tensor, s: float) -> Tensor:
        # In one dimension the cheapest map keeps the order: each half of the source becomes one mode.
        x = z[..., 0]
        rank = (2 * torch.special.ndtr(x.abs() / 0.25) - 1).clamp(1e-12, 1 - 1e-12)
        image = _sign(x) * (1.5 + 0.25 * torch.special.ndtri(rank))
        return s * _along(z, 0, image - x)

    return Geometry(
        "one blob that becomes two", 2, 2, draw, move, lambda z: SURE * (z[..., 0].abs() / 0.75 - 1), (0.0, 0.0)
    )


def cone() -> Geometry:
    def draw(n: int, g: torch.Generator) -> Tensor:
        size = 1 + 2 * _uniform(g, n)
        return torch.stack([size, -size / 2 + 0.1 * _normal(g, n)], dim=1)

    return Geometry(
        "one direction for all rows, and the longer the row, the farther it goes", 2, 1, draw,
        lambda z, s: s * _along(z, 1, z[..., 0]), lambda z: SURE * z[..., 1], (0.0, 2.0),
    )  # fmt: skip

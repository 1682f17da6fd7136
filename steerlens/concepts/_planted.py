"""Planted concepts: activations whose geometry, best map and effects are known before anything is fitted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.concepts import _geometries as geometries
from steerlens.concepts._geometries import Geometry
from steerlens.errors import OptionError, UnknownNameError


class PlantedRows(NamedTuple):
    """Activations without and with a planted concept; row i of one is the twin of row i of the other."""

    source: Float[Tensor, "pair d_model"]
    target: Float[Tensor, "pair d_model"]


@final
@dataclass(frozen=True, eq=False)
class Plant:
    """A concept planted in activations: x = U z + V ν, with z the signal and ν ~ N(0, nuisance²) of no meaning.

    Twins share everything but the concept: target = source + displacement(source), so that target is the true map's
    image of source, row by row. For two independent samples take source and target of different seeds.

    ``order`` is the lowest moment in which source and target differ, and a bound on what can be told: a method that
    sees only lower moments must do nothing here. It is no promise that a method of this order suffices; see
    ``xor2`` and ``bimodal``, which need more than the second moments in which they differ.

    Args:
        name: What `planted` takes, with its parameter if there is one.
        basis: U, orthonormal columns.
        complement: V, orthonormal columns orthogonal to U.
        nuisance: Standard deviation of ν.
        geometry: The law of z and its true answers.
    """

    name: str
    basis: Float[Tensor, "d_model rank"]
    complement: Float[Tensor, "d_model _"]
    nuisance: float
    geometry: Geometry

    @property
    def about(self) -> str:
        """What it looks like, in a clause."""
        return self.geometry.about

    @property
    def order(self) -> int | None:
        """The lowest moment in which source and target differ; None if only the pairs differ, and not the laws."""
        return self.geometry.order

    @property
    def d_model(self) -> int:
        """Width of the rows."""
        return int(self.basis.shape[0])

    @property
    def mean_difference(self) -> Float[Tensor, " d_model"]:
        """E target − E source: what a mean shift should find."""
        return self.basis @ torch.tensor(self.geometry.mean_difference, dtype=self.basis.dtype)

    @property
    def anti_steered(self) -> float | None:
        """Share of source rows whose log-odds the mean shift lowers, min(π, 1 − π) for ctx(π); None if not known.

        At π = ½ the mean shift is zero: what is fitted there is noise, and its sign arbitrary.
        """
        return self.geometry.anti_steered

    def sample(self, n: int, *, seed: int) -> PlantedRows:
        """Pairs of rows; equal seeds give equal rows.

        Raises:
            OptionError: If ``n`` is below 1.
        """
        if n < 1:
            raise OptionError(f"A sample needs at least one row, but got n = {n}.")
        generator = torch.Generator().manual_seed(seed)
        z = self.geometry.draw(n, generator)
        rest = torch.randn(n, self.complement.shape[1], generator=generator, dtype=torch.float64)
        source = z @ self.basis.T + self.nuisance * rest @ self.complement.T
        return PlantedRows(source, source + self.displacement(source))

    def signal(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch rank"]:
        """z of every row."""
        return x @ self.basis.to(x)

    def displacement(
        self, x: Float[Tensor, "*batch d_model"], *, strength: float = 1.0
    ) -> Float[Tensor, "*batch d_model"]:
        """How far the true map has carried each row, along the true path, at a strength in [0, 1].

        The path is straight but on ``ring``, ``ring6``, ``sphere`` and ``helix``, where it follows the curve. The map
        is the optimal transport for ``linear``, ``onion3``, ``gauss2``, ``heteroscedastic`` and ``bimodal``; elsewhere
        it is what the plant defines as the difference between twins. It is meant for rows of the source.
        """
        return self.geometry.move(self.signal(x), strength) @ self.basis.to(x).T

    def logit(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """True log-odds of the behaviour in nats: about −4 in the middle of the source, 4 in that of the target.

        On ``ring``, whose source and target have one law, it is largest at the first point.
        """
        return self.geometry.logit(self.signal(x))

    def effect(
        self, x: Float[Tensor, "*batch d_model"], moved: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch"]:
        """True change of the log-odds when a map makes ``moved`` of ``x``."""
        return self.logit(moved) - self.logit(x)


_PLAIN: dict[str, Callable[[], Geometry]] = {
    "linear": geometries.linear,
    "xor2": geometries.xor2,
    "onion3": geometries.onion3,
    "gauss2": geometries.gauss2,
    "parity3": geometries.parity3,
    "ring6": geometries.ring6,
    "sphere": geometries.sphere,
    "helix": geometries.helix,
    "heteroscedastic": geometries.heteroscedastic,
    "bimodal": geometries.bimodal,
    "cone": geometries.cone,
}
NAMES = ("linear", "xor2", "onion3", "gauss2", "ctx", "parity3", "ring6",
         "ring", "sphere", "helix", "heteroscedastic", "bimodal", "cone")  # fmt: skip


def plant_names() -> tuple[str, ...]:
    """Names that `planted` takes; the first seven are those of the standard table."""
    return NAMES


def planted(
    name: str,
    *,
    width: int = 16,
    nuisance: float = 0.3,
    seed: int = 0,
    pi: float | None = None,
    points: int | None = None,
) -> Plant:
    """A planted concept by name, turned into ``width`` dimensions by a random rotation.

    Args:
        name: One of `plant_names`.
        width: d_model; at least as many as the signal has coordinates.
        nuisance: Standard deviation of every other dimension.
        seed: Of the rotation.
        pi: Share of rows in the context that is counted as +, of ``ctx`` alone; 0.7 if left out.
        points: How many points lie on the circle, of ``ring`` alone; 12 if left out.

    Raises:
        UnknownNameError: If there is no plant of this name.
        OptionError: If an argument is outside its range, or belongs to another plant.
    """
    if name not in NAMES:
        raise UnknownNameError("planted geometry", name, NAMES)
    for option, value, owner in (("pi", pi, "ctx"), ("points", points, "ring")):
        if value is not None and name != owner:
            raise OptionError(f"{option} belongs to {owner!r}, but was given with {name!r}. Leave it out.")
    if not 0 <= nuisance < float("inf"):
        raise OptionError(f"nuisance must be finite and not negative, but got {nuisance}.")
    label, geometry = name, None
    if name == "ctx":
        share = 0.7 if pi is None else pi
        label, geometry = f"ctx({share:g})", geometries.ctx(share)
    elif name == "ring":
        geometry = geometries.ring(12 if points is None else points)
        label = name if points is None else f"ring({points})"
    else:
        geometry = _PLAIN[name]()
    if width < geometry.rank:
        raise OptionError(
            f"{label} has a signal of {geometry.rank} dimensions, which do not fit into width {width}. "
            f"Use a width of at least {geometry.rank}."
        )
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    return Plant(label, Q[:, : geometry.rank].contiguous(), Q[:, geometry.rank :].contiguous(), nuisance, geometry)

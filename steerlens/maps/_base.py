"""What a steering map is, and what fits one."""

import abc
import dataclasses
import inspect
import math
import re
from typing import Literal, Protocol, TypeVar, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import FitError, OptionError

Family = Literal["additive", "affine", "nonlinear", "random", "custom"]
"""Which class of functions a method searches. Projections are rank-1 affine maps."""


Needs = Literal["samples", "pairs", "model"]
"""What a method is fitted on: two samples; two samples whose rows are pairs; or a model and texts."""

Fitted = TypeVar("Fitted", bound="SteeringMap")


class SteeringMap(abc.ABC):
    """A fitted map T that carries source activations to target activations.

    A subclass is a frozen dataclass that implements ``displacement(x) = T(x) − x``, row by row. The displacement
    is the primitive, and not the image: in bfloat16 a subtraction of ``x`` from its image loses most of a small
    shift. Strength is defined here, once, for every map:

        map(x, strength=s) = x + path(x, s)             s ≥ 0
        map(x, strength=s) = x + reverse.path(x, |s|)   s < 0

    so that 0 is the identity, 1 the fitted map, and negative values the map fitted the other way round (never an
    extrapolation). The path is the straight line, path(x, s) = s · displacement(x), which for a transport is McCann's
    interpolation; a map that moves along a curve (a rotation, a flow) overrides ``path`` and says in
    ``strength_unit`` what its strength counts.
    """

    @property
    def strength_unit(self) -> str:
        """What strength counts; anything but "displacements" says that the path is curved."""
        return "displacements"

    @abc.abstractmethod
    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """T(x) − x for every row of ``x``, in the dtype and on the device of ``x``."""

    def path(
        self, x: Float[Tensor, "*batch d_model"], strength: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch d_model"]:
        """How far each row has moved at its strength (≥ 0): nothing at 0, the displacement at 1."""
        return strength.unsqueeze(-1) * self.displacement(x)

    @property
    def reverse(self) -> "SteeringMap | None":
        """The map fitted from target to source, or None if the family has none."""
        return None

    @property
    def d_model(self) -> int | None:
        """Width of the rows this map takes: the last axis of its first tensor field (None without one)."""
        for value in vars(self).values():
            if isinstance(value, Tensor):
                return int(value.shape[-1])
        return None

    @final
    def __call__(self, x: Float[Tensor, "*batch d_model"], *, strength: float = 1.0) -> Float[Tensor, "*batch d_model"]:
        """x + strength · displacement(x); ``x`` is never modified.

        Half precision is widened to float32 for the computation and rounded once at the end.

        Raises:
            OptionError: If ``strength`` is not finite, or negative for a map without a reverse.
            FitError: If the rows of ``x`` are not as wide as the map.
        """
        if self.d_model is not None and x.shape[-1] != self.d_model:
            raise FitError(
                f"{type(self).__name__} was fitted on activations of width {self.d_model}, but got rows of "
                f"width {x.shape[-1]}. Apply it at the site it was fitted for."
            )
        return x if strength == 0 else (widened(x) + self.step(x, strength=strength)).to(x.dtype)

    @final
    def step(self, x: Float[Tensor, "*batch d_model"], *, strength: float = 1.0) -> Float[Tensor, "*batch d_model"]:
        """What ``self(x, strength=strength)`` adds to ``x``, not yet rounded to half precision.

        Raises:
            OptionError: If ``strength`` is not finite, or negative for a map without a reverse.
        """
        if not math.isfinite(strength):
            raise OptionError(f"A strength must be finite, but got {strength}.")
        acting = self if strength >= 0 else self.reverse
        if acting is None:
            raise OptionError(
                f"{type(self).__name__} has no reverse, so it has no strength {strength}. Use a strength >= 0, "
                "or fit the map from target to source."
            )
        wide = widened(x)
        return acting.path(wide, wide.new_full(x.shape[:-1], abs(strength)))

    @final
    def to(self: Fitted, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Fitted:
        """A copy with its tensors on another device or in another dtype."""
        if not dataclasses.is_dataclass(self):
            return self
        return dataclasses.replace(
            self, **{f.name: _moved(getattr(self, f.name), device, dtype) for f in dataclasses.fields(self)}
        )


def widened(x: Tensor) -> Tensor:
    """Half precision as float32; wider types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _moved(value: object, device: torch.device | str | None, dtype: torch.dtype | None) -> object:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, SteeringMap):
        return value.to(device=device, dtype=dtype)
    if isinstance(value, tuple):
        return tuple(_moved(v, device, dtype) for v in value)
    return value


@runtime_checkable
class SteeringMethod(Protocol):
    """Frozen hyperparameters that fit a map; data goes into ``fit`` and nothing else does.

    A method may carry ``family`` (see `Family`), by which reports group it, ``needs`` (see `Needs`), ``reversible``
    (whether its maps have a reverse) and ``assumes``, one clause on when the method is right.
    """

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SteeringMap:
        """Fit the map that carries ``source`` (concept absent) to ``target`` (present)."""
        ...


def method_name(method: object) -> str:
    """The class name, with those hyperparameters that differ from their defaults."""
    if not dataclasses.is_dataclass(method):
        return type(method).__name__
    changed = [
        f"{f.name}={getattr(method, f.name)!r}"
        for f in dataclasses.fields(method)
        if f.name != "seed" and getattr(method, f.name) != f.default
    ]
    return type(method).__name__ + (f"({', '.join(changed)})" if changed else "")


def method_family(method: object) -> Family:
    """The method's family, ``"custom"`` if it names none."""
    family: Family = getattr(method, "family", "custom")
    return family


def method_needs(method: object) -> Needs:
    """What the method is fitted on, ``"samples"`` if it does not say."""
    needs: Needs = getattr(method, "needs", "samples")
    return needs


def method_reversible(method: object) -> bool | None:
    """Whether the method's maps have a reverse, None if it does not say."""
    reversible: bool | None = getattr(method, "reversible", None)
    return reversible


def method_source(method: object) -> str:
    """The references of the method's docstring, as one line; empty without any."""
    found = re.search(r"References:\n(.*?)(\n\s*\n|\Z)", inspect.getdoc(type(method)) or "", re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""

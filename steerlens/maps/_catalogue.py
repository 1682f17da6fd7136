"""The methods that ship with steerlens, by name."""

from steerlens.errors import UnknownNameError
from steerlens.maps._additive import MeanShift
from steerlens.maps._affine import GaussianTransport
from steerlens.maps._base import SteeringMethod
from steerlens.maps._nonlinear import ResidualMLP
from steerlens.maps._rank_one import (
    AffineConceptEditing,
    ConceptErasure,
    ConceptSetPoint,
    DirectionalAblation,
    GatedSetPoint,
    MeanMirror,
)

LADDER: tuple[SteeringMethod, ...] = (MeanShift(), DirectionalAblation(), GaussianTransport(), ResidualMLP())
"""One method a rung: translation, projection, affine, nonlinear."""

METHODS: tuple[SteeringMethod, ...] = (
    MeanShift(),
    DirectionalAblation(),
    AffineConceptEditing(),
    MeanMirror(),
    ConceptErasure(),
    ConceptSetPoint(),
    GatedSetPoint(),
    GaussianTransport(),
    ResidualMLP(),
)
"""Every method, with its default hyperparameters, from the simplest on."""


def method_names() -> tuple[str, ...]:
    """Names that `method_by_name` takes."""
    return tuple(type(m).__name__ for m in METHODS)


def method_by_name(name: str) -> SteeringMethod:
    """A method with its default hyperparameters.

    Raises:
        UnknownNameError: If there is no method of this name.
    """
    by_name = {type(m).__name__: m for m in METHODS}
    if name not in by_name:
        raise UnknownNameError("steering method", name, by_name, "See `steerlens maps`.")
    return by_name[name]

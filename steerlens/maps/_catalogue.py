"""The methods that ship with steerlens, by name."""

from steerlens.errors import OptionError, UnknownNameError
from steerlens.maps._additive import DirectionShift, MeanShift, NormRelativeShift, RandomShift
from steerlens.maps._affine import GaussianTransport
from steerlens.maps._barycentric import BarycentricTransport
from steerlens.maps._base import SteeringMethod
from steerlens.maps._classifier import ClassifierGradient
from steerlens.maps._conceptor import ConceptorSteering
from steerlens.maps._diagonal import DiagonalTransport, LinearAcT
from steerlens.maps._features import RandomFeatureMap
from steerlens.maps._flow import FlowMatching
from steerlens.maps._gates import ProbeGated
from steerlens.maps._low_rank import LowRankAffine
from steerlens.maps._nonlinear import PairedMLP, ResidualMLP
from steerlens.maps._norms import InContextShift, NormRestoredShift
from steerlens.maps._ode import ODESteering
from steerlens.maps._oracle import OracleErasure
from steerlens.maps._paired import PairedRidge, Procrustes
from steerlens.maps._plugins import plugins
from steerlens.maps._rank_one import (
    AffineConceptEditing,
    ConceptErasure,
    ConceptSetPoint,
    DirectionalAblation,
    GatedSetPoint,
    MeanMirror,
)
from steerlens.maps._rotation import AngularSteering, SphericalSteering
from steerlens.maps._spectral import SpectralEditing
from steerlens.maps._strength_gate import StrengthGate

LADDER: tuple[SteeringMethod, ...] = (MeanShift(), DirectionalAblation(), GaussianTransport(), ResidualMLP())
"""One method a rung: translation, projection, affine, nonlinear."""

METHODS: tuple[SteeringMethod, ...] = (
    MeanShift(),
    OracleErasure(),
    DirectionShift(),
    NormRelativeShift(),
    NormRestoredShift(),
    InContextShift(),
    RandomShift(),
    DirectionalAblation(),
    AffineConceptEditing(),
    MeanMirror(),
    ConceptErasure(),
    ConceptSetPoint(),
    GatedSetPoint(),
    DiagonalTransport(),
    LinearAcT(),
    GaussianTransport(),
    ConceptorSteering(),
    Procrustes(),
    PairedRidge(),
    LowRankAffine(),
    SpectralEditing(),
    AngularSteering(),
    SphericalSteering(),
    ProbeGated(),
    ODESteering(),
    ClassifierGradient(),
    StrengthGate(),
    RandomFeatureMap(),
    BarycentricTransport(),
    PairedMLP(),
    FlowMatching(),
    ResidualMLP(),
)
"""Every method, with its default hyperparameters, from the simplest on."""


def method_names() -> tuple[str, ...]:
    """Names that `method_by_name` takes: our own, then those that other packages announce."""
    ours = tuple(type(m).__name__ for m in METHODS)
    return ours + tuple(sorted(set(plugins()) - set(ours)))


def method_by_name(name: str) -> SteeringMethod:
    """A method with its default hyperparameters; a name of ours is ours, whatever other packages announce.

    Raises:
        UnknownNameError: If there is no method of this name.
        OptionError: If it belongs to another package and cannot be loaded, or is fitted through the model.
    """
    ours = {type(m).__name__: m for m in METHODS}
    if name in ours:
        return ours[name]
    announced = plugins()
    if name not in announced:
        raise UnknownNameError("steering method", name, method_names(), "See `steerlens maps`.")
    method = announced[name].load()
    if not isinstance(method, SteeringMethod):
        raise OptionError(f"{name!r} is fitted through the model, not on two samples of activations.")
    return method

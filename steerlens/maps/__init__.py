"""Steering maps: a `SteeringMethod` fits a `SteeringMap` to two samples of activations.

Families are nested: translation ⊂ rank-1 affine ⊂ affine ⊂ nonlinear. No model is needed here, only tensors.
"""

from steerlens.maps._additive import (
    AdditiveMap,
    DirectionShift,
    MeanShift,
    NormRelativeShift,
    RandomShift,
    random_direction,
)
from steerlens.maps._affine import (
    AffineMap,
    GaussianTransport,
    PermutedDisplacement,
    SubspaceAffineMap,
    permuted_displacement,
)
from steerlens.maps._barycentric import BarycentricTransport
from steerlens.maps._base import (
    Family,
    Needs,
    SteeringMap,
    SteeringMethod,
    method_family,
    method_name,
    method_needs,
    method_reversible,
    method_source,
)
from steerlens.maps._catalogue import LADDER, METHODS, method_by_name, method_names
from steerlens.maps._classifier import ClassifierGradient, GradientMap
from steerlens.maps._compose import InSequence, InSubspace, SequenceMap, SubspaceMap, TwoWayMap
from steerlens.maps._conceptor import Conceptor, ConceptorSteering
from steerlens.maps._constant import ConstantMap
from steerlens.maps._diagonal import DiagonalMap, DiagonalTransport, LinearAcT
from steerlens.maps._directions import (
    DirectionEstimator,
    LinearDiscriminant,
    LogisticDirection,
    MassMean,
    MeanCentred,
    MeanDifference,
    MedianOfMeans,
    PairDifferencePC,
    PairMidpointPC,
    RandomPairPC,
    TrimmedMean,
)
from steerlens.maps._features import FourierMap, RandomFeatureMap
from steerlens.maps._flow import FlowMap, FlowMatching
from steerlens.maps._gates import GatedMap, ProbeGated
from steerlens.maps._low_rank import LowRankAffine, LowRankMap
from steerlens.maps._nonlinear import MLPMap, PairedMLP, ResidualMLP
from steerlens.maps._norms import InContextMap, InContextShift, NormRestoredMap, NormRestoredShift
from steerlens.maps._ode import ODESteering, QuadraticFlowMap
from steerlens.maps._oracle import OracleErasure
from steerlens.maps._paired import PairedRidge, Procrustes
from steerlens.maps._rank_one import (
    AffineConceptEditing,
    ConceptErasure,
    ConceptSetPoint,
    DirectionalAblation,
    GatedSetPoint,
    MeanMirror,
    RankOneMap,
)
from steerlens.maps._rotation import AngularSteering, PlaneRotationMap, SphericalSteering, TowardPoleMap
from steerlens.maps._samples import checked
from steerlens.maps._spectral import SpectralEditing, SpectralMap
from steerlens.maps._storage import Manifest, load_map, read_manifest, save_map
from steerlens.maps._strength_gate import GatedShiftMap, StrengthGate
from steerlens.maps._summary import MethodSummary, method_summaries, summarise
from steerlens.maps._training import Training

__all__ = [
    "LADDER",
    "METHODS",
    "AdditiveMap",
    "AffineConceptEditing",
    "AffineMap",
    "AngularSteering",
    "BarycentricTransport",
    "ClassifierGradient",
    "ConceptErasure",
    "ConceptSetPoint",
    "Conceptor",
    "ConceptorSteering",
    "ConstantMap",
    "DiagonalMap",
    "DiagonalTransport",
    "DirectionEstimator",
    "DirectionShift",
    "DirectionalAblation",
    "Family",
    "FlowMap",
    "FlowMatching",
    "FourierMap",
    "GatedMap",
    "GatedSetPoint",
    "GatedShiftMap",
    "GaussianTransport",
    "GradientMap",
    "InContextMap",
    "InContextShift",
    "InSequence",
    "InSubspace",
    "LinearAcT",
    "LinearDiscriminant",
    "LogisticDirection",
    "LowRankAffine",
    "LowRankMap",
    "MLPMap",
    "Manifest",
    "MassMean",
    "MeanCentred",
    "MeanDifference",
    "MeanMirror",
    "MeanShift",
    "MedianOfMeans",
    "MethodSummary",
    "Needs",
    "NormRelativeShift",
    "NormRestoredMap",
    "NormRestoredShift",
    "ODESteering",
    "OracleErasure",
    "PairDifferencePC",
    "PairMidpointPC",
    "PairedMLP",
    "PairedRidge",
    "PermutedDisplacement",
    "PlaneRotationMap",
    "ProbeGated",
    "Procrustes",
    "QuadraticFlowMap",
    "RandomFeatureMap",
    "RandomPairPC",
    "RandomShift",
    "RankOneMap",
    "ResidualMLP",
    "SequenceMap",
    "SpectralEditing",
    "SpectralMap",
    "SphericalSteering",
    "SteeringMap",
    "SteeringMethod",
    "StrengthGate",
    "SubspaceAffineMap",
    "SubspaceMap",
    "TowardPoleMap",
    "Training",
    "TrimmedMean",
    "TwoWayMap",
    "checked",
    "load_map",
    "method_by_name",
    "method_family",
    "method_name",
    "method_names",
    "method_needs",
    "method_reversible",
    "method_source",
    "method_summaries",
    "permuted_displacement",
    "random_direction",
    "read_manifest",
    "save_map",
    "summarise",
]

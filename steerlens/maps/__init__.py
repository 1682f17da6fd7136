"""Steering maps: a `SteeringMethod` fits a `SteeringMap` to two samples of activations.

Families are nested: translation ⊂ rank-1 affine ⊂ affine ⊂ nonlinear. No model is needed here, only tensors.
"""

from steerlens.maps._additive import AdditiveMap, MeanShift, random_direction
from steerlens.maps._affine import GaussianTransport, SubspaceAffineMap
from steerlens.maps._base import (
    Family,
    Needs,
    SteeringMap,
    SteeringMethod,
    method_family,
    method_name,
    method_needs,
    method_source,
)
from steerlens.maps._catalogue import LADDER, METHODS, method_by_name, method_names
from steerlens.maps._compose import InSequence, InSubspace, SequenceMap, SubspaceMap, TwoWayMap
from steerlens.maps._nonlinear import MLPMap, ResidualMLP
from steerlens.maps._rank_one import (
    AffineConceptEditing,
    ConceptErasure,
    ConceptSetPoint,
    DirectionalAblation,
    GatedSetPoint,
    MeanMirror,
    RankOneMap,
)
from steerlens.maps._storage import Manifest, load_map, read_manifest, save_map
from steerlens.maps._training import Training

__all__ = [
    "LADDER",
    "METHODS",
    "AdditiveMap",
    "AffineConceptEditing",
    "ConceptErasure",
    "ConceptSetPoint",
    "DirectionalAblation",
    "Family",
    "GatedSetPoint",
    "GaussianTransport",
    "InSequence",
    "InSubspace",
    "MLPMap",
    "Manifest",
    "MeanMirror",
    "MeanShift",
    "Needs",
    "RankOneMap",
    "ResidualMLP",
    "SequenceMap",
    "SteeringMap",
    "SteeringMethod",
    "SubspaceAffineMap",
    "SubspaceMap",
    "Training",
    "TwoWayMap",
    "load_map",
    "method_by_name",
    "method_family",
    "method_name",
    "method_names",
    "method_needs",
    "method_source",
    "random_direction",
    "read_manifest",
    "save_map",
]

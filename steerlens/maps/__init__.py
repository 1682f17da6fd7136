"""Steering maps: a `SteeringMethod` fits a `SteeringMap` to two samples of activations.

Families are nested: translation ⊂ rank-1 affine ⊂ affine ⊂ nonlinear. No model is needed here, only tensors.
"""

from steerlens.maps._additive import AdditiveMap, MeanShift, random_direction
from steerlens.maps._affine import GaussianTransport, SubspaceAffineMap
from steerlens.maps._base import Family, SteeringMap, SteeringMethod, method_family, method_name
from steerlens.maps._catalogue import LADDER, METHODS, method_by_name, method_names
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
    "MLPMap",
    "Manifest",
    "MeanMirror",
    "MeanShift",
    "RankOneMap",
    "ResidualMLP",
    "SteeringMap",
    "SteeringMethod",
    "SubspaceAffineMap",
    "load_map",
    "method_by_name",
    "method_family",
    "method_name",
    "method_names",
    "random_direction",
    "read_manifest",
    "save_map",
]

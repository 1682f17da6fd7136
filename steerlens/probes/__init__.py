"""Probes: what two samples of activations say about a concept, before anything is steered. Tensors only."""

from steerlens.probes._circular import CirclePlane, CircularFit, Harmonic, circular_probe
from steerlens.probes._codelength import Codelength, codelength
from steerlens.probes._controls import Selectivity, selectivity
from steerlens.probes._curvature import CurvatureReport, curvature_report
from steerlens.probes._differences import (
    DifferenceReport,
    coherence,
    d_prime,
    difference_report,
    split_half_cosine,
)
from steerlens.probes._dimension import DimensionReport, ScaleDimension, dimension_report
from steerlens.probes._dip import DipTest, dip_test
from steerlens.probes._direction import DirectionReport, direction_report
from steerlens.probes._displacement import DisplacementReport, displacement_report
from steerlens.probes._erasure import ErasureReport, erase_then_probe
from steerlens.probes._families import (
    PROBES,
    FittedProbe,
    FunctionClass,
    KernelProbe,
    LDAProbe,
    LogisticProbe,
    MassMeanProbe,
    MLPProbe,
    NearestNeighbours,
    Probe,
    QuadraticProbe,
    RidgeProbe,
)
from steerlens.probes._gap import NonlinearityGap, nonlinearity_gap
from steerlens.probes._information import VInformation, v_information
from steerlens.probes._linear import linear_auroc
from steerlens.probes._local import LocalDirectionReport, local_direction_report
from steerlens.probes._manifold import ManifoldReport, manifold_report
from steerlens.probes._overlap import SubspaceOverlap, subspace_overlap
from steerlens.probes._reducible import ReducibilityReport, reducibility_report
from steerlens.probes._rows import LabelledRows
from steerlens.probes._scores import ProbeResult, ProbeTable, Scores, probe_table

__all__ = [
    "PROBES",
    "CirclePlane",
    "CircularFit",
    "Codelength",
    "CurvatureReport",
    "DifferenceReport",
    "DimensionReport",
    "DipTest",
    "DirectionReport",
    "DisplacementReport",
    "ErasureReport",
    "FittedProbe",
    "FunctionClass",
    "Harmonic",
    "KernelProbe",
    "LDAProbe",
    "LabelledRows",
    "LocalDirectionReport",
    "LogisticProbe",
    "MLPProbe",
    "ManifoldReport",
    "MassMeanProbe",
    "NearestNeighbours",
    "NonlinearityGap",
    "Probe",
    "ProbeResult",
    "ProbeTable",
    "QuadraticProbe",
    "ReducibilityReport",
    "RidgeProbe",
    "ScaleDimension",
    "Scores",
    "Selectivity",
    "SubspaceOverlap",
    "VInformation",
    "circular_probe",
    "codelength",
    "coherence",
    "curvature_report",
    "d_prime",
    "difference_report",
    "dimension_report",
    "dip_test",
    "direction_report",
    "displacement_report",
    "erase_then_probe",
    "linear_auroc",
    "local_direction_report",
    "manifold_report",
    "nonlinearity_gap",
    "probe_table",
    "reducibility_report",
    "selectivity",
    "split_half_cosine",
    "subspace_overlap",
    "v_information",
]

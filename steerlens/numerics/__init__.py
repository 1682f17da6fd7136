"""Tensors and statistics that know no model, no tokenizer and no file."""

from steerlens.numerics._energy import energy_distance
from steerlens.numerics._estimate import Estimate
from steerlens.numerics._moments import Moments, moments
from steerlens.numerics._psd import psd_power, transport_matrix
from steerlens.numerics._resample import bootstrap, cluster_mean
from steerlens.numerics._shrinkage import (
    Shrinkage,
    bodnar_intensity,
    check_shrinkage,
    oas_intensity,
    shrink,
    shrinkage_intensity,
)
from steerlens.numerics._subspace import principal_subspace, unit

__all__ = [
    "Estimate",
    "Moments",
    "Shrinkage",
    "bodnar_intensity",
    "bootstrap",
    "check_shrinkage",
    "cluster_mean",
    "energy_distance",
    "moments",
    "oas_intensity",
    "principal_subspace",
    "psd_power",
    "shrink",
    "shrinkage_intensity",
    "transport_matrix",
    "unit",
]

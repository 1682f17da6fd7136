"""Tensors and statistics that know no model, no tokenizer and no file."""

from steerlens.numerics._dose_effects import DoseEffect, DoseEffects, dose_effects
from steerlens.numerics._effect_size import EffectSize, effect_size
from steerlens.numerics._energy import energy_distance
from steerlens.numerics._equivalence import Equivalence, equivalence
from steerlens.numerics._estimate import Estimate
from steerlens.numerics._layer_contrast import (
    DIVERGENCES,
    NORMALISATIONS,
    ContrastTerms,
    Divergence,
    LayerContrast,
    Normalisation,
    check_contrast,
    contrast_terms,
    jensen_shannon,
    layer_contrast,
    plausible,
    reversed_jensen_shannon,
)
from steerlens.numerics._moments import Moments, moments
from steerlens.numerics._multiplicity import benjamini_hochberg, holm
from steerlens.numerics._power import (
    DetectableEffect,
    clusters_needed,
    detectable_correlation,
    minimal_detectable_effect,
    power_of,
)
from steerlens.numerics._proportions import McNemar, cluster_change, clustered_mcnemar, mcnemar, wilson
from steerlens.numerics._psd import psd_power, transport_matrix
from steerlens.numerics._rank_correlation import RankCorrelation, spearman
from steerlens.numerics._repetition import penalise_repetition
from steerlens.numerics._resample import bootstrap, cluster_mean, cluster_share
from steerlens.numerics._shrinkage import (
    Shrinkage,
    bodnar_intensity,
    check_shrinkage,
    oas_intensity,
    shrink,
    shrinkage_intensity,
)
from steerlens.numerics._sign_flip import SignFlip, sign_flip
from steerlens.numerics._subspace import principal_subspace, unit
from steerlens.numerics._two_stage import two_stage_mean

__all__ = [
    "DIVERGENCES",
    "NORMALISATIONS",
    "ContrastTerms",
    "DetectableEffect",
    "Divergence",
    "DoseEffect",
    "DoseEffects",
    "EffectSize",
    "Equivalence",
    "Estimate",
    "LayerContrast",
    "McNemar",
    "Moments",
    "Normalisation",
    "RankCorrelation",
    "Shrinkage",
    "SignFlip",
    "benjamini_hochberg",
    "bodnar_intensity",
    "bootstrap",
    "check_contrast",
    "check_shrinkage",
    "cluster_change",
    "cluster_mean",
    "cluster_share",
    "clustered_mcnemar",
    "clusters_needed",
    "contrast_terms",
    "detectable_correlation",
    "dose_effects",
    "effect_size",
    "energy_distance",
    "equivalence",
    "holm",
    "jensen_shannon",
    "layer_contrast",
    "mcnemar",
    "minimal_detectable_effect",
    "moments",
    "oas_intensity",
    "penalise_repetition",
    "plausible",
    "power_of",
    "principal_subspace",
    "psd_power",
    "reversed_jensen_shannon",
    "shrink",
    "shrinkage_intensity",
    "sign_flip",
    "spearman",
    "transport_matrix",
    "two_stage_mean",
    "unit",
    "wilson",
]

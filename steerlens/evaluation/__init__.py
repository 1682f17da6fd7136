"""Scores become estimates of effect, reliability and cost."""

from steerlens.evaluation._alignment import ALIGNMENT_COLUMNS, OutputAlignment, output_alignment
from steerlens.evaluation._compare import (
    KL_BUDGET,
    STRENGTHS,
    ComparisonPlan,
    FittedMaps,
    compare,
    fit_maps,
    run_comparison,
)
from steerlens.evaluation._comparison import Comparison, Generation, Provenance
from steerlens.evaluation._geometry import GEOMETRY_COLUMNS, Geometry, LayerGeometry, geometry
from steerlens.evaluation._geometry_reading import LayerReading
from steerlens.evaluation._judges import leace_then_mlp
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._next_layer import NextLayerConsistency, next_layer_consistency
from steerlens.evaluation._planted import JUDGE_COLUMNS, PLANTED_COLUMNS, PlantedFit, PlantedTable, planted_table
from steerlens.evaluation._reliability import (
    AntiSteerable,
    AtBudget,
    DoseCurve,
    anti_steerable,
    contrast,
    steerability,
)
from steerlens.evaluation._rings import Ring
from steerlens.evaluation._scores import (
    UNSTEERED,
    ContinuationScores,
    NeutralScores,
    QuestionScores,
    score_continuations,
    score_neutral,
    score_questions,
)
from steerlens.evaluation._sensitivity import sensitivity
from steerlens.evaluation._transfer import TRANSFER_COLUMNS, Transfer, transfer

__all__ = [
    "ALIGNMENT_COLUMNS",
    "GEOMETRY_COLUMNS",
    "JUDGE_COLUMNS",
    "KL_BUDGET",
    "PLANTED_COLUMNS",
    "STRENGTHS",
    "TRANSFER_COLUMNS",
    "UNSTEERED",
    "AntiSteerable",
    "Arm",
    "AtBudget",
    "Comparison",
    "ComparisonPlan",
    "ContinuationScores",
    "DoseCurve",
    "FittedMaps",
    "Generation",
    "Geometry",
    "LayerGeometry",
    "LayerReading",
    "Measured",
    "NeutralScores",
    "NextLayerConsistency",
    "OutputAlignment",
    "PlantedFit",
    "PlantedTable",
    "Provenance",
    "QuestionScores",
    "Ring",
    "Transfer",
    "anti_steerable",
    "compare",
    "contrast",
    "fit_maps",
    "geometry",
    "leace_then_mlp",
    "measure",
    "neutral_texts",
    "next_layer_consistency",
    "output_alignment",
    "planted_table",
    "run_comparison",
    "score_continuations",
    "score_neutral",
    "score_questions",
    "sensitivity",
    "steerability",
    "transfer",
]

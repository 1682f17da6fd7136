"""Scores become estimates of effect, reliability and cost."""

from steerlens.evaluation._alignment import ALIGNMENT_COLUMNS, OutputAlignment, output_alignment
from steerlens.evaluation._chat import chat_format
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
from steerlens.evaluation._entanglement import ENTANGLEMENT_COLUMNS, OFF_TARGET_COLUMNS, Entanglement, entanglement
from steerlens.evaluation._equal_budget import (
    CalibratedStrength,
    DisplacementBudget,
    KLBudget,
    calibrate_strength,
)
from steerlens.evaluation._frontier_area import area_contrast, area_under_frontier
from steerlens.evaluation._geometry import GEOMETRY_COLUMNS, Geometry, LayerGeometry, geometry
from steerlens.evaluation._geometry_reading import LayerReading
from steerlens.evaluation._judges import leace_then_mlp
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._next_layer import NextLayerConsistency, next_layer_consistency
from steerlens.evaluation._open_ended import (
    ITEM_COLUMNS,
    OPEN_ENDED_COLUMNS,
    Likelihoods,
    OpenEnded,
    open_ended,
    open_ended_report,
)
from steerlens.evaluation._out_of_distribution import OOD_COLUMNS, SLOPE_COLUMNS, OutOfDistribution, ood
from steerlens.evaluation._planted import JUDGE_COLUMNS, PLANTED_COLUMNS, PlantedFit, PlantedTable, planted_table
from steerlens.evaluation._rank_correlation import agreement, clustered_spearman
from steerlens.evaluation._references import generated_references
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
from steerlens.evaluation._text_baselines import TextBaseline, few_shot_baseline, prompt_baseline
from steerlens.evaluation._transfer import TRANSFER_COLUMNS, Transfer, transfer

__all__ = [
    "ALIGNMENT_COLUMNS",
    "ENTANGLEMENT_COLUMNS",
    "GEOMETRY_COLUMNS",
    "ITEM_COLUMNS",
    "JUDGE_COLUMNS",
    "KL_BUDGET",
    "OFF_TARGET_COLUMNS",
    "OOD_COLUMNS",
    "OPEN_ENDED_COLUMNS",
    "PLANTED_COLUMNS",
    "SLOPE_COLUMNS",
    "STRENGTHS",
    "TRANSFER_COLUMNS",
    "UNSTEERED",
    "AntiSteerable",
    "Arm",
    "AtBudget",
    "CalibratedStrength",
    "Comparison",
    "ComparisonPlan",
    "ContinuationScores",
    "DisplacementBudget",
    "DoseCurve",
    "Entanglement",
    "FittedMaps",
    "Generation",
    "Geometry",
    "KLBudget",
    "LayerGeometry",
    "LayerReading",
    "Likelihoods",
    "Measured",
    "NeutralScores",
    "NextLayerConsistency",
    "OpenEnded",
    "OutOfDistribution",
    "OutputAlignment",
    "PlantedFit",
    "PlantedTable",
    "Provenance",
    "QuestionScores",
    "Ring",
    "TextBaseline",
    "Transfer",
    "agreement",
    "anti_steerable",
    "area_contrast",
    "area_under_frontier",
    "calibrate_strength",
    "chat_format",
    "clustered_spearman",
    "compare",
    "contrast",
    "entanglement",
    "few_shot_baseline",
    "fit_maps",
    "generated_references",
    "geometry",
    "leace_then_mlp",
    "measure",
    "neutral_texts",
    "next_layer_consistency",
    "ood",
    "open_ended",
    "open_ended_report",
    "output_alignment",
    "planted_table",
    "prompt_baseline",
    "run_comparison",
    "score_continuations",
    "score_neutral",
    "score_questions",
    "sensitivity",
    "steerability",
    "transfer",
]

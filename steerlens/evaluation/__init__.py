"""Scores become estimates of effect, reliability and cost."""

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
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._reliability import (
    AntiSteerable,
    AtBudget,
    DoseCurve,
    anti_steerable,
    contrast,
    steerability,
)
from steerlens.evaluation._scores import (
    UNSTEERED,
    ContinuationScores,
    NeutralScores,
    QuestionScores,
    score_continuations,
    score_neutral,
    score_questions,
)

__all__ = [
    "KL_BUDGET",
    "STRENGTHS",
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
    "Measured",
    "NeutralScores",
    "Provenance",
    "QuestionScores",
    "anti_steerable",
    "compare",
    "contrast",
    "fit_maps",
    "measure",
    "neutral_texts",
    "run_comparison",
    "score_continuations",
    "score_neutral",
    "score_questions",
    "steerability",
]

"""Scores become estimates of effect, reliability and cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerlens.evaluation._across import AcrossConcepts, across, compare_concepts
from steerlens.evaluation._agreement import (
    AGREEMENT_COLUMNS,
    AGREEMENT_MEASURES,
    AGREEMENT_RANDOM_COLUMNS,
    AGREEMENT_RANK_COLUMNS,
    Agreement,
    agreement_answer,
    agreement_ranks,
    check_agreement,
)
from steerlens.evaluation._agreement_measure import AgreementItems, agreement, agreement_items
from steerlens.evaluation._alignment import ALIGNMENT_COLUMNS, OutputAlignment, output_alignment
from steerlens.evaluation._anti_steering import AntiSteering, SlopeVariance
from steerlens.evaluation._caa_results import CaaResults, read_caa_results
from steerlens.evaluation._capability import (
    CAPABILITY_COLUMNS,
    CAPABILITY_ITEM_COLUMNS,
    CapabilityReport,
    CapabilityScore,
    capability_report,
    joined,
)
from steerlens.evaluation._card import (
    CARD_SCHEMA,
    CardControl,
    CardCost,
    CardEffect,
    CardFailure,
    CardMethod,
    CardOpenEnded,
    CardRandom,
    CardReliability,
    CardShift,
    SteeringCard,
)
from steerlens.evaluation._card_load import load_card
from steerlens.evaluation._card_measure import CardPlan, card, card_and_map
from steerlens.evaluation._chat import chat_format
from steerlens.evaluation._choice_readers import capability_questions, read_factor, read_truthfulqa
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
from steerlens.evaluation._controls import random_arms
from steerlens.evaluation._dola_choice import DOLA_CHOICE_COLUMNS, DoLaChoice, dola_multiple_choice
from steerlens.evaluation._dola_scores import EXCLUDED, LAYER_CHOICE_COLUMNS, DoLaScores, score_dola
from steerlens.evaluation._entanglement import ENTANGLEMENT_COLUMNS, OFF_TARGET_COLUMNS, Entanglement, entanglement
from steerlens.evaluation._equal_budget import (
    CalibratedStrength,
    DisplacementBudget,
    KLBudget,
    calibrate_strength,
)
from steerlens.evaluation._finetuned import FinetunedBaseline, finetuned_baseline
from steerlens.evaluation._frontier_area import area_contrast, area_under_frontier
from steerlens.evaluation._geometry import GEOMETRY_COLUMNS, Geometry, LayerGeometry, geometry
from steerlens.evaluation._geometry_reading import LayerReading, Rung
from steerlens.evaluation._judges import Judge, leace_then_mlp, train_judge
from steerlens.evaluation._measure import Arm, Measured, measure
from steerlens.evaluation._mini import MINI, CapabilityItem, capability_items, mini_capability
from steerlens.evaluation._multiple_choice import ChoiceQuestion, ChoiceScores, choice_scores
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._next_layer import NextLayerConsistency, next_layer_consistency
from steerlens.evaluation._open_ended import (
    OPEN_ENDED_COLUMNS,
    OPEN_ITEM_COLUMNS,
    Likelihoods,
    OpenEnded,
    open_ended,
    open_ended_report,
)
from steerlens.evaluation._option_mass import OptionMass, option_mass
from steerlens.evaluation._out_of_distribution import OOD_COLUMNS, SLOPE_COLUMNS, OutOfDistribution, ood
from steerlens.evaluation._perplexity import Perplexity, perplexity
from steerlens.evaluation._planted import JUDGE_COLUMNS, PLANTED_COLUMNS, PlantedFit, PlantedTable, planted_table
from steerlens.evaluation._pnes import PNES, pnes
from steerlens.evaluation._propensity import PropensityReport, QuestionResponses, propensity_report
from steerlens.evaluation._question_factors import question_factors
from steerlens.evaluation._rank_correlation import clustered_spearman
from steerlens.evaluation._references import generated_references
from steerlens.evaluation._relative_steerability import RelativeSteerability, relative_steerability
from steerlens.evaluation._reliability import (
    SCORE_RESOLUTION,
    SLOPE_RANGE,
    AntiSteerable,
    AtBudget,
    ChosenStrength,
    DoseCurve,
    anti_steerable,
    contrast,
    slope_rounding,
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
from steerlens.evaluation._spurious import FactorShare, VarianceDecomposition, variance_decomposition
from steerlens.evaluation._task_baselines import TASK_BASELINE_COLUMNS, TaskBaselines, task_baselines
from steerlens.evaluation._task_scores import TASK_METRICS, TASK_SCORE_COLUMNS, TaskScores, score_tasks
from steerlens.evaluation._tasks import evaluate_tasks, find_tasks, need_harness
from steerlens.evaluation._text_baselines import TextBaseline, few_shot_baseline, prompt_baseline
from steerlens.evaluation._text_quality import TextQuality, text_quality, text_quality_change
from steerlens.evaluation._texts import TextSet, read_texts
from steerlens.evaluation._trajectories import TRAJECTORY_COLUMNS, TokenTrajectories, token_trajectories
from steerlens.evaluation._transfer import TRANSFER_COLUMNS, Transfer, transfer

if TYPE_CHECKING:
    from steerlens.evaluation._harness import SteeredLM

__all__ = [
    "AGREEMENT_COLUMNS",
    "AGREEMENT_MEASURES",
    "AGREEMENT_RANDOM_COLUMNS",
    "AGREEMENT_RANK_COLUMNS",
    "ALIGNMENT_COLUMNS",
    "CAPABILITY_COLUMNS",
    "CAPABILITY_ITEM_COLUMNS",
    "CARD_SCHEMA",
    "DOLA_CHOICE_COLUMNS",
    "ENTANGLEMENT_COLUMNS",
    "EXCLUDED",
    "GEOMETRY_COLUMNS",
    "JUDGE_COLUMNS",
    "KL_BUDGET",
    "LAYER_CHOICE_COLUMNS",
    "MINI",
    "OFF_TARGET_COLUMNS",
    "OOD_COLUMNS",
    "OPEN_ENDED_COLUMNS",
    "OPEN_ITEM_COLUMNS",
    "PLANTED_COLUMNS",
    "PNES",
    "SCORE_RESOLUTION",
    "SLOPE_COLUMNS",
    "SLOPE_RANGE",
    "STRENGTHS",
    "TASK_BASELINE_COLUMNS",
    "TASK_METRICS",
    "TASK_SCORE_COLUMNS",
    "TRAJECTORY_COLUMNS",
    "TRANSFER_COLUMNS",
    "UNSTEERED",
    "AcrossConcepts",
    "Agreement",
    "AgreementItems",
    "AntiSteerable",
    "AntiSteering",
    "Arm",
    "AtBudget",
    "CaaResults",
    "CalibratedStrength",
    "CapabilityItem",
    "CapabilityReport",
    "CapabilityScore",
    "CardControl",
    "CardCost",
    "CardEffect",
    "CardFailure",
    "CardMethod",
    "CardOpenEnded",
    "CardPlan",
    "CardRandom",
    "CardReliability",
    "CardShift",
    "ChoiceQuestion",
    "ChoiceScores",
    "ChosenStrength",
    "Comparison",
    "ComparisonPlan",
    "ContinuationScores",
    "DisplacementBudget",
    "DoLaChoice",
    "DoLaScores",
    "DoseCurve",
    "Entanglement",
    "FactorShare",
    "FinetunedBaseline",
    "FittedMaps",
    "Generation",
    "Geometry",
    "Judge",
    "KLBudget",
    "LayerGeometry",
    "LayerReading",
    "Likelihoods",
    "Measured",
    "NeutralScores",
    "NextLayerConsistency",
    "OpenEnded",
    "OptionMass",
    "OutOfDistribution",
    "OutputAlignment",
    "Perplexity",
    "PlantedFit",
    "PlantedTable",
    "PropensityReport",
    "Provenance",
    "QuestionResponses",
    "QuestionScores",
    "RelativeSteerability",
    "Ring",
    "Rung",
    "SlopeVariance",
    "SteeredLM",
    "SteeringCard",
    "TaskBaselines",
    "TaskScores",
    "TextBaseline",
    "TextQuality",
    "TextSet",
    "TokenTrajectories",
    "Transfer",
    "VarianceDecomposition",
    "across",
    "agreement",
    "agreement_answer",
    "agreement_items",
    "agreement_ranks",
    "anti_steerable",
    "area_contrast",
    "area_under_frontier",
    "calibrate_strength",
    "capability_items",
    "capability_questions",
    "capability_report",
    "card",
    "card_and_map",
    "chat_format",
    "check_agreement",
    "choice_scores",
    "clustered_spearman",
    "compare",
    "compare_concepts",
    "contrast",
    "dola_multiple_choice",
    "entanglement",
    "evaluate_tasks",
    "few_shot_baseline",
    "find_tasks",
    "finetuned_baseline",
    "fit_maps",
    "generated_references",
    "geometry",
    "joined",
    "leace_then_mlp",
    "load_card",
    "measure",
    "mini_capability",
    "neutral_texts",
    "next_layer_consistency",
    "ood",
    "open_ended",
    "open_ended_report",
    "option_mass",
    "output_alignment",
    "perplexity",
    "planted_table",
    "pnes",
    "prompt_baseline",
    "propensity_report",
    "question_factors",
    "random_arms",
    "read_caa_results",
    "read_factor",
    "read_texts",
    "read_truthfulqa",
    "relative_steerability",
    "run_comparison",
    "score_continuations",
    "score_dola",
    "score_neutral",
    "score_questions",
    "score_tasks",
    "sensitivity",
    "slope_rounding",
    "steerability",
    "task_baselines",
    "text_quality",
    "text_quality_change",
    "token_trajectories",
    "train_judge",
    "transfer",
    "variance_decomposition",
]


def __getattr__(name: str) -> Any:
    if name == "SteeredLM":  # its base class is lm-evaluation-harness's, which may not be installed
        need_harness()
        return import_module("steerlens.evaluation._harness").SteeredLM
    raise AttributeError(f"module 'steerlens.evaluation' has no attribute {name!r}")

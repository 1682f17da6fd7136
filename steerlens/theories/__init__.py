"""Theories of steering as hypotheses that stored records can refute.

A `Hypothesis` says beforehand what records should show and what would count against it; `judge` reads tidy records
(`records_of` makes them of comparisons, geometries and cards) and gives a `Verdict` by rule. `THEORIES` are the twenty
that come with steerlens; `admissibility` tries a hypothesis where the answer is known.
"""

from steerlens.theories._across_models import across_models
from steerlens.theories._adapters import records_of
from steerlens.theories._admissibility import Admissibility, admissibility
from steerlens.theories._bures import bures_term, bures_z
from steerlens.theories._catalogue import THEORIES, own_theory, theory, theory_ids
from steerlens.theories._estimates import (
    correlation_over,
    jackknife_over,
    mean_over,
    ratio_over,
    relative_gain,
    share_over,
    steers,
    varies,
)
from steerlens.theories._evidence import ConceptEvidence, concept_evidence, records_for
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._judge import judge_all
from steerlens.theories._maturity_evidence import maturity_records
from steerlens.theories._path_evidence import path_records
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import QUANTITIES, THEORY_COLUMNS, Quantity, gather, rows_of, tidy, units_in
from steerlens.theories._registration import register, registrations
from steerlens.theories._rungs import LADDER_RUNGS, BehaviourReading, RungReading, behaviour_rung
from steerlens.theories._study import TheoryStudy, load_theory_study
from steerlens.theories._t01_linear_representation import LinearRepresentation
from steerlens.theories._t02_affine_optimality import AffineOptimality
from steerlens.theories._t03_calibrated_dose import CalibratedDose
from steerlens.theories._t04_set_point import SetPoint
from steerlens.theories._t05_coherence import CoherenceTheory
from steerlens.theories._t06_local_direction import LocalDirection
from steerlens.theories._t07_norms_do_not_matter import NormsDoNotMatter
from steerlens.theories._t08_manifold import ManifoldTheory
from steerlens.theories._t09_output_alignment import OutputAlignment
from steerlens.theories._t10_detection_is_control import DetectionIsControl
from steerlens.theories._t11_suppression import SuppressionIsEasier
from steerlens.theories._t12_multiple_choice import MultipleChoiceIsAProxy
from steerlens.theories._t13_screening import ScreeningAtHome
from steerlens.theories._t14_few_heads import FewHeadsCarryATask
from steerlens.theories._t15_late_maturity import LateMaturity
from steerlens.theories._t16_prompt_structure import PromptStructure
from steerlens.theories._t17_removable_cost import RemovableCost
from steerlens.theories._t18_any_direction import AnyDirectionWorks
from steerlens.theories._t19_dataset_property import DatasetProperty
from steerlens.theories._t20_classifier_success import ClassifierSuccess
from steerlens.theories._theory_run import (
    TheoryEvidence,
    check_same_study,
    load_evidence,
    run_theories,
    stored_theories,
)
from steerlens.theories._verdict import (
    Control,
    Evidence,
    Outcome,
    Prediction,
    Registration,
    Verdict,
    detectable,
    units_needed,
)

__all__ = [
    "LADDER_RUNGS",
    "QUANTITIES",
    "THEORIES",
    "THEORY_COLUMNS",
    "Admissibility",
    "AffineOptimality",
    "AnyDirectionWorks",
    "BehaviourReading",
    "CalibratedDose",
    "ClassifierSuccess",
    "CoherenceTheory",
    "ConceptEvidence",
    "Control",
    "DatasetProperty",
    "DetectionIsControl",
    "Evidence",
    "FewHeadsCarryATask",
    "Hypothesis",
    "LateMaturity",
    "LinearRepresentation",
    "LocalDirection",
    "ManifoldTheory",
    "MultipleChoiceIsAProxy",
    "NormsDoNotMatter",
    "Outcome",
    "OutputAlignment",
    "PlantedCase",
    "PlantedStudy",
    "Prediction",
    "PromptStructure",
    "Quantity",
    "Registration",
    "RemovableCost",
    "RungReading",
    "ScreeningAtHome",
    "SetPoint",
    "SuppressionIsEasier",
    "TheoryEvidence",
    "TheoryStudy",
    "Verdict",
    "across_models",
    "admissibility",
    "behaviour_rung",
    "bures_term",
    "bures_z",
    "check_same_study",
    "concept_evidence",
    "correlation_over",
    "detectable",
    "gather",
    "jackknife_over",
    "judge_all",
    "load_evidence",
    "load_theory_study",
    "maturity_records",
    "mean_over",
    "own_theory",
    "path_records",
    "ratio_over",
    "records_for",
    "records_of",
    "register",
    "registrations",
    "relative_gain",
    "rows_of",
    "run_theories",
    "share_over",
    "steers",
    "stored_theories",
    "theory",
    "theory_ids",
    "tidy",
    "units_in",
    "units_needed",
    "varies",
]

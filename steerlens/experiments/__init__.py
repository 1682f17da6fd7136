"""Studies as data: trials, a store that survives, sweeps of many trials, and published protocols."""

from steerlens.experiments._bottom_up import CONTEST_COLUMNS, RIVAL_COLUMNS, BottomUp, bottom_up
from steerlens.experiments._code import code_version
from steerlens.experiments._fitted_vectors import VectorRecipe
from steerlens.experiments._layout import StoreNote
from steerlens.experiments._log import Damage
from steerlens.experiments._measure import ITEM_COLUMNS, dose_curve
from steerlens.experiments._model_loaders import Failure, ModelLoader, measure_models, model_loaders
from steerlens.experiments._off_course import OFF_COURSE_METHODS, OffCourse, OffCoursePlan, off_course
from steerlens.experiments._plan import ModelPlan, StudyPlan, plan_study, plan_trials
from steerlens.experiments._prompt_structure import (
    PROMPT_CONDITIONS,
    STRUCTURE_CELL_COLUMNS,
    STRUCTURE_METRICS,
    PromptCondition,
    PromptStructure,
    PromptStructurePlan,
    prompt_structure,
)
from steerlens.experiments._ray import run_on_ray
from steerlens.experiments._recovery import REACHED_COLUMNS, RECOVERY_COLUMNS, recovery
from steerlens.experiments._repair import Repair
from steerlens.experiments._rival_grids import LAYER_SUBSETS, BottomUpPlan
from steerlens.experiments._rivals import TEXT_LIKELIHOODS
from steerlens.experiments._store import ResultStore
from steerlens.experiments._stored_parts import StoredParts, StudyPart
from steerlens.experiments._study import Study, StudyMethod, StudyModel, load_study
from steerlens.experiments._sweep import Calibration, Sweep, SweepSummary, TrialFailure
from steerlens.experiments._trial import METRICS, TrialMetric, TrialRecord, TrialSpec

__all__ = [
    "CONTEST_COLUMNS",
    "ITEM_COLUMNS",
    "LAYER_SUBSETS",
    "METRICS",
    "OFF_COURSE_METHODS",
    "PROMPT_CONDITIONS",
    "REACHED_COLUMNS",
    "RECOVERY_COLUMNS",
    "RIVAL_COLUMNS",
    "STRUCTURE_CELL_COLUMNS",
    "STRUCTURE_METRICS",
    "TEXT_LIKELIHOODS",
    "BottomUp",
    "BottomUpPlan",
    "Calibration",
    "Damage",
    "Failure",
    "ModelLoader",
    "ModelPlan",
    "OffCourse",
    "OffCoursePlan",
    "PromptCondition",
    "PromptStructure",
    "PromptStructurePlan",
    "Repair",
    "ResultStore",
    "StoreNote",
    "StoredParts",
    "Study",
    "StudyMethod",
    "StudyModel",
    "StudyPart",
    "StudyPlan",
    "Sweep",
    "SweepSummary",
    "TrialFailure",
    "TrialMetric",
    "TrialRecord",
    "TrialSpec",
    "VectorRecipe",
    "bottom_up",
    "code_version",
    "dose_curve",
    "load_study",
    "measure_models",
    "model_loaders",
    "off_course",
    "plan_study",
    "plan_trials",
    "prompt_structure",
    "recovery",
    "run_on_ray",
]

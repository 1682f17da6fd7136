"""Trials as data: what determines a result, the result, a store of them that survives, and studies of many."""

from steerlens.experiments._code import code_version
from steerlens.experiments._layout import StoreNote
from steerlens.experiments._log import Damage
from steerlens.experiments._measure import ITEM_COLUMNS, dose_curve
from steerlens.experiments._plan import ModelPlan, StudyPlan, plan_study, plan_trials
from steerlens.experiments._ray import run_on_ray
from steerlens.experiments._repair import Repair
from steerlens.experiments._store import ResultStore
from steerlens.experiments._study import Study, StudyMethod, StudyModel, load_study
from steerlens.experiments._sweep import Calibration, Sweep, SweepSummary, TrialFailure
from steerlens.experiments._trial import METRICS, TrialMetric, TrialRecord, TrialSpec

__all__ = [
    "ITEM_COLUMNS",
    "METRICS",
    "Calibration",
    "Damage",
    "ModelPlan",
    "Repair",
    "ResultStore",
    "StoreNote",
    "Study",
    "StudyMethod",
    "StudyModel",
    "StudyPlan",
    "Sweep",
    "SweepSummary",
    "TrialFailure",
    "TrialMetric",
    "TrialRecord",
    "TrialSpec",
    "code_version",
    "dose_curve",
    "load_study",
    "plan_study",
    "plan_trials",
    "run_on_ray",
]

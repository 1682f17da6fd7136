"""Maps bound to a model: steering it, generating, and replaying many interventions on the same prompts."""

from steerlens.interventions._catalogue import OUTPUT_METHODS, all_summaries, find_method
from steerlens.interventions._check import Invariant, ModelReport, check_model, probe_interventions
from steerlens.interventions._edits import Intervention, grid
from steerlens.interventions._generate import generate
from steerlens.interventions._in_order import fit_in_order
from steerlens.interventions._lora import LoraFinetune, LoraWeights
from steerlens.interventions._output_training import OutputMethod
from steerlens.interventions._preference import OutputMLP, PreferenceShift, TrainedShift
from steerlens.interventions._reft import LowRankEdit, LowRankFinetune
from steerlens.interventions._replay import Replayed, replay
from steerlens.interventions._saved import load_intervention
from steerlens.interventions._steer import steer

__all__ = [
    "OUTPUT_METHODS",
    "Intervention",
    "Invariant",
    "LoraFinetune",
    "LoraWeights",
    "LowRankEdit",
    "LowRankFinetune",
    "ModelReport",
    "OutputMLP",
    "OutputMethod",
    "PreferenceShift",
    "Replayed",
    "TrainedShift",
    "all_summaries",
    "check_model",
    "find_method",
    "fit_in_order",
    "generate",
    "grid",
    "load_intervention",
    "probe_interventions",
    "replay",
    "steer",
]

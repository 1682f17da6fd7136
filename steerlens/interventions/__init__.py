"""Maps bound to a model: steering it, generating, and replaying many interventions on the same prompts."""

from steerlens.interventions._check import Invariant, ModelReport, check_model, probe_interventions
from steerlens.interventions._edits import Intervention, grid
from steerlens.interventions._generate import generate
from steerlens.interventions._replay import Replayed, replay
from steerlens.interventions._steer import steer

__all__ = [
    "Intervention",
    "Invariant",
    "ModelReport",
    "Replayed",
    "check_model",
    "generate",
    "grid",
    "probe_interventions",
    "replay",
    "steer",
]

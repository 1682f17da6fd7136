"""Maps bound to a model: steering it, generating, and replaying many interventions on the same prompts."""

from steerlens.interventions._answer_search import AnswerSearch, Candidate, search_answers
from steerlens.interventions._answers import (
    AnswerScores,
    answer_rows,
    answer_scores,
    answered_right,
    check_first_tokens,
)
from steerlens.interventions._catalogue import OUTPUT_METHODS, all_summaries, find_method
from steerlens.interventions._check import Invariant, ModelReport, check_model, probe_interventions
from steerlens.interventions._dola import DoLa, LayerBucket, candidate_layers
from steerlens.interventions._dola_generate import DoLaTexts, generate_dola
from steerlens.interventions._edits import Intervention, grid
from steerlens.interventions._function_vectors import (
    FunctionVector,
    function_vector,
    function_vector_search,
    head_vectors,
    layer_average_vector,
    random_head_vector,
)
from steerlens.interventions._generate import generate
from steerlens.interventions._head_patching import HeadEffects, head_effects
from steerlens.interventions._in_context_vectors import InContextVectors, in_context_vectors
from steerlens.interventions._in_order import fit_in_order
from steerlens.interventions._lora import LoraFinetune, LoraWeights
from steerlens.interventions._output_training import OutputMethod
from steerlens.interventions._preference import OutputMLP, PreferenceShift, TrainedShift
from steerlens.interventions._prompt_means import mean_head_outputs, mean_residuals
from steerlens.interventions._reft import LowRankEdit, LowRankFinetune
from steerlens.interventions._replay import Replayed, replay
from steerlens.interventions._saved import load_intervention
from steerlens.interventions._steer import steer
from steerlens.interventions._task_vectors import TaskVector, task_vector_search

__all__ = [
    "OUTPUT_METHODS",
    "AnswerScores",
    "AnswerSearch",
    "Candidate",
    "DoLa",
    "DoLaTexts",
    "FunctionVector",
    "HeadEffects",
    "InContextVectors",
    "Intervention",
    "Invariant",
    "LayerBucket",
    "LoraFinetune",
    "LoraWeights",
    "LowRankEdit",
    "LowRankFinetune",
    "ModelReport",
    "OutputMLP",
    "OutputMethod",
    "PreferenceShift",
    "Replayed",
    "TaskVector",
    "TrainedShift",
    "all_summaries",
    "answer_rows",
    "answer_scores",
    "answered_right",
    "candidate_layers",
    "check_first_tokens",
    "check_model",
    "find_method",
    "fit_in_order",
    "function_vector",
    "function_vector_search",
    "generate",
    "generate_dola",
    "grid",
    "head_effects",
    "head_vectors",
    "in_context_vectors",
    "layer_average_vector",
    "load_intervention",
    "mean_head_outputs",
    "mean_residuals",
    "probe_interventions",
    "random_head_vector",
    "replay",
    "search_answers",
    "steer",
    "task_vector_search",
]

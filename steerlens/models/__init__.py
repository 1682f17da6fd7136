"""Language models: where they come from, and the one door to a loaded one.

`load_model` gives a `LensModel`, over a TransformerLens bridge in raw mode. Tokens travel as `TokenBatch`,
with their mask; `LensModel.watch_frames` tells a hook which token each column of a forward pass is.
`describe` and `model_catalogue` know sizes without loading anything.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steerlens.models._cache import cache_home
    from steerlens.models._catalogue import CatalogueRow, model_catalogue
    from steerlens.models._columns import columns_that_fit, is_out_of_memory
    from steerlens.models._describe import ModelDescription, describe
    from steerlens.models._frames import FrameWatch, TokenFrame
    from steerlens.models._generate import Rescore
    from steerlens.models._lens_model import LensModel
    from steerlens.models._memory import free_bytes
    from steerlens.models._passes import Layout, UnsteeredTrees, resume_trees, run_trees, tree_obstacle
    from steerlens.models._planted_tasks import PlantedContrast, PlantedExample, PlantedTask, planted_task
    from steerlens.models._readout import LensNorm, Readout, check_readout, lens_logits, logit_lens, stream_logits
    from steerlens.models._sources import load_model, model_revision
    from steerlens.models._tiny import random_model, tiny_config, tiny_model, tiny_tokenizer
    from steerlens.models._tokens import PaddingSide, TokenBatch
    from steerlens.models._trees import TokenTree, TreeBatch, TreeTargets
    from steerlens.models._twin import random_twin
    from steerlens.models._weights import moved_weights, plain_copy

_HOME = {
    "_cache": ("cache_home",),
    "_catalogue": ("CatalogueRow", "model_catalogue"),
    "_columns": ("columns_that_fit", "is_out_of_memory"),
    "_describe": ("ModelDescription", "describe"),
    "_frames": ("FrameWatch", "TokenFrame"),
    "_generate": ("Rescore",),
    "_lens_model": ("LensModel",),
    "_memory": ("free_bytes",),
    "_passes": ("Layout", "UnsteeredTrees", "resume_trees", "run_trees", "tree_obstacle"),
    "_planted_tasks": ("PlantedContrast", "PlantedExample", "PlantedTask", "planted_task"),
    "_readout": ("LensNorm", "Readout", "check_readout", "lens_logits", "logit_lens", "stream_logits"),
    "_sources": ("load_model", "model_revision"),
    "_tiny": ("random_model", "tiny_config", "tiny_model", "tiny_tokenizer"),
    "_twin": ("random_twin",),
    "_tokens": ("PaddingSide", "TokenBatch"),
    "_trees": ("TokenTree", "TreeBatch", "TreeTargets"),
    "_weights": ("moved_weights", "plain_copy"),
}
_WHERE = {name: file for file, names in _HOME.items() for name in names}

__all__ = [
    "CatalogueRow",
    "FrameWatch",
    "Layout",
    "LensModel",
    "LensNorm",
    "ModelDescription",
    "PaddingSide",
    "PlantedContrast",
    "PlantedExample",
    "PlantedTask",
    "Readout",
    "Rescore",
    "TokenBatch",
    "TokenFrame",
    "TokenTree",
    "TreeBatch",
    "TreeTargets",
    "UnsteeredTrees",
    "cache_home",
    "check_readout",
    "columns_that_fit",
    "describe",
    "free_bytes",
    "is_out_of_memory",
    "lens_logits",
    "load_model",
    "logit_lens",
    "model_catalogue",
    "model_revision",
    "moved_weights",
    "plain_copy",
    "planted_task",
    "random_model",
    "random_twin",
    "resume_trees",
    "run_trees",
    "stream_logits",
    "tiny_config",
    "tiny_model",
    "tiny_tokenizer",
    "tree_obstacle",
]


def __getattr__(name: str) -> Any:
    """Import the file of a public name when the name is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

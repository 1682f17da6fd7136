"""steerlens: does steering really work here, and why?

Contrastive activations are read at hook points of a language model, steering maps of several families are fitted to
them, and their effects are compared at one budget of side effects, with intervals and controls.

    import steerlens as sl
    model = sl.load_model("smollm2-135m-instruct")
    fit, select, test = sl.load_concept("sentiment").split(seed=0)

Importing this package loads neither torch nor TransformerLens nor matplotlib; names are resolved when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steerlens.activations import (
        AllTokens,
        AnswerToken,
        ContrastiveActivations,
        FromIndex,
        LastToken,
        PromptEnd,
        PromptTokens,
        Site,
        SpanTokens,
        TokenSelector,
        extract,
        extract_moments,
    )
    from steerlens.concepts import ConceptDataset, ContrastivePair, load_concept
    from steerlens.evaluation import (
        Comparison,
        ContinuationScores,
        Geometry,
        SteeringCard,
        card,
        compare,
        geometry,
        load_card,
        score_continuations,
    )
    from steerlens.interventions import Intervention, generate, grid, steer
    from steerlens.maps import SteeringMap, SteeringMethod, load_map, save_map
    from steerlens.models import LensModel, describe, load_model
    from steerlens.numerics import Estimate

__version__ = "0.1.0"

_HOME = {
    "activations": (
        "AllTokens", "AnswerToken", "ContrastiveActivations", "FromIndex", "LastToken", "PromptEnd", "PromptTokens",
        "Site", "SpanTokens", "TokenSelector", "extract", "extract_moments",
    ),
    "concepts": ("ConceptDataset", "ContrastivePair", "load_concept"),
    "evaluation": (
        "Comparison", "ContinuationScores", "Geometry", "SteeringCard", "card", "compare", "geometry", "load_card",
        "score_continuations",
    ),
    "interventions": ("Intervention", "generate", "grid", "steer"),
    "maps": ("SteeringMap", "SteeringMethod", "load_map", "save_map"),
    "models": ("LensModel", "describe", "load_model"),
    "numerics": ("Estimate",),
}  # fmt: skip
_SUBPACKAGES = (*_HOME, "errors", "experiments", "probes", "reports", "testing", "theories")
_WHERE = {name: package for package, names in _HOME.items() for name in names}

__all__ = [
    "AllTokens",
    "AnswerToken",
    "Comparison",
    "ConceptDataset",
    "ContinuationScores",
    "ContrastiveActivations",
    "ContrastivePair",
    "Estimate",
    "FromIndex",
    "Geometry",
    "Intervention",
    "LastToken",
    "LensModel",
    "PromptEnd",
    "PromptTokens",
    "Site",
    "SpanTokens",
    "SteeringCard",
    "SteeringMap",
    "SteeringMethod",
    "TokenSelector",
    "card",
    "compare",
    "describe",
    "extract",
    "extract_moments",
    "generate",
    "geometry",
    "grid",
    "load_card",
    "load_concept",
    "load_map",
    "load_model",
    "save_map",
    "score_continuations",
    "steer",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"steerlens.{_WHERE[name]}"), name)
    if name in _SUBPACKAGES:
        return import_module(f"steerlens.{name}")
    raise AttributeError(f"module 'steerlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, *_SUBPACKAGES})

"""What the in-context methods need of a model and a task: means of right prompts, and effects of heads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from jaxtyping import Float
from torch import Tensor

from steerlens.concepts import InContextTask, PromptFormat, task_prompts
from steerlens.interventions import HeadEffects, answered_right, head_effects, mean_head_outputs, mean_residuals
from steerlens.models import LensModel


@final
@dataclass(frozen=True)
class VectorRecipe:
    """From which prompts vectors are made.

    Args:
        format: Of the prompts; a name of `steerlens.concepts.FORMATS`.
        n_shots: Examples in each; ten as published.
        n_patched: Prompts with shuffled answers in which heads are patched, at most; 25 as published. They ask about
            the words that the model answers right behind unshuffled examples, as the means do.
        at_least: Prompts that the model must answer right; fewer are an error. With 0 all prompts are used, right or
            not, for the means and for patching.
    """

    format: str | PromptFormat = "qa"
    n_shots: int = 10
    n_patched: int = 25
    at_least: int = 5


@final
@dataclass(frozen=True, eq=False)
class TaskMeans:
    """What a model holds at the last token of prompts with examples.

    Args:
        states: Mean stream after each block.
        heads: Mean output of each head.
        effects: What each head's mean does to shuffled prompts; None if it was not asked for.
        n_right: Prompts behind the means.
    """

    states: Float[Tensor, "layer d_model"]
    heads: Float[Tensor, "layer head d_head"]
    effects: HeadEffects | None
    n_right: int


def task_means(model: LensModel, fit: InContextTask, recipe: VectorRecipe, *, effects: bool, seed: int) -> TaskMeans:
    """Average what the model holds when it does the task behind examples.

    Args:
        model: Who answers.
        fit: Words to ask about and to show.
        recipe: From which prompts.
        effects: Whether heads are patched, too.
        seed: Of the examples.

    Raises:
        OptionError: The model answers fewer than ``recipe.at_least`` right, or there are too few words.
        ConceptError: The first tokens of the answers say nothing; see `steerlens.interventions.answer_scores`.
    """
    asked = task_prompts(fit, fit, format=recipe.format, n_shots=recipe.n_shots, seed=seed)
    right = answered_right(model, asked, at_least=recipe.at_least) if recipe.at_least else asked
    heads = mean_head_outputs(model, right)
    found = None
    if effects:
        known = replace(fit, pairs=tuple((p.input, p.output) for p in right[: recipe.n_patched]))
        wrong = task_prompts(fit, known, format=recipe.format, n_shots=recipe.n_shots, shuffled=True, seed=seed)
        found = head_effects(model, wrong, heads)
    return TaskMeans(mean_residuals(model, right), heads, found, len(right))


def blocks_at(model: LensModel, depths: Sequence[float]) -> tuple[int, ...]:
    """Blocks at these shares of the depth, 0 the first and 1 the last; every block if none is given."""
    if not depths:
        return tuple(range(model.n_layers))
    return tuple(dict.fromkeys(round(d * (model.n_layers - 1)) for d in depths))

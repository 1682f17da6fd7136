"""Task vectors: the stream at the end of a few-shot prompt, put into a prompt without examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from steerlens.activations import PromptEnd, Site
from steerlens.concepts import TaskPrompt
from steerlens.errors import OptionError
from steerlens.interventions._answer_search import AnswerSearch, Candidate, search_answers
from steerlens.interventions._edits import Intervention
from steerlens.maps import AdditiveMap, ConstantMap, SteeringMap
from steerlens.models import LensModel


@final
@dataclass(frozen=True, eq=False)
class TaskVector:
    """A state that is put at the last token of a prompt as a block leaves it, and nowhere else.

    Replacing all that the prompt has put there, it can tell the model the task, but not the question: that the model
    must read from the other tokens in the blocks above. Too high up it is too late for that.

    Args:
        state: θ, in units of the stream.
        layer: The block.
        mode: "replace" (as published) carries x to θ, "add" to x + θ, at strength 1.

    Raises:
        OptionError: If the mode is neither.

    References:
        hendel2023.
    """

    state: Float[Tensor, " d_model"]
    layer: int
    mode: str = "replace"

    def __post_init__(self) -> None:
        if self.mode not in ("replace", "add"):
            raise OptionError(f"A task vector's mode is 'replace' or 'add', not {self.mode!r}.")

    @property
    def plan(self) -> dict[Site, SteeringMap]:
        """The map at its site: what `Intervention`, `steer` and replay take."""
        acting = ConstantMap(self.state) if self.mode == "replace" else AdditiveMap(self.state)
        return {Site.resid_post(self.layer, PromptEnd()): acting}


def task_vector_search(
    model: LensModel,
    mean_states: Float[Tensor, "layer d_model"],
    *,
    dev: Sequence[TaskPrompt],
    test: Sequence[TaskPrompt],
    mode: str,
    seed: int,
) -> AnswerSearch:
    """Try the task vector of every block on ``dev`` by replay, choose the block there, and report it on ``test``.

    The published method makes a state for each question, from its own examples and two other questions; this takes one
    state for all, the mean over many prompts, which has less noise.

    Args:
        model: What to steer.
        mean_states: `mean_residuals` of few-shot prompts that ask about other words than ``dev`` and ``test``.
        dev: Zero-shot prompts to choose on.
        test: Zero-shot prompts to report on, of other groups.
        mode: See `TaskVector`.
        seed: Of bootstrap and test.

    Raises:
        OptionError: If the states are not of this model's shape, the mode is unknown, or ``dev`` and ``test`` share a
            group.
        EstimateError: If ``test`` has fewer than five groups.

    References:
        hendel2023.
    """
    if tuple(mean_states.shape) != (model.n_layers, model.d_model):
        raise OptionError(
            f"Mean states of {model.name!r} have the shape {(model.n_layers, model.d_model)} (layer, d_model), but got "
            f"{tuple(mean_states.shape)}. Take them from this model with mean_residuals."
        )
    candidates = [
        Candidate({"layer": layer}, Intervention(TaskVector(state, layer, mode).plan))
        for layer, state in enumerate(mean_states)
    ]
    return search_answers(model, candidates, dev, test, seed=seed)

"""Head patching: what each attention head's usual output does to an answer where the context does not show the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import PromptEnd, Site
from steerlens.concepts import TaskPrompt
from steerlens.errors import OptionError
from steerlens.interventions._answers import UNSTEERED, answer_scores
from steerlens.interventions._edits import Intervention
from steerlens.maps import ConstantMap
from steerlens.models import LensModel

Head = tuple[int, int]
"""Layer and number of an attention head."""


@final
@dataclass(frozen=True, eq=False)
class HeadEffects:
    """What replacing one head's output at the last token changes, head by head and prompt by prompt.

    Args:
        prob: Change of the probability of the answer's first token.
        log_prob: Change of its log-probability, in nats.
        base_log_prob: That log-probability without a change.
    """

    prob: Float[Tensor, "layer head prompt"]
    log_prob: Float[Tensor, "layer head prompt"]
    base_log_prob: Float[Tensor, " prompt"]

    @property
    def average(self) -> Float[Tensor, "layer head"]:
        """Average indirect effect: the mean change of probability over prompts."""
        return self.prob.mean(dim=-1)

    def top(self, n_heads: int) -> tuple[Head, ...]:
        """The heads with the largest average effect, largest first.

        Raises:
            OptionError: If there are not so many heads.
        """
        average = self.average
        if not 1 <= n_heads <= average.numel():
            raise OptionError(f"The model has {average.numel()} heads, so n_heads must be 1 to that, not {n_heads}.")
        order = average.flatten().argsort(descending=True, stable=True)[:n_heads]
        return tuple(divmod(int(i), average.shape[1]) for i in order)


def head_effects(
    model: LensModel, prompts: Sequence[TaskPrompt], mean_heads: Float[Tensor, "layer head d_head"]
) -> HeadEffects:
    """Replace each head's output at the last token by its mean, one head at a time, and see what the answer gains.

    By replay: each batch of prompts runs once, and then, layer by layer, all heads of the layer in one pass over the
    last token alone. The result is that of one hooked pass for each head. Published: 25 prompts with ten examples
    whose answers are shuffled, averaged over tasks.

    Args:
        model: Whose heads.
        prompts: Few-shot prompts with shuffled answers.
        mean_heads: What to put in: `mean_head_outputs` over prompts whose answers are not shuffled.

    Raises:
        OptionError: If ``mean_heads`` is not of this model's shape, or there are no prompts.

    References:
        todd2024.
    """
    check_mean_heads(model, mean_heads)
    patches = [
        Intervention({Site.z(layer, head, PromptEnd()): ConstantMap(output)})
        for layer, of_layer in enumerate(mean_heads)
        for head, output in enumerate(of_layer)
    ]
    scores = answer_scores(model, prompts, (UNSTEERED, *patches)).log_prob
    base, patched = scores[0], rearrange(scores[1:], "(l h) p -> l h p", h=model.n_heads)
    return HeadEffects(patched.exp() - base.exp(), patched - base, base)


def check_mean_heads(model: LensModel, mean_heads: Float[Tensor, "layer head d_head"]) -> None:
    """Refuse mean outputs of another model.

    Raises:
        OptionError: If their shape is not this model's.
    """
    wanted = (model.n_layers, model.n_heads, model.d_head)
    if tuple(mean_heads.shape) != wanted:
        raise OptionError(
            f"Mean outputs of the heads of {model.name!r} have the shape {wanted} (layer, head, d_head), but got "
            f"{tuple(mean_heads.shape)}. Take them from this model with mean_head_outputs."
        )

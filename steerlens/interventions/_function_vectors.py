"""Function vectors: the sum of what a few heads write when a model does a task in context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import LastToken, Site
from steerlens.concepts import TaskPrompt
from steerlens.errors import OptionError
from steerlens.interventions._answer_search import AnswerSearch, Candidate, search_answers
from steerlens.interventions._edits import Intervention
from steerlens.interventions._head_patching import Head, HeadEffects, check_mean_heads
from steerlens.maps import AdditiveMap, SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import unit

HEAD_SHARE, FEWEST_HEADS = 1 / 50, 10
"""Share of all heads that make a function vector, and the smallest number. Published: 10 of 448 (GPT-J), 20 of 1024
(Llama-2 7B), 100 of 5120 (70B), each about one in fifty; nobody published fewer than ten."""


@final
@dataclass(frozen=True, eq=False)
class FunctionVector:
    """A vector that is added to the residual stream as a block leaves it, at the last token of the prompt and after.

    Args:
        vector: What is added at strength 1, in units of the stream.
        layer: The block.
        heads: Whose mean outputs are summed, as (layer, head); none for a layer average.
    """

    vector: Float[Tensor, " d_model"]
    layer: int
    heads: tuple[Head, ...] = ()

    @property
    def plan(self) -> dict[Site, SteeringMap]:
        """An additive map at its site: what `Intervention`, `steer` and replay take."""
        return {Site.resid_post(self.layer, LastToken()): AdditiveMap(self.vector)}

    def as_long_as(self, other: "FunctionVector") -> "FunctionVector":
        """The same direction with the length of another vector, so that two differ in direction alone."""
        return replace(self, vector=other.vector.norm() * unit(self.vector))


def head_vectors(
    model: LensModel, mean_heads: Float[Tensor, "layer head d_head"]
) -> Float[Tensor, "layer head d_model"]:
    """What each head writes into the residual stream: its mean output through its own rows of the projection.

    A bias of the projection (GPT-2 has one) belongs to no head and is left out. The authors' code runs the whole
    projection for each head, which in GPT-2 adds the bias once a head. Where attention's output is normalised before it
    joins the stream (Gemma, OLMo 2) each head's part goes through that norm with the scale of the mean outputs of all;
    the mean over prompts of what joins has a scale a little smaller, for a mean is shorter than what it is the mean of.

    Raises:
        OptionError: If ``mean_heads`` is not of this model's shape.
    """
    check_mean_heads(model, mean_heads)
    found = []
    for block, outputs in zip(model.bridge.blocks, mean_heads.double(), strict=True):
        weights = block.attn.W_O.detach().double().cpu()
        found.append(_joining(block, torch.einsum("hk,hkd->hd", outputs.cpu(), weights)))
    return torch.stack(found)


@torch.no_grad()
def _joining(block: torch.nn.Module, written: Float[Tensor, "head d_model"]) -> Float[Tensor, "head d_model"]:
    """What heads write as it joins the stream: through the RMS norm after attention, if there is one, scale held."""
    norm = getattr(block, "ln1_post", None)
    if norm is None:
        return written
    together = written.sum(dim=0)
    weight = next(norm.parameters())
    normed = norm(together.to(weight)[None, None])[0, 0].double().cpu()
    # With its scale held the norm multiplies each component by a number of its own.
    return torch.where(together == 0, 0.0, written * (normed / together))


def function_vector(
    model: LensModel,
    effects: HeadEffects,
    mean_heads: Float[Tensor, "layer head d_head"],
    *,
    n_heads: int | None = None,
    layer: int | None = None,
) -> FunctionVector:
    """Sum the mean outputs of the heads with the largest effects.

    v = Σ W_O[h] mean(z_h) over the ``n_heads`` heads of largest average indirect effect.

    Args:
        model: Whose heads.
        effects: Of patching each head; see `head_effects`. The paper averages them over tasks.
        mean_heads: See `mean_head_outputs`.
        n_heads: Heads to sum; if not given one in fifty of all heads, and at least ten.
        layer: Block after which the vector is added; a third of the way up if not given, rounded down, as published
            (GPT-J: block 9 of 28, counted from 0).

    Raises:
        OptionError: If there are not so many heads, or there is no such block.

    References:
        todd2024.
    """
    if n_heads is None:
        n_heads = usual_heads(model.n_layers * model.n_heads)
    if layer is None:
        layer = model.n_layers // 3
    return _summed(model, head_vectors(model, mean_heads), effects.top(n_heads), layer)


def usual_heads(n_all: int) -> int:
    """How many of ``n_all`` heads make a function vector when nobody says: one in fifty, and at least ten."""
    return min(n_all, max(FEWEST_HEADS, round(HEAD_SHARE * n_all)))


def random_head_vector(
    model: LensModel, mean_heads: Float[Tensor, "layer head d_head"], like: FunctionVector, *, seed: int
) -> FunctionVector:
    """As many other heads, drawn at random, at the same block: the control for the choice of heads.

    Fewer or weaker heads make a shorter vector; `FunctionVector.as_long_as` takes that difference away.

    Args:
        model: Whose heads.
        mean_heads: See `mean_head_outputs`.
        like: Gives block and number of heads; its own heads are not drawn.
        seed: Equal seeds draw equal heads.

    Raises:
        OptionError: If too few other heads are left.
    """
    others = [(a, b) for a in range(model.n_layers) for b in range(model.n_heads) if (a, b) not in like.heads]
    if len(like.heads) > len(others):
        raise OptionError(f"{len(like.heads)} other heads are wanted, but the model has {len(others)}.")
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[: len(like.heads)]
    return _summed(model, head_vectors(model, mean_heads), [others[i] for i in order.tolist()], like.layer)


def layer_average_vector(mean_states: Float[Tensor, "layer d_model"], *, layer: int) -> FunctionVector:
    """The mean stream of few-shot prompts at a block, added there: the baseline that needs no heads.

    Args:
        mean_states: See `mean_residuals`.
        layer: The block.

    Raises:
        OptionError: If there is no such block.

    References:
        todd2024.
    """
    _check_layer(layer, len(mean_states))
    return FunctionVector(mean_states[layer], layer)


def function_vector_search(
    model: LensModel,
    effects: HeadEffects,
    mean_heads: Float[Tensor, "layer head d_head"],
    *,
    dev: Sequence[TaskPrompt],
    test: Sequence[TaskPrompt],
    n_heads: Sequence[int],
    strengths: Sequence[float],
    layers: Sequence[int],
    seed: int,
) -> AnswerSearch:
    """Try every number of heads at every strength after every block, on ``dev``; report the best on ``test``.

    The published search: 2, 16, … 512 heads, strengths 0.5, 1, 2, … 64, all blocks, 50 test prompts.

    Args:
        model: What to steer.
        effects: Of patching each head.
        mean_heads: See `mean_head_outputs`.
        dev: Zero-shot prompts to choose on.
        test: Zero-shot prompts to report on, of other groups.
        n_heads: Numbers of heads.
        strengths: Factors of the vector.
        layers: Blocks.
        seed: Of bootstrap and test.

    Raises:
        OptionError: If a value cannot be had in this model, a grid is empty, or ``dev`` and ``test`` share a group.
        EstimateError: If ``test`` has fewer than five groups.

    References:
        dasilva2025.
    """
    written = head_vectors(model, mean_heads)
    candidates = []
    for k in n_heads:
        heads = effects.top(k)
        for layer in layers:
            plan = _summed(model, written, heads, layer).plan
            candidates += [
                Candidate({"n_heads": k, "layer": layer, "strength": float(s)}, Intervention(plan, float(s)))
                for s in strengths
            ]
    return search_answers(model, candidates, dev, test, seed=seed)


def _summed(
    model: LensModel, written: Float[Tensor, "layer head d_model"], heads: Sequence[Head], layer: int
) -> FunctionVector:
    _check_layer(layer, model.n_layers)
    return FunctionVector(torch.stack([written[head] for head in heads]).sum(dim=0), layer, tuple(heads))


def _check_layer(layer: int, n_layers: int) -> None:
    if not 0 <= layer < n_layers:
        raise OptionError(f"Blocks are 0 to {n_layers - 1}, but got layer {layer}.")

"""In-context vectors: one direction over all layers, from demonstrations read as two texts each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import AllTokens, Site, TokenSelector
from steerlens.errors import FitError, OptionError
from steerlens.interventions._prompt_means import last_token_states
from steerlens.maps import InContextMap, NormRestoredMap, SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import unit

DOSE = 0.1
"""The published λ of the code: a share of each activation's norm."""
ROUNDING = 1e-9
"""Differences that vary by less, relative to their size, are equal."""


@final
@dataclass(frozen=True, eq=False)
class InContextVectors:
    """A vector for every layer, all layers at once, the norm of every activation kept.

    Args:
        vectors: By layer, in units of the stream.
        variant: "code" or "paper": how they were made, and how they act; see `in_context_vectors`.
        tokens: Where they act; by default every token but the first, an attention sink, which the authors steer too.
    """

    vectors: Float[Tensor, "layer d_model"]
    variant: str
    tokens: TokenSelector

    @property
    def plan(self) -> dict[Site, SteeringMap]:
        """A map at every layer: what `Intervention`, `steer` and replay take.

        "code": |x| unit(x̂ + 0.1 s (1 + max(0, −cos(x, v))) v̂) at the MLP's output, for strength s of either sign.
        "paper": |x| unit(x + s v) at the residual stream.
        """
        if self.variant == "code":
            return {
                Site.mlp_out(layer, self.tokens): InContextMap(unit(v), DOSE) for layer, v in enumerate(self.vectors)
            }
        return {Site.resid_post(layer, self.tokens): NormRestoredMap(v) for layer, v in enumerate(self.vectors)}


def in_context_vectors(
    model: LensModel,
    demonstrations: Sequence[tuple[str, str]],
    *,
    variant: str,
    rank: int = 1,
    tokens: TokenSelector | None = None,
) -> InContextVectors:
    """Fit vectors to demonstrations (x, y), each text read by itself, at its last token, in all layers.

    d_i is the difference y − x of the residual streams of all layers, one behind the other. The variants are two
    different methods:

    "code": v = mean(d) + the sum of the first ``rank`` components of the d about their mean. The components have length
    one over all layers, beside a mean in units of the stream, so that v is the mean, nearly. Their sign is such that
    the demonstration with the largest score has a positive one. Equal differences have none, and v is their mean. The
    authors' components also span the embedding's stream, which is left out here: where the last tokens of a pair
    differ, so does the embedding, and components of length one over it and all layers are others.

    "paper": v = e e·mean(d), where e is the first component of the d as they are. Of either sign of e this is the same.
    The paper leaves the length open; here strength 1 is what the mean does along e.

    Args:
        model: Who reads.
        demonstrations: Pairs of texts, such as a harsh sentence and a kind one; published are five.
        variant: "code" or "paper".
        rank: Components that "code" sums, fewer than there are demonstrations; "paper" has one.
        tokens: Where the vectors will act; `AllTokens` if not given.

    Raises:
        OptionError: If there are fewer than two demonstrations, or variant or rank are none of these.
        FitError: If all texts of the pairs are the same to the model.

    References:
        liu2024.
    """
    _check_arguments(demonstrations, variant, rank)
    n = len(demonstrations)
    states = torch.zeros(model.n_layers, 2 * n, model.d_model, dtype=torch.float64)

    def keep(numbers: list[int], found: Tensor) -> None:
        states[:, numbers] = found

    texts = [x for x, _ in demonstrations] + [y for _, y in demonstrations]
    last_token_states(model, texts, [Site.resid_post(layer).hook_name for layer in range(model.n_layers)], keep)
    differences = rearrange(states[:, n:] - states[:, :n], "l i d -> i (l d)")
    v = _code_direction(differences, rank) if variant == "code" else _paper_direction(differences)
    vectors = v.reshape(model.n_layers, model.d_model)
    if not (vectors.norm(dim=1) > 0).all():
        raise FitError("The texts of the pairs do not differ at the last token in some layer, so there is no vector.")
    return InContextVectors(vectors, variant, tokens or AllTokens())


def _code_direction(differences: Float[Tensor, "n width"], rank: int) -> Float[Tensor, " width"]:
    mean: Tensor = differences.mean(dim=0)
    about = differences - mean
    if about.norm() <= ROUNDING * differences.norm():
        return mean  # equal differences have no component
    u, _, vh = torch.linalg.svd(about, full_matrices=False)
    largest = u.abs().argmax(dim=0)
    signs = u[largest, torch.arange(u.shape[1])].sign()
    direction: Tensor = mean + (signs[:rank, None] * vh[:rank]).sum(dim=0)
    return direction


def _paper_direction(differences: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
    e: Tensor = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    return e * (e @ differences.mean(dim=0))


def _check_arguments(demonstrations: Sequence[tuple[str, str]], variant: str, rank: int) -> None:
    if variant not in ("code", "paper"):
        raise OptionError(f"The variant is 'code' or 'paper', not {variant!r}.")
    if len(demonstrations) < 2:
        raise OptionError(f"In-context vectors need at least two demonstrations, but got {len(demonstrations)}.")
    if not 1 <= rank < len(demonstrations):
        raise OptionError(
            f"rank must be 1 to {len(demonstrations) - 1}, fewer than there are demonstrations, but got {rank}."
        )
    if variant == "paper" and rank != 1:
        raise OptionError(f"The paper has one component, so rank must be 1, but got {rank}. See variant 'code'.")

"""How much the next-token logits change where the residual stream of a block is moved a little."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import LastToken, Site
from steerlens.interventions import Intervention, Replayed, replay
from steerlens.maps import SteeringMap
from steerlens.models import LensModel, TokenTree
from steerlens.progress import progress

SHARE = 0.01
"""A step is this share of the activation's own length."""
N_DIRECTIONS = 10


@final
@dataclass(frozen=True, eq=False)
class OwnLength(SteeringMap):
    """A step along a unit vector, as long as the activation itself."""

    direction: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        step: Tensor = x.norm(dim=-1, keepdim=True) * self.direction.to(x)
        return step


def sensitivity(
    model: LensModel,
    prompts: Sequence[Sequence[int]],
    lengths: Mapping[int, Float[Tensor, " prompt"]],
    *,
    seed: int,
) -> Float[Tensor, "layer prompt"]:
    """λ(ℓ) = mean over ten random directions ε of ‖f(h + αε) − f(h)‖ / α, with α = 0.01 ‖h‖.

    h is the output of block ℓ at the last token of a prompt, f what the blocks above and the unembedding make of it
    (the logits of the next token). The norm is over the vocabulary, less the mean, which no probability depends on.

    Args:
        model: A model.
        prompts: Token ids.
        lengths: ‖h‖ of every prompt, for each block wanted.
        seed: Of the directions, which are the same for every prompt and block.

    Returns:
        Logits per unit of the residual stream.

    References:
        arXiv 2604.15557 (alignment profiles), known to us from its full text as quoted in our notes.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(N_DIRECTIONS, model.d_model, generator=generator, dtype=torch.float64)
    maps = [OwnLength(v / v.norm()) for v in drawn]
    sites = [Site.resid_post(layer, LastToken()) for layer in lengths]
    steps = [Intervention({site: m}, SHARE) for site in sites for m in maps]
    trees = [TokenTree(tuple(ids), ((0,),)) for ids in prompts]  # the token predicted does not matter
    moved = torch.zeros(len(steps), len(trees), dtype=torch.float64)
    base: list[Tensor] = []

    def keep(part: Replayed) -> None:
        targets = part.batch.targets
        logits = part.logits.float()[:, targets.cell[targets.continuation.argsort()]]
        logits = logits - logits.mean(dim=-1, keepdim=True)
        if part.interventions == (0,):
            base[:] = [logits[0]]
            return
        rows = torch.tensor(part.interventions)[:, None] - 1
        moved[rows, torch.tensor(part.trees)] = (logits - base[0]).norm(dim=-1).double().cpu()

    with progress(f"sensitivity of {len(sites)} blocks", len(trees) * (1 + len(steps))) as advance:
        replay(model, trees, (Intervention({}, 0.0), *steps), keep, advance=advance)
    mean = moved.view(len(sites), N_DIRECTIONS, -1).mean(dim=1)
    found: Tensor = mean / (SHARE * torch.stack([lengths[layer].double() for layer in lengths]))
    return found

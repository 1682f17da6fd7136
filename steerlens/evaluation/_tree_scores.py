"""Log-probabilities of continuations given as token ids, and whether greedy decoding would write them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlens.interventions import Intervention, Replayed, replay
from steerlens.models import LensModel, TokenTree


@final
@dataclass(frozen=True, eq=False)
class TreeScores:
    """Every continuation under every intervention; continuations are numbered through all trees.

    Args:
        log_prob: Sum over the continuation's tokens, in nats.
        greedy: Whether each of its tokens is the likeliest one.
    """

    log_prob: Float[Tensor, "intervention continuation"]
    greedy: Bool[Tensor, "intervention continuation"]


def score_trees(
    model: LensModel,
    trees: Sequence[TokenTree],
    interventions: Sequence[Intervention],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> TreeScores:
    """Score continuations of prompts, both given as token ids, by replay.

    Args:
        model: What to steer.
        trees: Prompts with their continuations.
        interventions: What to do.
        advance: Told how many (tree, intervention) are done.

    Raises:
        SteerlensError: If an intervention does not fit the model, or a text is too long for it.
    """
    count = [len(t.continuations) for t in trees]
    first = [0, *accumulate(count)]
    log_prob = torch.zeros(len(interventions), first[-1], dtype=torch.float64)
    misses = torch.zeros_like(log_prob)

    def keep(part: Replayed) -> None:
        targets = part.batch.targets
        scores = at_least_single(part.logits)
        wanted = scores[:, targets.cell, targets.token] - scores.logsumexp(dim=-1)[:, targets.cell]
        missed = scores.argmax(dim=-1)[:, targets.cell] != targets.token
        which = [first[t] + j for t in part.trees for j in range(count[t])]
        for out, values in ((log_prob, wanted), (misses, missed)):
            sums = torch.zeros(len(scores), len(which), dtype=torch.float64, device=scores.device)
            sums.index_add_(1, targets.continuation, values.double())
            out[torch.tensor(part.interventions)[:, None], torch.tensor(which)] = sums.cpu()

    replay(model, trees, interventions, keep, advance=advance)
    return TreeScores(log_prob, misses == 0)


def at_least_single(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Float32 or wider: a log-sum-exp over a vocabulary in half precision is off by tenths of a nat."""
    return logits if logits.dtype == torch.float64 else logits.float()

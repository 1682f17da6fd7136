"""Trajectories of tokens over the depth: when the right one rises, and whether the wrong one rises with it."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import joined_rows
from steerlens.concepts import ConceptDataset
from steerlens.errors import ConceptError, EstimateError
from steerlens.evaluation._layer_reading import LayerReading, read_layers
from steerlens.evaluation._tree_scores import at_least_single
from steerlens.models import LensModel, LensNorm, TokenTree, check_readout, stream_logits
from steerlens.numerics import Estimate, cluster_mean, cluster_share
from steerlens.progress import progress

TRAJECTORY_COLUMNS = (
    "layer", "token", "probability", "probability_low", "probability_high", "log_prob", "log_prob_low", "log_prob_high",
    "first", "first_low", "first_high", "rank", "n", "n_clusters",
)  # fmt: skip
"""One row is the right or the wrong token at one layer, over all items: mean probability and log-probability by the
logit lens, ``first`` the share of items where it is the likeliest token, ``rank`` its median rank (0 is the first)."""
SIDES = ("right", "wrong")
CELLS = 64


@final
@dataclass(frozen=True, eq=False)
class TokenTrajectories:
    """Right and wrong tokens, layer by layer; layer 0 is the embedding, the last one the model's own prediction.

    Args:
        frame: Columns `TRAJECTORY_COLUMNS`.
        log_prob: Of each item's right and wrong token, in nats.
        rank: How many tokens are likelier.
        spike: The layer with the largest rise of probability, of each item's right and wrong token.
        same_spike: Share of items whose two tokens rise most at one layer.
        strangers: The same, with the wrong token of an item of another group: what layers alone explain.
        model: Its name.
        concept: Name of the data set.
    """

    frame: pd.DataFrame
    log_prob: Float[Tensor, "side item layer"]
    rank: Int[Tensor, "side item layer"]
    spike: Int[Tensor, "side item"]
    same_spike: Estimate
    strangers: Estimate
    model: str
    concept: str

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and token."""
        return self.frame.copy()

    def plot(self) -> Any:
        """Probabilities over layers; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_trajectories(self)

    def __str__(self) -> str:
        columns = ["layer", "token", "probability", "log_prob", "first", "rank"]
        return (
            f"Right and wrong tokens of {self.concept} in {self.model}\n"
            + self.frame[columns].to_string(index=False, float_format="%.3f")
            + f"\nrise most at one layer: {self.same_spike}, with a stranger's wrong token {self.strangers}"
        )


def token_trajectories(
    model: LensModel, pairs: ConceptDataset, *, norm: LensNorm = "final", seed: int
) -> TokenTrajectories:
    """Follow the right and the wrong token of every question over the layers, by the logit lens.

    They are the first tokens in which the two continuations differ, read where both are predicted.

    Args:
        model: A model, steered or not.
        pairs: Questions whose positive continuation is right (the negative one where the context is a pair's negative
            text).
        norm: "final" for the logit lens; "none" reads early layers without the final norm.
        seed: Of the intervals.

    Raises:
        EstimateError: There are fewer than five groups.
        ConceptError: One continuation is the beginning of the other.
        ModelError: The model's logits are not made by its final norm and unembedding alone.

    References:
        dasilva2025 (both spike at the same layer); nostalgebraist2020.
    """
    groups = [q.group for q in pairs.questions]
    if len(set(groups)) < 5:
        raise EstimateError(f"Intervals need at least 5 groups of pairs, but got {len(set(groups))}.")
    check_readout(model)
    trees = _trees(model, pairs)
    n_layers = model.n_layers
    log_prob = torch.zeros(len(SIDES), len(trees), n_layers + 1, dtype=torch.float64)
    rank = torch.zeros(log_prob.shape, dtype=torch.long)

    def keep(part: LayerReading) -> None:
        items = torch.tensor(part.trees)
        cell, token = part.targets.cell.view(-1, 2)[:, 0], part.targets.token.view(-1, 2)
        for layer in range(n_layers + 1):
            for start in range(0, len(cell), CELLS):
                some = slice(start, start + CELLS)
                last = layer == n_layers
                logits = part.logits if last else part.streams[layer]
                rows = logits[cell[some]]
                rows = at_least_single(rows if last else stream_logits(model, rows, norm=norm))
                wanted = rows.gather(1, token[some])
                at = items[some]
                log_prob[:, at, layer] = (wanted - rows.logsumexp(-1, keepdim=True)).double().cpu().T
                rank[:, at, layer] = (rows[:, None] > wanted[..., None]).sum(-1).cpu().T

    with progress(f"trajectories of {pairs.name}", len(trees)) as advance:
        read_layers(model, trees, range(n_layers), keep, advance=advance)
    spike = spikes(log_prob.exp())
    same = (spike[0] == spike[1]).double().numpy()
    return TokenTrajectories(
        _frame(log_prob, rank, groups, seed),
        log_prob,
        rank,
        spike,
        cluster_share(same, groups, seed=seed),
        cluster_mean(_strangers(spike, groups), groups, seed=seed),
        model.name,
        pairs.name,
    )


def spikes(probability: Float[Tensor, "*batch layer"]) -> Int[Tensor, "*batch"]:
    """The layer at which a probability rises most above the layer before; of equal rises the first."""
    rise = probability.diff(dim=-1)
    return (rise == rise.amax(-1, keepdim=True)).int().argmax(-1) + 1


def _trees(model: LensModel, pairs: ConceptDataset) -> list[TokenTree]:
    """Each question up to the token in which its continuations differ, and these two tokens, the right one first."""
    questions = pairs.questions
    answers = [(q.positive, q.negative)[:: -1 if q.side == "negative" else 1] for q in questions]
    trees = []
    for q, (right, wrong) in zip(questions, joined_rows(model, [q.context for q in questions], answers), strict=True):
        common = next((i for i, (a, b) in enumerate(zip(right.ids, wrong.ids, strict=False)) if a != b), None)
        if common is None:
            raise ConceptError(f"Of {q.positive!r} and {q.negative!r} one begins with the other; no token differs.")
        trees.append(TokenTree(right.ids[:common], ((right.ids[common],), (wrong.ids[common],))))
    return trees


def _strangers(spike: Int[Tensor, "side item"], groups: list[str]) -> npt.NDArray[np.float64]:
    """For each item, the share of wrong tokens of other groups that rise most where its right token does."""
    codes = torch.tensor(pd.factorize(pd.Series(groups))[0])
    others = (codes[:, None] != codes[None]).double()
    same = (spike[0][:, None] == spike[1][None]).double()
    found: npt.NDArray[np.float64] = ((same * others).sum(1) / others.sum(1)).numpy()
    return found


def _frame(
    log_prob: Float[Tensor, "side item layer"], rank: Int[Tensor, "side item layer"], groups: list[str], seed: int
) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for layer in range(log_prob.shape[-1]):
        for side, name in enumerate(SIDES):
            own = log_prob[side, :, layer]
            p, log_p = (cluster_mean(x.numpy(), groups, seed=seed) for x in (own.exp(), own))
            first = cluster_share((rank[side, :, layer] == 0).double().numpy(), groups, seed=seed)
            middle = float(rank[side, :, layer].double().median())
            ends = [x for e in (p, log_p, first) for x in (e.value, e.low, e.high)]
            rows.append((layer, name, *ends, middle, p.n, p.n_clusters))
    return pd.DataFrame(rows, columns=list(TRAJECTORY_COLUMNS))

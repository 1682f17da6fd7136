"""Given continuations scored by contrast of layers, under any number of contrasts in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import joined_rows
from steerlens.errors import OptionError
from steerlens.evaluation._layer_reading import LayerReading, read_layers
from steerlens.evaluation._tree_scores import at_least_single
from steerlens.interventions import DoLa
from steerlens.models import LensModel, LensNorm, TokenTree, stream_logits
from steerlens.numerics import ContrastTerms, Divergence, cluster_share, contrast_terms, plausible
from steerlens.progress import progress

EXCLUDED = -1000.0
"""Score of a token that is not plausible, as in the authors' code: −∞ would make all such answers equal."""
CELLS = 64
"""Cells whose logits of one candidate layer are in memory at a time."""
LAYER_CHOICE_COLUMNS = ("arm", "layer", "share", "share_low", "share_high", "n", "n_clusters")
"""One row is one candidate layer of one arm; ``share``: of the scored tokens that were contrasted with it."""


@final
@dataclass(frozen=True, eq=False)
class DoLaScores:
    """Scores of every continuation under every contrast, in nats.

    Continuations are numbered through all prompts: those of the first prompt, then those of the second, and so on.

    Args:
        arms: The contrasts.
        baseline: Log-probability of each continuation by the last layer alone.
        score: Sum over the continuation's tokens. Log-probabilities where the arm is normalised.
        chosen: The layer that each token was contrasted with.
        continuation: Number of the continuation that each token belongs to.
        n_tokens: Tokens of each continuation.
        prompt: Number of the prompt that each continuation belongs to.
    """

    arms: tuple[DoLa, ...]
    baseline: Float[Tensor, " continuation"]
    score: Float[Tensor, "arm continuation"]
    chosen: Int[Tensor, "arm target"]
    continuation: Int[Tensor, " target"]
    n_tokens: Int[Tensor, " continuation"]
    prompt: Int[Tensor, " continuation"]

    def layer_choices(self, *, seed: int, arms: Sequence[str] = ()) -> pd.DataFrame:
        """How often each candidate layer was chosen; columns `LAYER_CHOICE_COLUMNS`, intervals over prompts.

        Args:
            seed: Of the intervals.
            arms: Names of the arms; their numbers by default.

        Raises:
            EstimateError: There are fewer than five prompts.
        """
        names = list(arms) or [str(k) for k in range(len(self.arms))]
        prompts = self.prompt[self.continuation].tolist()
        rows = []
        for name, arm, chosen in zip(names, self.arms, self.chosen, strict=True):
            for layer in sorted(arm.layers):
                e = cluster_share((chosen == layer).double().numpy(), prompts, seed=seed)
                rows.append((name, layer, e.value, e.low, e.high, e.n, e.n_clusters))
        return pd.DataFrame(rows, columns=list(LAYER_CHOICE_COLUMNS))


def score_dola(
    model: LensModel, prompts: Sequence[str], continuations: Sequence[Sequence[str]], arms: Sequence[DoLa]
) -> DoLaScores:
    """Score given continuations of prompts by contrast of layers.

    Each prompt runs once for all its continuations and all arms, and the logits of a candidate layer are computed once
    for all arms that it is a candidate of. Steering combines: inside ``with steer(...)`` the steered model is scored.

    Without normalisation (``DoLa(..., normalisation="none")``, the published scores) a score is a sum of log-ratios and
    no log-probability: every token adds the surprise that the premature layer had at it. Where that layer knows little,
    this is about log V nats a token, and the longest answer wins.

    Args:
        model: A model.
        prompts: What is continued.
        continuations: Of each prompt, at least one.
        arms: The contrasts.

    Raises:
        OptionError: There are no prompts or arms, a prompt has no continuations, or the model lacks a layer.
        ConceptError: A continuation adds no token.

    References:
        chuang2024 (their code, dola.py); dasilva2025 (normalised scores).
    """
    _check(model, prompts, continuations, arms)
    rows = joined_rows(model, prompts, continuations)
    trees = [TokenTree(of[0].ids[: of[0].n_prompt], tuple(row.ids[row.n_prompt :] for row in of)) for of in rows]
    of_tree = [len(t.continuations) for t in trees]
    n_tokens = torch.tensor([len(c) for t in trees for c in t.continuations])
    continuation = torch.repeat_interleave(torch.arange(len(n_tokens)), n_tokens)
    kept = torch.zeros(len(arms) + 1, len(continuation), dtype=torch.float64)
    chosen = torch.zeros(len(arms), len(continuation), dtype=torch.long)
    first_target = torch.cat([torch.zeros(1, dtype=torch.long), n_tokens.cumsum(0)])
    first_of_tree = torch.tensor([0, *of_tree]).cumsum(0).tolist()

    def keep(part: LayerReading) -> None:
        which = [first_of_tree[t] + k for t in part.trees for k in range(of_tree[t])]
        at = torch.cat([torch.arange(int(first_target[c]), int(first_target[c + 1])) for c in which])
        token_scores, picked = _token_scores(model, part, arms)
        kept[:, at], chosen[:, at] = token_scores.cpu(), picked.cpu()

    with progress(f"score {len(n_tokens)} continuations under {len(arms)} contrasts", len(trees)) as advance:
        layers = sorted({layer for arm in arms for layer in arm.layers})
        read_layers(model, trees, layers, keep, advance=advance)
    sums = torch.zeros(len(arms) + 1, len(n_tokens), dtype=torch.float64).index_add_(1, continuation, kept)
    prompt = torch.repeat_interleave(torch.arange(len(trees)), torch.tensor(of_tree))
    return DoLaScores(tuple(arms), sums[0], sums[1:], chosen, continuation, n_tokens, prompt)


def _check(
    model: LensModel, prompts: Sequence[str], continuations: Sequence[Sequence[str]], arms: Sequence[DoLa]
) -> None:
    if isinstance(prompts, str) or any(isinstance(of, str) for of in continuations):
        raise OptionError("score_dola takes a list of prompts and, for each, a list of continuations, not a string.")
    if not prompts or len(prompts) != len(continuations) or not all(continuations):
        raise OptionError(
            f"Every prompt needs at least one continuation, but got {len(prompts)} prompts and "
            f"{[len(of) for of in continuations][:8]} continuations of them."
        )
    if not arms:
        raise OptionError("score_dola needs at least one contrast, such as [DoLa((0, 2, 4))], but got none.")
    for arm in arms:
        arm.check(model)


def _token_scores(
    model: LensModel, part: LayerReading, arms: Sequence[DoLa]
) -> tuple[Float[Tensor, "row target"], Int[Tensor, "arm target"]]:
    """Scores of all targets, the baseline's first, and the layer of each; cells go through a few at a time."""
    scores = torch.zeros(len(arms) + 1, len(part.targets.token), dtype=torch.float64, device=model.device)
    chosen = torch.zeros(len(arms), len(part.targets.token), dtype=torch.long, device=model.device)
    for start in range(0, len(part.logits), CELLS):
        cells = slice(start, start + CELLS)
        log_p = at_least_single(part.logits[cells]).log_softmax(-1)
        here = ((part.targets.cell >= start) & (part.targets.cell < start + CELLS)).nonzero(as_tuple=True)[0]
        targets = part.targets.cell[here] - start, part.targets.token[here]
        scores[0, here] = log_p[targets].double()
        terms = _all_terms(model, part, cells, log_p, targets, arms)
        for k, arm in enumerate(arms):
            scores[k + 1, here], chosen[k, here] = _of_arm(arm, terms[arm.norm], log_p, targets, arms)
    return scores, chosen


def _asked(arms: Sequence[DoLa], norm: LensNorm) -> tuple[list[int], list[float], list[Divergence]]:
    """Layers, alphas and divergences that arms of one norm need; alpha 0, the whole vocabulary, is always there."""
    own = [arm for arm in arms if arm.norm == norm]
    layers = sorted({layer for arm in own for layer in arm.layers})
    return layers, sorted({0.0, *(arm.alpha for arm in own)}), sorted({arm.divergence for arm in own})


def _all_terms(
    model: LensModel,
    part: LayerReading,
    cells: slice,
    log_p: Float[Tensor, "cell vocab"],
    targets: tuple[Int[Tensor, " target"], Int[Tensor, " target"]],
    arms: Sequence[DoLa],
) -> dict[LensNorm, dict[int, ContrastTerms]]:
    """Of every norm and layer; the logits of one layer are in memory at a time."""
    found: dict[LensNorm, dict[int, ContrastTerms]] = {}
    for norm in sorted({arm.norm for arm in arms}):
        layers, alphas, divergences = _asked(arms, norm)
        found[norm] = {}
        for layer in layers:
            logits = stream_logits(model, part.streams[layer][cells], norm=norm).to(log_p.dtype)
            found[norm][layer] = contrast_terms(log_p, logits, targets, alphas=alphas, divergences=divergences)
    return found


def _of_arm(
    arm: DoLa,
    terms: dict[int, ContrastTerms],
    log_p: Float[Tensor, "cell vocab"],
    targets: tuple[Int[Tensor, " target"], Int[Tensor, " target"]],
    arms: Sequence[DoLa],
) -> tuple[Float[Tensor, " target"], Int[Tensor, " target"]]:
    _, alphas, divergences = _asked(arms, arm.norm)
    cell, _ = targets
    own = [terms[layer] for layer in arm.layers]
    # Which of equally far layers argmax returns is not promised; the first is.
    far = torch.stack([t.divergence[divergences.index(arm.divergence)] for t in own])
    farthest = (far == far.amax(0)).int().argmax(0)[cell]
    picked = farthest[None]
    score = log_p[targets] - torch.stack([t.log_prob for t in own]).gather(0, picked)[0]
    if arm.normalisation != "none":
        over = alphas.index(arm.alpha if arm.normalisation == "plausible" else 0.0)
        score = score - torch.stack([t.log_total[over][cell] for t in own]).gather(0, picked)[0]
    score = score.masked_fill(~plausible(log_p, arm.alpha)[targets], EXCLUDED)
    return score.double(), torch.tensor(arm.layers, device=score.device)[farthest]

"""Contrast of layers: what the last layer predicts, against what the most different earlier layer would."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlens.errors import OptionError, UnknownNameError

Divergence = Literal["jensen-shannon", "reversed"]
Normalisation = Literal["plausible", "vocabulary", "none"]

NORMALISATIONS: tuple[Normalisation, ...] = ("plausible", "vocabulary", "none")
"""What makes scores log-probabilities: a softmax over the plausible tokens (the paper), over the whole vocabulary
before the others are cut (``post_softmax`` of the authors' code), or nothing (as their numbers were published)."""


def jensen_shannon(
    log_p: Float[Tensor, "*batch vocab"], log_q: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch"]:
    """JSD(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2, in nats; between 0 and log 2.

    References:
        lin1991.
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def reversed_jensen_shannon(
    log_p: Float[Tensor, "*batch vocab"], log_q: Float[Tensor, "*batch vocab"]
) -> Float[Tensor, "*batch"]:
    """½ [KL(m ‖ p) + KL(m ‖ q)] / V: both terms the other way round, and a mean over V tokens instead of a sum.

    This is what the authors' code computes and calls Jensen–Shannon divergence. It has no upper bound: a token that p
    all but excludes and q does not can decide alone, so that the two pick different layers.

    References:
        chuang2024 (their code, dola.py).
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_m, log_p) + _kl(log_m, log_q)) / (2 * log_p.shape[-1])


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats; tokens of probability 0 add nothing."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


DIVERGENCES: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "jensen-shannon": jensen_shannon,
    "reversed": reversed_jensen_shannon,
}
"""How far a candidate is from the last layer, by name; of log-probabilities."""


def plausible(log_p: Float[Tensor, "*batch vocab"], alpha: float) -> Bool[Tensor, "*batch vocab"]:
    """Tokens with p ≥ α · max p; with α = 0 all of them.

    References:
        chuang2024, equation 4; li2023.
    """
    cut = math.log(alpha) if alpha > 0 else -math.inf
    return log_p >= log_p.amax(-1, keepdim=True) + cut


@final
@dataclass(frozen=True, eq=False)
class LayerContrast:
    """Scores of every next token, and the layer that they are contrasted with.

    Args:
        scores: log p_N − log p_M, less its log-sum-exp where it is normalised; −∞ for tokens that are not plausible.
        chosen: M, as the number of the candidate.
        divergence: Of each candidate from the last layer.
    """

    scores: Float[Tensor, "*batch vocab"]
    chosen: Int[Tensor, "*batch"]
    divergence: Float[Tensor, "*batch layer"]


def layer_contrast(
    last: Float[Tensor, "*batch vocab"],
    candidates: Iterable[Float[Tensor, "*batch vocab"]],
    *,
    alpha: float,
    divergence: Divergence,
    normalisation: Normalisation,
) -> LayerContrast:
    """Score next tokens by F(x) = log p_N(x) − log p_M(x), M the candidate farthest from p_N.

    Each row chooses its own M; of equally far candidates the first. One candidate at a time is in memory.

    Args:
        last: Logits of the last layer.
        candidates: Logits of each candidate layer, of the same shape; may be a generator.
        alpha: Tokens with p_N below ``alpha`` times the largest are cut.
        divergence: A key of `DIVERGENCES`.
        normalisation: One of `NORMALISATIONS`.

    Raises:
        OptionError: Alpha is not in [0, 1], or there is no candidate.
        UnknownNameError: There is no such divergence or normalisation.

    References:
        chuang2024, equations 2 to 5.
    """
    check_contrast(alpha, divergence, normalisation)
    log_p = last.log_softmax(-1)
    log_q, chosen, far = log_p, torch.zeros(last.shape[:-1], dtype=torch.long, device=last.device), []
    for number, logits in enumerate(candidates):
        log_candidate = logits.log_softmax(-1)
        far.append(DIVERGENCES[divergence](log_p, log_candidate))
        farther = far[-1] > torch.stack(far[:-1]).amax(0) if number else torch.ones_like(chosen, dtype=torch.bool)
        log_q = torch.where(farther[..., None], log_candidate, log_q)
        chosen = torch.where(farther, number, chosen)
    if not far:
        raise OptionError("A contrast of layers needs at least one candidate layer, but got none.")
    kept = plausible(log_p, alpha)
    scores = log_p - log_q
    if normalisation == "vocabulary":
        scores = scores.log_softmax(-1)
    scores = scores.masked_fill(~kept, -math.inf)
    if normalisation == "plausible":
        scores = scores.log_softmax(-1)
    return LayerContrast(scores, chosen, torch.stack(far, -1))


@final
@dataclass(frozen=True, eq=False)
class ContrastTerms:
    """What scores of given tokens need of one candidate layer, for all choices of layer and all cuts at once.

    A token y has the score log p_N(y) − log p_j(y) − log Σ p_N(x) / p_j(x), the sum over the plausible tokens, over
    all, or left out.

    Args:
        divergence: From the last layer, one row for each divergence asked for.
        log_total: Logarithm of the sum over the plausible tokens, one row for each alpha asked for.
        log_prob: log p_j of each target.
    """

    divergence: Float[Tensor, "divergence cell"]
    log_total: Float[Tensor, "alpha cell"]
    log_prob: Float[Tensor, " target"]


def contrast_terms(
    log_p: Float[Tensor, "cell vocab"],
    logits: Float[Tensor, "cell vocab"],
    targets: tuple[Int[Tensor, " target"], Int[Tensor, " target"]],
    *,
    alphas: Sequence[float],
    divergences: Sequence[Divergence],
) -> ContrastTerms:
    """Reduce the logits of one candidate layer to what `layer_contrast` would give for some tokens.

    Args:
        log_p: Log-probabilities of the last layer.
        logits: Of the candidate.
        targets: The cell that each wanted token is predicted from, and its id.
        alphas: Cuts; 0 keeps the whole vocabulary.
        divergences: Keys of `DIVERGENCES`.
    """
    log_q = logits.log_softmax(-1)
    ratio = log_p - log_q
    totals = [ratio.masked_fill(~plausible(log_p, a), -math.inf).logsumexp(-1) for a in alphas]
    far = [DIVERGENCES[d](log_p, log_q) for d in divergences]
    return ContrastTerms(torch.stack(far), torch.stack(totals), log_q[targets])


def check_contrast(alpha: float, divergence: str, normalisation: str) -> None:
    """Refuse what no contrast can be made with.

    Raises:
        OptionError: Alpha is not in [0, 1].
        UnknownNameError: There is no such divergence or normalisation.
    """
    if not 0.0 <= alpha <= 1.0:
        raise OptionError(f"alpha is a share of the largest probability, between 0 and 1, but got {alpha!r}.")
    if divergence not in DIVERGENCES:
        raise UnknownNameError("divergence", divergence, DIVERGENCES)
    if normalisation not in NORMALISATIONS:
        raise UnknownNameError("normalisation", normalisation, NORMALISATIONS)

"""Repetition penalty: tokens that stand in the text already become less likely."""

from jaxtyping import Float, Int
from torch import Tensor


def penalise_repetition(
    scores: Float[Tensor, "batch vocab"],
    ids: Int[Tensor, "batch token"],
    attention_mask: Int[Tensor, "batch token"],
    *,
    penalty: float,
) -> Float[Tensor, "batch vocab"]:
    """Divide positive scores of tokens in the row by ``penalty``, and multiply negative ones.

    The result depends on where 0 is: of log-probabilities every repeated token falls, of unnormalised scores those
    above 0 move towards it. Padding repeats nothing.

    Args:
        scores: Of the next token.
        ids: The rows so far, prompt and all.
        attention_mask: 0 on padding.
        penalty: 1 changes nothing.

    References:
        keskar2019, section 4.1.
    """
    if penalty == 1.0:
        return scores
    times = scores.new_zeros(scores.shape).scatter_add_(1, ids, attention_mask.to(scores.dtype))
    lowered = scores.where(scores <= 0, scores / penalty).where(scores > 0, scores * penalty)
    return lowered.where(times > 0, scores)

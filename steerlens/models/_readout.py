"""The logit lens: what the final norm and the unembedding make of a vector of the residual stream."""

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.errors import ModelError
from steerlens.models._lens_model import LensModel

LensNorm = Literal["final", "none"]
"""What the logit lens does before unembedding: apply the model's final norm, or nothing."""


@final
@dataclass(frozen=True, eq=False)
class Readout:
    """A token read out of vectors.

    Args:
        log_prob: Of the token, in nats.
        rank: How many tokens have a larger logit; 0 is the likeliest.
    """

    log_prob: Float[Tensor, "*batch"]
    rank: Int[Tensor, "*batch"]


def logit_lens(
    model: LensModel, vectors: Float[Tensor, "*batch d_model"], targets: Int[Tensor, "*batch"], *, rows: int = 64
) -> Readout:
    """Read one token out of every vector, as if the residual stream were final there.

    TransformerLens's `logit_readout`. At the output of the last block it is the model's own prediction.

    Args:
        model: Whose final norm and unembedding.
        vectors: Of the residual stream.
        targets: Ids of the tokens.
        rows: Vectors whose logits are held at a time.

    References:
        nostalgebraist2020.
    """
    from transformer_lens.tools.analysis import logit_readout

    flat = vectors.reshape(-1, vectors.shape[-1]).to(model.device, model.dtype)
    with torch.no_grad():
        found = logit_readout(
            model.bridge,
            flat,
            targets=targets.reshape(-1).to(model.device),
            return_type="log_probs",
            chunk_size=rows,
        )
    shape = vectors.shape[:-1]
    ranks = found.target_ranks
    assert ranks is not None  # given, as targets are
    return Readout(found.values.reshape(shape).double().cpu(), ranks.reshape(shape).cpu())


@torch.no_grad()
def stream_logits(
    model: LensModel, vectors: Float[Tensor, "n d_model"], *, norm: LensNorm = "final"
) -> Float[Tensor, "n vocab"]:
    """Logits of all tokens by the logit lens, in the model's dtype and on its device; without gradients.

    Unlike `logit_lens` it may be called while the model runs. `check_readout` says whether it means anything.

    Args:
        model: Whose final norm and unembedding.
        vectors: Of the residual stream.
        norm: "none" unembeds the vectors as they are; no model predicts like that, but published code reads early
            layers so.

    References:
        nostalgebraist2020.
    """
    bridge: Any = model.bridge
    x = vectors.to(model.device, model.dtype)
    if norm == "final":
        x = bridge.ln_final(x[None])[0]
    logits: Tensor = bridge.adapter.apply_output_logits_transform(x @ bridge.W_U + bridge.b_U)
    return logits


def check_readout(model: LensModel) -> None:
    """Refuse a model whose logits are not made by its final norm and unembedding alone.

    Raises:
        ModelError: They are not, so that no layer can be read as the last one is.
    """
    from transformer_lens.tools.analysis import logit_readout

    try:
        logit_readout(model.bridge, torch.zeros(1, model.d_model, device=model.device, dtype=model.dtype))
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"Early layers of {model.name!r} cannot be read by the logit lens: {error}") from error


def lens_logits(
    model: LensModel, vectors: Float[Tensor, "n d_model"], ids: Int[Tensor, " vocab"]
) -> Float[Tensor, "n vocab"]:
    """Logits of some tokens by the logit lens, differentiable in the vectors.

    `logit_lens` looks at all tokens, which is dear in training.
    """
    bridge: Any = model.bridge
    where = ids.to(model.device)
    normed = bridge.ln_final(vectors.to(model.device, model.dtype)[None])[0]
    logits: Tensor = normed @ bridge.W_U[:, where]
    if bridge.b_U is not None:
        logits = logits + bridge.b_U[where]
    return logits

"""A model's weights as values: a plain copy of its host, and models whose weights differ from it by known amounts."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steerlens.errors import ModelError, OptionError
from steerlens.models._host import PreTrainedModel
from steerlens.models._lens_model import LensModel
from steerlens.models._wrap import quiet, wrap

_BRIDGED = "._original_component"


def plain_copy(model: LensModel) -> PreTrainedModel:
    """The Hugging Face model with the same weights and none of the bridge's modules, in evaluation mode.

    For libraries that train or rewire Hugging Face models. Nothing of it is shared with ``model``, which stays as it
    is; it takes as much memory again.

    Args:
        model: What to copy.

    Raises:
        ModelError: If the copy would lack a weight.
    """
    host: Any = model.bridge.original_model
    with quiet():
        made = type(host)(copy.deepcopy(host.config)).to(device=model.device, dtype=model.dtype)
        # The bridge keeps some modules under a second name; those are not the copy's.
        left = made.load_state_dict({k.replace(_BRIDGED, ""): v for k, v in host.state_dict().items()}, strict=False)
        made.tie_weights()
    tied = {name for name, _ in made.named_parameters(remove_duplicate=False)} - dict(made.named_parameters()).keys()
    lacking = sorted(set(left.missing_keys) - tied)
    if lacking:
        raise ModelError(f"{model.name!r} cannot be copied: the bridge does not show {', '.join(lacking[:3])}.")
    made.eval()
    result: PreTrainedModel = made
    return result


def moved_weights(model: LensModel, deltas: Mapping[str, Tensor], strength: float) -> LensModel:
    """A model whose weights are those of ``model`` plus ``strength`` times ``deltas``.

    Args:
        model: Stays as it is.
        deltas: By the host's name of the weight, such as ``model.layers.0.mlp.up_proj.weight``; each of its shape.
        strength: 0 gives the same model.

    Raises:
        OptionError: If a name or a shape is not the host's.
    """
    host: Any = plain_copy(model)
    own = dict(host.named_parameters())
    for name, delta in deltas.items():
        if name not in own or own[name].shape != delta.shape:
            raise OptionError(
                f"{model.name!r} has no weight {name!r} of shape {tuple(delta.shape)}. Deltas are of one model alone."
            )
    with torch.no_grad():
        for name, delta in deltas.items():
            weight = own[name]
            weight.copy_((weight.double() + strength * delta.to(weight.device).double()).to(weight.dtype))
    return wrap(
        host,
        model.tokenizer,
        name=f"{model.name} with moved weights",
        revision=f"{model.revision}:moved by {strength:g}",
        device=model.device,
        dtype=model.dtype,
    )

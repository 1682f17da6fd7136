"""The same architecture with random weights: what the data and the architecture give a probe without any training."""

import copy
from typing import Any

from steerlens.models._lens_model import LensModel
from steerlens.models._tiny import seeded_model
from steerlens.models._wrap import wrap


def random_twin(model: LensModel, *, seed: int = 0) -> LensModel:
    """A model of the same configuration and tokenizer whose weights are drawn anew.

    The control for everything that is read off activations: a probe that does as well here reads the words, and not
    what the model learned about them. Matrices have variance 1 / fan-in, embeddings too.

    Args:
        model: Stays as it is.
        seed: Of the weights.

    References:
        zhang2018 (probes of untrained networks).
    """
    host: Any = model.bridge.original_model
    config = copy.deepcopy(host.config)
    return wrap(
        seeded_model(config, seed=seed, dtype=model.dtype),
        model.tokenizer,
        name=f"{model.name} with random weights",
        revision=f"random:{model.revision}:seed{seed}",
        device=model.device,
        dtype=model.dtype,
    )

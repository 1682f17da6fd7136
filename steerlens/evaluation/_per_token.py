"""Costs on neutral text, token by token: of maps, of texts put in front, and of changed weights."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]
POSITIVE = (0.0, float("inf"))


def mean_per_token(per_text: Array, n_tokens: Array, documents: Sequence[Hashable], *, seed: int) -> Estimate:
    """Mean over the tokens of all texts of what was summed over each text's; documents are resampled."""
    return bootstrap(lambda w: (w @ per_text) / (w @ n_tokens), [documents], seed=seed, bounds=POSITIVE)


def ratio_of_perplexities(more: Array, n_tokens: Array, documents: Sequence[Hashable], *, seed: int) -> Estimate:
    """Perplexity over that before, from what each text's negative log-likelihood has grown by; by documents."""

    def ratio(weights: Array) -> Array:
        out: Array = np.exp((weights @ more) / (weights @ n_tokens))
        return out

    return bootstrap(ratio, [documents], seed=seed, bounds=POSITIVE)

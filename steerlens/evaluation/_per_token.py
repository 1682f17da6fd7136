"""Costs on neutral text, token by token: of maps, of texts put in front, and of changed weights."""

import numpy as np
import numpy.typing as npt

from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]
POSITIVE = (0.0, float("inf"))


def mean_per_token(per_text: Array, n_tokens: Array, *, seed: int) -> Estimate:
    """Mean over the tokens of all texts of what was summed over each text's; texts are resampled."""
    return bootstrap(lambda w: (w @ per_text) / (w @ n_tokens), [range(len(per_text))], seed=seed, bounds=POSITIVE)


def ratio_of_perplexities(more: Array, n_tokens: Array, *, seed: int) -> Estimate:
    """Perplexity over that before, from what each text's negative log-likelihood has grown by; texts are resampled."""

    def ratio(weights: Array) -> Array:
        out: Array = np.exp((weights @ more) / (weights @ n_tokens))
        return out

    return bootstrap(ratio, [range(len(more))], seed=seed, bounds=POSITIVE)

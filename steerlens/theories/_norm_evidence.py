"""What the length of an activation does: effects of scaling it, and how long source and target are."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from steerlens.activations import ContrastiveActivations
from steerlens.evaluation import UNSTEERED, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import DiagonalMap
from steerlens.numerics import bootstrap, cluster_mean
from steerlens.theories._chosen_site import ChosenSite, ends
from steerlens.theories._records import tidy
from steerlens.theories._t07_norms_do_not_matter import LONGER, SHORTER

SCALING = "NormScaling"
"""The name under which scaling is recorded."""

FACTORS = {LONGER: 1.2, SHORTER: 0.8}
"""What activations are multiplied by."""

Array = npt.NDArray[np.float64]


def scaling_evidence(at: ChosenSite) -> pd.DataFrame:
    """Change of propensity where activations at the site are made 20 % longer and shorter, and nothing else.

    Nothing at the last block: all that follows it is the final norm, which undoes a change of length.

    Args:
        at: The concept and its site.
    """
    if at.site.layer == at.model.n_layers - 1:
        return tidy()
    plans = [Intervention({at.site: scaling(f, at.fit.positive.shape[1])}, 1.0) for f in FACTORS.values()]
    questions = at.split.test.questions
    found = score_questions(at.model, questions, [UNSTEERED, *plans]).propensity.double().numpy()
    groups, arm = [q.group for q in questions], {"role": "method", "method": SCALING, "strength": 1.0}
    rows: list[dict[str, Any]] = [
        {
            **arm,
            "quantity": "effect",
            "setting": setting,
            **ends(cluster_mean(x - found[0], groups, seed=at.study.seed)),
        }
        for setting, x in zip(FACTORS, found[1:], strict=True)
    ]
    return tidy(pd.DataFrame(rows).assign(**at.here))


def scaling(factor: float, width: int) -> DiagonalMap:
    """T(x) = factor · x."""
    zero = torch.zeros(width, dtype=torch.float64)
    return DiagonalMap(zero, zero, zero + (factor - 1))


def norm_difference(found: ContrastiveActivations, *, seed: int) -> dict[str, Any]:
    """Mean length of target rows over that of source rows, less one, as a row of records."""
    source, target = (x.double().norm(dim=1).numpy() for x in (found.negative, found.positive))

    def ratio(weights: Array) -> Array:
        out: Array = (weights @ target) / (weights @ source) - 1
        return out

    return {"quantity": "norm_difference", **ends(bootstrap(ratio, [found.groups], seed=seed, bounds=(-1.0, np.inf)))}

"""A linear probe, fitted on one split and scored on another."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from steerlens.numerics import Estimate, bootstrap

Classes = tuple[Float[Tensor, "n d_model"], Float[Tensor, "m d_model"]]


def linear_auroc(fit: Classes, test: Classes, groups: Sequence[Hashable], *, seed: int) -> Estimate:
    """Area under the ROC curve of logistic regression, with an interval over groups of test pairs.

    Args:
        fit: Positive and negative activations to train on.
        test: Positive and negative activations to score, paired row by row.
        groups: The cluster of each test pair.
        seed: Of the bootstrap.

    References:
        pedregosa2011 (scikit-learn's LogisticRegression, standardised inputs, default penalty).
    """
    x = np.concatenate([c.double().numpy() for c in fit])
    y = np.repeat([1, 0], [len(c) for c in fit])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, y)
    scores = probe.decision_function(np.concatenate([c.double().numpy() for c in test]))
    labels = np.repeat([1, 0], [len(c) for c in test])

    def auroc(weights: np.ndarray) -> np.ndarray:
        return np.array([roc_auc_score(labels, scores, sample_weight=np.tile(w, 2)) for w in weights])

    return bootstrap(auroc, [groups], seed=seed, n_resamples=500, bounds=(0.0, 1.0))

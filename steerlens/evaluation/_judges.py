"""Classifiers that say how much of a planted concept is there: trained on rows that no map was fitted to."""

import warnings
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor

from steerlens.concepts import Plant
from steerlens.maps import ConceptErasure
from steerlens.numerics import Estimate

JUDGES = ("linear", "quadratic", "mlp")
"""Logistic regression, the same on products of two coordinates, and a network."""


@final
@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of source and target rows."""

    classifier: Any

    def p_target(self, x: Float[Tensor, "n d_model"]) -> npt.NDArray[np.float64]:
        """Probability of the target for every row."""
        probabilities: npt.NDArray[np.float64] = self.classifier.predict_proba(x.double().numpy())[:, 1]
        return probabilities

    def accuracy(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> Estimate:
        """Share of rows told right, with Wilson's interval."""
        right = np.concatenate([self.p_target(source) < 0.5, self.p_target(target) >= 0.5])
        return share(int(right.sum()), len(right))


def train_judge(kind: str, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"], seed: int) -> Judge:
    """Fit one of `JUDGES` on standardised rows.

    References:
        pedregosa2011 (scikit-learn's LogisticRegression and MLPClassifier).
    """
    if kind == "mlp":
        classifier = make_pipeline(
            StandardScaler(),
            MLPClassifier(
                (64, 64), alpha=1e-3, learning_rate_init=3e-3, early_stopping=True, n_iter_no_change=25,
                max_iter=300, random_state=seed,
            ),
        )  # fmt: skip
    else:
        features = PolynomialFeatures(1 if kind == "linear" else 2, include_bias=False)
        classifier = make_pipeline(StandardScaler(), features, LogisticRegression(max_iter=5000))
    x = np.concatenate([source.double().numpy(), target.double().numpy()])
    y = np.repeat([0, 1], [len(source), len(target)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped by max_iter: held-out accuracy says if it matters
        return Judge(classifier.fit(x, y))


def leace_then_mlp(plant: Plant, *, n: int = 4000, seed: int = 0) -> Estimate:
    """Held-out accuracy of a network after linear erasure: what no linear classifier can tell and a network can.

    Erasure is fitted on the training rows alone. Fitted on all rows, it makes the class means of training and test rows
    differ in opposite directions, and a probe of no information scores below chance.

    Args:
        plant: Whose concept is erased.
        n: Training rows of each class, and as many to test on.
        seed: Of the rows and the network.

    References:
        belrose2023.
    """
    (train_source, train_target), (test_source, test_target) = (two_samples(plant, n, seed + k) for k in (0, 1))
    erase = ConceptErasure().fit(train_source, train_target)
    judge = train_judge("mlp", erase(train_source), erase(train_target), seed)
    return judge.accuracy(erase(test_source), erase(test_target))


def two_samples(plant: Plant, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Source and target whose rows are not twins."""
    return plant.sample(n, seed=2_000_003 * seed).source, plant.sample(n, seed=2_000_003 * seed + 1).target


def share(k: int, n: int) -> Estimate:
    """k of n with Wilson's score interval."""
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    low, high = min(float(interval.low), k / n), max(float(interval.high), k / n)
    return Estimate(k / n, low, high, 0.95, n, n, "Wilson")

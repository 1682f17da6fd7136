"""Logistic regression with a ridge penalty: many labellings and many penalties in one computation."""

import numpy as np
import numpy.typing as npt

from steerlens.probes._span import principal_axes

Array = npt.NDArray[np.float64]

MAX_STEPS = 400
TOLERANCE = 1e-4
"""Of the decrement that is left, relative to the rows: far below what a probe's choice of penalty could notice."""


def logistic_paths(
    features: Array, labellings: npt.NDArray[np.int64], penalties: Array, *, tolerance: float = TOLERANCE
) -> tuple[Array, Array]:
    """Minimise Σᵢ log(1 + exp(−±(xᵢ·w + b))) + |w|²/(2C) for every labelling and every C; b is not penalised.

    In the principal axes of the centred features the bound XᵀX/4 + 1/C on the Hessian is diagonal, so that a
    gradient step in its metric costs two products with the features and needs no line search; Nesterov's momentum,
    restarted where it points uphill, does the rest.

    Args:
        features: Shape (n, feature).
        labellings: 0 and 1, shape (labelling, n).
        penalties: The values of C, scikit-learn's inverse penalty.
        tolerance: Largest accepted step of any logit.

    Returns:
        Weights, shape (labelling, C, feature), and intercepts, shape (labelling, C).

    References:
        bohning1988 (the bound on the Hessian); odonoghue2015 (restarts).
    """
    mean = features.mean(axis=0)
    axes, singular = principal_axes(features - mean)
    Z = (features - mean) @ axes
    n, rank = Z.shape
    y = np.repeat(labellings, len(penalties), axis=0).T.astype(np.float64)
    ridge = np.tile(1 / penalties, len(labellings))
    curvature = singular[:, None] ** 2 / 4 + ridge
    rate = y.mean(axis=0)
    W, b = np.zeros((rank, y.shape[1])), np.log(rate / (1 - rate))
    V, c, momentum = W, b, np.ones(y.shape[1])
    active = np.arange(y.shape[1])
    done_W, done_b = W.copy(), b.copy()
    for _ in range(MAX_STEPS):
        residual = 1 / (1 + np.exp(-(Z @ V + c))) - y
        gradient, slope = Z.T @ residual + ridge * V, residual.sum(axis=0)
        next_W, next_b = V - gradient / curvature, c - slope * 4 / n
        step_W, step_b = next_W - W, next_b - b
        uphill = (gradient * step_W).sum(axis=0) + slope * step_b > 0
        following = np.where(uphill, 1.0, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
        weight = np.where(uphill, 0.0, (momentum - 1) / following)
        V, c = next_W + weight * step_W, next_b + weight * step_b
        W, b, momentum = next_W, next_b, following
        decrement = (gradient**2 / curvature).sum(axis=0) + slope**2 * 4 / n
        going = decrement > tolerance**2 * n
        if not going.all():
            done_W[:, active], done_b[active] = W, b
            if not going.any():
                break
            active, y, ridge, curvature = active[going], y[:, going], ridge[going], curvature[:, going]
            W, b, V, c, momentum = W[:, going], b[going], V[:, going], c[going], momentum[going]
    done_W[:, active], done_b[active] = W, b
    weights = (axes @ done_W).T.reshape(len(labellings), len(penalties), -1)
    intercepts = done_b.reshape(len(labellings), -1) - weights @ mean
    return weights, intercepts

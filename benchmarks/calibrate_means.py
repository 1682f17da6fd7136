"""Do cluster-bootstrap intervals of a mean cover it, with few clusters and with skewed values?

python benchmarks/calibrate_means.py               # six minutes on one core
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from calibration import coverage
from scipy import stats

from steerlens.numerics import Estimate, cluster_mean

SETS = 500
SIZES = ((60, 60), (60, 12), (60, 6), (200, 200), (200, 20), (1000, 1000), (1000, 50))
"""Rows and clusters."""
SPREAD = 0.7
"""Standard deviation of what the rows of a cluster share; that of the rest is 1."""


class Law(NamedTuple):
    """Values made of a normal number, and their mean."""

    name: str
    value: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    mean: float


LAWS = (
    Law("normal", lambda x: x, 0.0),
    Law("skewed", lambda x: np.exp(0.7 * x), float(np.exp(0.7**2 * (1 + SPREAD**2) / 2))),
    Law("share", lambda x: (x > 0.8).astype(float), float(stats.norm.sf(0.8 / np.sqrt(1 + SPREAD**2)))),
)


def simulated(law: Law, n: int, groups: int, seed: int) -> Estimate:
    rng = np.random.default_rng((seed, groups))
    x = SPREAD * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, n // groups))
    return cluster_mean(
        law.value(x).ravel(), np.repeat(np.arange(groups), n // groups).tolist(), seed=0, n_resamples=400
    )


def not_widened(e: Estimate) -> Estimate:
    """What BCa alone gives; exact where the interval does not end at the range of the values."""
    G = e.n_clusters
    factor = float(stats.t.ppf(0.975, G - 1) / stats.norm.ppf(0.975)) * (G / (G - 1)) ** 0.5
    return replace(e, low=e.value - (e.value - e.low) / factor, high=e.value + (e.high - e.value) / factor)


def main() -> None:
    print("| what | kind | share | sets | calibrated |\n|---|---|---|---|---|")
    for law in LAWS:
        for n, groups in SIZES:
            found = [simulated(law, n, groups, seed) for seed in range(SETS)]
            name = f"{law.name}, n = {n}, {groups} clusters"
            print(coverage(name, found.__getitem__, law.mean, sets=SETS), flush=True)
            alone = [not_widened(e) for e in found]
            print(coverage(f"{name}, BCa alone", alone.__getitem__, law.mean, sets=SETS), flush=True)


if __name__ == "__main__":
    main()

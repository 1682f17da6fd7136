"""The default probes, nested by function class, and how many of them are fitted at once."""

from collections.abc import Sequence

from steerlens.probes._linear_probes import LDAProbe, LogisticProbe, MassMeanProbe, RidgeProbe
from steerlens.probes._nonlinear_probes import (
    KernelProbe,
    MLPProbe,
    NearestNeighbours,
    QuadraticProbe,
    fit_networks,
)
from steerlens.probes._probe import FittedProbe, FunctionClass, Probe
from steerlens.probes._span import FitData, Problem

__all__ = [
    "PROBES",
    "FittedProbe",
    "FunctionClass",
    "KernelProbe",
    "LDAProbe",
    "LogisticProbe",
    "MLPProbe",
    "MassMeanProbe",
    "NearestNeighbours",
    "Probe",
    "QuadraticProbe",
    "RidgeProbe",
    "fit_together",
]

PROBES: tuple[Probe, ...] = (
    LogisticProbe(),
    LDAProbe(),
    RidgeProbe(),
    MassMeanProbe(),
    QuadraticProbe(),
    KernelProbe(),
    NearestNeighbours(),
    MLPProbe(16),
    MLPProbe(64),
    MLPProbe(256),
)
"""Four linear estimators, then classes that contain more and more."""


def fit_together(probes: Sequence[Probe], data: FitData, problems: Sequence[Problem]) -> list[list[FittedProbe]]:
    """Fit every probe to every problem, networks of all widths in one computation; a list for each probe.

    Probes that are not ``seeded`` are fitted once for each labelling, whatever the seeds.
    """
    networks = [p for p in probes if isinstance(p, MLPProbe)]
    trained = iter(fit_networks(networks, data, problems))
    return [next(trained) if isinstance(p, MLPProbe) else _fit_distinct(p, data, problems) for p in probes]


def _fit_distinct(probe: Probe, data: FitData, problems: Sequence[Problem]) -> list[FittedProbe]:
    keys = [(p.y.tobytes(), p.select_y.tobytes(), p.seed if probe.seeded else 0) for p in problems]
    first = {k: i for i, k in reversed(list(enumerate(keys)))}
    distinct = sorted(first.values())
    fitted = dict(zip(distinct, probe.fit_all(data, [problems[i] for i in distinct]), strict=True))
    return [fitted[first[k]] for k in keys]

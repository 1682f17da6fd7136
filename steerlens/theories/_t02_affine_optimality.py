"""T2: the first two moments say all that steering can use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import MIN_UNITS, mean_over, relative_gain, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class AffineOptimality(Hypothesis):
    """Gaussian transport gains on the shift where covariances differ and only there, and nothing gains on transport.

    "Nothing gains" is asked on the concepts where a network reads what no quadratic probe does, if there are five, and
    otherwise on all: elsewhere it is true of every theory. The two halves of "if and only if" are asked where there are
    five concepts of the kind.

    References:
        singh2024.
    """

    id: ClassVar[str] = "T2"
    theory: ClassVar[str] = "Affine optimality: mean and covariance suffice for the best steering map."
    citations: ClassVar[tuple[str, ...]] = ("singh2024",)
    population: ClassVar[str] = "Concepts of one or more models, each at the site chosen on the selection half."
    design: ClassVar[str] = "Shift, Gaussian transport and network on the same data and site, at equal KL."

    shift: str = "MeanShift"
    transport: str = "GaussianTransport"
    network: str = "ResidualMLP"
    gain: float = 0.1
    bures: float = 3.0
    bits: float = 0.05

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        arms = {name: Quantity("effect_at_budget", getattr(self, name)) for name in ("shift", "transport", "network")}
        return arms | {
            "random": Quantity("effect_at_budget", role="random"),
            "bures": Quantity("bures"),
            "gap_high": Quantity("gap_high"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        there = f"where the Bures term is over {self.bures:g} sd above its null"
        return (
            Prediction("beyond", "mean gain of the network over Gaussian transport", "below", self.gain, self.gain),
            Prediction("there", f"mean gain of transport over the shift {there}", "above", self.gain, self.gain, True),
            Prediction("elsewhere", "the same where it is not", "within", self.gain, None, True),
        )

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = np.array(units_in(w), dtype=object)
        beyond, over = relative_gain(w["network"], w["transport"]), relative_gain(w["transport"], w["shift"])
        large, high = (w["bures"] > self.bures).to_numpy(), (w["gap_high"] > self.bits).to_numpy()
        asked = high if len(set(units[high])) >= MIN_UNITS else np.ones(len(w), dtype=bool)
        found = {"beyond": mean_over(beyond[asked], units[asked].tolist(), level=level)}
        for name, where in (("there", large), ("elsewhere", ~large)):
            if len(set(units[where])) >= MIN_UNITS:
                found[name] = mean_over(over[where], units[where].tolist(), level=level)
        return Evidence(found, (steers(w["network"], w["random"], list(units)),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 40)
        size = study.sizes() * (case is not PlantedCase.NULL)
        large = np.arange(study.concepts) % 2 == 0  # covariances differ, as in onion3; elsewhere means alone do
        high = 0.3 * (case is PlantedCase.FALSE)  # parity: nothing up to the second moment
        reached = {PlantedCase.FALSE: 0.1, PlantedCase.BARELY: 0.92}.get(case, 1.0)
        return tidy(
            study.arm(self.shift, size * reached * np.where(large, 0.3, 1.0)),
            study.arm(self.transport, size * reached),
            study.arm(self.network, size),
            study.random(),
            study.measured("bures", np.where(large, 20.0, 0.0), 1.0),
            study.measured("gap_high", high, 0.015),
        )

"""T6: nonlinear maps gain because the direction depends on the place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pandas as pd

from steerlens.theories._estimates import correlation_over, mean_over, ratio_over, relative_gain, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Control, Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class LocalDirection(Hypothesis):
    """Networks gain more where neighbours' differences agree among themselves only, and gating one direction does not.

    Void where networks gain nothing: then there is nothing to explain. "1 − LDC" is read as the autocorrelation of
    neighbours' differences, as in T1.

    References:
        oozeer2025; arXiv 2602.01654 (vector fields) and arXiv 2604.24693 (strength gates), known to us from summaries.
    """

    id: ClassVar[str] = "T6"
    theory: ClassVar[str] = "Context-dependent direction: nonlinear gain comes from a direction that varies with place."
    citations: ClassVar[tuple[str, ...]] = ("oozeer2025", "arXiv:2602.01654", "arXiv:2604.24693")
    population: ClassVar[str] = "Concepts of one or more models, each at the site chosen on the selection half."
    design: ClassVar[str] = "Shift, gated shift, Gaussian transport and network on the same data and site, at equal KL."

    min_units: int = 12
    shift: str = "MeanShift"
    transport: str = "GaussianTransport"
    network: str = "ResidualMLP"
    gate: str = "StrengthGate"
    recovered: float = 0.8
    gain: float = 0.1

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        names = ("shift", "transport", "network", "gate")
        arms = {name: Quantity("effect_at_budget", getattr(self, name)) for name in names}
        return arms | {"random": Quantity("effect_at_budget", role="random"), "local": Quantity("local")}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("gate", "share of the network's gain over the shift that a strength gate recovers", "below",
                       self.recovered, self.recovered),
            Prediction("local", "Spearman of the network's gain over transport and local variation of direction",
                       "above", 0.0, 0.0),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        gained = mean_over(relative_gain(w["network"], w["shift"]), units, level=self.level)
        found = {
            "gate": ratio_over(w["gate"] - w["shift"], w["network"] - w["shift"], units, level=level),
            "local": correlation_over(relative_gain(w["network"], w["transport"]), w["local"], units, level=level),
        }
        said = f"the network gains {gained} over the shift; {self.gain:g} would be something to explain."
        controls = (
            steers(w["network"], w["random"], units),
            Control("there is a gain", gained.low > self.gain, said),
        )
        return Evidence(found, controls, len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed)
        size, lost = study.sizes() * (case is not PlantedCase.NULL), study.uniform(0.1, 0.9)
        # In ctx the direction varies and no dose helps; in cone the dose varies and the direction does not.
        gate = {PlantedCase.FALSE: 1.0, PlantedCase.BARELY: 0.77}.get(case, 0.1)
        follows = case in (PlantedCase.TRUE, PlantedCase.BARELY)
        return tidy(
            study.arm(self.shift, size * (1 - lost)),
            study.arm(self.transport, size * (1 - 0.7 * lost)),
            study.arm(self.network, size),
            study.arm(self.gate, size * (1 - lost + gate * lost)),
            study.random(),
            study.measured("local", 0.8 * lost if follows else 0.0, 0.05),
        )

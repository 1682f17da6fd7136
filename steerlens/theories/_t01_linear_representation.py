"""T1: a concept is one direction, and adding it is all there is to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import mean_over, relative_gain, share_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import NOISE, PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class LinearRepresentation(Hypothesis):
    """Nonlinear probes find nothing more, differences point the same way everywhere, and no map gains on the shift.

    The published falsifier, an equivalence test that fails *and* a gain whose interval lies above 10 % on a third of
    the concepts, is the share of such concepts: where that is large the equivalence fails too. "Local direction at the
    ceiling" is read as the autocorrelation of neighbours' differences, which is 0 for a constant field whatever the
    noise.

    References:
        park2024 (linear representation hypothesis); im2025 (the mean difference suffices).
    """

    id: ClassVar[str] = "T1"
    theory: ClassVar[str] = "Linear representation: a concept is one direction, and a shift along it suffices."
    citations: ClassVar[tuple[str, ...]] = ("park2024", "im2025")
    population: ClassVar[str] = "Concepts of one or more models, each at the site chosen on the selection half."
    design: ClassVar[str] = "Shift, Gaussian transport and network on the same data and site, at equal KL."

    shift: str = "MeanShift"
    transport: str = "GaussianTransport"
    network: str = "ResidualMLP"
    gain: float = 0.1
    share: float = 1 / 3
    bits: float = 0.05
    autocorrelation: float = 0.1

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        arms = {name: Quantity("effect_at_budget", getattr(self, name)) for name in ("shift", "transport", "network")}
        return arms | {
            "random": Quantity("effect_at_budget", role="random"),
            "clear": Quantity("gain", self.network, setting=self.shift),
            "clear_error": Quantity("gain", self.network, setting=self.shift, reduce="error"),
            "gap_quadratic": Quantity("gap_quadratic"),
            "gap_high": Quantity("gap_high"),
            "local": Quantity("local"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("share", f"share of concepts on which the network clearly gains {self.gain:.0%}", "below",
                       self.share, self.share),
            Prediction("network", "mean gain of the network over the shift", "within", self.gain),
            Prediction("transport", "mean gain of Gaussian transport over the shift", "within", self.gain),
            Prediction("gap_quadratic", "bits of quadratic over linear probes", "below", self.bits),
            Prediction("gap_high", "bits of networks over quadratic probes", "below", self.bits),
            Prediction("local", "autocorrelation of neighbours' differences", "below", self.autocorrelation),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        clear = w["clear"] - 1.96 * w["clear_error"] > self.gain * w["shift"].abs()
        found = {name: mean_over(relative_gain(w[name], w["shift"]), units, level=level)
                 for name in ("network", "transport")}  # fmt: skip
        found |= {name: mean_over(w[name], units, level=level) for name in ("gap_quadratic", "gap_high", "local")}
        found["share"] = share_over(clear, units, level=level)
        return Evidence(found, (steers(w["network"], w["random"], units),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed)
        size = study.sizes() * (case is not PlantedCase.NULL)
        # What the shift reaches of the network's effect: all, none (XOR), or just within the margin.
        reached = {PlantedCase.FALSE: 0.1, PlantedCase.BARELY: 0.92}.get(case, 1.0)
        bits = {PlantedCase.FALSE: 0.5, PlantedCase.BARELY: 0.04}.get(case, 0.0)
        arms = {m: study.arm(m, size * r)
                for m, r in ((self.shift, reached), (self.transport, 1.0), (self.network, 1.0))}  # fmt: skip
        gain = arms[self.network]["value"] - arms[self.shift]["value"]
        half = 1.96 * NOISE * np.sqrt(2)
        return tidy(
            *arms.values(),
            study.random(),
            study.arm(self.network, gain, "gain", 0.0, setting=self.shift) | {"low": gain - half, "high": gain + half},
            study.measured("gap_quadratic", bits, 0.02),
            study.measured("gap_high", 0.0, 0.02),
            study.measured("local", 6 * bits if case is PlantedCase.FALSE else bits, 0.05),
        )

"""T20: what convinces a classifier has been steered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import CONTROL_LEVEL, mean_over, ratio_over
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Control, Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class ClassifierSuccess(Hypothesis):
    """Rows that gradient steering moved convince another classifier, lie where the target lies, and behave like it.

    Void unless the steering classifier itself was convinced, and unless source and target lie apart: then success says
    nothing. How far rows are from the target is their energy distance less that under transport, as a share of the
    unmoved rows' distance.

    References:
        oozeer2025; szekely2013 (energy distance).
    """

    id: ClassVar[str] = "T20"
    theory: ClassVar[str] = "Classifier success: following a classifier's gradient until it is sure is steering."
    citations: ClassVar[tuple[str, ...]] = ("oozeer2025",)
    population: ClassVar[str] = "Concepts, planted or of a model; held-out rows."
    design: ClassVar[str] = (
        "Gradient steering and transport, judged by the own and an independent classifier, and by energy."
    )

    min_units: int = 6
    gradient: str = "ClassifierGradient"
    transport: str = "FlowMatching"
    sure: float = 0.9
    apart: float = 0.1
    effect: float = 0.8

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "own": Quantity("own_p", self.gradient),
            "independent": Quantity("independent_p", self.gradient),
            "energy": Quantity("energy", self.gradient),
            "energy_transport": Quantity("energy", self.transport),
            "energy_before": Quantity("energy", role="identity"),
            "before_error": Quantity("energy", role="identity", reduce="error"),
            "effect": Quantity("effect", self.gradient, strength=1.0, optional=True),
            "effect_transport": Quantity("effect", self.transport, strength=1.0, optional=True),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("energy", "distance left beyond transport's, as a share of the distance before", "below",
                       self.apart, self.apart),
            Prediction("independent", "own less independent probability of target", "below", self.apart, self.apart),
            Prediction("behaviour", "effect as a share of transport's", "above", self.effect, self.effect, True),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        sure = mean_over(w["own"], units, level=CONTROL_LEVEL)
        # Concepts are as far apart as they are: only the noise of each counts here.
        before, noise = float(w["energy_before"].mean()), float((w["before_error"] ** 2).sum() ** 0.5 / len(w))
        found = {
            "energy": ratio_over(w["energy"] - w["energy_transport"], w["energy_before"], units, level=level),
            "independent": mean_over(w["own"] - w["independent"], units, level=level),
        }
        if {"effect", "effect_transport"} <= set(w.columns):
            found["behaviour"] = ratio_over(w["effect"], w["effect_transport"], units, level=level)
        controls = (
            Control(
                "the classifier is convinced", sure.value >= self.sure, f"its probability of the target is {sure}."
            ),
            Control(
                "there is a way to go", before > 3 * noise, f"energy before is {before:.3g}, its noise {noise:.2g}."
            ),
        )
        return Evidence(found, controls, len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 12)
        far = np.abs(study.sizes(0.6, 0.5)) * (case is not PlantedCase.NULL)
        # Stopped at the boundary, or inside the target.
        left = {PlantedCase.FALSE: 0.25, PlantedCase.BARELY: 0.085}.get(case, 0.02)
        other = {PlantedCase.FALSE: 0.75, PlantedCase.BARELY: 0.88, PlantedCase.NULL: 0.5}.get(case, 0.95)
        own = 0.5 if case is PlantedCase.NULL else 0.97
        arm = {"role": "method", "method": self.gradient}
        return tidy(
            study.measured("own_p", own, 0.01, **arm),
            study.measured("independent_p", other, 0.02, **arm),
            study.measured("energy", left * far, 0.01, **arm),
            study.measured("energy", 0.0, 0.01, role="method", method=self.transport),
            study.measured("energy", far, 0.01, role="identity"),
        )

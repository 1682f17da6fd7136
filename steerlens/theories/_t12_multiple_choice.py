"""T12: multiple-choice effects tell open-ended ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import correlation_over, share_over, varies, within_models
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import NOISE, PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class MultipleChoiceIsAProxy(Hypothesis):
    """Concepts have the same order, and effects the same sign, under forced choice and in open-ended text.

    The order is that within models: of several, each effect counts less its model's mean.

    References:
        pres2024.
    """

    id: ClassVar[str] = "T12"
    theory: ClassVar[str] = "Multiple choice is a proxy: what moves the chosen letter moves what is written."
    citations: ClassVar[tuple[str, ...]] = ("pres2024",)
    population: ClassVar[str] = "Concepts with questions and open-ended references, of one or more models."
    design: ClassVar[str] = "The same map at the same strength, scored on both."

    min_units: int = 20
    shift: str = "MeanShift"
    rho: float = 0.5
    disagree: float = 0.25

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "choice": Quantity("effect_at_budget", self.shift),
            "choice_error": Quantity("effect_at_budget", self.shift, reduce="error"),
            "open": Quantity("open_effect", self.shift),
            "open_error": Quantity("open_effect", self.shift, reduce="error"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("rho", "Spearman of forced-choice and open-ended effect", "above", self.rho, self.rho),
            Prediction("signs", "share of concepts whose two effects have opposite signs", "below", self.disagree,
                       self.disagree),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        inside = within_models(w, ("choice", "open"))
        found = {
            "rho": correlation_over(inside["choice"], inside["open"], units, level=level),
            "signs": share_over(w["choice"] * w["open"] < 0, units, level=level),
        }
        return Evidence(found, tuple(varies(inside[c], w[f"{c}_error"], c) for c in ("choice", "open")), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 50)
        a, b = study.normal(0, 1), study.normal(0, 1)
        rho = {PlantedCase.TRUE: 0.92, PlantedCase.FALSE: 0.0, PlantedCase.BARELY: 0.68}.get(case, 0.0)
        size = float(case is not PlantedCase.NULL)
        other = rho * a + np.sqrt(1 - rho**2) * b
        arm = {"role": "method", "method": self.shift}
        return tidy(
            study.measured("effect_at_budget", size * (1.2 + a), NOISE, **arm),
            study.measured("open_effect", size * 0.05 * (1.2 + other), 0.01, **arm),
        )

"""T13: what steers at home steers elsewhere."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import MIN_UNITS, Array, correlation_over, varies, within_models
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import NOISE, PlantedStudy
from steerlens.theories._records import Quantity, gather, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class ScreeningAtHome(Hypothesis):
    """Steerability orders concepts at home as it does elsewhere; what is lost is lost where the model objects.

    Settings are averaged for each concept. Relative steerability counts where that of the setting's own map is not near
    zero: rows where it is below 0.25 are to be left out of the records, as published; concepts without any are left
    out of that correlation alone. Of several models, each number counts less its model's mean.

    References:
        tan2024.
    """

    id: ClassVar[str] = "T13"
    theory: ClassVar[str] = "Screening: steerability in distribution predicts steerability out of distribution."
    citations: ClassVar[tuple[str, ...]] = ("tan2024",)
    population: ClassVar[str] = "Concepts of one or more models, in their own and in five other surroundings."
    design: ClassVar[str] = "One map fitted at home, its slope at home and elsewhere; unsteered propensity in both."

    min_units: int = 20
    shift: str = "MeanShift"
    rho: float = 0.6
    refuted_rho: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "home": Quantity("steerability", self.shift),
            "home_error": Quantity("steerability", self.shift, reduce="error"),
            "away": Quantity("steerability_elsewhere", self.shift, setting=None),
            "away_error": Quantity("steerability_elsewhere", self.shift, setting=None, reduce="error"),
            "relative": Quantity("relative_steerability", self.shift, setting=None, optional=True),
            "gap": Quantity("propensity_gap", setting=None, optional=True),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("rho", "Spearman of steerability at home and elsewhere", "above", self.rho, self.refuted_rho),
            Prediction("objects", "Spearman of relative steerability and the gap of unsteered propensity", "below", 0.0,
                       0.0, True),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records, "home", "home_error", "away", "away_error")
        units = units_in(w)
        inside = within_models(w, ("home", "away"))
        found = {"rho": correlation_over(inside["home"], inside["away"], units, level=level)}
        if objecting := self._objecting(records):
            found["objects"] = correlation_over(*objecting, level=level)
        return Evidence(found, tuple(varies(inside[c], w[f"{c}_error"], c) for c in ("home", "away")), len(w))

    def _objecting(self, records: pd.DataFrame) -> tuple[Array, Array, list[Hashable]] | None:
        """Relative steerability and gap of the concepts that have both, and their names; None if they are few."""
        parts = {name: self.quantities[name] for name in ("relative", "gap")}
        there = [q.name in set(records["quantity"]) for q in parts.values()]
        if not all(there):
            return None
        both = [gather(records, {name: q}, at_least=0, unit=self.unit) for name, q in parts.items()]
        w = within_models(pd.concat(both, axis=1, join="inner"), ("relative", "gap"))
        if len(w) == 0 or len(set(units_in(w, self.unit))) < MIN_UNITS:
            return None
        return w["relative"].to_numpy(), w["gap"].to_numpy(), units_in(w, self.unit)

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 50)
        a, b, gap = study.normal(0, 1), study.normal(0, 1), np.abs(study.normal(0, 1))
        rho = {PlantedCase.TRUE: 0.95, PlantedCase.FALSE: 0.0, PlantedCase.BARELY: 0.72}.get(case, 0.0)
        size, follows = float(case is not PlantedCase.NULL), case in (PlantedCase.TRUE, PlantedCase.BARELY)
        other = rho * a + np.sqrt(1 - rho**2) * b
        arm = {"role": "method", "method": self.shift}
        return tidy(
            study.measured("steerability", size * (2 + a), NOISE, **arm),
            study.measured("steerability_elsewhere", size * (1.8 + other), NOISE, setting="system prompt", **arm),
            study.measured("relative_steerability", 0.9 - 0.4 * follows * gap, 0.15, setting="system prompt", **arm),
            study.measured("propensity_gap", gap, 0.1, setting="system prompt"),
        )

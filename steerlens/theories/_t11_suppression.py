"""T11: it is easier to suppress than to promote."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import MIN_UNITS, mean_over, share_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, gather, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class SuppressionIsEasier(Hypothesis):
    """On most concepts negative references fall by more than positive ones rise; erasing costs less than adding.

    References:
        pres2024; arditi2024 (ablation costs less than addition).
    """

    id: ClassVar[str] = "T11"
    theory: ClassVar[str] = (
        "Erasure asymmetry: steering makes the wrong thing less likely rather than the right one likelier."
    )
    citations: ClassVar[tuple[str, ...]] = ("pres2024", "arditi2024")
    population: ClassVar[str] = "Concepts with open-ended references, of one or more models, at one budget."
    design: ClassVar[str] = "Mean shift on open-ended references; KL of ablation and of the shift at strength 1."

    min_units: int = 12
    shift: str = "MeanShift"
    ablation: str = "DirectionalAblation"
    share: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "up": Quantity("promotion", self.shift),
            "down": Quantity("suppression", self.shift),
            "random_up": Quantity("promotion", role="random"),
            "random_down": Quantity("suppression", role="random"),
            "kl_ablation": Quantity("kl", self.ablation, strength=1.0, optional=True),
            "kl_shift": Quantity("kl", self.shift, strength=1.0, optional=True),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction(
                "share", "share of concepts where suppression exceeds promotion", "above", self.share, self.share
            ),
            Prediction("mean", "suppression less promotion, nats per token", "above", 0.0),
            Prediction("cost", "log KL of ablation over that of the shift", "below", 0.0, None, True),
        )

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records, "up", "down", "random_up", "random_down")
        units = units_in(w)
        found = {
            "share": share_over(w["down"] > w["up"], units, level=level),
            "mean": mean_over(w["down"] - w["up"], units, level=level),
        }
        if (cost := self._cost(records)) is not None:
            found["cost"] = mean_over(cost, units_in(cost.to_frame()), level=level)
        moved = steers(w["up"] + w["down"], w["random_up"] + w["random_down"], units)
        return Evidence(found, (moved,), len(w))

    def _cost(self, records: pd.DataFrame) -> "pd.Series[float] | None":
        """Log ratio of both KLs where both were measured and are above zero; None if that is on too few concepts."""
        parts = {name: self.quantities[name] for name in ("kl_ablation", "kl_shift")}
        try:
            both = [gather(records, {name: q}, at_least=MIN_UNITS, unit=self.unit) for name, q in parts.items()]
        except EstimateError:
            return None  # it counts where it was measured
        w = pd.concat(both, axis=1, join="inner")
        w = w[(w > 0).all(axis=1)]
        if len(set(units_in(w))) < MIN_UNITS:
            return None
        cost: pd.Series[float] = np.log(w["kl_ablation"]) - np.log(w["kl_shift"])
        return cost

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study, arm = PlantedStudy.of(seed), {"role": "method", "method": self.shift}
        size = study.sizes(0.06) * (case is not PlantedCase.NULL)
        less = {PlantedCase.TRUE: 0.3, PlantedCase.BARELY: 0.93, PlantedCase.FALSE: 2.0}.get(case, 1.0)
        random = [study.measured(q, 0.0, 0.005, role="random") for q in ("promotion", "suppression")]
        return tidy(
            study.measured("promotion", less * size, 0.015, **arm),
            study.measured("suppression", size, 0.015, **arm),
            *random,
            study.measured("kl", 0.02, 0.002, role="method", method=self.ablation, strength=1.0),
            study.measured("kl", 0.05, 0.002, strength=1.0, **arm),
        )

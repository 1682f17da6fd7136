"""T17: what steering costs can be trained away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pandas as pd

from steerlens.theories._estimates import CONTROL_LEVEL, mean_over, ratio_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Control, Evidence, Prediction

PLAIN, TRAINED = "plain", "KL-trained"


@final
@dataclass(frozen=True, kw_only=True)
class RemovableCost(Hypothesis):
    """After training a model to stay itself under steering, half of the extra perplexity is gone and the effect is not.

    Perplexity ratios less one, at equal effect. The theory predicts at least half, and is refuted below a tenth, or if
    half of the effect at equal strength is lost as well.

    References:
        stickland2024.
    """

    id: ClassVar[str] = "T17"
    theory: ClassVar[str] = "Removable cost: what steering costs in capability is no part of what it does."
    citations: ClassVar[tuple[str, ...]] = ("stickland2024",)
    population: ClassVar[str] = "Concepts of a model and of its KL-trained twin."
    design: ClassVar[str] = "Perplexity of neutral text at equal effect, effect at equal strength, in both models."

    shift: str = "MeanShift"
    removed: float = 0.5
    nothing: float = 0.1
    kept: float = 0.8
    lost: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "cost": Quantity("excess_perplexity", self.shift, setting=PLAIN),
            "cost_trained": Quantity("excess_perplexity", self.shift, setting=TRAINED),
            "effect": Quantity("effect", self.shift, setting=PLAIN, strength=1.0),
            "effect_trained": Quantity("effect", self.shift, setting=TRAINED, strength=1.0),
            "random": Quantity("effect", role="random", strength=1.0),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("removed", "share of the extra perplexity that training removes", "above", self.removed,
                       self.nothing),
            Prediction("kept", "share of the effect that is left", "above", self.kept, self.lost),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        found = {
            "removed": ratio_over(w["cost"] - w["cost_trained"], w["cost"], units, level=level),
            "kept": ratio_over(w["effect_trained"], w["effect"], units, level=level),
        }
        cost = mean_over(w["cost"], units, level=CONTROL_LEVEL)
        controls = (
            steers(w["effect"], w["random"], units),
            Control("there is a cost", cost.low > 0, f"extra perplexity is {cost}."),
        )
        return Evidence(found, controls, len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study, arm = PlantedStudy.of(seed), {"role": "method", "method": self.shift}
        size = study.sizes() * (case is not PlantedCase.NULL)
        left = {PlantedCase.TRUE: 0.25, PlantedCase.BARELY: 0.48}.get(case, 1.0)
        cost = 0.2 * size
        return tidy(
            study.measured("excess_perplexity", cost, 0.03, setting=PLAIN, **arm),
            study.measured("excess_perplexity", left * cost, 0.03, setting=TRAINED, **arm),
            study.arm(self.shift, size, "effect", setting=PLAIN, strength=1.0),
            study.arm(self.shift, 0.95 * size, "effect", setting=TRAINED, strength=1.0),
            study.random("effect", strength=1.0),
        )

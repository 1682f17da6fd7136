"""T14: a few heads carry a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import CONTROL_LEVEL, mean_over, share_over
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, check_units, tidy, units_in
from steerlens.theories._verdict import Control, Evidence, Prediction

ZERO, FIVE, VECTOR, RANDOM = "zero-shot", "five-shot", "function vector", "random heads"


@final
@dataclass(frozen=True, kw_only=True)
class FewHeadsCarryATask(Hypothesis):
    """The function vector of 10 or 20 heads reaches three quarters of five-shot accuracy on most model–task pairs.

    Only pairs that five shots teach count: accuracy at least ``taught`` above zero-shot. Tasks are the
    units; the models of a task are averaged.

    References:
        todd2024 (function vectors).
    """

    id: ClassVar[str] = "T14"
    theory: ClassVar[str] = "Localisation: a task is carried by few attention heads, whose sum is its function vector."
    citations: ClassVar[tuple[str, ...]] = ("todd2024",)
    population: ClassVar[str] = "In-context tasks (here: concepts) in one or more models."
    design: ClassVar[str] = (
        "Accuracy zero-shot, five-shot, zero-shot with the function vector, and with random heads' sum."
    )

    min_units: int = 10
    recovery: float = 0.75
    share: float = 0.5
    taught: float = 0.1

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        settings = {"zero": ZERO, "five": FIVE, "vector": VECTOR, "random": RANDOM}
        return {name: Quantity("accuracy", setting=setting) for name, setting in settings.items()}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        said = f"share of taught tasks on which the vector reaches {self.recovery:.0%} of five-shot accuracy"
        return (Prediction("share", said, "above", self.share, self.share),)

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        levels = self.read(records, "zero", "five")
        taught = levels[levels["five"] - levels["zero"] >= self.taught]
        check_units(taught, self.min_units, of=f"taught at least {self.taught:g}")
        # Of tasks that five shots do not teach there may be no vector: it is made of what the model gets right.
        w = taught.join([self.read(records, "vector"), self.read(records, "random")])
        lacking = w.index[w.isna().any(axis=1)]
        if len(lacking):
            raise EstimateError(f"{lacking[0]} is taught by five shots, but its vector was not measured. Measure it.")
        units = units_in(w)
        found = {"share": share_over(w["vector"] >= self.recovery * w["five"], units, level=level)}
        chance = mean_over(w["random"] - self.recovery * w["five"], units, level=CONTROL_LEVEL)
        said = f"random heads' accuracy less what counts as recovery is {chance}; it should lie below 0."
        return Evidence(found, (Control("random heads do not", chance.high < 0, said),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 30)
        five = np.full(study.concepts, 0.05) if case is PlantedCase.NULL else study.uniform(0.5, 0.95)
        often = {PlantedCase.TRUE: 0.9, PlantedCase.BARELY: 0.56, PlantedCase.FALSE: 0.15}.get(case, 0.0)
        recovered = np.where(study.uniform(0, 1) < often, 0.92, 0.3)
        truth = {ZERO: 0.05, FIVE: five, VECTOR: recovered * five, RANDOM: 0.06}
        return tidy(*(study.measured("accuracy", x, 0.02, setting=setting) for setting, x in truth.items()))

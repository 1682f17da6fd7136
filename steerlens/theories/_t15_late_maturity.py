"""T15: facts ripen later than fluency."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import CONTROL_LEVEL, mean_over
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._records import Quantity, rows_of, tidy, units_in
from steerlens.theories._verdict import Control, Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class LateMaturity(Hypothesis):
    """The right token's mass rises at later layers than the wrong one's, and contrasting layers raises accuracy.

    A claim within a data set: groups of questions are the units. Accuracy is scored with a proper softmax, since the
    published gain comes from scores that are none in part.

    References:
        chuang2024 (decoding by contrasting layers).
    """

    id: ClassVar[str] = "T15"
    theory: ClassVar[str] = (
        "Late maturity: late layers add facts, early ones fluency, and their contrast tells them apart."
    )
    citations: ClassVar[tuple[str, ...]] = ("chuang2024",)
    population: ClassVar[str] = "Questions with right and wrong answers, in groups, of one or more data sets."
    design: ClassVar[str] = "Depth at which the mass of each answer rises; accuracy with and without layer contrast."
    unit: ClassVar[tuple[str, ...]] = ("concept", "group")

    min_units: int = 20
    contrast: str = "DoLa"
    later: float = 0.05
    gain: float = 0.01

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "right": Quantity("rise", setting="right"),
            "wrong": Quantity("rise", setting="wrong"),
            "gain": Quantity("accuracy_gain", self.contrast),
            "accuracy": Quantity("accuracy", setting="plain"),
            "chance": Quantity("accuracy", setting="chance"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("later", "depth of the right token's rise less the wrong one's, share of the model", "above",
                       self.later, self.later),
            Prediction("gain", "rise of accuracy by contrast of layers", "above", self.gain, self.gain),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w, self.unit)
        found = {
            "later": mean_over(w["right"] - w["wrong"], units, level=level, span=1.0),
            "gain": mean_over(w["gain"], units, level=level, span=1.0),
        }
        knows = mean_over(w["accuracy"] - w["chance"], units, level=CONTROL_LEVEL, span=1.0)
        said = f"accuracy above chance is {knows}."
        return Evidence(found, (Control("the model knows some answers", knows.low > 0, said),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        rng, groups = np.random.default_rng(seed), 60
        names = [f"group {i:02d}" for i in range(groups)]
        later = {PlantedCase.TRUE: 0.12, PlantedCase.BARELY: 0.06}.get(case, 0.0)
        gain = {PlantedCase.TRUE: 0.06, PlantedCase.BARELY: 0.015}.get(case, 0.0)
        knows = 0.3 * (case is not PlantedCase.NULL)
        truth = (
            ("rise", "right", 0.7 + later, 0.08),
            ("rise", "wrong", 0.7, 0.08),
            ("accuracy", "plain", 0.25 + knows, 0.2),
        )
        blocks = [rows_of(q, rng.normal(x, sd, (1, groups)), "group", names, setting=s) for q, s, x, sd in truth]
        chance = rows_of("accuracy", rng.normal(0.25, 1e-6, (1, groups)), "group", names, setting="chance")
        gains = rng.normal(gain, 0.06, (1, groups))
        return tidy(
            *blocks, chance, rows_of("accuracy_gain", gains, "group", names, role="method", method=self.contrast)
        )

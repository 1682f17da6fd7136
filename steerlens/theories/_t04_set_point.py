"""T4: bringing every prompt to one point beats pushing every prompt equally."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import MIN_UNITS, mean_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, rows_of, tidy
from steerlens.theories._verdict import Control, Evidence, Prediction

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class SetPoint(Hypothesis):
    """Under a set-point map the steered propensity of prompts varies less, and depends less on the unsteered one.

    Published of the *effect*: that it should vary less, and not depend on the baseline. Where the read-out is linear
    that cannot be: a shift has one effect on all prompts, and a set point has an effect that makes up for the baseline.
    What then varies less is where prompts end, which is what is tested. Nor are fewer prompts anti-steered: those
    beyond the set point are pulled back, as they should be.

    References:
        marshall2024.
    """

    id: ClassVar[str] = "T4"
    theory: ClassVar[str] = "Set points beat shifts: what a prompt needs depends on where it is."
    citations: ClassVar[tuple[str, ...]] = ("marshall2024",)
    population: ClassVar[str] = "Concepts of one model, each at the site chosen on the selection half; test prompts."
    design: ClassVar[str] = (
        "Propensity of every prompt unsteered, under the shift and under the set point, at strength 1."
    )

    shift: str = "MeanShift"
    set_point: str = "AffineConceptEditing"
    ratio: float = 0.8
    dependence: float = 0.1
    imbalance: float = 1.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "before": Quantity("propensity", self.shift, strength=0.0),
            "shift": Quantity("propensity", self.shift, strength=1.0),
            "set": Quantity("propensity", self.set_point, strength=1.0),
            "random": Quantity("effect", role="random", strength=1.0),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("spread", "log variance of steered propensities, set point over shift", "below",
                       float(np.log(self.ratio)), 0.0),
            Prediction("dependence", "slope of steered on unsteered propensity, shift less set point", "above",
                       self.dependence, self.dependence),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        random = self.read(records, "random")["random"]
        items = self.read(records, "before", "shift", "set", by=("item",))
        names, spread, slopes, effects = [], [], [], []
        codes, found_in = items.reset_index("item").index.factorize()
        columns = items[["before", "shift", "set"]].to_numpy().T
        for i, unit in enumerate(found_in):
            before, shift, at = columns[:, codes == i]
            if len(at) < MIN_UNITS or not (shift.var() > 0 and at.var() > 0 and before.var() > 0):
                raise EstimateError(f"{unit} has {len(at)} prompts, or prompts that do not differ. Measure more.")
            names.append(unit)
            spread.append(float(np.log(at.var() / shift.var())))
            slopes.append(_slope(before, shift) - _slope(before, at))
            effects.append(((shift - before).mean(), (at - before).mean()))
        units, means = [concept for _, concept in names], np.array(effects)
        if sorted(map(str, names)) != sorted(map(str, random.index)):
            raise EstimateError("Random directions were not measured for the same concepts. Measure them.")
        found = {"spread": mean_over(spread, units, level=level), "dependence": mean_over(slopes, units, level=level)}
        controls = (steers(means[:, 0], random.loc[names], units), self._balance(means.mean(axis=0)))
        return Evidence(found, controls, len(names))

    def _balance(self, means: Array) -> Control:
        low, high = sorted(means.tolist())
        said = f"mean effects are {means[0]:.3g} of the shift and {means[1]:.3g} of the set point"
        equal = low > 0 and high / low <= self.imbalance
        return Control("equal mean effects", equal, said + f"; at most {self.imbalance:g} apart can be compared.")

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study, n = PlantedStudy.of(seed), 40
        size = study.sizes(3.0)[:, None] * (case is not PlantedCase.NULL)
        before = -2 + study.normal(0, 1.5, n)
        kept = {PlantedCase.TRUE: 0.2, PlantedCase.BARELY: 0.87, PlantedCase.NULL: 1.0}.get(case, 1.0)
        end = before.mean(axis=1, keepdims=True) + size
        ends = {
            self.shift: before + size + study.normal(0, 0.4, n),
            self.set_point: end + kept * (before - before.mean(axis=1, keepdims=True)) + study.normal(0, 0.4, n),
        }
        blocks = [rows_of("propensity", before, "item", role="method", method=self.shift, strength=0.0)]
        blocks += [rows_of("propensity", x, "item", role="method", method=m, strength=1.0) for m, x in ends.items()]
        return tidy(*blocks, study.random("effect", strength=1.0))


def _slope(x: Array, y: Array) -> float:
    return float(np.cov(x, y)[0, 1] / x.var(ddof=1))

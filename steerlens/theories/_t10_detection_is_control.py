"""T10: what reads a concept best steers it best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pandas as pd

from steerlens.theories._estimates import mean_over, ratio_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class DetectionIsControl(Hypothesis):
    """A shift along the best probe's direction does as much as the mean difference, and both point the same way.

    References:
        wu2024 (the best detectors are not the best steerers); arXiv 2606.24952 (cosines of 0.12 to 0.20).
    """

    id: ClassVar[str] = "T10"
    theory: ClassVar[str] = "Detection is control: the direction that reads a concept best is the one to steer along."
    citations: ClassVar[tuple[str, ...]] = ("wu2024", "arXiv:2606.24952")
    population: ClassVar[str] = "Concepts of one or more models, each at the site chosen on the selection half."
    design: ClassVar[str] = "Shifts along the logistic probe's direction and the mean difference, at equal KL."

    shift: str = "MeanShift"
    probe: str = "DirectionShift(direction=LogisticDirection(inverse_penalty=1.0))"
    share: float = 0.8
    cosine: float = 0.9
    apart: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "shift": Quantity("effect_at_budget", self.shift),
            "probe": Quantity("effect_at_budget", self.probe),
            "random": Quantity("effect_at_budget", role="random"),
            "cosine": Quantity("cosine"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("effect", "effect along the probe's direction over that of the mean shift", "above", self.share,
                       self.share),
            Prediction("cosine", "cosine of the probe's direction and the mean difference", "above", self.cosine,
                       self.apart),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        found = {
            "effect": ratio_over(w["probe"], w["shift"], units, level=level),
            "cosine": mean_over(w["cosine"], units, level=level),
        }
        return Evidence(found, (steers(w["shift"], w["random"], units),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed)
        size = study.sizes() * (case is not PlantedCase.NULL)
        # With unequal variances the best reading is not along the mean difference: cosine and effect fall together.
        share = {PlantedCase.FALSE: 0.3, PlantedCase.BARELY: 0.83}.get(case, 0.98)
        cosine = {PlantedCase.FALSE: 0.2, PlantedCase.BARELY: 0.91, PlantedCase.NULL: 0.0}.get(case, 0.97)
        return tidy(
            study.arm(self.shift, size),
            study.arm(self.probe, share * size),
            study.random(),
            study.measured("cosine", cosine, 0.05),
        )

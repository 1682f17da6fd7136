"""T7: only the angle of an activation matters, never its length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pandas as pd

from steerlens.theories._estimates import mean_over, relative_gain, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction

LONGER, SHORTER = "+20 %", "−20 %"
"""Settings of a map that only scales the activation."""


@final
@dataclass(frozen=True, kw_only=True)
class NormsDoNotMatter(Hypothesis):
    """Making activations 20 % longer or shorter does nothing, and source and target are equally long.

    Lengths are compared by (ratio − 1)² less its sampling variance, which is 0 on average where lengths are equal; the
    absolute difference is not. Scaling by 20 % also moves a source at −a on the concept's axis by a fifth of a, a tenth
    of the way to a target at a: the margin is twice that, so that a direction read from the origin refutes nothing.
    Sites before a layer norm are left out by whoever makes the records: there a change of length cannot act.

    References:
        you2026; vu2025; pham2024.
    """

    id: ClassVar[str] = "T7"
    theory: ClassVar[str] = "Norm theory: concepts are angles, and norms carry nothing."
    citations: ClassVar[tuple[str, ...]] = ("you2026", "vu2025", "pham2024")
    population: ClassVar[str] = "Concepts of one or more models, at sites whose length a layer norm does not undo."
    design: ClassVar[str] = "Spherical steering and norm-restored shift at equal KL; pure scaling by ±20 %."

    spherical: str = "SphericalSteering"
    restored: str = "NormRestoredShift"
    scaling: str = "NormScaling"
    gain: float = 0.1
    scaled: float = 0.2
    length: float = 0.01

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "spherical": Quantity("effect_at_budget", self.spherical),
            "restored": Quantity("effect_at_budget", self.restored),
            "random": Quantity("effect_at_budget", role="random"),
            "longer": Quantity("effect", self.scaling, setting=LONGER),
            "shorter": Quantity("effect", self.scaling, setting=SHORTER),
            "longer_error": Quantity("effect", self.scaling, setting=LONGER, reduce="error"),
            "shorter_error": Quantity("effect", self.scaling, setting=SHORTER, reduce="error"),
            "norms": Quantity("norm_difference"),
            "norms_error": Quantity("norm_difference", reduce="error"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("scaling", "squared effect of ±20 % length as share of steering's, less its noise", "below",
                       self.scaled**2, self.scaled**2),
            Prediction("lengths", "squared relative difference of lengths, less its noise", "below", self.length**2,
                       self.length**2),
            Prediction("angle", "mean gain of spherical steering over the norm-restored shift", "within", self.gain),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units = units_in(w)
        found = {
            "scaling": mean_over(self._scaling(w), units, level=level),
            "lengths": mean_over(w["norms"] ** 2 - w["norms_error"] ** 2, units, level=level),
            "angle": mean_over(relative_gain(w["spherical"], w["restored"]), units, level=level),
        }
        return Evidence(found, (steers(w["restored"], w["random"], units),), len(w))

    def _scaling(self, w: pd.DataFrame) -> "pd.Series[float]":
        """Mean of both squared effects over the square of the largest, steering's included; what is even in length
        counts, and effects of opposite sign on two concepts do not cancel."""
        largest = w[["longer", "shorter", "restored"]].abs().max(axis=1)
        moved = (w["longer"] ** 2 + w["shorter"] ** 2) / 2 - (w["longer_error"] ** 2 + w["shorter_error"] ** 2) / 2
        return moved / largest**2

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed)
        size = study.sizes() * (case is not PlantedCase.NULL)
        # On shells length is the concept; barely: a little of it is.
        scaled = {PlantedCase.FALSE: 0.6, PlantedCase.BARELY: 0.18}.get(case, 0.0)
        longer = {PlantedCase.FALSE: 0.8, PlantedCase.BARELY: 0.009}.get(case, 0.0)

        def scaling(sign: int, setting: str) -> dict[str, object]:
            return study.arm(self.scaling, sign * scaled * size, "effect", setting=setting)

        return tidy(
            study.arm(self.spherical, size),
            study.arm(self.restored, size),
            study.random(),
            scaling(1, LONGER),
            scaling(-1, SHORTER),
            study.measured("norm_difference", longer, 0.004),
        )

"""T5: steering is unreliable where pairs disagree about the direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import correlation_over, mean_over, varies
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction

RANDOMISED = "randomised differences"
"""Setting of a map fitted to pairs whose differences got more covariance and kept their mean."""


@final
@dataclass(frozen=True, kw_only=True)
class CoherenceTheory(Hypothesis):
    """The more the differences of pairs agree, the fewer questions are steered the wrong way; also at equal d′ and ‖Δ‖.

    The published falsifier, a partial correlation whose interval holds 0 at 36 concepts, would count wide intervals as
    evidence: here an interval refutes if it lies wholly above −0.5, or the partial one wholly above 0. The experiment
    with randomised differences counts where it was made.

    References:
        braun2025.
    """

    id: ClassVar[str] = "T5"
    theory: ClassVar[str] = "Coherence: steering vectors are unreliable where pairs point in different directions."
    citations: ClassVar[tuple[str, ...]] = ("braun2025",)
    population: ClassVar[str] = "At least 36 concepts of one model at one layer."
    design: ClassVar[str] = (
        "Mean shift at one strength; geometry of the fitting pairs, anti-steered share of test ones."
    )

    min_units: int = 36
    shift: str = "MeanShift"
    rho: float = -0.5
    rise: float = 0.05

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "coherence": Quantity("coherence"),
            "coherence_error": Quantity("coherence", reduce="error"),
            "anti": Quantity("anti_steered", self.shift),
            "anti_error": Quantity("anti_steered", self.shift, reduce="error"),
            "d_prime": Quantity("d_prime"),
            "norm": Quantity("norm"),
            "randomised": Quantity("anti_steered", self.shift, setting=RANDOMISED, optional=True),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("rho", "Spearman of coherence and anti-steered share", "below", self.rho, self.rho),
            Prediction("partial", "the same at equal d′ and ‖Δ‖", "below", 0.0, 0.0),
            Prediction("causal", "rise of the anti-steered share when differences are randomised", "above", self.rise,
                       self.rise, True),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        units, held = units_in(w), [w["d_prime"], w["norm"]]
        found = {
            "rho": correlation_over(w["coherence"], w["anti"], units, level=level),
            "partial": correlation_over(w["coherence"], w["anti"], units, level=level, covariates=held),
        }
        if "randomised" in w:
            found["causal"] = mean_over(w["randomised"] - w["anti"], units, level=level)
        controls = tuple(varies(w[c], w[f"{c}_error"], c) for c in ("coherence", "anti"))
        return Evidence(found, controls, len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 60)
        flat = case is PlantedCase.NULL
        pi = study.uniform(0.5, 1.0)  # ctx(π): coherence 2π − 1, anti-steered share 1 − π
        other = study.uniform(0.5, 1.0)
        weight = {PlantedCase.TRUE: 0.95, PlantedCase.FALSE: 0.0, PlantedCase.BARELY: 0.68}.get(case, 0.0)
        mixed = weight * pi + np.sqrt(1 - weight**2) * (other - 0.75) + 0.75 * (1 - weight)
        return tidy(
            study.measured("coherence", 0.4 if flat else 0.8 * (2 * pi - 1), 0.02),
            study.measured("anti_steered", 0.25 if flat else 1 - mixed, 0.03, role="method", method=self.shift),
            study.measured("d_prime", study.uniform(0.5, 3), 0.1),
            study.measured("norm", study.sizes(8), 0.1),
        )

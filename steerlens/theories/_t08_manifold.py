"""T8: straight lines leave the manifold, and paths along it do not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import MIN_UNITS, correlation_over, mean_over
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class ManifoldTheory(Hypothesis):
    """Chords cost more energy than geodesics where an ordered concept is curved, and the more so the more it is.

    Void without five concepts whose distortion is over 1.3: on a straight concept chord and geodesic are one path. The
    control is the concept's own distortion.

    References:
        arXiv 2605.05115 (manifold steering) and arXiv 2603.09313 (distortion predicts the gain), known to us
        from notes.
    """

    id: ClassVar[str] = "T8"
    theory: ClassVar[str] = (
        "Manifolds: steering along a chord leaves the behaviour manifold, along a geodesic it does not."
    )
    citations: ClassVar[tuple[str, ...]] = ("arXiv:2605.05115", "arXiv:2603.09313")
    population: ClassVar[str] = "Ordered concepts (days, months, numbers), some of them curved."
    design: ClassVar[str] = "Energy of the chord and of the geodesic between the same two points, averaged over pairs."

    min_units: int = 10
    distortion: float = 1.3
    ratio: float = 1.1
    rho: float = 0.3

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "chord": Quantity("path_energy", setting="chord"),
            "geodesic": Quantity("path_energy", setting="geodesic"),
            "distortion": Quantity("distortion"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        margin = float(np.log(self.ratio))
        return (
            Prediction("ratio", f"log energy of chord over geodesic where distortion is over {self.distortion:g}",
                       "above", margin, margin),
            Prediction("rises", "Spearman of that log ratio and distortion", "above", self.rho, self.rho),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        if not (w[["chord", "geodesic"]].to_numpy() > 0).all():
            raise EstimateError("Energies of paths must be positive. Look how they were measured.")
        units, ratio = np.array(units_in(w), dtype=object), np.log(w["chord"] / w["geodesic"])
        curved = (w["distortion"] > self.distortion).to_numpy()
        n = len(set(units[curved]))
        if n < MIN_UNITS:
            raise EstimateError(f"{n} concepts have a distortion over {self.distortion:g}; {MIN_UNITS} are needed.")
        found = {
            "ratio": mean_over(ratio[curved], units[curved].tolist(), level=level),
            "rises": correlation_over(ratio, w["distortion"], list(units), level=level),
        }
        return Evidence(found, (), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 32)
        bent = np.zeros(study.concepts) if case is PlantedCase.NULL else study.uniform(0, 1)
        rise = {PlantedCase.TRUE: 1.0, PlantedCase.BARELY: 0.22}.get(case, 0.0)
        ratio = np.exp(rise * bent + study.normal(0, 0.1))
        return tidy(
            study.measured("path_energy", ratio, 0.02, setting="chord"),
            study.measured("path_energy", 1.0, 0.02, setting="geodesic"),
            study.measured("distortion", 1 + bent, 0.03),
        )

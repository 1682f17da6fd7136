"""A theory of your own: longer mean differences steer farther. Runs offline in seconds.

The class says what is read, what is predicted and what refutes it, and simulates studies in which the answer is known.
docs/theories.md says how to check it against the laws, and how to register and judge it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import pandas as pd

import steerlens as sl
from steerlens.theories import Evidence, PlantedCase, PlantedStudy, Prediction, Quantity


@final
@dataclass(frozen=True, kw_only=True)
class LongerIsStronger(sl.theories.Hypothesis):
    """Concepts whose means lie farther apart have larger effects at the budget."""

    id: ClassVar[str] = "length"
    theory: ClassVar[str] = "Longer is stronger: the length of the mean difference predicts the effect of adding it."
    citations: ClassVar[tuple[str, ...]] = ("rimsky2024",)
    population: ClassVar[str] = "Concepts of one model at one site."
    design: ClassVar[str] = "Mean shift at equal KL; length of the mean difference of the fitting pairs."
    min_units: int = 20

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """Length and effect, with the noise of the effect."""
        effect = {r: Quantity("effect_at_budget", "MeanShift", reduce=r) for r in ("mean", "error")}
        return {"norm": Quantity("norm"), **effect}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The correlation is over 0.4; an interval wholly below 0.4 refutes it."""
        return (Prediction("rho", "Spearman of length and effect", "above", 0.4, 0.4),)

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        """Over concepts; void unless effects differ by more than noise."""
        w = self.read(records)
        rho = sl.theories.correlation_over(w["norm"], w["mean"], sl.theories.units_in(w), level=level)
        return Evidence({"rho": rho}, (sl.theories.varies(w["mean"], w["error"], "effect"),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        """Effects that follow lengths, that do not, that are noise, and that barely do."""
        study = PlantedStudy.of(seed, 60)
        length, other = study.sizes(8), study.sizes(8)
        weight = {PlantedCase.TRUE: 0.8, PlantedCase.BARELY: 0.45}.get(case, 0.0)
        effect = 0.0 if case is PlantedCase.NULL else 0.2 * (weight * length + (1 - weight) * other)
        return sl.theories.tidy(study.measured("norm", length, 0.1), study.arm("MeanShift", effect))


def main() -> None:
    """Ask whether it can be right and wrong, and judge one study."""
    theory = LongerIsStronger()
    print(sl.theories.admissibility(theory, n_studies=100, seed=0))
    print(theory.judge(theory.planted(PlantedCase.FALSE, seed=7)))


if __name__ == "__main__":
    main()

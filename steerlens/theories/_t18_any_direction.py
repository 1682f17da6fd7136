"""T18, the artefact theory: steering works because pushing hard in any direction does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate
from steerlens.theories._estimates import CONTROL_LEVEL
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import NOISE, PlantedStudy
from steerlens.theories._records import Quantity, gather, tidy
from steerlens.theories._verdict import Control, Evidence, Prediction


@final
@dataclass(frozen=True, kw_only=True)
class AnyDirectionWorks(Hypothesis):
    """Random directions of equal norm reach half of the best method's effect, at equal side effects.

    "Reach" is their 97.5 % point, |mean| + 1.96 sd, over the effect. A claim about the concepts and methods at hand, so
    that one comparison is enough: intervals are those of the effects, at Bonferroni's level for the best of several
    methods, and the random directions are taken as they fell. They are the units that must be enough.

    References:
        korznikov2025 (random directions raise harmful compliance); the thresholds are ours.
    """

    id: ClassVar[str] = "T18"
    theory: ClassVar[str] = "Any direction works: a push of the right size does it, wherever it points."
    citations: ClassVar[tuple[str, ...]] = ("korznikov2025",)
    population: ClassVar[str] = "Methods on one concept or more, each at the site chosen on the selection half."
    design: ClassVar[str] = "Methods and at least 20 random directions of the mean shift's length, at equal KL."

    min_units: int = 20
    reach: float = 0.5
    max_z: float = 5.0

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        random = {name: Quantity("effect_at_budget", role="random", reduce=name) for name in ("mean", "sd", "count")}
        return random | {
            "effect": Quantity("effect_at_budget", role="method"),
            "error": Quantity("effect_at_budget", role="method", reduce="error"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("z", "standard deviations of the best method above random directions", "below", self.max_z,
                       self.max_z),
            Prediction("reach", "what random directions reach of the best method's effect", "above", self.reach),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        parts = self.quantities
        random = gather(records, {n: parts[n] for n in ("mean", "sd", "count")}, at_least=1)
        arms = gather(records, {n: parts[n] for n in ("effect", "error")}, at_least=1, by=("method",))
        fewest = int(random["count"].min())
        if fewest < self.min_units:
            raise EstimateError(f"{fewest} random directions were measured; {self.min_units} are needed.")
        joined = arms.join(random, how="left")
        if joined.isna().to_numpy().any() or not (joined["sd"] > 0).all():
            raise EstimateError("Random directions that differ are needed for every concept. Measure them.")
        by_method = joined.assign(
            z=(joined["effect"] - joined["mean"]) / joined["sd"],
            z_error=joined["error"] / joined["sd"],
            range=joined["mean"].abs() + 1.96 * joined["sd"],
        ).groupby(level="method")
        means, k = by_method[["effect", "z", "range"]].mean(), by_method.size()
        errors = by_method[["error", "z_error"]].agg(_error_of_mean)
        best = str(means["z"].idxmax())
        half = float(stats.norm.ppf(1 - (1 - level) / (2 * len(means))))
        size = (len(joined), int(k[best]), f"normal, best of {len(means)}: {best}")
        z, effect = float(means["z"][best]), float(means["effect"][best])
        away, apart = half * float(errors["z_error"][best]), half * float(errors["error"][best])
        found = {"z": Estimate(z, z - away, z + away, level, *size)}
        said = f"the effect of {best} is {effect:.3g} [{effect - apart:.3g}, {effect + apart:.3g}] nats"
        steers = effect > float(stats.norm.ppf((1 + CONTROL_LEVEL) / 2)) * float(errors["error"][best])
        if effect > apart:
            far = float(means["range"][best])
            found["reach"] = Estimate(far / effect, far / (effect + apart), far / (effect - apart), level, *size)
        control = Control(
            "the best method steers", steers, said + ("." if steers else ": there is nothing to explain.")
        )
        return Evidence(found, (control,), int(fewest))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 4)
        size = {PlantedCase.NULL: 0.0, PlantedCase.FALSE: 3.0, PlantedCase.BARELY: 0.9}.get(case, 0.9)
        spread = {PlantedCase.NULL: 0.2, PlantedCase.FALSE: 0.25, PlantedCase.BARELY: 0.24}.get(case, 0.5)
        arms = [study.measured("effect_at_budget", size * share, NOISE, role="method", method=m)
                for m, share in (("MeanShift", 1.0), ("GaussianTransport", 0.9))]  # fmt: skip
        return tidy(*arms, study.random(spread=spread))


def _error_of_mean(errors: "pd.Series[float]") -> float:
    return float(np.sqrt((errors**2).sum()) / len(errors))

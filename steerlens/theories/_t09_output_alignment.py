"""T9: what the unembedding reads can be steered, and nothing else can."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd

from steerlens.theories._estimates import MIN_UNITS, correlation_over, jackknife_over, varies
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import NOISE, PlantedStudy
from steerlens.theories._records import Quantity, rows_of, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction

LAYERS = (4, 8, 12, 16, 20)


@final
@dataclass(frozen=True, kw_only=True)
class OutputAlignment(Hypothesis):
    """The best alignment over layers predicts the best effect over layers, also at equal depth.

    Peaks are taken over the layers measured; the depth held constant is that of the peak effect. That concepts which
    are represented and not aligned need nonlinear maps is T1 and T6 on those concepts, and not asked here. Concepts
    whose alignment is below 0.05 should be steered less than half as far; asked where there are five, and five others.

    References:
        arXiv 2604.15557 (alignment profiles), known to us from notes; arXiv 2604.02608 says otherwise of function
        vectors.
    """

    id: ClassVar[str] = "T9"
    theory: ClassVar[str] = "Output alignment: a shift works where the unembedding already reads the target."
    citations: ClassVar[tuple[str, ...]] = ("arXiv:2604.15557", "arXiv:2604.02608")
    population: ClassVar[str] = "Concepts with answers of one token, of one model, each at the same layers."
    design: ClassVar[str] = "Alignment and effect of the mean shift at equal KL, layer by layer."
    every_layer: ClassVar[bool] = True

    min_units: int = 20
    shift: str = "MeanShift"
    rho: float = 0.5
    unaligned: float = 0.05
    share: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "aligned": Quantity("alignment"),
            "aligned_error": Quantity("alignment", reduce="error"),
            "effect": Quantity("effect_at_budget", self.shift),
            "effect_error": Quantity("effect_at_budget", self.shift, reduce="error"),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("peaks", "Spearman of largest alignment and largest effect", "above", self.rho, self.rho),
            Prediction("partial", "the same at equal depth of the largest effect", "above", 0.0, 0.0),
            Prediction("unaligned", f"effect where alignment is below {self.unaligned:g} over the effect elsewhere",
                       "below", self.share, self.share, True),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records, by=("layer",)).reset_index("layer")
        best = {c: w.sort_values(c, kind="stable").groupby(level=["model", "concept"]).tail(1).sort_index()
                for c in ("aligned", "effect")}  # fmt: skip
        units = units_in(best["effect"])
        aligned, effect = best["aligned"]["aligned"].to_numpy(), best["effect"]["effect"].to_numpy()
        depth = best["effect"]["layer"].to_numpy(dtype=np.float64)
        held = [depth] if np.ptp(depth) > 0 else []
        found = {
            "peaks": correlation_over(aligned, effect, units, level=level),
            "partial": correlation_over(aligned, effect, units, level=level, covariates=held),
        }
        low = aligned < self.unaligned
        names = np.array(units, dtype=object)
        if min(len(set(names[low])), len(set(names[~low]))) >= MIN_UNITS:
            found["unaligned"] = jackknife_over(
                lambda kept: float(effect[kept & low].mean() / effect[kept & ~low].mean()), units, level=level
            )
        controls = (
            varies(aligned, best["aligned"]["aligned_error"], "alignment"),
            varies(effect, best["effect"]["effect_error"], "effect"),
        )
        return Evidence(found, controls, len(units))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 50)
        rise = np.linspace(0.4, 1.0, len(LAYERS))
        aligned = study.uniform(0.1, 1.0)
        aligned[:8] = 0.0
        other = study.rng.permutation(aligned)
        weight = {PlantedCase.TRUE: 0.9, PlantedCase.BARELY: 0.52}.get(case, 0.0)
        size = 2 * (weight * aligned + (1 - weight) * other) if case is not PlantedCase.NULL else np.zeros(len(aligned))
        seen = aligned if case is not PlantedCase.NULL else np.full(len(aligned), 0.3)
        n, k = study.concepts, len(LAYERS)
        reads = np.clip(seen[:, None] * rise + 0.01 * np.abs(study.normal(0, 1, k)), 0, 1)
        moves = size[:, None] * rise + study.normal(0, NOISE, k)
        return tidy(
            rows_of("alignment", reads.reshape(n, k), "layer", LAYERS, error=0.02),
            rows_of("effect_at_budget", moves, "layer", LAYERS, error=NOISE, role="method", method=self.shift),
        )

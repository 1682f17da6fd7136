"""T3: transport knows its own dose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import jackknife_over, share_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, rows_of, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction

Array = npt.NDArray[np.float64]
GRID = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)


@final
@dataclass(frozen=True, kw_only=True)
class CalibratedDose(Hypothesis):
    """The effect of transport peaks at strength 1 on every concept; that of the shift peaks where it happens to.

    The grid of strengths must lie on both sides of [0.8, 1.2], and in it. The best strength is that of the largest
    mean effect on the grid, which is as coarse as the grid is.

    References:
        rodriguez2025.
    """

    id: ClassVar[str] = "T3"
    theory: ClassVar[str] = "Distribution-preserving dose: optimal transport is calibrated, and shifts overshoot."
    citations: ClassVar[tuple[str, ...]] = ("rodriguez2025",)
    population: ClassVar[str] = "Concepts of one model, each at the site chosen on the selection half."
    design: ClassVar[str] = "Effects of shift and transport on one grid of strengths; random directions at strength 1."

    shift: str = "MeanShift"
    transport: str = "LinearAcT"
    near: float = 0.2
    share: float = 2 / 3
    variation: float = 0.5

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "shift": Quantity("effect", self.shift),
            "transport": Quantity("effect", self.transport),
            "random": Quantity("effect", role="random", strength=1.0),
            "at one": Quantity("effect", self.transport, strength=1.0),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("peak", f"share of concepts whose best strength of transport is within 1 ± {self.near:g}",
                       "above", self.share, self.share),
            Prediction("steadier", "CV of the shift's best strength less that of transport's", "above", 0.0, 0.0),
            Prediction("shift", "CV of the shift's best strength", "above", self.variation),
            Prediction("rising", "share of concepts on which transport rises at every step up to 1", "above", 0.5),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        at_one = self.read(records, "at one", "random")
        control = steers(at_one["at one"], at_one["random"], units_in(at_one))
        long = self.read(records, "shift", "transport", by=("strength",))
        curves = pd.DataFrame(long[long.index.get_level_values("strength") > 0].unstack("strength"))
        if curves.isna().to_numpy().any():
            raise EstimateError("Concepts were measured on different grids of strengths. Use one grid for all.")
        strengths = curves["transport"].columns.to_numpy(dtype=np.float64)
        inside = np.abs(strengths - 1) <= self.near
        if not (inside.any() and strengths[0] < 1 - self.near and strengths[-1] > 1 + self.near):
            raise EstimateError(f"Strengths {strengths.tolist()} do not lie in and around 1 ± {self.near:g}. Add some.")
        units = units_in(curves)
        best = {m: strengths[curves[m].to_numpy().argmax(axis=1)] for m in ("shift", "transport")}
        up = np.diff(curves["transport"].to_numpy()[:, strengths <= 1], axis=1, prepend=0.0) > 0
        near = np.abs(best["transport"] - 1) <= self.near
        found = {
            "peak": share_over(near, units, level=level),
            "rising": share_over(up.all(axis=1), units, level=level),
        }
        # One strength on all concepts, as where effects still rise at the end of the grid, has a CV without an error.
        if np.ptp(best["shift"]) > 0:
            found["shift"] = jackknife_over(lambda kept: _cv(best["shift"][kept]), units, level=level)
        if any(np.ptp(peaks) > 0 for peaks in best.values()):
            found["steadier"] = jackknife_over(
                lambda kept: _cv(best["shift"][kept]) - _cv(best["transport"][kept]), units, level=level
            )
        return Evidence(found, (control,), len(curves))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        study = PlantedStudy.of(seed, 40)
        size, grid = study.sizes() * (case is not PlantedCase.NULL), np.array(GRID)
        anywhere = np.exp(study.normal(0, 1.0)).clip(0.25, 3)
        off = study.uniform(0, 1) > {PlantedCase.FALSE: 0.0, PlantedCase.BARELY: 0.78}.get(case, 0.98)
        peaks = {self.shift: anywhere, self.transport: np.where(off, study.rng.permutation(anywhere), 1.0)}

        def curve(peak: Array) -> Array:
            r = grid / peak[:, None]
            out: Array = size[:, None] * (r * np.exp(1 - r)) ** 3 + study.normal(0, 0.03, len(grid))
            return out

        return tidy(
            *(rows_of("effect", curve(p), "strength", GRID, role="method", method=m) for m, p in peaks.items()),
            study.random("effect", strength=1.0),
        )


def _cv(x: Array) -> float:
    return float(x.std(ddof=1) / x.mean())

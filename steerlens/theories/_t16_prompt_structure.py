"""T16: how much steering does depends on the form of the prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import EstimateError
from steerlens.theories._estimates import jackknife_over, steers
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._records import Quantity, rows_of, tidy, units_in
from steerlens.theories._verdict import Evidence, Prediction

Array = npt.NDArray[np.float64]
AXES = ("group", "setting", "strength", "context")
"""Word, prompt format, dose, distractor sentences."""


@final
@dataclass(frozen=True, kw_only=True)
class PromptStructure(Hypothesis):
    """Formats differ in the effect of a dose by over a quarter of it, and every distractor sentence takes some away.

    The interaction is (variance of formats' dose slopes)/(mean slope)², less what the differences among words explain:
    it is 0 on average where formats do not differ. Its root is the share of the main effect. Words are the units.

    References:
        niranjan2025 (that structure and context matter; its tables could not be read, so the factors are ours).
    """

    id: ClassVar[str] = "T16"
    theory: ClassVar[str] = "Prompt structure: steering depends on the form of the prompt and fades with context."
    citations: ClassVar[tuple[str, ...]] = ("niranjan2025",)
    population: ClassVar[str] = "Words of one task, of one model."
    design: ClassVar[str] = "Full factorial of words, formats, doses of a function vector and distractor sentences."
    unit: ClassVar[tuple[str, ...]] = ("concept", "group")

    min_units: int = 20
    vector: str = "FunctionVector"
    interaction: float = 0.25
    none: float = 0.1
    fading: float = 0.05

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {
            "effect": Quantity("effect", self.vector, setting=None),
            "random": Quantity("effect", role="random", setting=None),
        }

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (
            Prediction("interaction", "squared share of the dose effect that formats differ by", "above",
                       self.interaction**2, self.none**2),
            Prediction("fading", "share of the effect that a distractor sentence takes", "above", self.fading,
                       self.fading),
        )  # fmt: skip

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        both = self.read(records)
        control = steers(both["effect"], both["random"], units_in(both, self.unit))
        long = self.read(records, "effect", by=AXES)["effect"]
        cells = long.unstack(list(AXES[1:])).sort_index(axis=1)
        doses, contexts = (cells.columns.unique(n).to_numpy(dtype=np.float64) for n in ("strength", "context"))
        formats = cells.columns.unique("setting")
        if cells.isna().to_numpy().any() or cells.shape[1] != len(formats) * len(doses) * len(contexts):
            raise EstimateError("Words, formats, doses and contexts are not fully crossed. Measure what is missing.")
        if min(len(formats), len(doses), len(contexts)) < 2 or 0 not in contexts:
            raise EstimateError("Two formats, two doses and two contexts are needed, one of them without distractors.")
        y = cells.to_numpy().reshape(len(cells), len(formats), len(doses), len(contexts))
        slopes = _slopes(y[..., contexts == 0].mean(axis=3), doses)
        mean, trend = y[..., contexts == 0].mean(axis=(1, 2, 3)), _slopes(y.mean(axis=(1, 2)), contexts)
        units = units_in(cells, self.unit)
        found = {
            "interaction": jackknife_over(lambda kept: _interaction(slopes[kept]), units, level=level),
            "fading": jackknife_over(lambda kept: -float(trend[kept].sum() / mean[kept].sum()), units, level=level),
        }
        return Evidence(found, (control,), len(cells))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        rng, words = np.random.default_rng(seed), 40
        formats, doses, contexts = ("arrow", "question", "sentence", "list"), (1.0, 2.0, 4.0), (0.0, 1.0, 3.0)
        differ = {PlantedCase.TRUE: 0.45, PlantedCase.BARELY: 0.27}.get(case, 0.0)
        fading = {PlantedCase.TRUE: 0.15, PlantedCase.BARELY: 0.06}.get(case, 0.0)
        slope = (case is not PlantedCase.NULL) * (1 + differ * np.array([-1.0, -1, 1, 1]) * np.sqrt(3 / 4))
        each = np.exp(rng.normal(0, 0.3, (words, 1, 1, 1))) * slope[:, None, None]
        truth = each * np.array(doses)[:, None] * (1 - fading * np.array(contexts))
        y = truth + rng.normal(0, 0.4, truth.shape)
        names = [f"word {i:02d}" for i in range(words)]
        blocks = [
            rows_of("effect", y[None, :, f, d, c], "group", names, role="method", method=self.vector,
                    setting=formats[f], strength=doses[d], context=contexts[c])
            for f in range(4) for d in range(3) for c in range(3)
        ]  # fmt: skip
        none = rng.normal(0, 0.4, (1, words))
        return tidy(*blocks, rows_of("effect", none, "group", names, role="random", setting="arrow", strength=2.0))


def _slopes(y: Array, x: Array) -> Array:
    """Least-squares slopes along the last axis."""
    away = x - x.mean()
    out: Array = y @ away / (away @ away)
    return out


def _interaction(slopes: Array) -> float:
    """Variance of the formats' mean slopes, less that of their errors, over the squared mean slope."""
    words, formats = slopes.shape
    own = slopes - slopes.mean(axis=1, keepdims=True)
    noise = own.var(axis=0, ddof=1).sum() / words
    return float(((own.mean(axis=0) ** 2).sum() - noise) / (formats - 1) / slopes.mean() ** 2)

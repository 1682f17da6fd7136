"""T19: whether steering works depends on the data set, not on the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from steerlens.errors import EstimateError
from steerlens.numerics import Estimate
from steerlens.theories._estimates import jackknife_error
from steerlens.theories._hypothesis import Hypothesis, PlantedCase
from steerlens.theories._planted_studies import PlantedStudy
from steerlens.theories._records import Quantity, rows_of, tidy
from steerlens.theories._verdict import Control, Evidence, Prediction

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class DatasetProperty(Hypothesis):
    """Of the variance of steerability, data sets explain more than models.

    Two crossed random factors with one number a cell; variance components by the mean squares, which may fall below
    zero. The interval adds the jackknife variances over data sets and over models, and takes Student's t with as many
    degrees of freedom as the smaller factor allows: few models give wide intervals, and should.

    References:
        tan2024; tukey1958.
    """

    id: ClassVar[str] = "T19"
    theory: ClassVar[str] = "Dataset property: steerability belongs to the behaviour, and models agree about it."
    citations: ClassVar[tuple[str, ...]] = ("tan2024",)
    population: ClassVar[str] = "The same concepts in at least four models."
    design: ClassVar[str] = "Steerability under the mean shift, models crossed with concepts."

    shift: str = "MeanShift"
    min_models: int = 4

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {"s": Quantity("steerability", self.shift)}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        said = "variance share of data sets less that of models"
        return (Prediction("difference", said, "above", 0.0, 0.0),)

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        table = self.read(records)["s"].unstack("model")
        if table.isna().to_numpy().any():
            raise EstimateError("Not every concept was measured in every model. Measure it, or leave it out for all.")
        y = table.to_numpy(dtype=np.float64)
        d, m = y.shape
        if m < self.min_models:
            raise EstimateError(f"{m} models were measured; {self.min_models} are needed.")
        value = _difference(y)
        over_data = jackknife_error(np.array([_difference(np.delete(y, i, axis=0)) for i in range(d)]))
        over_models = jackknife_error(np.array([_difference(np.delete(y, j, axis=1)) for j in range(m)]))
        error = float(np.hypot(over_data, over_models))
        if not np.isfinite([value, error]).all() or error == 0:
            raise EstimateError("Steerability does not vary, or varies beyond what can be decomposed.")
        half = float(stats.t.ppf((1 + level) / 2, min(d, m) - 1)) * error
        found = Estimate(value, max(-1.0, value - half), min(1.0, value + half), level, y.size, d, "two-way jackknife")
        p = min(1.0, 2 * min(_p_values(y)))
        said = f"p = {p:.2g} for no variance between data sets nor between models."
        return Evidence({"difference": found}, (Control("steerability varies", p < 0.001, said),), y.size)

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        models = 8
        study = PlantedStudy.of(seed, 40)
        of_data, of_model = {
            PlantedCase.TRUE: (1.0, 0.25), PlantedCase.FALSE: (0.1, 1.5), PlantedCase.BARELY: (1.0, 0.85),
        }.get(case, (0.0, 0.0))  # fmt: skip
        y = 2 + of_data * study.normal(0, 1)[:, None] + of_model * study.rng.normal(0, 1, models)
        y = y + study.normal(0, 0.4, models)
        names = [f"model {j}" for j in range(models)]
        block = rows_of("steerability", y, "model", names, role="method", method=self.shift)
        return tidy(block)


def _mean_squares(y: Array) -> tuple[float, float, float]:
    """Of rows (data sets), columns (models) and what is left."""
    d, m = y.shape
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    rest = y - rows[:, None] - columns + y.mean()
    return m * float(rows.var(ddof=1)), d * float(columns.var(ddof=1)), float((rest**2).sum() / ((d - 1) * (m - 1)))


def _difference(y: Array) -> float:
    d, m = y.shape
    of_rows, of_columns, left = _mean_squares(y)
    data, models = (of_rows - left) / m, (of_columns - left) / d
    total = abs(data) + abs(models) + left
    return float((data - models) / total) if total > 0 else float("nan")


def _p_values(y: Array) -> tuple[float, float]:
    d, m = y.shape
    of_rows, of_columns, left = _mean_squares(y)
    inside = (d - 1) * (m - 1)
    if left == 0:  # models and data sets add up exactly: whatever varies does so beyond chance
        return float(of_rows == 0), float(of_columns == 0)
    return float(stats.f.sf(of_rows / left, d - 1, inside)), float(stats.f.sf(of_columns / left, m - 1, inside))

"""Out of distribution: is a map fitted in one setting as steerable in another as that setting's own map?"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._rank_correlation import clustered_spearman
from steerlens.evaluation._reliability import slope_rounding, steerability
from steerlens.evaluation._scores import score_questions, score_resolution
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap, cluster_mean
from steerlens.progress import progress

Array = npt.NDArray[np.float64]

LEAST_STEERABILITY = 0.25
"""Nats per unit of strength that a setting's own map must reach before others are related to it, as published."""

OOD_COLUMNS = (
    "fitted_on", "tested_on", "steerability", "steerability_low", "steerability_high",
    "relative", "relative_low", "relative_high", "retained", "retained_low", "retained_high",
    "correlation", "correlation_low", "correlation_high", "propensity", "factor", "level", "n", "n_clusters",
)  # fmt: skip
"""One row is one map in one setting. NaN: a setting without a map of its own (``relative``), a steerability below
the threshold in the denominator, or a map that moves nothing here or at home (``correlation``)."""

SLOPE_COLUMNS = ("fitted_on", "tested_on", "question", "group", "steerability")
"""One row is one question under one map in one setting."""


@final
@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """Steerability of every map in every setting.

    Args:
        frame: Columns `OOD_COLUMNS`.
        slopes: Columns `SLOPE_COLUMNS`.
        site: Where was steered.
        strengths: Over which slopes were taken, before norms are matched.
        model: Its name.
    """

    frame: pd.DataFrame
    slopes: pd.DataFrame
    site: Site
    strengths: tuple[float, ...]
    model: str

    def to_frame(self) -> pd.DataFrame:
        """One row per map and setting."""
        return self.frame.copy()

    def matrix(self, value: str = "relative") -> pd.DataFrame:
        """One of the columns as a square: rows are maps, columns settings."""
        rows, columns = (list(dict.fromkeys(self.frame[c])) for c in ("fitted_on", "tested_on"))
        return self.frame.pivot(index="fitted_on", columns="tested_on", values=value).loc[rows, columns]

    def __str__(self) -> str:
        value = "relative" if self.frame["fitted_on"].nunique() > 1 else "retained"
        table = self.matrix(value).to_string(float_format="%.2f")
        return f"Steerability, {value}, at {self.site.hook_name} of {self.model}; rows: fitted on\n{table}"


def ood(
    model: LensModel,
    maps: SteeringMap | Mapping[str, SteeringMap],
    datasets: Mapping[str, ConceptDataset],
    site: Site,
    strengths: Sequence[float],
    *,
    seed: int,
    least: float = LEAST_STEERABILITY,
) -> OutOfDistribution:
    """Steer the same questions in several settings by the maps of some of them.

    Let s(A, B) be the steerability (slope of propensity on strength) that the map fitted in setting A has in setting B.

    - ``relative`` = s(A, B) / s(B, B): as good as the setting's own map? The published measure.
    - ``retained`` = s(A, B) / s(A, A): as good as at home? One map is enough for it.
    - ``correlation`` of s(A, A) and s(A, B) over questions (Spearman): are the same questions steerable?

    Both ratios are NaN where the steerability below the line is under ``least``, and the correlation where all slopes
    of a setting are no larger than rounding makes them. Maps are matched in norm: strengths
    are multiplied so that each map moves the negative texts of its own setting, on average, as far as the first one.

    Args:
        model: What to steer.
        maps: One map, fitted in the first setting; or the map of each setting, by the setting's name.
        datasets: Test pairs of every setting, by name: the same questions in the same order.
            `steerlens.concepts.shifts` makes them.
        site: Where the maps were fitted.
        strengths: Over which the slope is taken; those beyond ±1.5 do not count. 0 is added.
        seed: Of the bootstrap.
        least: Least steerability below the line.

    Raises:
        OptionError: If maps and settings do not fit together, settings are not of the same questions, or several maps
            move along curves, whose norms no strength can match.
        EstimateError: If there are fewer than five groups, or one of several maps moves nothing.

    References:
        tan2024, section 6 (settings, relative steerability).
    """
    if not datasets:
        raise OptionError("ood needs the test pairs of at least one setting, such as shifts(test, seed=0).")
    home = next(iter(datasets))
    by_name = {home: maps} if isinstance(maps, SteeringMap) else dict(maps)
    _check(by_name, datasets)
    factors = _factors(model, by_name, datasets, site)
    grid = sorted({0.0, *(float(s) for s in strengths)})
    slopes: dict[tuple[str, str], Array] = {}
    moved: set[tuple[str, str]] = set()
    propensity: dict[str, Array] = {}
    with progress(f"{len(by_name)} maps in {len(datasets)} settings", len(datasets)) as advance:
        for tested, data in datasets.items():
            plans = [Intervention({site: m}, factors[name] * s) for name, m in by_name.items() for s in grid]
            found = score_questions(model, data.questions, plans).propensity.numpy()
            propensity[tested] = found[grid.index(0.0)]
            for k, name in enumerate(by_name):
                m = found[k * len(grid) : (k + 1) * len(grid)]
                slopes[name, tested] = steerability(m, grid)
                rounding = slope_rounding(m, grid, resolution=score_resolution(model))
                if (np.abs(slopes[name, tested]) > rounding).any():
                    moved.add((name, tested))
            advance(1)
    groups = tuple(q.group for q in datasets[home].questions)
    rows = [
        (*_row(slopes, moved, fitted, tested, groups, least, seed), propensity[tested].mean(), factors[fitted])
        for fitted in by_name
        for tested in datasets
    ]
    columns = [c for c in OOD_COLUMNS if c not in ("level", "n", "n_clusters")]
    frame = pd.DataFrame(rows, columns=columns).assign(level=0.95, n=len(groups), n_clusters=len(set(groups)))
    return OutOfDistribution(frame, _slope_frame(slopes, groups), site, tuple(grid), model.name)


def _check(maps: Mapping[str, SteeringMap], datasets: Mapping[str, ConceptDataset]) -> None:
    unknown = [name for name in maps if name not in datasets]
    if unknown or not maps:
        raise OptionError(
            f"Every map needs the test pairs of the setting it was fitted in, but {unknown or 'no map'} is not among "
            f"{list(datasets)}. Name maps as settings are named."
        )
    curved = [name for name, m in maps.items() if m.strength_unit != "displacements"]
    if curved and len(maps) > 1:
        raise OptionError(
            f"The maps of {curved} move along curves, so that no strength matches their norms. Pass one map at a time."
        )
    asked = {name: [(q.group, q.side) for q in data.questions] for name, data in datasets.items()}
    first = next(iter(asked))
    for name, questions in asked.items():
        if questions != asked[first]:
            raise OptionError(
                f"{name!r} does not put the questions of {first!r}, one by one in the same order. Make both from one "
                "data set with steerlens.concepts.shifts or with_…"
            )


def _factors(
    model: LensModel, maps: Mapping[str, SteeringMap], datasets: Mapping[str, ConceptDataset], site: Site
) -> dict[str, float]:
    """What each map's strengths are multiplied by, so that all move their own setting equally far."""
    if len(maps) == 1:
        return dict.fromkeys(maps, 1.0)
    moved = {
        name: float(m.step(extract(model, datasets[name], [site])[site].negative.double()).norm(dim=1).mean())
        for name, m in maps.items()
    }
    still = [name for name, far in moved.items() if far == 0]
    if still:
        raise EstimateError(
            f"The maps of {still} move nothing, so there is no norm to match. Check how they were made."
        )
    first = next(iter(moved.values()))
    return {name: first / far for name, far in moved.items()}


def _row(
    slopes: Mapping[tuple[str, str], Array],
    moved: Set[tuple[str, str]],
    fitted: str,
    tested: str,
    groups: Sequence[str],
    least: float,
    seed: int,
) -> tuple[str | float, ...]:
    s = slopes[fitted, tested]
    own, home = slopes.get((tested, tested)), slopes[fitted, fitted]
    varies = {(fitted, fitted), (fitted, tested)} <= moved and min(np.ptp(home), np.ptp(s)) > 0
    return (
        fitted,
        tested,
        *_three(cluster_mean(s, groups, seed=seed)),
        *_three(None if own is None or own.mean() < least else _ratio(s, own, groups, seed)),
        *_three(None if home.mean() < least else _ratio(s, home, groups, seed)),
        *_three(clustered_spearman(home, s, groups, seed=seed) if varies else None),
    )


def _ratio(above: Array, below: Array, groups: Sequence[str], seed: int) -> Estimate:
    """Ratio of two means over the same questions."""
    of: Callable[[Array], Array] = lambda w: (w @ above) / (w @ below)  # noqa: E731
    return bootstrap(of, [groups], seed=seed)


def _three(e: Estimate | None) -> tuple[float, float, float]:
    return (np.nan, np.nan, np.nan) if e is None else (e.value, e.low, e.high)


def _slope_frame(slopes: Mapping[tuple[str, str], Array], groups: Sequence[str]) -> pd.DataFrame:
    rows = [
        (fitted, tested, i, group, float(value))
        for (fitted, tested), of in slopes.items()
        for i, (group, value) in enumerate(zip(groups, of, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(SLOPE_COLUMNS))

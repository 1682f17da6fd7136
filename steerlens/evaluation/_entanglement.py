"""Entanglement: what steering one concept does to the others, beside random directions of the same length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._equal_budget import KLBudget, calibrate_strength
from steerlens.evaluation._neutral import neutral_texts
from steerlens.evaluation._scores import UNSTEERED, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import SteeringMap, random_direction
from steerlens.models import LensModel
from steerlens.numerics import cluster_mean
from steerlens.progress import progress

Array = npt.NDArray[np.float64]

LEAST_RANDOM = 20
"""Fewer random directions than this give no spread to measure by."""

ENTANGLEMENT_COLUMNS = (
    "steered", "measured", "strength", "effect", "low", "high", "level", "n", "n_clusters", "interval",
    "norm", "null_mean", "null_sd", "null_n", "z", "kl", "reached",
)  # fmt: skip
"""One row is the effect of one concept's map on one concept's propensity, in nats. ``norm`` is how far the map moves
its own negative texts, and the length of the random directions behind ``null_…``. ``kl`` is what the map's strength
costs on the neutral texts it was calibrated on, in nats per token, and ``reached`` whether that is the budget; where a
strength was given, nothing was calibrated, and both are missing (NaN, NA)."""

OFF_TARGET_COLUMNS = ("steered", "on_target", "worst", "effect", "low", "high", "z", "reached")
"""One row is one map, with the other concept that it moves most; ``reached`` as in `ENTANGLEMENT_COLUMNS`."""

UNMET = "†"
"""Marks a map that never met its budget."""


@final
@dataclass(frozen=True, eq=False)
class Entanglement:
    """Effects of every concept's map on every concept.

    Args:
        frame: Columns `ENTANGLEMENT_COLUMNS`.
        site: Where was steered.
        model: Its name.
    """

    frame: pd.DataFrame
    site: Site
    model: str

    def to_frame(self) -> pd.DataFrame:
        """One row per map and concept."""
        return self.frame.copy()

    def off_target(self) -> pd.DataFrame:
        """Of every map, its effect on its own concept and the largest on another, with columns `OFF_TARGET_COLUMNS`."""
        rows = []
        for steered, of in self.frame.groupby("steered", sort=False):
            own, others = of[of["measured"] == steered], of[of["measured"] != steered]
            if len(others):
                worst = others.iloc[int(others["effect"].abs().to_numpy().argmax())]
                on_target = float(own["effect"].iloc[0]) if len(own) else np.nan
                own_columns = ("measured", "effect", "low", "high", "z", "reached")
                rows.append((steered, on_target, *(worst[c] for c in own_columns)))
        return pd.DataFrame(rows, columns=list(OFF_TARGET_COLUMNS)).astype({"reached": "boolean"})

    @property
    def unmet(self) -> tuple[str, ...]:
        """The maps that never met the budget: their effects are not at equal cost with the others'."""
        missed = self.frame["reached"].eq(False).fillna(False).astype(bool)
        return tuple(dict.fromkeys(self.frame.loc[missed, "steered"]))

    def plot(self) -> Any:
        """Heat map of the effects; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_entanglement(self)

    def __str__(self) -> str:
        steered, measured = (list(dict.fromkeys(self.frame[c])) for c in ("steered", "measured"))
        square = self.frame.pivot(index="steered", columns="measured", values="effect").loc[steered, measured]
        square.index = pd.Index([f"{name} {UNMET}" if name in self.unmet else name for name in steered])
        table = square.to_string(float_format="%+.2f")
        head = f"Effect in nats at {self.site.hook_name} of {self.model}; rows: steered"
        return "\n".join([head, table, *self._unmet_notes()])

    def _unmet_notes(self) -> list[str]:
        of_map = self.frame.drop_duplicates("steered").set_index("steered")
        strength, kl = of_map["strength"].astype(float).to_dict(), of_map["kl"].astype(float).to_dict()
        return [
            f"{UNMET} {name} does not meet the budget: at strength {strength[name]:.3g} it costs {kl[name]:.2g} nats "
            "per token"
            for name in self.unmet
        ]


def entanglement(
    model: LensModel,
    maps: Mapping[str, SteeringMap],
    datasets: Mapping[str, ConceptDataset],
    site: Site,
    strength: float | Mapping[str, float] | KLBudget,
    *,
    seed: int,
    n_random: int = LEAST_RANDOM,
) -> Entanglement:
    """Effect of each concept's map on the propensity of every concept, and z-scores among random directions.

    An effect is the mean change of propensity over the questions of a data set. Its null distribution are translations
    in random directions, each as long as the map's mean step on the negative texts of its own concept: they change
    propensities, too, and an effect that they reach is not the concept's. All maps and random directions are replayed
    in one call for each data set.

    Args:
        model: What to steer.
        maps: By concept.
        datasets: Test pairs by concept; all concepts of ``maps`` must be there, and more may.
        site: Where the maps were fitted.
        strength: One for all maps; one for each concept; or a budget, at which each map's strength is calibrated on
            the bundled neutral texts. A map that cannot meet it is measured at the strength that comes closest, and
            marked: see ``reached`` and `Entanglement.unmet`.
        seed: Of bootstrap and random directions.
        n_random: Random directions for each map, at least 20.

    Raises:
        OptionError: If a map has no data set or no strength, or there are too few random directions.
        EstimateError: If a data set has fewer than five groups.

    References:
        korznikov2025 (random directions alone change behaviour).
    """
    missing = [name for name in maps if name not in datasets]
    if missing or not maps:
        raise OptionError(
            f"Every map needs the test pairs of its concept, but {missing or 'no map'} is not among {list(datasets)}."
        )
    if n_random < LEAST_RANDOM:
        raise OptionError(f"A z-score needs at least {LEAST_RANDOM} random directions, but got n_random={n_random}.")
    few = {name: len(data.groups) for name, data in datasets.items() if len(data.groups) < 5}
    if few:
        raise EstimateError(f"An interval needs at least 5 groups of pairs, but got {few}. Measure on more groups.")
    doses = _doses(model, maps, site, strength, seed)
    strengths = {name: dose.strength for name, dose in doses.items()}
    norms = {
        name: float(
            m.step(extract(model, datasets[name], [site])[site].negative.double(), strength=strengths[name])
            .norm(dim=1)
            .mean()
        )
        for name, m in maps.items()
    }
    plans = [UNSTEERED, *(Intervention({site: m}, strengths[name]) for name, m in maps.items())]
    width = site.check(model)
    plans += [
        Intervention({site: random_direction(width, norm=norms[name], seed=seed * 10_000 + i)}, 1.0)
        for name in maps
        for i in range(n_random)
    ]
    rows = []
    with progress(f"{len(maps)} maps on {len(datasets)} concepts", len(datasets)) as advance:
        for measured, data in datasets.items():
            propensity = score_questions(model, data.questions, plans).propensity.numpy()
            change = propensity[1:] - propensity[0]
            null = change[len(maps) :].mean(axis=1).reshape(len(maps), n_random)
            groups = [q.group for q in data.questions]
            for k, steered in enumerate(maps):
                where = (steered, measured, strengths[steered])
                dose = doses[steered]
                found = (*_effect(change[k], groups, seed), norms[steered], *_null(change[k], null[k]))
                rows.append((*where, *found, dose.kl, dose.reached))
            advance(1)
    order = {name: k for k, name in enumerate(maps)}
    frame = pd.DataFrame(rows, columns=list(ENTANGLEMENT_COLUMNS)).astype({"kl": "float64", "reached": "boolean"})
    frame = frame.sort_values("steered", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return Entanglement(frame, site, model.name)


@final
@dataclass(frozen=True)
class _Dose:
    """A map's strength; and, where it was calibrated, what it costs, and whether that is the budget."""

    strength: float
    kl: float = float("nan")
    reached: bool | None = None


def _doses(
    model: LensModel,
    maps: Mapping[str, SteeringMap],
    site: Site,
    strength: float | Mapping[str, float] | KLBudget,
    seed: int,
) -> dict[str, _Dose]:
    if isinstance(strength, KLBudget):
        texts = neutral_texts()[0::2]
        found = {
            name: calibrate_strength(model, site, m, texts=texts, budget=strength, seed=seed)
            for name, m in maps.items()
        }
        return {name: _Dose(at.strength, at.cost.value, at.reached) for name, at in found.items()}
    if isinstance(strength, Mapping):
        missing = [name for name in maps if name not in strength]
        if missing:
            raise OptionError(f"Every map needs a strength, but {missing} is not among {list(strength)}.")
        return {name: _Dose(float(strength[name])) for name in maps}
    return dict.fromkeys(maps, _Dose(float(strength)))


def _effect(change: Array, groups: Sequence[str], seed: int) -> tuple[float, float, float, float, int, int, str]:
    e = cluster_mean(change, groups, seed=seed)
    return e.value, e.low, e.high, e.level, e.n, e.n_clusters, e.method


def _null(change: Array, null: Array) -> tuple[float, float, int, float]:
    """Mean, spread and number of the random directions' effects, and the effect's distance from them in spreads."""
    mean, spread = float(null.mean()), float(null.std(ddof=1))
    z = (float(change.mean()) - mean) / spread if spread > 0 else np.nan
    return mean, spread, len(null), z

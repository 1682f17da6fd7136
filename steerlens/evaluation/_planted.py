"""Every method on geometry with known answers, beside doing nothing and beside the true map."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from steerlens.concepts import Plant, plant_names, planted
from steerlens.errors import FitError, OptionError
from steerlens.evaluation._judges import JUDGES, Judge, leace_then_mlp, share, train_judge, two_samples
from steerlens.maps import LADDER, SteeringMap, SteeringMethod, method_family, method_name, method_needs
from steerlens.numerics import Estimate, cluster_mean
from steerlens.progress import progress

PLANTED_COLUMNS = (
    "plant", "order", "role", "family", "method",
    "p_target", "p_target_low", "p_target_high",
    "called_target", "called_target_low", "called_target_high",
    "energy", "energy_low", "energy_high", "energy_floor",
    "effect", "effect_low", "effect_high",
    "anti_steered", "anti_steered_low", "anti_steered_high",
    "n_fit", "n", "seconds", "problem",
)  # fmt: skip
"""One row is one map on one plant, measured on held-out rows. ``role`` is ``identity``, ``oracle`` or ``method``.

``p_target``: mean probability of the target that an independent judge gives the moved rows, with a bootstrap interval
over rows. ``called_target``: share of rows that the judge takes for the target. ``energy``: energy distance of the
moved rows to rows of the target in the coordinates of the signal, with a jackknife interval over ten blocks; it can be
slightly negative. ``energy_floor``: what two samples of the target stay below in 95 of 100 splits. ``effect``: mean
true change of the behaviour's log-odds, in nats. ``anti_steered``: share of rows whose log-odds fall, however little.
``n_fit``, ``n``: rows fitted on and measured on, of each class. ``seconds``: of the fit. ``problem``: why there are no
numbers. Intervals hold the fitted map and the judge fixed.
"""

JUDGE_COLUMNS = ("plant", "order", "judge", "accuracy", "accuracy_low", "accuracy_high", "n")
"""One row is one judge on one plant, on held-out rows; ``leace, mlp`` is a network after linear erasure."""

BLOCKS = 10
"""Blocks of rows that the jackknife leaves out in turn."""

SPLITS = 100
"""Random splits behind the floor."""

EXACT = "donot_use_mm_for_euclid_dist"


@final
@dataclass(frozen=True, eq=False)
class IdentityMap(SteeringMap):
    """T(x) = x."""

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return torch.zeros_like(x)


@final
@dataclass(frozen=True, eq=False)
class TrueMap(SteeringMap):
    """The map that a plant was made with."""

    plant: Plant

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.plant.displacement(x)


@final
@dataclass(frozen=True, eq=False)
class PlantedFit:
    """One map on one plant; ``steering_map`` is None if it could not be fitted, and ``problem`` says why."""

    plant: Plant
    role: str
    family: str
    method: str
    steering_map: SteeringMap | None
    seconds: float = 0.0
    problem: str = ""


@final
@dataclass(frozen=True, eq=False)
class PlantedTable:
    """What each map makes of each plant.

    Args:
        maps: Columns `PLANTED_COLUMNS`.
        judges: Columns `JUDGE_COLUMNS`.
        fits: The maps, in the order of the rows.
        seed: Of everything.
    """

    maps: pd.DataFrame
    judges: pd.DataFrame
    fits: tuple[PlantedFit, ...]
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row per map and plant (columns `PLANTED_COLUMNS`)."""
        return self.maps.copy()

    def __str__(self) -> str:
        sizes = self.maps["n_fit"].iloc[0], self.maps["n"].iloc[0]
        head = f"Planted geometry: fitted on {sizes[0]} rows of each class, measured on {sizes[1]} others."
        blocks = [
            _block(self.maps, "method", "p_target", 2, "P(target) of a judge that saw neither map nor rows"),
            _block(self.maps, "method", "energy", 3, "Energy distance to held-out target rows, in the signal's space"),
            _block(self.maps, "method", "anti_steered", 2, "Share of rows whose true log-odds of the behaviour fall"),
            _block(self.judges, "judge", "accuracy", 2, "Accuracy of judges on held-out rows"),
        ]
        return "\n\n".join([head, *blocks])


def planted_table(
    methods: Sequence[SteeringMethod] = LADDER,
    plants: Sequence[Plant] | None = None,
    *,
    n: int = 2000,
    n_test: int = 2000,
    n_judge: int = 4000,
    seed: int = 0,
) -> PlantedTable:
    """Fit every method to every plant, and measure on held-out rows whether the target was reached.

    Methods of samples get source and target rows that are no twins; methods of pairs get twins. Identity and the true
    map stand beside them: a method can be judged only between the two.

    Args:
        methods: Of pairs or samples; their names must differ.
        plants: None takes the first seven of `plant_names` with their defaults.
        n: Rows of each class to fit on.
        n_test: Held-out rows of each class.
        n_judge: Other rows of each class to train judges on; with 2000, a judge of parity is unsure of itself.
        seed: Of rows and judges. Maps have seeds of their own.

    Raises:
        OptionError: If a size is too small, a name occurs twice, or a method needs a model.
    """
    plants = [planted(name) for name in plant_names()[:7]] if plants is None else plants
    _check(methods, plants, min(n, n_judge), n_test)
    rows: list[dict[str, object]] = []
    accuracies: list[tuple[object, ...]] = []
    fits: list[PlantedFit] = []
    with progress("Planted geometry", len(plants) * (len(methods) + 1)) as advance:
        for plant in plants:
            held_out = _HeldOut.of(plant, n_test=n_test, n_judge=n_judge, seed=seed)
            for kind, accuracy in held_out.accuracies(leace_then_mlp(plant, n=n_judge, seed=seed)):
                interval = (accuracy.value, accuracy.low, accuracy.high, accuracy.n)
                accuracies.append((plant.name, plant.order, kind, *interval))
            advance(1)
            for fit in _fitted(plant, methods, n, seed):
                fits.append(fit)
                rows.append({"n_fit": n, **held_out.measured(fit)})
                advance(int(fit.role == "method"))
    return PlantedTable(
        pd.DataFrame(rows, columns=list(PLANTED_COLUMNS)),
        pd.DataFrame(accuracies, columns=list(JUDGE_COLUMNS)),
        tuple(fits),
        seed,
    )


def _check(methods: Sequence[SteeringMethod], plants: Sequence[Plant], n: int, n_test: int) -> None:
    if n < 50 or n_test < 10 * BLOCKS:
        raise OptionError(
            f"A planted table needs n and n_judge of at least 50 and n_test of at least {10 * BLOCKS}, "
            f"but got {n} and {n_test}."
        )
    for what, names in (("method", [method_name(m) for m in methods]), ("plant", [p.name for p in plants])):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise OptionError(f"Every {what} of a planted table needs a name of its own, but {twice[0]} occurs twice.")
    if not plants:
        raise OptionError("A planted table needs at least one plant.")
    for method in methods:
        if method_needs(method) == "model":
            raise OptionError(
                f"{method_name(method)} is fitted on a model, and planted geometry has none. Leave it out."
            )


def _fitted(plant: Plant, methods: Sequence[SteeringMethod], n: int, seed: int) -> Iterator[PlantedFit]:
    """Identity, the true map, and each method on the same source rows."""
    yield PlantedFit(plant, "identity", "", "identity", IdentityMap())
    source, unrelated = two_samples(plant, n, 4 * seed)
    twins = source + plant.displacement(source)
    for method in methods:
        fit = PlantedFit(plant, "method", method_family(method), method_name(method), None)
        started = time.perf_counter()
        try:
            fitted = method.fit(source, twins if method_needs(method) == "pairs" else unrelated)
            yield replace(fit, steering_map=fitted, seconds=time.perf_counter() - started)
        except FitError as error:
            yield replace(fit, problem=str(error))
    yield PlantedFit(plant, "oracle", "", "true map", TrueMap(plant))


@final
@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Rows and judges that no map has seen."""

    plant: Plant
    source: Float[Tensor, "n d_model"]
    target: Float[Tensor, "n d_model"]
    judges: tuple[Judge, ...]
    floor: float
    seed: int

    @classmethod
    def of(cls, plant: Plant, *, n_test: int, n_judge: int, seed: int) -> "_HeldOut":
        to_train, (source, target) = two_samples(plant, n_judge, 4 * seed + 1), two_samples(plant, n_test, 4 * seed + 2)
        judges = tuple(train_judge(kind, *to_train, seed) for kind in JUDGES)
        other = two_samples(plant, n_test, 4 * seed + 3)[1]
        return cls(plant, source, target, judges, _floor(plant.signal(torch.cat([target, other])), seed), seed)

    def accuracies(self, erased: Estimate) -> list[tuple[str, Estimate]]:
        found = [(kind, j.accuracy(self.source, self.target)) for kind, j in zip(JUDGES, self.judges, strict=True)]
        return [*found, ("leace, mlp", erased)]

    def measured(self, fit: PlantedFit) -> dict[str, object]:
        row: dict[str, object] = {
            "plant": self.plant.name, "order": self.plant.order, "role": fit.role, "family": fit.family,
            "method": fit.method, "energy_floor": self.floor, "n": len(self.source), "seconds": fit.seconds,
            "problem": fit.problem,
        }  # fmt: skip
        if fit.steering_map is None:
            return row
        moved = fit.steering_map(self.source)
        effect = self.plant.effect(self.source, moved).numpy()
        each, p = range(len(moved)), self.judges[-1].p_target(moved)
        for name, e in (
            ("p_target", cluster_mean(p, each, seed=self.seed, n_resamples=500)),
            ("called_target", share(int((p >= 0.5).sum()), len(p))),
            ("energy", _energy(self.plant.signal(moved), self.plant.signal(self.target))),
            ("effect", cluster_mean(effect, each, seed=self.seed, n_resamples=500)),
            ("anti_steered", share(int((effect < 0).sum()), len(effect))),
        ):
            row |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
        return row


def _energy(x: Float[Tensor, "n rank"], y: Float[Tensor, "n rank"]) -> Estimate:
    """Energy distance with a t interval from the delete-a-block jackknife."""
    block = torch.nn.functional.one_hot(torch.arange(len(x)) * BLOCKS // len(x), BLOCKS).double()
    between, within_x, within_y = (
        block.T @ torch.cdist(a, b, compute_mode=EXACT) @ block for a, b in ((x, y), (x, x), (y, y))
    )
    sizes = block.sum(dim=0)

    def of(kept: Tensor) -> float:
        n = float(kept @ sizes)
        inside = (kept @ within_x @ kept + kept @ within_y @ kept) / (n * (n - 1))
        return float(2 * (kept @ between @ kept) / n**2 - inside)

    value = of(torch.ones(BLOCKS, dtype=torch.float64))
    without = np.array([of(1 - one) for one in torch.eye(BLOCKS, dtype=torch.float64)])
    error = ((BLOCKS - 1) / BLOCKS * float(((without - without.mean()) ** 2).sum())) ** 0.5
    half = float(stats.t.ppf(0.975, BLOCKS - 1)) * error
    return Estimate(value, value - half, value + half, 0.95, len(x), BLOCKS, f"jackknife over {BLOCKS} blocks, t")


def _floor(z: Float[Tensor, "n rank"], seed: int) -> float:
    """The energy distance that two halves of one sample stay below in 95 of 100 random splits."""
    generator = torch.Generator().manual_seed(seed)
    half = len(z) // 2
    order = torch.stack([torch.randperm(2 * half, generator=generator) for _ in range(SPLITS)])
    side = torch.zeros(SPLITS, 2 * half, dtype=torch.float64).scatter_(1, order[:, :half], 1.0)
    D = torch.cdist(z[: 2 * half], z[: 2 * half], compute_mode=EXACT)
    to_side = side @ D
    same = (to_side * side).sum(dim=1)
    between = (to_side * (1 - side)).sum(dim=1)
    other = D.sum() - same - 2 * between
    energies = 2 * between / half**2 - (same + other) / (half * (half - 1))
    return float(energies.quantile(0.95))


def _block(frame: pd.DataFrame, label: str, column: str, decimals: int, title: str) -> str:
    """One number of every row and plant as text, plants as columns; a dash for what is missing."""
    plants = list(frame.drop_duplicates("plant")[["plant", "order"]].itertuples(index=False, name=None))
    names = list(dict.fromkeys(frame[label]))
    width = max(len(str(x)) for x in (*names, "order"))
    columns = [max(len(plant), decimals + 3) + 2 for plant, _ in plants]
    lines = [title, " " * width + "".join(p.rjust(w) for (p, _), w in zip(plants, columns, strict=True))]
    orders = ["—" if pd.isna(o) else f"{o:.0f}" for _, o in plants]
    lines.append("order".ljust(width) + "".join(o.rjust(w) for o, w in zip(orders, columns, strict=True)))
    values = frame.set_index([label, "plant"])[column]
    for name in names:
        cells = [
            _number(values.get((name, plant)), decimals).rjust(w) for (plant, _), w in zip(plants, columns, strict=True)
        ]
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


def _number(value: object, decimals: int) -> str:
    if not isinstance(value, float) or not np.isfinite(value):
        return "—"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text

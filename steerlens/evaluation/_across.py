"""One comparison over several concepts: the concept is what claims about methods are about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import combinations
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import Split
from steerlens.errors import OptionError
from steerlens.evaluation._compare import ComparisonPlan, FittedMaps, run_comparison
from steerlens.evaluation._comparison import Comparison
from steerlens.evaluation._reliability import ChosenStrength, DoseCurve, beyond_rounding
from steerlens.evaluation._stored_curve import stored_curve
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap, holm, sign_flip, two_stage_mean

Array = npt.NDArray[np.float64]

NEW_CONCEPTS = 5
"""From so many concepts on, intervals speak of concepts like them, and not of these alone."""

METHOD_COLUMNS = (
    "family", "method", "effect", "low", "high", "level", "n_concepts", "n_above_random", "n_reached", "interval",
)  # fmt: skip
"""One row is one method: the mean over concepts of its effect at the budget, in nats; how many concepts' intervals lie
above their random directions, NaN where none has any; and in how many the budget was reached."""

ACROSS_CONTRAST_COLUMNS = (
    "method", "reference", "difference", "low", "high", "level", "n_concepts", "p_value", "p_holm", "interval",
)  # fmt: skip
"""One row is the mean over concepts of the paired difference of two methods. ``p_value`` is that of the sign-flip test
over concepts, or, with fewer than five of them, over their groups; ``p_holm`` is adjusted for all rows."""


@final
@dataclass(frozen=True, eq=False)
class AcrossConcepts:
    """Comparisons of the same methods on several concepts, and what they say together.

    Args:
        comparisons: By name of the concept.
        methods: Columns `METHOD_COLUMNS`.
        contrasts: Columns `ACROSS_CONTRAST_COLUMNS`.
    """

    comparisons: Mapping[str, Comparison]
    methods: pd.DataFrame
    contrasts: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """The headlines of all concepts, one below the other, with the concept in front."""
        frames = [c.headline.assign(concept=name) for name, c in self.comparisons.items()]
        found = pd.concat(frames, ignore_index=True)
        return found[["concept", *(c for c in found.columns if c != "concept")]]

    def plot(self) -> Any:
        """Figure of every method's effect on every concept; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_across(self)

    def _repr_html_(self) -> str:
        return str(import_module("steerlens.reports").across_html(self))

    def __repr__(self) -> str:
        best = self.methods.sort_values("effect", ascending=False).iloc[0]
        return (
            f"Comparison of {len(self.methods)} methods on {', '.join(self.comparisons)}; largest mean effect at the "
            f"budget: {best['method']} {best['effect']:.3g} [{best['low']:.3g}, {best['high']:.3g}] nats"
        )


def compare_concepts(
    model: LensModel,
    concepts: Mapping[str, Split],
    plan: ComparisonPlan,
    *,
    instructions: Mapping[str, tuple[str, str]] | None = None,
    neutral: Sequence[str] | None = None,
    command: str = "",
    done: Callable[[str, Comparison, FittedMaps], None] = lambda *_: None,
) -> AcrossConcepts:
    """Compare the same methods on several concepts, each at the site chosen for it on its own selection half.

    The next concept's maps are the control "another concept" of each; the first's are the last's.

    Args:
        model: What to steer.
        concepts: Splits by name, at least two.
        plan: Sites, methods, strengths, budget and controls of every comparison.
        instructions: What to say for and against each concept; see `compare`.
        neutral: Neutral texts, at least ten; None takes the bundled ones.
        command: What to print under "how to repeat it".
        done: Gets each comparison with its maps as soon as it is made, to be saved: a later failure loses no earlier
            concept.

    Raises:
        OptionError: If there are fewer than two concepts; and what `compare` raises.
    """
    if len(concepts) < 2:
        raise OptionError(f"A comparison over concepts needs at least two, but got {list(concepts)}. Use compare.")
    names, said = list(concepts), instructions or {}
    made: dict[str, Comparison] = {}
    for k, name in enumerate(names):
        split = concepts[name]
        own = replace(plan, instructions=said.get(name), other=concepts[names[(k + 1) % len(names)]].fit)
        made[name], maps = run_comparison(
            model, split.fit, split.test, own, select=split.select, neutral=neutral, command=command
        )
        done(name, made[name], maps)
    return across(made, seed=plan.seed)


def across(comparisons: Mapping[str, Comparison], *, seed: int) -> AcrossConcepts:
    """What comparisons of the same methods say together, from their stored items and texts.

    With five concepts or more an interval is that of a two-stage bootstrap, which draws concepts and groups within
    them: it speaks of concepts like these. With fewer it draws groups within each concept, and speaks of these alone.
    Strengths at the budget are taken as they are.

    Args:
        comparisons: By name of the concept.
        seed: Of the bootstrap.

    Raises:
        OptionError: If methods or budgets differ.
    """
    first = next(iter(comparisons.values())).headline
    for name, c in comparisons.items():
        if list(c.headline["method"]) != list(first["method"]) or set(c.headline["budget"]) != set(first["budget"]):
            raise OptionError(f"All concepts need the same methods and budget, but those of {name!r} differ.")
    budget = float(first["budget"].iloc[0])
    changes = {method: {name: dose_curve(c, method) for name, c in comparisons.items()} for method in first["method"]}
    at = {m: {c: curve.changes_at(budget) for c, curve in of.items()} for m, of in changes.items()}
    groups = {name: dose_curve(c, first["method"].iloc[0]).groups for name, c in comparisons.items()}
    rows = []
    for family, method in zip(first["family"], first["method"], strict=True):
        e = _mean(at[method], groups, seed)
        own = pd.concat([c.headline[c.headline["method"] == method] for c in comparisons.values()])
        above = (own["effect_low"] > own["random_high"]).sum() if own["random_high"].notna().any() else np.nan
        reached = int(own["reached"].astype(bool).sum())
        rows.append((family, method, e.value, e.low, e.high, e.level, len(groups), above, reached, e.method))
    return AcrossConcepts(
        comparisons=dict(comparisons),
        methods=pd.DataFrame(rows, columns=list(METHOD_COLUMNS)),
        contrasts=_contrasts(at, groups, {name: c.resolution for name, c in comparisons.items()}, seed),
    )


def dose_curve(comparison: Comparison, method: str) -> DoseCurve:
    """A method's effect and cost over strengths, from the stored items and texts.

    Raises:
        OptionError: If the method was not compared.
    """
    items, texts = (f[(f["role"] == "method") & (f["arm"] == method)] for f in (comparison.items, comparison.texts))
    if items.empty or texts.empty:
        raise OptionError(f"{method!r} was not compared; there is {', '.join(comparison.headline['method'])}.")
    asked = items.assign(number=items["question"], propensity=items["positive"] - items["negative"])
    curve = stored_curve(asked, texts.assign(number=texts["text"]))
    d = comparison.doses
    own = d[(d["role"] == "method") & (d["method"] == method)]
    if own.empty:
        return curve
    of = own.iloc[0]
    chosen = ChosenStrength(float(of["strength"]), float(of["budget"]), float(of["kl_select"]), bool(of["reached"]))
    return replace(curve, chosen=chosen)


def _contrasts(
    at: Mapping[str, Mapping[str, Array]],
    groups: Mapping[str, Sequence[Any]],
    resolutions: Mapping[str, float],
    seed: int,
) -> pd.DataFrame:
    rows = []
    for reference, method in combinations(at, 2):
        apart = {c: beyond_rounding(at[method][c] - at[reference][c], resolutions[c]) for c in groups}
        e = _mean(apart, groups, seed)
        clusters = [c if len(groups) >= NEW_CONCEPTS else (c, g) for c in groups for g in groups[c]]
        p = sign_flip(np.concatenate([apart[c] for c in groups]), clusters, seed=seed).p_value
        rows.append((method, reference, e.value, e.low, e.high, e.level, len(groups), p, e.method))
    adjusted = holm([row[7] for row in rows]).tolist() if rows else []
    return pd.DataFrame(
        [(*row[:8], float(p), row[8]) for row, p in zip(rows, adjusted, strict=True)],
        columns=list(ACROSS_CONTRAST_COLUMNS),
    )


def _mean(values: Mapping[str, Array], groups: Mapping[str, Sequence[Any]], seed: int) -> Estimate:
    """Mean over concepts of the mean over questions."""
    if len(values) >= NEW_CONCEPTS:
        concepts = [c for c in values for _ in values[c]]
        within = [g for c in values for g in groups[c]]
        return two_stage_mean(np.concatenate(list(values.values())), concepts, within, seed=seed)

    def mean(*weights: Array) -> Array:
        means = [(w @ x) / w.sum(axis=-1) for w, x in zip(weights, values.values(), strict=True)]
        found: Array = np.mean(means, axis=0)
        return found

    return bootstrap(mean, [groups[c] for c in values], seed=seed)

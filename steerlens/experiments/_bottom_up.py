"""Bottom-up against top-down: function vectors against in-context vectors, on functions and on behaviours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pandas as pd

from steerlens.concepts import ConceptDataset, InContextTask, load_concept, load_task
from steerlens.errors import OptionError
from steerlens.experiments._model_loaders import Failure, Measure, ModelLoader, measure_models
from steerlens.experiments._rival_grids import FUNCTION, IN_CONTEXT, BottomUpPlan
from steerlens.experiments._rivals import TEXT_LIKELIHOODS, measured_behaviour, measured_function
from steerlens.experiments._stored_parts import StoredParts, StudyPart
from steerlens.models import LensModel
from steerlens.numerics import Estimate, cluster_change, cluster_mean, holm, sign_flip

RIVAL_COLUMNS = (
    "model", "kind", "case", "condition", "measure", "method", "setting", "value", "change", "low", "high", "n",
    "n_clusters",
)  # fmt: skip
"""One row is one method; ``change`` is paired, from the unsteered model. Behaviours have no condition."""
CONTEST_COLUMNS = (
    "model",
    "kind",
    "case",
    "condition",
    "measure",
    "difference",
    "low",
    "high",
    "winner",
    "p_value",
    "p_holm",
    "n",
    "n_clusters",
)
"""One row is function vector less in-context vectors, paired. ``winner`` is empty where the interval contains 0.
``p_value`` is a sign-flip test over groups, ``p_holm`` the same adjusted for all rows of the table."""


@final
@dataclass(frozen=True, eq=False)
class BottomUp:
    """What was found.

    Args:
        plan: What was measured.
        items: One row for each word or pair under each method: model, kind, case, condition, measure, method, setting,
            item, group, value.
        failures: Models and cases that were not measured.
        notes: Methods that could not be fitted to a case: columns model, case, method, reason.
    """

    plan: BottomUpPlan
    items: pd.DataFrame
    failures: tuple[Failure, ...]
    notes: pd.DataFrame

    def changes(self) -> pd.DataFrame:
        """What every method and control changes (columns `RIVAL_COLUMNS`)."""
        rows = []
        for key, case in _cases(self.items):
            table = _table(case)
            setting = case.drop_duplicates("method").set_index("method")["setting"]
            for method in (m for m in table.columns if m not in ("unsteered", "group")):
                e = _difference(table, "unsteered", method, seed=self.plan.seed)
                value = float(table[method].mean())
                rows.append((*key, method, setting[method], value, e.value, e.low, e.high, e.n, e.n_clusters))
        return pd.DataFrame(rows, columns=list(RIVAL_COLUMNS))

    def contests(self) -> pd.DataFrame:
        """Function vector less in-context vectors, case by case (columns `CONTEST_COLUMNS`).

        In what steering is for; the likelihood of single texts is what it costs, and stands in `changes` alone.
        """
        rows = []
        for key, case in _cases(self.items):
            table = _table(case)
            if key[-1] in TEXT_LIKELIHOODS or not {FUNCTION, IN_CONTEXT} <= set(table.columns):
                continue
            e = _difference(table, IN_CONTEXT, FUNCTION, seed=self.plan.seed)
            winner = FUNCTION if e.low > 0 else IN_CONTEXT if e.high < 0 else ""
            gain = (table[FUNCTION] - table[IN_CONTEXT]).to_numpy(float)
            p = sign_flip(gain, table["group"].tolist(), seed=self.plan.seed).p_value
            rows.append((*key, e.value, e.low, e.high, winner, p, p, e.n, e.n_clusters))
        found = pd.DataFrame(rows, columns=list(CONTEST_COLUMNS))
        return found.assign(p_holm=holm(found["p_value"])) if rows else found


def bottom_up(
    models: Sequence[ModelLoader],
    tasks: Sequence[str | InContextTask],
    concepts: Sequence[str | ConceptDataset],
    *,
    plan: BottomUpPlan,
    out: str | Path,
    memory_limit: int | None = None,
) -> BottomUp:
    """Fit both kinds of vector to the same examples, choose settings on others, and test them on a third part, paired.

    On tasks prompts have no examples, or shuffled ones; the measures are the first token and log p of the answer. On
    concepts they are the propensity, and log-likelihood per token of the positive and the negative text. Each case is
    stored as soon as it is done; run again with the same folder to go on.

    Args:
        models: Whom to ask; see `model_loaders`.
        tasks: Functions: names or tasks.
        concepts: Behaviours: names or data sets.
        plan: What to measure.
        out: Folder of the results.
        memory_limit: In bytes; models that say they need more are not loaded.

    Raises:
        OptionError: The folder holds a study with another plan, or two cases share a name.
        UnknownNameError: There is no such task or concept.

    References:
        brumley2024; todd2024; liu2024.
    """
    functions = [load_task(t) if isinstance(t, str) else t for t in tasks]
    behaviours = [load_concept(c) if isinstance(c, str) else c for c in concepts]
    cases: Mapping[str, InContextTask | ConceptDataset] = {
        **{f"functional: {t.name}": t for t in functions},
        **{f"behavioural: {c.name}": c for c in behaviours},
    }
    if len(cases) < len(functions) + len(behaviours):
        raise OptionError(f"Tasks and concepts need different names, but got {[c.name for c in functions]} and "
                          f"{[c.name for c in behaviours]}.")  # fmt: skip
    wanted = {name: case.fingerprint for name, case in cases.items()}
    stored = StoredParts(out, f"bottom-up: {plan!r}")

    def prepare(model: LensModel) -> Measure:
        def measure(part: str) -> StudyPart:
            case = cases[part]
            if isinstance(case, InContextTask):
                return measured_function(model, case, plan)
            return measured_behaviour(model, case, plan)

        return measure

    failures = measure_models(models, wanted, prepare, stored, memory_limit=memory_limit)
    frames, notes = [], []
    for loader in models:
        for part, data in wanted.items():
            found = stored.read(loader.name, loader.precision, part, data)
            if found is not None:
                frames.append(found.frame.assign(model=loader.name))
                notes += [(loader.name, part, method, reason) for method, reason in found.notes.items()]
    items = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"model": []})
    return BottomUp(plan, items, failures, pd.DataFrame(notes, columns=["model", "case", "method", "reason"]))


def _cases(items: pd.DataFrame) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    keys = ["model", "kind", "case", "condition", "measure"]
    return [(tuple(map(str, key)), of) for key, of in items.groupby(keys, sort=False)] if len(items) else []


def _table(case: pd.DataFrame) -> pd.DataFrame:
    """One row for each item, one column for each method, and the group."""
    table = case.pivot(index="item", columns="method", values="value")
    order = list(dict.fromkeys(case["method"]))
    return table[order].assign(group=case.drop_duplicates("item").set_index("item")["group"])


def _difference(table: pd.DataFrame, before: str, after: str, *, seed: int) -> Estimate:
    a, b, groups = table[after].to_numpy(float), table[before].to_numpy(float), table["group"].tolist()
    if set(a.tolist()) | set(b.tolist()) <= {0.0, 1.0}:
        return cluster_change(b, a, groups, seed=seed)
    return cluster_mean(a - b, groups, seed=seed)

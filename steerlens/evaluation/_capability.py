"""What steering costs in ability: the same items answered unsteered and steered."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.errors import ArtefactError, EstimateError, OptionError
from steerlens.evaluation._comparison import read_frame
from steerlens.evaluation._judges import share
from steerlens.numerics import Estimate, McNemar, bootstrap, cluster_change, mcnemar

SCHEMA = "steerlens/capability/1"
Array = npt.NDArray[np.float64]

MIN_ITEMS = 5
"""Fewer items than this give no interval."""

CAPABILITY_ITEM_COLUMNS = ("intervention", "task", "doc_id", "metric", "unsteered", "steered", "weight")
"""One row is one item under one metric. ``weight`` is the item's share of its task's mean: 1, or words of a text."""

CAPABILITY_COLUMNS = (
    "intervention", "task", "metric", "n",
    "unsteered", "unsteered_low", "unsteered_high", "steered", "steered_low", "steered_high",
    "difference", "difference_low", "difference_high", "level", "lost", "gained", "mcnemar_p",
)  # fmt: skip
"""One row is one task and metric under one intervention. ``lost`` and ``gained`` count items of 0/1 metrics."""


def _mean(mean: Array) -> Array:
    return mean


def _perplexity(mean: Array) -> Array:
    found: Array = np.exp(-mean)
    return found


def _bits(mean: Array) -> Array:
    found: Array = -mean / np.log(2)
    return found


AGGREGATES: Mapping[str, Callable[[Array], Array]] = {
    "perplexity": _perplexity,
    "word_perplexity": _perplexity,
    "byte_perplexity": _perplexity,
    "bits_per_byte": _bits,
}
"""What is made of the mean over items, by metric; all other metrics are the mean itself."""


@final
@dataclass(frozen=True)
class CapabilityScore:
    """One task and metric under one intervention.

    Args:
        intervention: Its name.
        task: Name of the task.
        metric: Name of the metric.
        unsteered: Value without steering; for a share of items Wilson's interval.
        steered: Value with steering.
        difference: Steered − unsteered on the same items, items resampled.
        mcnemar: Of 0/1 metrics; None for others.
    """

    intervention: str
    task: str
    metric: str
    unsteered: Estimate
    steered: Estimate
    difference: Estimate
    mcnemar: McNemar | None


@final
@dataclass(frozen=True, eq=False)
class CapabilityReport:
    """Tasks and metrics, unsteered and steered, with paired differences.

    Args:
        scores: One for each intervention, task and metric.
        items: One row for each item (columns `CAPABILITY_ITEM_COLUMNS`).
        provenance: Model, tasks, limit, seed, interventions, versions.
        left_out: Metrics that have no value for a single item, and so no paired difference.
    """

    scores: tuple[CapabilityScore, ...]
    items: pd.DataFrame
    provenance: Mapping[str, Any]
    left_out: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Every score as one row (columns `CAPABILITY_COLUMNS`)."""
        return pd.DataFrame([_row(s) for s in self.scores], columns=list(CAPABILITY_COLUMNS))

    def __str__(self) -> str:
        lines = [f"Capability of {self.provenance.get('model')!r}, unsteered → steered, paired difference"]
        for name in dict.fromkeys(s.intervention for s in self.scores):
            lines.append(f"{name}")
            lines += [_line(s) for s in self.scores if s.intervention == name]
        if self.left_out:
            lines.append(f"Without a value for single items, and so left out: {', '.join(self.left_out)}.")
        return "\n".join(lines)

    def save(self, folder: str | Path) -> Path:
        """Write ``capability.parquet``, ``capability-items.parquet`` and ``capability.json`` into a folder.

        Raises:
            OptionError: If the folder cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{str(folder)!r} cannot be made a folder: {error.strerror}. Choose another.") from None
        self.to_frame().to_parquet(folder / "capability.parquet", index=False)
        self.items.to_parquet(folder / "capability-items.parquet", index=False)
        document = {
            "schema": SCHEMA,
            "provenance": dict(self.provenance),
            "left_out": list(self.left_out),
            "scores": [asdict(s) for s in self.scores],
        }
        (folder / "capability.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "CapabilityReport":
        """Read what `save` wrote.

        Raises:
            ArtefactError: If a file is missing, malformed, or of another schema.
        """
        path = Path(folder) / "capability.json"
        items = read_frame(Path(folder) / "capability-items.parquet", CAPABILITY_ITEM_COLUMNS)
        try:
            document = json.loads(path.read_text("utf-8"))
            if document["schema"] != SCHEMA:
                raise ArtefactError(f"{path} has schema {document['schema']!r}, but this version reads {SCHEMA!r}.")
            scores = tuple(_score_from(s) for s in document["scores"])
            return cls(scores, items, document["provenance"], tuple(document["left_out"]))
        except OSError:
            raise ArtefactError(f"{path} cannot be read. Expected a folder written by CapabilityReport.save.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{path} is malformed ({error}). Evaluate again.") from None


def capability_report(
    items: pd.DataFrame,
    *,
    seed: int,
    provenance: Mapping[str, Any],
    left_out: Sequence[str] = (),
    total: str | None = None,
) -> CapabilityReport:
    """Scores with intervals from the answers to single items.

    Args:
        items: Columns `CAPABILITY_ITEM_COLUMNS`.
        seed: Of the bootstrap.
        provenance: What the items were made from.
        left_out: Metrics that are not in ``items``.
        total: Name of a further task that holds all items; None for no such task.

    Raises:
        EstimateError: If a task has fewer than five items, or a value is not finite.
    """
    scores: list[CapabilityScore] = []
    for name in dict.fromkeys(items["intervention"]):
        here = items[items["intervention"] == name]
        for task in dict.fromkeys(here["task"]):
            of_task = here[here["task"] == task]
            scores += [_score(of_task, name, task, m, seed) for m in dict.fromkeys(of_task["metric"])]
        if total is not None:
            scores += [_score(here, name, total, m, seed) for m in dict.fromkeys(here["metric"])]
    return CapabilityReport(tuple(scores), items.reset_index(drop=True), provenance, tuple(left_out))


def joined(reports: Sequence[CapabilityReport]) -> CapabilityReport:
    """Reports of one model under the same interventions as one."""
    provenance = {k: v for r in reports for k, v in r.provenance.items()}
    provenance["tasks"] = [task for r in reports for task in r.provenance["tasks"]]
    return CapabilityReport(
        tuple(s for r in reports for s in r.scores),
        pd.concat([r.items for r in reports], ignore_index=True),
        provenance,
        tuple(name for r in reports for name in r.left_out),
    )


def _score(items: pd.DataFrame, name: str, task: str, metric: str, seed: int) -> CapabilityScore:
    rows = items[items["metric"] == metric]
    before, after, weight = (rows[c].to_numpy(np.float64) for c in ("unsteered", "steered", "weight"))
    if not (np.isfinite(before).all() and np.isfinite(after).all() and (weight > 0).all()):
        raise EstimateError(f"{metric!r} of {task!r} is not finite for some items. Look for NaN in what was measured.")
    finish = AGGREGATES.get(metric.partition(",")[0], _mean)
    docs: list[Hashable] = list(zip(rows["task"], rows["doc_id"], strict=True))
    if len(set(docs)) < MIN_ITEMS:
        raise EstimateError(
            f"Task {task!r} has {len(set(docs))} items with a value of {metric!r}, but an interval needs at least "
            f"{MIN_ITEMS}. Raise the limit, or leave this task out."
        )

    def value(x: Array) -> Callable[[Array], Array]:
        return lambda w: finish((w @ (weight * x)) / (w @ weight))

    if np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all() and (weight == 1).all():
        changed = cluster_change(before, after, docs, seed=seed)
        unsteered, steered = (share(int(x.sum()), len(x)) for x in (before, after))
        return CapabilityScore(name, task, metric, unsteered, steered, changed, mcnemar(before, after))
    unsteered, steered = (bootstrap(value(x), [docs], seed=seed) for x in (before, after))
    difference = bootstrap(lambda w: value(after)(w) - value(before)(w), [docs], seed=seed)
    return CapabilityScore(name, task, metric, unsteered, steered, difference, None)


def _row(s: CapabilityScore) -> tuple[Any, ...]:
    ends = [x for e in (s.unsteered, s.steered, s.difference) for x in (e.value, e.low, e.high)]
    test = s.mcnemar
    counts = (None, None, None) if test is None else (test.lost, test.gained, test.p_value)
    return (s.intervention, s.task, s.metric, s.difference.n, *ends, s.difference.level, *counts)


def _line(s: CapabilityScore) -> str:
    text = (
        f"  {s.task:<24} {s.metric:<16} n = {s.difference.n:<5} {s.unsteered} → {s.steered}, "
        f"{s.difference.value:+.3g} [{s.difference.low:+.3g}, {s.difference.high:+.3g}]"
    )
    if s.mcnemar is None:
        return text
    return f"{text}, {s.mcnemar.lost} lost, {s.mcnemar.gained} gained, p = {s.mcnemar.p_value:.2g}"


def _score_from(stored: Mapping[str, Any]) -> CapabilityScore:
    values = {
        **stored,
        **{k: Estimate(**stored[k]) for k in ("unsteered", "steered", "difference")},
        "mcnemar": None if stored["mcnemar"] is None else McNemar(**stored["mcnemar"]),
    }
    return CapabilityScore(**values)

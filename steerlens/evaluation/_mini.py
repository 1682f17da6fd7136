"""A small capability set that comes with steerlens, for machines without data sets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import final

import pandas as pd
import torch

from steerlens.evaluation._capability import CAPABILITY_ITEM_COLUMNS, CapabilityReport, capability_report
from steerlens.evaluation._scores import UNSTEERED, score_continuations
from steerlens.evaluation._tasks import check_interventions, describe_intervention
from steerlens.interventions import Intervention
from steerlens.models import LensModel

MINI = "mini"
"""Name of the bundled set among tasks."""


@final
@dataclass(frozen=True)
class CapabilityItem:
    """A beginning with several continuations, of which one is right.

    Args:
        id: Name of the item.
        kind: What it asks for, such as ``"arithmetic"``.
        context: The beginning.
        choices: Continuations.
        answer: Number of the right one.
    """

    id: str
    kind: str
    context: str
    choices: tuple[str, ...]
    answer: int


@cache
def capability_items() -> tuple[CapabilityItem, ...]:
    """The bundled items, all written for steerlens."""
    lines = files("steerlens.evaluation").joinpath("data/capability.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return tuple(CapabilityItem(r["id"], r["kind"], r["context"], tuple(r["choices"]), r["answer"]) for r in rows)


def mini_capability(model: LensModel, interventions: Mapping[str, Intervention], *, seed: int) -> CapabilityReport:
    """Answer the bundled items unsteered and under every intervention.

    ``acc`` is 1 where the right choice has the largest sum of log-probabilities. ``log_prob`` is the log-probability,
    in nats, of the right choice among the choices: it shows small changes that flip no answer. Each kind is a task,
    and ``mini`` is all of them.

    Args:
        model: What to evaluate.
        interventions: What to do to it, by name.
        seed: Of the intervals.

    Raises:
        OptionError: If ``interventions`` is not a mapping of interventions.
        SteerlensError: If one does not fit the model.
    """
    check_interventions(interventions)
    items = capability_items()
    found = score_continuations(
        model, [i.context for i in items], [i.choices for i in items], (UNSTEERED, *interventions.values())
    )
    by_item = torch.split(found.log_prob, [len(i.choices) for i in items], dim=1)
    rows: list[tuple[str, str, str, str, float, float, float]] = []
    for name, arm in zip(interventions, range(1, len(found.log_prob)), strict=True):
        for item, scores in zip(items, by_item, strict=True):
            right = (scores.argmax(dim=1) == item.answer).double()
            among = torch.log_softmax(scores, dim=1)[:, item.answer]
            for metric, values in (("acc", right), ("log_prob", among)):
                rows.append((name, f"{MINI}/{item.kind}", item.id, metric, float(values[0]), float(values[arm]), 1.0))
    provenance = {
        "model": model.name,
        "revision": model.revision,
        "dtype": str(model.dtype).removeprefix("torch."),
        "tasks": [MINI],
        "limit": None,
        "seed": seed,
        "chance": {f"{MINI}/{kind}": _chance(kind) for kind in dict.fromkeys(i.kind for i in items)},
        "interventions": {name: describe_intervention(one) for name, one in interventions.items()},
    }
    frame = pd.DataFrame(rows, columns=list(CAPABILITY_ITEM_COLUMNS))
    return capability_report(frame, seed=seed, provenance=provenance, total=MINI)


def _chance(kind: str) -> float:
    """Share of a kind's items that a blind guess gets right."""
    shares = [1 / len(i.choices) for i in capability_items() if i.kind == kind]
    return sum(shares) / len(shares)

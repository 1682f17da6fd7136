"""Tasks of lm-evaluation-harness, with and without steering, on the same items."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from steerlens.errors import EstimateError, OptionError, UnknownNameError
from steerlens.evaluation._capability import (
    AGGREGATES,
    CAPABILITY_ITEM_COLUMNS,
    MIN_ITEMS,
    CapabilityReport,
    capability_report,
)
from steerlens.evaluation._scores import UNSTEERED
from steerlens.interventions import Intervention
from steerlens.models import LensModel


def evaluate_tasks(
    model: LensModel,
    interventions: Mapping[str, Intervention],
    tasks: Sequence[str],
    *,
    limit: int | None,
    seed: int,
    include_path: str | Path | None = None,
    num_fewshot: int | None = None,
    chat_template: bool = False,
) -> CapabilityReport:
    """Run tasks of lm-evaluation-harness unsteered and under every intervention, and compare item by item.

    Requests of all arms are the same and are computed together, by replay. Few-shot examples are drawn with ``seed``.

    Args:
        model: What to evaluate.
        interventions: What to do to it, by name.
        tasks: Names or patterns (``"arc_*"``) of tasks, groups or tags, or paths of task files.
        limit: Items of each task, from its first; None for all.
        seed: Of few-shot examples, sampling and intervals.
        include_path: Folder with task files of your own, which need no network.
        num_fewshot: Examples in front of each question; None for what the task says.
        chat_template: Whether questions are put in the tokenizer's chat format.

    Raises:
        OptionError: If lm-evaluation-harness is not installed, or an argument is out of range, or the data of a task
            cannot be had.
        UnknownNameError: If there is no such task.
        EstimateError: If a task has fewer than five items.
    """
    need_harness()
    _check(interventions, tasks, limit)
    from steerlens.evaluation._harness import SteeredLM

    arms = SteeredLM.sharing(model, (UNSTEERED, *interventions.values()), seed=seed)
    with _own_generators():
        loaded = _load(tasks, include_path)
        answers = [_run(lm, loaded, limit, seed, num_fewshot, chat_template) for lm in arms]
    items, left_out = _paired(answers, list(interventions))
    provenance = {
        "model": model.name,
        "revision": model.revision,
        "dtype": str(model.dtype).removeprefix("torch."),
        "tasks": list(loaded),
        "limit": limit,
        "seed": seed,
        "num_fewshot": num_fewshot,
        "chat_template": chat_template,
        "interventions": {name: describe_intervention(one) for name, one in interventions.items()},
        "lm_eval": version("lm_eval"),
    }
    return capability_report(items, seed=seed, provenance=provenance, left_out=left_out)


def need_harness() -> None:
    """Refuse to go on without lm-evaluation-harness.

    Raises:
        OptionError: It is not installed.
    """
    if find_spec("lm_eval") is None:
        raise OptionError(
            "Tasks of lm-evaluation-harness need the package lm-eval, which is not installed. Install it with "
            "`pip install 'steerlens[eval]'`, or use the bundled set: tasks 'mini'."
        )


def describe_intervention(one: Intervention) -> dict[str, Any]:
    """Strength, and the class of the map at every site, for a record."""
    plan = {
        f"{site.hook_name} at {site.tokens!r}": type(steering_map).__name__ for site, steering_map in one.plan.items()
    }
    return {"strength": one.strength, "maps": plan}


def _check(interventions: Mapping[str, Intervention], tasks: Sequence[str], limit: int | None) -> None:
    if isinstance(tasks, str) or not tasks:
        raise OptionError(f"tasks must be a non-empty list of names, such as ['arc_easy'], but got {tasks!r}.")
    check_interventions(interventions)
    if limit is not None and limit < MIN_ITEMS:
        raise OptionError(f"limit must be at least {MIN_ITEMS} items, because fewer give no interval, but got {limit}.")


def check_interventions(interventions: Mapping[str, Intervention]) -> None:
    """Refuse what is not a mapping from names to interventions.

    Raises:
        OptionError: It is not, or it is empty.
    """
    given = list(interventions.items()) if isinstance(interventions, Mapping) else []
    if not given or not all(isinstance(k, str) and isinstance(one, Intervention) for k, one in given):
        raise OptionError(
            "interventions must map names to interventions, such as {'shift': Intervention({site: map}, 2.0)}, but got "
            f"{interventions!r:.80}."
        )


def find_tasks(names: Sequence[str], include_path: str | Path | None) -> "tuple[tuple[Any, list[str]], ...]":
    """Which of the harness's managers knows which of the tasks; nothing is loaded yet.

    The folder of one's own is looked into first. The harness's own thousands of files are only listed, which takes
    seconds, when a name is not found there.

    Raises:
        UnknownNameError: If there is no such task.
        OptionError: If the harness is not installed, or ``include_path`` is no folder.
    """
    need_harness()
    from lm_eval.tasks import TaskManager

    if include_path is not None and not Path(include_path).is_dir():
        raise OptionError(f"{str(include_path)!r} is no folder. Expected one with task files (.yaml).")
    own = TaskManager(include_path=str(include_path), include_defaults=False) if include_path is not None else None
    found: dict[int, tuple[Any, list[str]]] = {}
    for name in names:
        manager = own if own is not None and _matches(own, name) else _builtin_tasks()
        matches = _matches(manager, name)
        if not matches:
            known = {*manager.all_tasks, *(own.all_tasks if own is not None else ())}
            raise UnknownNameError("task", name, known, "A task of your own needs its folder (--include-path).")
        found.setdefault(id(manager), (manager, []))[1].extend(matches)
    return tuple(found.values())


@cache
def _builtin_tasks() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _matches(manager: Any, name: str) -> list[str]:
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return [name]
    return sorted(manager.match_tasks([name]))


def _load(names: Sequence[str], include_path: str | Path | None) -> dict[str, Any]:
    """Leaf tasks by name, their data read.

    Raises:
        UnknownNameError: If there is no such task.
        OptionError: If the data cannot be had.
    """
    loaded: dict[str, Any] = {}
    for manager, specs in find_tasks(names, include_path):
        try:
            loaded |= manager.load(list(dict.fromkeys(specs)))["tasks"]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
            raise OptionError(
                f"The tasks {', '.join(specs)} cannot be loaded ({type(error).__name__}: {error}). Data sets of the "
                "hub need a network; tasks of your own need correct paths in their files."
            ) from error
    return loaded


def _run(
    lm: Any, tasks: Mapping[str, Any], limit: int | None, seed: int, num_fewshot: int | None, chat_template: bool
) -> dict[str, list[dict[str, Any]]]:
    """The harness's own evaluation of one arm: its record of every item, by task."""
    from lm_eval.evaluator import evaluate

    for task in tasks.values():
        if num_fewshot is not None:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    # Tasks may draw from the global generators; every arm must see the same draws.
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    found = evaluate(
        lm=lm,
        task_dict={"tasks": dict(tasks), "groups": {}},
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    samples: dict[str, list[dict[str, Any]]] = found["samples"]
    return samples


@contextmanager
def _own_generators() -> Iterator[None]:
    """The global generators as they were, once the harness, which seeds and uses them, is done."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _paired(
    answers: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]], names: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Items of every arm beside those of the first, which is unsteered; and the metrics that items do not have."""
    rows: list[tuple[Any, ...]] = []
    left_out: dict[str, None] = {}
    for name, steered in zip(names, answers[1:], strict=True):
        for task, samples in answers[0].items():
            for before, after in zip(samples, steered[task], strict=True):
                if any(before[k] != after[k] for k in ("doc_id", "filter", "doc_hash", "prompt_hash")):
                    raise EstimateError(
                        f"Task {task!r} asks other questions when it is run again, so nothing can be paired. Remove "
                        "what draws without a seed from it."
                    )
                for metric in before["metrics"]:
                    label = metric if before["filter"] == "none" else f"{metric},{before['filter']}"
                    one, other = _of_item(metric, before[metric]), _of_item(metric, after[metric])
                    if one is None or other is None:
                        left_out[f"{task}: {label}"] = None
                    else:
                        rows.append((name, task, str(before["doc_id"]), label, one[0], other[0], one[1]))
    if not rows:
        raise OptionError(
            f"No metric of these tasks has a value for single items ({', '.join(left_out)}). Choose a task with one, "
            "such as accuracy."
        )
    return pd.DataFrame(rows, columns=list(CAPABILITY_ITEM_COLUMNS)), list(left_out)


def _of_item(metric: str, value: Any) -> tuple[float, float] | None:
    """Value and weight of one item; None if the metric is of the whole set only."""
    if isinstance(value, bool | int | float | np.number):
        return float(value), 1.0
    if metric in AGGREGATES and isinstance(value, tuple) and len(value) == 2:
        log_prob, length = (float(v) for v in value)
        return log_prob / length, length
    return None

"""The page of `steerlens.experiments.prompt_structure`."""

from pathlib import Path

import pandas as pd

from steerlens.experiments import STRUCTURE_METRICS, PromptStructure
from steerlens.numerics import DoseEffects, Estimate
from steerlens.reports._numbers import counted, estimate, percent
from steerlens.reports._study_page import (
    Interval,
    IntervalRows,
    StudyFigure,
    frame_text,
    interval_rows,
    missing_sentence,
    write_study,
)

_METHODS = ("function vector", "random heads")
_UNITS = {
    "log_prob": "log p of the answer (nats)",
    "first_token_accuracy": "share of first tokens right",
    "reciprocal_rank": "1 / (1 + rank)",
}


def prepare_prompt_structure(found: PromptStructure, model: str, *, metric: str = "log_prob") -> IntervalRows:
    """What one unit of strength does, by condition, by context and by block, for the vector and for random heads."""
    both = {v: found.effects(model, metric=metric, vector=v) for v in _METHODS}
    rows = [(name, {v: _interval(e.of(term)[k]) for v, e in both.items()}) for term, k, name in _levels(found, model)]
    return interval_rows(_METHODS, rows, f"change for each unit of strength: {_UNITS[metric]}")


def prompt_structure_reading(found: PromptStructure) -> str:
    """What the study says, in sentences."""
    said = []
    for model in found.models:
        vector, other = (found.effects(model, vector=v) for v in _METHODS)
        dose, control = vector.of("dose")[0], other.of("dose")[0]
        said.append(
            f"In {model} one unit of strength changes log p of the answer by "
            f"{frame_text(dose)} nats, averaged over the factorial; as many "
            f"random heads of the same length change it by {frame_text(control)}. "
            + _share_sentence(vector)
            + _signs(found, vector)
        )
    text = " ".join(said) or "No model was measured in every condition, so there is no balanced factorial."
    return text + missing_sentence(found.failures)


def write_prompt_structure(found: PromptStructure, folder: str | Path, *, command: str = "") -> Path:
    """Write ``index.html``, a figure for each model, ``items.parquet`` and ``cells.parquet``.

    Args:
        found: What to report.
        folder: Made if it does not exist; files of the same names are replaced.
        command: How to repeat it.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    figures, tables = [], []
    for number, model in enumerate(found.models):
        figures.append(
            StudyFigure(
                f"dose-{number}", f"What one unit of strength does in {model}",
                "Prompts first, then numbers of distractors, then blocks. Where intervals of the coloured method lie "
                "far apart, the effect depends on how the prompt is written. Grey: other heads, as many and as long.",
                prepare_prompt_structure(found, model),
            )
        )  # fmt: skip
        caption = (
            "Coefficients of the factorial, words resampled. Levels of a factor are deviations from their mean; what "
            "names the dose is for each unit of strength."
        )
        tables.append((f"Effects in {model}", caption, _effects(found, model)))
        caption = "The largest strength, at the block nearest to a third of the depth, and the paired change from none."
        tables.append((f"Cells in {model}", caption, _cells(found, model)))
    texts = {
        "kind": "Limitations of steering",
        "title": f"Does the prompt decide what a vector does? ({found.task})",
        "question": "Does the effect of a vector depend on the form of the prompt, and on what stands in front of it?",
        "answer": prompt_structure_reading(found),
    }
    path = write_study(
        folder, texts=texts, plan=found.plan, figures=figures, tables=tables, failures=found.failures,
        notes=pd.DataFrame(columns=["model", "part", "method", "reason"]), command=command,
    )  # fmt: skip
    if len(found.items):
        found.items.to_parquet(path.parent / "items.parquet", index=False)
        found.cells().to_parquet(path.parent / "cells.parquet", index=False)
    return path


def _interval(e: Estimate) -> Interval:
    return e.value, e.low, e.high


def _blocks(found: PromptStructure, model: str) -> list[int]:
    return sorted({int(j) for j in found.items.loc[found.items["model"] == model, "layer"]})


def _levels(found: PromptStructure, model: str) -> list[tuple[str, int, str]]:
    """Term, number of the level, and its name."""
    names = [
        ("dose, by format", [c.name for c in found.plan.conditions]),
        ("dose, by context", [counted(n, "distractor") for n in found.plan.distractors]),
        ("dose, by layer", [f"block {j}" for j in _blocks(found, model)]),
    ]
    return [(term, k, name) for term, of in names for k, name in enumerate(of)]


def _share_sentence(effects: DoseEffects) -> str:
    share = effects.format_share
    if share is None:
        return "The interval of that effect contains 0, so that no share of it can be stated. "
    text = f"Formats differ in it by {percent(share.value, share.low, share.high)} of that effect (root mean square)"
    context = effects.context_share
    if context is not None:
        text += f", and the range of contexts by {percent(context.value, context.low, context.high)}"
    return text + ". "


def _signs(found: PromptStructure, effects: DoseEffects) -> str:
    """Which prompts a dose helps, and which it harms."""
    names = [c.name for c in found.plan.conditions]
    helped = [n for n, e in zip(names, effects.of("dose, by format"), strict=True) if e.low > 0]
    harmed = [n for n, e in zip(names, effects.of("dose, by format"), strict=True) if e.high < 0]
    text = f"It is above 0 for {'; '.join(helped) or 'no form of prompt'}"
    return text + (f", and below 0 for {'; '.join(harmed)}." if harmed else ".")


def _effects(found: PromptStructure, model: str) -> pd.DataFrame:
    by_metric = {m: found.effects(model, metric=m) for m in STRUCTURE_METRICS}
    names = {("dose, by format", k): c.name for k, c in enumerate(found.plan.conditions)}
    names |= {(term, k): name for term, k, name in _levels(found, model)}
    for term in ("format", "format × dose", "format × context × dose"):
        names |= {(term, k): c.name for k, c in enumerate(found.plan.conditions)}
    for term in ("layer", "layer × dose"):
        names |= {(term, k): f"block {j}" for k, j in enumerate(_blocks(found, model))}
    rows = []
    for i, effect in enumerate(by_metric[STRUCTURE_METRICS[0]].effects):
        cells = {_UNITS[m]: frame_text(of.effects[i].estimate) for m, of in by_metric.items()}
        level = "" if effect.level is None else names[effect.term, effect.level]
        rows.append({"Term": effect.term, "Level": level, **cells})
    for label, which in (
        ("format × dose as a share of dose", "format_share"),
        ("context × dose as a share", "context_share"),
    ):
        shares = {m: getattr(of, which) for m, of in by_metric.items()}
        rows.append({"Term": label, "Level": "", **{_UNITS[m]: frame_text(e) for m, e in shares.items()}})
    return pd.DataFrame(rows)


def _cells(found: PromptStructure, model: str) -> pd.DataFrame:
    cells = found.cells()
    own = cells[(cells["model"] == model) & (cells["vector"] == "function vector")]
    top = own[own["strength"] == own["strength"].max()]
    third = {j: abs(d - 1 / 3) for j, d in zip(_blocks(found, model), sorted(found.plan.depths), strict=False)}
    block = min(third, key=lambda j: third[j])
    rows = []
    for (condition, n), cell in top[top["layer"] == block].groupby(["condition", "distractors"], sort=False):
        of = cell.set_index("metric")
        row: dict[str, object] = {
            "Prompt": condition,
            "Distractors": n,
            "Block": block,
            "Strength": own["strength"].max(),
        }
        for metric in STRUCTURE_METRICS:
            r = of.loc[metric]
            row[f"{_UNITS[metric]}, steered"] = estimate(r["value"], r["low"], r["high"])
            row[f"change of {metric.replace('_', ' ')}"] = estimate(
                r["change"], r["change_low"], r["change_high"], signed=True
            )
        rows.append(row)
    return pd.DataFrame(rows)

"""The page of `steerlens.experiments.off_course`."""

from pathlib import Path

import pandas as pd

from steerlens.experiments import OffCourse
from steerlens.reports._numbers import counted, estimate, listed, percent
from steerlens.reports._select import each
from steerlens.reports._study_page import IntervalRows, StudyFigure, interval_rows, missing_sentence, write_study

_STEERED = ("function vector", "function vector, searched", "task vector")
_LEFT_OUT = ("zero-shot", "few-shot")


def prepare_off_course(found: OffCourse) -> IntervalRows:
    """Recovery of every method on every pair that is not at the floor."""
    table = found.recovery() if len(found.items) else pd.DataFrame({"at_floor": []}).astype(bool)
    table = table[~table["at_floor"]]
    methods = [m for m in found.plan.methods if m not in _LEFT_OUT]
    rows = []
    for (model, task), pair in table.groupby(["model", "task"], sort=False) if len(table) else []:
        of = {r.method: (r.recovery, r.recovery_low, r.recovery_high) for r in each(pair)}
        many = table["model"].nunique() > 1
        rows.append((f"{task}\n{model}" if many else str(task), of))
    return interval_rows(methods, rows, "recovery: share right over the few-shot share", reference=1.0)


def off_course_reading(found: OffCourse) -> str:
    """What the study says, in sentences."""
    if not len(found.items):
        return "Nothing was measured." + missing_sentence(found.failures)
    reached = found.reached((0.5, 0.9))
    n, set_aside = int(reached["n_pairs"].iloc[0]), int(reached["at_floor"].iloc[0])
    said = []
    for method in (m for m in _STEERED if m in found.plan.methods):
        half, most = (
            next(each(reached[(reached["method"] == method) & (reached["threshold"] == t)])) for t in (0.5, 0.9)
        )
        if n:
            said.append(
                f"the {method} reaches half of the few-shot level on {half.reached} of {counted(n, 'pair')} of model "
                f"and task ({percent(half.share, half.low, half.high)}), and nine tenths on {most.reached}"
            )
    nobody = "no method that steers was asked for" if n else "there is nothing to recover: examples teach nothing here"
    text = f"{'; '.join(said) or nobody}."
    text = text[0].upper() + text[1:]
    if set_aside:
        were = "was" if set_aside == 1 else "were"
        text += f" {counted(set_aside, 'pair')} stood at the floor even behind examples, and {were} set aside."
    none = found.nothing_works()
    if none:
        text += f" Nothing works, by half of the few-shot level, on {listed([f'{t} in {m}' for m, t in none])}."
    elif n and said:
        text += " There is no pair on which nothing reaches half."
    return text + _dola_sentence(found) + missing_sentence(found.failures)


def write_off_course(found: OffCourse, folder: str | Path, *, command: str = "") -> Path:
    """Write ``index.html``, ``recovery.png``, ``items.parquet``, ``recovery.parquet``, ``reached.parquet``.

    Args:
        found: What to report.
        folder: Made if it does not exist; files of the same names are replaced.
        command: How to repeat it.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    texts = {
        "kind": "Steering off Course",
        "title": "Do vectors give back what examples give?",
        "question": "Which methods recover the few-shot level, on which tasks and models, and where does nothing?",
        "answer": off_course_reading(found),
    }
    figure = StudyFigure(
        "recovery", "Recovery, pair by pair",
        "0 is nothing right, the dashed line the few-shot level. Look first at whether coloured methods leave the grey "
        "controls, and then at how far they are from the line. Intervals of 95 %, words resampled.",
        prepare_off_course(found),
    )  # fmt: skip
    tables = []
    if len(found.items):
        recovery, reached = found.recovery(), found.reached()
        tables = [
            (
                "How often is it enough?",
                "Pairs whose recovery reaches the threshold, their share with Wilson's interval, and how many do "
                "with their whole interval.",
                _reached(reached),
            ),
            (
                "Pair by pair",
                "Share of answers right, and that over the few-shot share. “at floor”: the few-shot share is not above "
                f"{found.plan.floor:g}, and the pair is set aside.",
                _recovered(recovery),
            ),
        ]
    if len(found.choices):
        tables.append(
            (
                "Contrast of layers (DoLa)",
                "Multiple choice: MC1, and the share of questions whose best-scored answer is the longest. "
                "“corrected”: scores are made probabilities first.",
                _dola(found.choices),
            )
        )
    path = write_study(
        folder, texts=texts, plan=found.plan, figures=[figure], tables=tables, failures=found.failures,
        notes=found.notes, command=command,
    )  # fmt: skip
    if len(found.items):
        found.items.to_parquet(path.parent / "items.parquet", index=False)
        recovery.to_parquet(path.parent / "recovery.parquet", index=False)
        reached.to_parquet(path.parent / "reached.parquet", index=False)
    return path


def _reached(reached: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for method, own in reached.groupby("method", sort=False):
        cells = {f"{100 * r.threshold:g} %": f"{r.reached} of {r.n_pairs}: {percent(r.share, r.low, r.high)}, surely "
                 f"{r.surely}" for r in each(own)}  # fmt: skip
        rows.append({"Method": method, **cells})
    return pd.DataFrame(rows)


def _recovered(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Model": r.model,
                "Task": r.task,
                "Method": r.method + (f" ({r.setting})" if r.setting else ""),
                "Right": estimate(r.value, r.low, r.high),
                "Recovery": "at floor" if r.at_floor else estimate(r.recovery, r.recovery_low, r.recovery_high),
                "Words": r.n,
            }
            for r in each(table)
        ]
    )


def _dola(choices: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (model, arm), own in choices.groupby(["model", "arm"], sort=False):
        of = {r.metric: r for r in each(own)}
        mc1, longest = of["mc1"], of["longest"]
        change = "" if arm == "baseline" else estimate(mc1.change, mc1.change_low, mc1.change_high, signed=True)
        rows.append(
            {"Model": model, "Scores": arm, "MC1": estimate(mc1.value, mc1.low, mc1.high), "Change": change,
             "Longest": estimate(longest.value, longest.low, longest.high), "Questions": mc1.n}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _dola_sentence(found: OffCourse) -> str:
    if not len(found.choices):
        return ""
    mc1 = found.choices[(found.choices["metric"] == "mc1") & (found.choices["arm"] != "baseline")]
    up, down = int((mc1["change_low"] > 0).sum()), int((mc1["change_high"] < 0).sum())
    return (
        f" Of {len(mc1)} contrasts of layers {up} {'raises' if up == 1 else 'raise'} multiple choice (MC1), and "
        f"{down} {'lowers' if down == 1 else 'lower'} it, with intervals clear of 0."
    )

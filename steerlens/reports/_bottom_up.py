"""The page of `steerlens.experiments.bottom_up`."""

from pathlib import Path

import pandas as pd

from steerlens.experiments import TEXT_LIKELIHOODS, BottomUp
from steerlens.reports._numbers import estimate
from steerlens.reports._select import each
from steerlens.reports._study_page import IntervalRows, StudyFigure, interval_rows, missing_sentence, write_study

_METHODS = ("function vector", "in-context vectors", "random heads", "exchanged pairs")
_UNITS = {
    "first_token_accuracy": "change of the share of first tokens right",
    "log_prob": "change of log p of the answer (nats)",
    "propensity": "change of propensity (nats)",
}


def prepare_bottom_up(found: BottomUp, measure: str) -> IntervalRows:
    """What every method changes in one measure, case by case."""
    changes = found.changes()
    changes = changes[changes["measure"] == measure]
    many = changes["model"].nunique() > 1
    rows = []
    for (model, case, condition), own in changes.groupby(["model", "case", "condition"], sort=False):
        of = {r.method: (r.change, r.low, r.high) for r in each(own)}
        name = "\n".join(text for text in (str(case), str(condition), str(model) if many else "") if text)
        rows.append((name, of))
    return interval_rows(_METHODS, rows, _UNITS.get(measure, f"change of {measure} (nats)"))


def bottom_up_reading(found: BottomUp) -> str:
    """What the study says, in sentences."""
    contests, changes = found.contests(), found.changes()
    said = []
    for kind, own in contests.groupby("kind", sort=False):
        won = own["winner"].value_counts()
        n = {m: int(won.get(m, 0)) for m in (*_METHODS[:2], "")}
        said.append(
            f"Of {len(own)} {kind} comparisons the function vector is ahead in {n['function vector']}, in-context "
            f"vectors in {n['in-context vectors']}, and in {n['']} no difference is shown."
        )
    if len(contests):
        left = int((contests["p_holm"] <= 0.05).sum())
        said.append(f"Adjusted for all {len(contests)} comparisons together (Holm), a difference is shown in {left}.")
    against = [
        f"{r.case} ({r.method}, {r.measure})"
        for r in each(changes)
        if r.method in _METHODS[:2] and r.high < 0 and r.measure not in TEXT_LIKELIHOODS
    ]
    if against:
        said.append(f"Settings that were best on development items steer the wrong way on {', '.join(against)}.")
    costly = [
        f"{r.case} ({r.method}: {estimate(r.change, r.low, r.high, signed=True)} nats a token)"
        for r in each(changes)
        if r.method in _METHODS[:2] and r.high < 0 and r.measure == TEXT_LIKELIHOODS[0]
    ]
    if costly:
        said.append(f"Even the texts steered towards become less likely on {', '.join(costly)}.")
    text = " ".join(said) or "No case was measured with both methods."
    return text + missing_sentence(found.failures)


def write_bottom_up(found: BottomUp, folder: str | Path, *, command: str = "") -> Path:
    """Write ``index.html``, a figure for each measure, ``items.parquet``, ``changes.parquet``, ``contests.parquet``.

    Args:
        found: What to report.
        folder: Made if it does not exist; files of the same names are replaced.
        command: How to repeat it.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file.
    """
    changes, contests = found.changes(), found.contests()
    measures = list(dict.fromkeys(changes["measure"]))
    figures = [
        StudyFigure(
            f"change-{k}", _UNITS.get(measure, f"Change of {measure}").capitalize(),
            "From the unsteered model, paired. Grey: as many random heads of the same length, and in-context vectors "
            "fitted to pairs of which every second one is the other way round (the same line, with chance sign and "
            "length), at the settings of the methods.",
            prepare_bottom_up(found, measure),
        )
        for k, measure in enumerate(measures)
    ]  # fmt: skip
    tables = []
    if len(contests):
        caption = (
            "Paired on the same items; settings chosen on others. Nobody is ahead where the 95 % interval contains 0, "
            "which is not widened for the number of comparisons: p is, by Holm's method over this table (sign-flip "
            "test over groups; few groups cannot give a small one)."
        )
        tables.append(("Function vector less in-context vectors", caption, _contests(contests)))
    if len(changes):
        caption = "From the unsteered model. Controls act at the setting of the method above them."
        tables.append(("What each method changes", caption, _changes(changes)))
    texts = {
        "kind": "Bottom-up against top-down",
        "title": "Vectors made of heads, or vectors made of texts?",
        "question": "Where do function vectors win, and where in-context vectors: on functions, and on behaviours?",
        "answer": bottom_up_reading(found),
    }
    path = write_study(
        folder, texts=texts, plan=found.plan, figures=figures, tables=tables, failures=found.failures,
        notes=found.notes, command=command,
    )  # fmt: skip
    for name, frame in (("items", found.items), ("changes", changes), ("contests", contests)):
        frame.to_parquet(path.parent / f"{name}.parquet", index=False)
    return path


def _contests(contests: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Model": r.model,
                "Case": f"{r.kind}: {r.case}" + (f", {r.condition}" if r.condition else ""),
                "Measure": r.measure.replace("_", " "),
                "Difference": estimate(r.difference, r.low, r.high, signed=True),
                "Ahead": r.winner or "not shown",
                "p (Holm)": f"{r.p_holm:.3f}",
                "Items": r.n,
            }
            for r in each(contests)
        ]
    )


def _changes(changes: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Model": r.model,
                "Case": f"{r.kind}: {r.case}" + (f", {r.condition}" if r.condition else ""),
                "Measure": r.measure.replace("_", " "),
                "Method": f"{r.method} ({r.setting})",
                "Change": estimate(r.change, r.low, r.high, signed=True),
            }
            for r in each(changes)
        ]
    )

"""A study of theories as one page: which rung each concept asks for, and what became of every theory."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl

import steerlens
from steerlens.errors import OptionError
from steerlens.evaluation import across
from steerlens.numerics import Estimate
from steerlens.reports._across import LANE, AcrossEffects, ConceptRow, draw_across_effects
from steerlens.reports._drawing import SETTINGS
from steerlens.reports._figures import ReportFigure, one_axes
from steerlens.reports._frame import framed
from steerlens.reports._numbers import counted, estimate, listed
from steerlens.reports._page import figure_html
from steerlens.reports._palette import looks
from steerlens.reports._rung_controls import rung_controls_table
from steerlens.reports._select import each
from steerlens.reports._svg import png_bytes
from steerlens.reports._tables import facts_list, stacked_row, stacked_table
from steerlens.theories import (
    LADDER_RUNGS,
    Hypothesis,
    Outcome,
    Prediction,
    RungReading,
    TheoryEvidence,
    Verdict,
    registrations,
)
from steerlens.theories._theory_run import stamp


def write_theories(
    evidence: TheoryEvidence, hypotheses: Sequence[Hypothesis], verdicts: Sequence[Verdict], folder: str | Path
) -> Path:
    """Write ``report.html``, ``which-rung.png`` and ``verdicts.json`` into ``folder``.

    Args:
        evidence: What was measured.
        hypotheses: That were judged on it.
        verdicts: Theirs, in the same order.
        folder: Made if it does not exist; files of the same names are replaced.

    Returns:
        The path of the page.

    Raises:
        OptionError: If ``folder`` is a file, or hypotheses and verdicts are not of the same ids.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"A report needs a folder, but {folder} is a file. Give another name.")
    if [h.id for h in hypotheses] != [v.hypothesis for v in verdicts]:
        raise OptionError("Each hypothesis needs its verdict, in the same order.")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = "<p>No concept was measured, so there is nothing to draw.</p>"
    if evidence.comparisons:
        with mpl.rc_context(SETTINGS):
            figure = _figure(prepare_rungs(evidence))
            (folder / "which-rung.png").write_bytes(png_bytes(figure.wide))
            drawn = figure_html(figure, 1)
    (folder / "verdicts.json").write_text(json.dumps([_plain(v) for v in verdicts], indent=1, ensure_ascii=False))
    text = framed(
        "theories.html",
        title=escape(f"Theories of steering, tried on {evidence.model}"),
        answer=escape(theories_answer(evidence, verdicts)),
        overview=_overview(hypotheses, verdicts, registered_when(evidence, folder)),
        figure=drawn,
        rungs=rungs_table(evidence.rungs) + rung_controls_table(evidence.comparisons, LADDER_RUNGS[0][1]),
        theories="\n".join(_theory(h, v) for h, v in zip(hypotheses, verdicts, strict=True)),
        limits="".join(f"<li>{escape(one)}</li>" for one in theories_limits(evidence)),
        command=escape(f"steerlens theory report {shlex.quote(folder.name)}"),
        facts=facts_list({"study": evidence.name, "model": evidence.model, **evidence.facts}.items()),
        version=escape(steerlens.__version__),
    )
    path = folder / "report.html"
    path.write_text(text, "utf-8", errors="replace")
    return path


def prepare_rungs(evidence: TheoryEvidence) -> AcrossEffects:
    """The effects at equal KL of the three methods that stand for rungs, concept by concept, and their means."""
    methods = [method for _, method in LADDER_RUNGS]
    together = across(evidence.comparisons, seed=0)
    rows = []
    for name, c in evidence.comparisons.items():
        of = {r.method: r for r in each(c.headline)}
        effects = tuple(((of[m].effect, of[m].effect_low, of[m].effect_high), bool(of[m].reached)) for m in methods)
        rows.append(ConceptRow(name, effects, (of[methods[0]].random_low, of[methods[0]].random_high)))
    mean = {r.method: ((r.effect, r.low, r.high), True) for r in each(together.methods)}
    rows.append(ConceptRow(f"mean of {len(rows)}", tuple(mean[m] for m in methods), (float("nan"), float("nan"))))
    families = dict(zip(together.methods["method"], together.methods["family"], strict=True))
    look = looks((m, families[m]) for m in methods)
    budget = float(next(iter(evidence.comparisons.values())).headline["budget"].iloc[0])
    return AcrossEffects(tuple((m, look[m]) for m in methods), tuple(rows), budget)


def _figure(data: AcrossEffects) -> ReportFigure:
    height = 0.9 + LANE * len(data.rows) * (len(data.looks) + 1) + 0.2 * len(data.looks)
    wide, narrow = one_axes(lambda a: draw_across_effects(data, a), height=height, width=8.0)
    means = [f"{m} {estimate(*e)}" for (m, _), (e, _) in zip(data.looks, data.rows[-1].effects, strict=True)]
    caption = (
        "Look at whether the effect grows from rung to rung within a concept: translation, affine, nonlinear. Grey: "
        "the middle 95 % of random directions at the concept's layer. Hollow: the budget was never reached."
    )
    said = f"Means over concepts in nats: {'; '.join(means)}."
    return ReportFigure("which-rung", "What each rung does at equal side effects", caption, said, wide, narrow)


def rungs_table(rungs: Sequence[RungReading]) -> str:
    """One row per concept: what geometry asks for, what behaviour asks for, whether they agree."""
    heads = ("Concept", "Layer", "Geometry asks for", "Behaviour asks for", "Together")
    body = [
        stacked_row(
            heads,
            [
                f"<b>{escape(r.concept)}</b>",
                str(r.layer),
                f"{r.geometry.rung}, {r.geometry.sure} <small>{escape(r.geometry.text)}</small>",
                f"{r.behaviour.rung}, {r.behaviour.sure} <small>{escape(r.behaviour.text)}</small>",
                r.agree,
            ],
        )
        for r in rungs
    ]
    caption = (
        "“Not excluded”: a higher rung stays possible for want of data. “Differ”: both are shown, and not the same; "
        "“undecided”: they are not the same, and one of them is open."
    )
    return stacked_table("layers", caption, heads, "\n".join(body))


def theories_answer(evidence: TheoryEvidence, verdicts: Sequence[Verdict]) -> str:
    """The verdicts and the rungs in a few sentences."""
    said = []
    for outcome in Outcome:
        ids = [v.hypothesis for v in verdicts if v.outcome is outcome]
        said += [f"{listed(ids)} {'is' if len(ids) == 1 else 'are'} {outcome.value}"] if ids else []
    n = len(evidence.rungs)
    if not n:
        return f"No concept was measured. {'; '.join(said)}."
    ways: list[str] = []
    for what, asked in (
        ("Geometry", Counter(str(r.geometry.rung) for r in evidence.rungs)),
        ("behaviour", Counter(str(r.behaviour.rung) for r in evidence.rungs)),
    ):
        unjudged = asked.pop("unjudged", 0)
        said_of = [f"asks for {listed([f'{rung} on {k}' for rung, k in asked.most_common()])}"] if asked else []
        said_of += [f"is not judged on {unjudged}, for want of random directions"] if unjudged else []
        ways.append(f"{what} {listed(said_of)}")
    together = Counter(r.agree for r in evidence.rungs)
    both = listed([f"{'are ' * (word == 'undecided')}{word} on {k}" for word, k in together.most_common()])
    return f"Of {counted(n, 'concept')} in {evidence.model}: {ways[0]}; {ways[1]}; they {both}. {'; '.join(said)}."


def theories_limits(evidence: TheoryEvidence) -> list[str]:
    """What the study cannot say."""
    sizes = [int(c.headline["n_clusters"].iloc[0]) for c in evidence.comparisons.values()]
    found = [f"One model, {evidence.model}: nothing is said of others."]
    if sizes:
        found.append(
            f"{counted(len(sizes), 'concept')} of {min(sizes)} to {max(sizes)} held-out groups of questions each; "
            "theories are judged over concepts, so that few concepts make wide intervals."
        )
        short = [
            f"{name}: {listed([str(m) for m in c.headline.loc[~c.headline['reached'].astype(bool), 'method']])}"
            for name, c in evidence.comparisons.items()
            if not c.headline["reached"].astype(bool).all()
        ]
        found += [f"Within the strengths tried these never reached the budget: {'; '.join(short)}."] if short else []
    found += [f"{name}: {note}" for name, notes in evidence.notes.items() for note in notes]
    found += [f"{name} has no evidence: {why}" for name, why in evidence.problems.items()]
    return found


def registered_when(evidence: TheoryEvidence, folder: Path) -> str:
    """Whether the predictions were registered before anything was measured, by the dates of both."""
    last = max((stamp(r.when) for r in registrations(folder).values()), default="")
    late = sum(date < last for date in evidence.measured_when)
    if late:
        of = f"{late} of {len(evidence.comparisons)} concepts were measured"
        return f"By rule. Predictions were registered after {of}: hints, no tests."
    return "By rule, from predictions registered before the test half was read."


def _overview(hypotheses: Sequence[Hypothesis], verdicts: Sequence[Verdict], registered: str) -> str:
    heads = ("Theory", "Says", "Verdict", "Why")
    body = [
        stacked_row(
            heads,
            [
                f'<b><a href="#{escape(h.id)}">{escape(h.id)}</a></b>', escape(h.theory), f"<b>{v.outcome.value}</b>",
                escape(v.reason),
            ],
        )
        for h, v in zip(hypotheses, verdicts, strict=True)
    ]  # fmt: skip
    caption = f"{registered} All primary hypotheses together are wrong with probability 0.05 at most (Holm)."
    return stacked_table("layers", caption, heads, "\n".join(body))


def _theory(h: Hypothesis, v: Verdict) -> str:
    heads = ("Predicted", "Found", "Interval lies")
    found = {} if v.evidence is None else v.evidence.estimates
    body = [
        stacked_row(heads, [escape(str(p)), escape(_found(found.get(p.name))), _where(p, found.get(p.name))])
        for p in h.predictions
    ]
    controls = [] if v.evidence is None else [
        f"<li>{'passed' if c.passed else 'failed'}: {escape(c.name)}, {escape(c.reason)}</li>"
        for c in v.evidence.controls
    ]  # fmt: skip
    design = f"{escape(h.design)} {escape(h.population)} Source: {escape(', '.join(h.citations))}."
    return (
        f'<article id="{escape(h.id)}"><h3>{escape(h.id)}. {escape(h.theory)}</h3>'
        f"<p><b>{v.outcome.value}</b>{' (exploratory)' if v.exploratory else ''}. {escape(v.reason)} "
        f"{escape(v.would_change)}</p>"
        f"<p>{design} Refuted by: {escape(h.falsifier)}</p>"
        + stacked_table("layers", f"Intervals of {v.level:.3%}.", heads, "\n".join(body))
        + (f"<p>Controls:</p><ul>{''.join(controls)}</ul>" if controls else "<p>No control could be asked.</p>")
        + "</article>"
    )


def _found(e: Estimate | None) -> str:
    return "not measured" if e is None else f"{estimate(e.value, e.low, e.high)}, n = {e.n_clusters}"


def _where(p: Prediction, e: Estimate | None) -> str:
    if e is None:
        return "—"
    if p.fulfilled(e):
        return "where predicted"
    return "where it refutes" if p.contradicted(e) else "on both sides, or where nothing follows"


def _plain(v: Verdict) -> dict[str, Any]:
    """A verdict as JSON, with its numbers."""
    found = {} if v.evidence is None else v.evidence.estimates
    return {
        "hypothesis": v.hypothesis, "outcome": v.outcome.value, "reason": v.reason, "level": v.level,
        "would_change": v.would_change, "exploratory": v.exploratory,
        "estimates": {k: {"value": e.value, "low": e.low, "high": e.high, "n": e.n_clusters} for k, e in found.items()},
    }  # fmt: skip

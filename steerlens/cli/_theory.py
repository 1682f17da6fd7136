"""Theories: what each predicts, what would refute it, and how it fares."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from steerlens.cli._app import Budget, Device, Dtype, Seed, Strengths, app, numbers_in, whole_numbers
from steerlens.cli._output import check_folder, print_table, say
from steerlens.errors import OptionError

if TYPE_CHECKING:
    from steerlens.theories import Hypothesis

theories = typer.Typer(help="Theories of steering: what each predicts, and what would refute it.")
app.add_typer(theories, name="theory")


@theories.command("list")
def list_theories() -> None:
    """List the theories, with what each asserts."""
    from steerlens.theories import THEORIES

    rows = [(h.id, type(h).__name__, h.theory, ", ".join(h.citations)) for h in THEORIES]
    print_table("Theories", ("id", "name", "asserts", "source"), rows)


@theories.command("show")
def show_theories(
    ids: Annotated[
        list[str], typer.Argument(help="Such as T1, or my_theory.py:MyTheory; see `steerlens theory list`.")
    ],
    studies: Annotated[
        int, typer.Option("--studies", min=0, help="Simulated studies of each planted case to try it on; 0 for none.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the simulated studies.")] = 0,
) -> None:
    """Show a theory whole: prediction, falsifier, what it reads, and how often it is right in simulations."""
    from steerlens.theories import admissibility

    console = Console()
    for h in [_hypothesis(i) for i in ids]:
        lines = [
            f"{h.id} {type(h).__name__}: {h.theory}",
            f"  source      {', '.join(h.citations)}",
            f"  population  {h.population}",
            f"  design      {h.design}",
            *(f"  predicts    {p}" for p in h.predictions),
            *(f"  refuted by  {p.against}" for p in h.predictions if p.against),
            *(f"  reads       {line}" for line in _reads(h)),
            f"  needs       {h.min_units} units; intervals of {h.level:.0%}",
        ]
        lines += [str(admissibility(h, n_studies=studies, seed=seed))] if studies else []
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


STRENGTHS = "0,0.5,1,2,4"


@theories.command("run")
def run_study(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Such as T1 T2, or my_theory.py:MyTheory; see `steerlens theory list`.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="TOML file of a study, in place of what follows.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Hub name, folder, or a name from `steerlens models`.")] = "",
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Built-in concept or a file; most theories need eight.")
    ] = None,
    layers: Annotated[str, typer.Option("--layers", help="Blocks whose output is steered, such as 8,14,20.")] = "",
    strengths: Strengths = STRENGTHS,
    out: Annotated[Path, typer.Option("--out", help="Folder of the store; one that exists is gone on with.")] = Path(
        "steerlens-theories"
    ),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    budget: Budget = 0.1,
    n_random: Annotated[int, typer.Option("--random", min=0, help="Random directions at the chosen layer.")] = 20,
    controls: Annotated[bool, typer.Option(help="Negative controls; prompts where the concept has them.")] = True,
    seed: Seed = 0,
    max_pairs: Annotated[
        int, typer.Option("--max-pairs", min=0, help="Measure on at most this many pairs of a concept; 0 for all.")
    ] = 0,
    max_texts: Annotated[int, typer.Option("--max-texts", min=0, help="Neutral texts, 10 or more; 0 for all.")] = 0,
) -> None:
    """Measure what theories read, concept by concept, and judge them; run it again to go on where it was stopped."""
    from steerlens.concepts import load_concept
    from steerlens.models import load_model
    from steerlens.theories import TheoryStudy, check_same_study, load_theory_study, run_theories

    if study is not None and (ids or model or concept or layers):
        raise OptionError("A study's file says theories, model, concepts and layers. Leave them out, or --study.")
    given = {
        "--strengths": (strengths, STRENGTHS), "--budget": (budget, 0.1), "--random": (n_random, 20),
        "--dtype": (dtype, "float32"), "--controls": (controls, True), "--seed": (seed, 0),
        "--max-pairs": (max_pairs, 0), "--max-texts": (max_texts, 0),
    }  # fmt: skip
    if study is not None and (ignored := [name for name, (value, default) in given.items() if value != default]):
        raise OptionError(f"{', '.join(ignored)} would be ignored: {study} says how to measure. Write it there.")
    if study is None and not (ids and model and concept and layers):
        raise OptionError("Give theories, --model, --concept and --layers, or a file with --study.")
    wanted = load_theory_study(study) if study is not None else TheoryStudy(
        name=out.name,
        model=model,
        dtype=dtype,
        concepts=tuple(load_concept(name) for name in concept or ()),
        layers=tuple(whole_numbers(layers, "--layers")),
        theories=tuple(_hypothesis(i) for i in ids or ()),
        strengths=tuple(sorted(set(numbers_in(strengths, "--strengths")))),
        budget=budget, n_random=n_random, controls=controls, seed=seed, max_pairs=max_pairs, max_texts=max_texts,
    )  # fmt: skip
    check_same_study(wanted, out)
    check_folder(out)
    lens = load_model(wanted.model, dtype=wanted.dtype, device=device)
    if outside := [n for n in wanted.layers if not 0 <= n < lens.n_layers]:
        raise OptionError(f"{lens.name!r} has blocks 0 to {lens.n_layers - 1}, but the study asks for {outside[0]}.")
    run_theories(wanted, lens, out, when=datetime.now(UTC))
    _report(out, wanted.theories)


@theories.command("report")
def report_study(
    folder: Annotated[Path, typer.Argument(help="Folder written by `steerlens theory run`.")],
    own: Annotated[
        list[str] | None, typer.Option("--theory", help="A theory of your own in it, such as my_theory.py:MyTheory.")
    ] = None,
) -> None:
    """Judge a stored study again, and write its report; needs no model."""
    _report(folder, tuple(_hypothesis(reference) for reference in own or ()))


def _report(folder: Path, given: "tuple[Hypothesis, ...]") -> None:
    from steerlens.reports import write_theories
    from steerlens.theories import load_evidence, stored_theories, theory, theory_ids

    evidence, known = load_evidence(folder), {h.id: h for h in given}
    ids = stored_theories(folder)
    if missing := [i for i in ids if i not in known and i not in theory_ids()]:
        raise OptionError(
            f"{folder} holds {', '.join(missing)}, which steerlens does not have. Name its file and class: "
            "--theory my_theory.py:MyTheory."
        )
    hypotheses = tuple(known.get(i) or theory(i) for i in ids)
    verdicts = evidence.verdicts(hypotheses, folder)
    for verdict in verdicts:
        typer.echo(str(verdict), err=True)
    say(write_theories(evidence, hypotheses, verdicts, folder))


def _hypothesis(reference: str) -> "Hypothesis":
    """A theory by its id, or one of the user's own by file and class. Only the command line runs such a file."""
    from steerlens.theories import own_theory, theory

    return own_theory(reference) if ":" in reference else theory(reference)


def _reads(h: "Hypothesis") -> list[str]:
    """What a theory reads: roles, columns that tell rows apart, and whether intervals are needed."""
    from steerlens.theories import PlantedCase

    records = h.planted(PlantedCase.TRUE, seed=0)
    lines = []
    for name in dict.fromkeys(q.name for q in h.quantities.values()):
        asked, rows = [q for q in h.quantities.values() if q.name == name], records[records["quantity"] == name]
        where = [f"role {q.role or ('method' if q.method else '')!r}" + (f", method {q.method!r}" if q.method else "")
                 + (f", setting {q.setting!r}" if q.setting else "") for q in asked]  # fmt: skip
        apart = [c for c in ("setting", "strength", "context", "group", "item", "seed", "layer", "model")
                 if rows[c].nunique() > 1]  # fmt: skip
        notes = [f"several {', '.join(apart)}"] if apart else []
        notes += ["with low, high and level"] if any(q.reduce == "error" for q in asked) else []
        notes += ["may be left out"] if all(q.optional for q in asked) else []
        said = "; ".join([*dict.fromkeys(where), *notes])
        lines.append(f"{name!r}: {said}")
    return lines

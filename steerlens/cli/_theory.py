"""Theories: what each predicts, what would refute it, and how it fares."""

from typing import Annotated

import typer
from rich.console import Console

from steerlens.cli._app import app
from steerlens.cli._output import print_table

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
    ids: Annotated[list[str], typer.Argument(help="Such as T1; see `steerlens theory list`.")],
    studies: Annotated[
        int, typer.Option("--studies", min=0, help="Simulated studies of each planted case to try it on; 0 for none.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the simulated studies.")] = 0,
) -> None:
    """Show a theory whole: prediction, falsifier, what it reads, and how often it is right in simulations."""
    from steerlens.theories import admissibility, theory

    console = Console()
    for h in [theory(i) for i in ids]:
        lines = [
            f"{h.id} {type(h).__name__}: {h.theory}",
            f"  source      {', '.join(h.citations)}",
            f"  population  {h.population}",
            f"  design      {h.design}",
            *(f"  predicts    {p}" for p in h.predictions),
            *(f"  refuted by  {p.against}" for p in h.predictions if p.against),
            *(f"  reads       {q}" for q in dict.fromkeys(str(q) for q in h.quantities.values())),
            f"  needs       {h.min_units} units; intervals of {h.level:.0%}",
        ]
        lines += [str(admissibility(h, n_studies=studies, seed=seed))] if studies else []
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

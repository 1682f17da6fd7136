"""Studies: many models, concepts, sites and methods, into a store that survives."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from steerlens.cli._app import Device, app
from steerlens.cli._output import check_folder, say
from steerlens.errors import OptionError


@app.command()
def sweep(
    study: Annotated[Path, typer.Argument(help="TOML file of a study, such as examples/study.toml.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the store; one that exists is gone on with.")] = Path(
        "steerlens-sweep"
    ),
    device: Device = "cpu",
    yes: Annotated[bool, typer.Option("--yes", help="Run without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")] = False,
    ray: Annotated[
        str,
        typer.Option("--ray", help="Run on a Ray cluster at this address; without one, on this machine's own."),
    ] = "",
) -> None:
    """Run a study: many models, concepts, sites and methods, into a store that survives; run it again to go on."""
    from steerlens.experiments import ResultStore, Sweep, load_study, plan_study, run_on_ray

    wanted = load_study(study)
    store = ResultStore(out)
    if not dry_run:
        check_folder(out)
    if store.damage():
        if dry_run:
            raise OptionError(f"The store {out} has damage; without --dry-run it is repaired first.")
        typer.echo(f"Repaired {out}: {store.repair()}", err=True)
    plan = plan_study(wanted, store)
    prepared = Sweep(plan, store, device=device)
    typer.echo(prepared.describe(None if ray or not plan.n_pending else prepared.calibrate()), err=True)
    if dry_run:
        return
    if plan.n_pending and not yes:
        if not sys.stdin.isatty():
            raise OptionError("Nobody can be asked whether to run this. Pass --yes, or --dry-run to look only.")
        typer.confirm("Run?", abort=True, err=True)
    store.append_note("study", {"name": wanted.name, "text": study.read_text("utf-8")})
    summary = run_on_ray(plan, store, address=ray, device=device) if ray else prepared.run()
    typer.echo(str(summary), err=True)
    say(out)
    if summary.failures:
        raise typer.Exit(1)

"""What there is: models, concepts, tasks, methods; and whether a model can be trusted."""

from typing import Annotated

import typer
from rich.console import Console

from steerlens.cli._app import (
    Device,
    Dtype,
    app,
    methods_on_samples,
)
from steerlens.cli._output import print_table

PLANTED_MAPS = "MeanShift,DirectionalAblation,GaussianTransport,FlowMatching,ResidualMLP,ClassifierGradient"


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Describe this model without loading its weights.")] = None,
) -> None:
    """List the models that can be loaded here, or describe one."""
    from steerlens.models import describe, model_catalogue

    if name is not None:
        Console().print(str(describe(name)), highlight=False, markup=False)
        return
    rows = model_catalogue()
    print_table(
        "Models",
        ("name", "from", "parameters", "float32", "bfloat16", "loads here"),
        [row.cells for row in rows],
    )


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Hub name, folder, .gguf file, or a name from `steerlens models`.")],
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Try on a model whether steering and replay keep their promises; exit code 1 if they do not."""
    from steerlens.interventions import check_model
    from steerlens.models import load_model

    found = check_model(load_model(model, dtype=dtype, device=device))
    Console().print(str(found), markup=False, highlight=False, soft_wrap=True)
    if not found.holds:
        raise typer.Exit(1)


@app.command()
def concepts() -> None:
    """List the built-in concept data sets."""
    from steerlens.concepts import concept_summaries

    rows = [(s.name, str(s.pairs), str(s.groups), s.licence, s.description) for s in concept_summaries()]
    print_table("Concepts", ("name", "pairs", "groups", "licence", "what"), rows)


@app.command()
def tasks() -> None:
    """List the built-in in-context tasks."""
    from steerlens.concepts import load_task, task_summaries

    rows = [
        (s.name, str(s.pairs), " → ".join(load_task(s.name).pairs[0]), s.licence, s.description)
        for s in task_summaries()
    ]
    print_table("In-context tasks", ("name", "pairs", "such as", "licence", "what"), rows)


@app.command()
def maps(
    planted: Annotated[
        bool, typer.Option("--planted", help="Try them on planted geometry with known answers, instead of listing.")
    ] = False,
    names: Annotated[
        str, typer.Option("--maps", help="Which to try, comma-separated; `all` for every one, which takes minutes.")
    ] = PLANTED_MAPS,
    rows: Annotated[int, typer.Option("--rows", min=50, help="Rows of each class to fit on.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the planted data.")] = 0,
) -> None:
    """List the steering methods, or try them on planted geometry."""
    if planted:
        from steerlens.evaluation import planted_table

        print(planted_table(methods_on_samples(names), n=rows, seed=seed))
        return
    from steerlens.interventions import all_summaries
    from steerlens.maps import LADDER, method_name

    ladder = {method_name(m) for m in LADDER}
    listed = [
        (m.name + ("*" if m.name in ladder else ""), m.family, m.needs, m.reverse, m.assumes or m.what, m.source or "—")
        for m in all_summaries()
    ]
    print_table(
        "Steering methods (* the ladder: what --maps all means)",
        ("name", "family", "fitted on", "reverse", "right when", "source"),
        listed,
    )

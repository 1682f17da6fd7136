"""Multiple choice against open text, over concepts."""

from pathlib import Path
from typing import Annotated

import typer

from steerlens.cli._app import Budget, Device, Dtype, MaxPairs, ModelName, Out, Seed, app, one_method, sites_at
from steerlens.cli._output import check_folder, command_line, say


@app.command()
def agreement(
    model: ModelName,
    concept: Annotated[
        list[str], typer.Option("--concept", help="Built-in concept or a file; give five or more, one by one.")
    ],
    layer: Annotated[int, typer.Option("--layer", min=0, help="Block whose output is steered.")],
    map_name: Annotated[str, typer.Option("--map", help="One method; see `steerlens maps`.")] = "MeanShift",
    out: Out = Path("steerlens-agreement"),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    budget: Budget = 0.1,
    n_random: Annotated[int, typer.Option("--random", min=20, help="Random directions for each concept.")] = 20,
    seed: Seed = 0,
    max_pairs: MaxPairs = 0,
) -> None:
    """Ask over concepts whether steering's effect in multiple choice agrees with that in open text."""
    from steerlens.concepts import load_concept
    from steerlens.evaluation import KLBudget, agreement_items, check_agreement
    from steerlens.evaluation import agreement as both_formats
    from steerlens.models import load_model
    from steerlens.reports import write_agreement

    # Everything that can be refused without the model is refused before it is loaded.
    method, wanted = one_method(map_name), KLBudget(budget)
    items = [agreement_items(load_concept(name), seed=seed, max_pairs=max_pairs or None) for name in concept]
    check_agreement([c.name for c in items])
    check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    site = sites_at([layer], lens)[0]
    found = both_formats(lens, items, site=site, method=method, strength=wanted, seed=seed, n_random=n_random)
    print(found)
    say(write_agreement(found, out, command=command_line()))

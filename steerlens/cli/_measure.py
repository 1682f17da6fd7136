"""What one concept or one map is like: geometry, cards, capability."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from steerlens.cli._app import (
    Budget,
    Chat,
    ConceptName,
    Device,
    Dtype,
    Layers,
    MaxPairs,
    ModelName,
    Neutral,
    Out,
    Seed,
    Strengths,
    app,
    instructions_for,
    neutral_from,
    numbers_in,
    one_method,
    sites_at,
    whole_numbers,
    words,
)
from steerlens.cli._output import check_folder, command_line, map_provenance, say
from steerlens.errors import OptionError


@app.command()
def geometry(
    model: ModelName,
    concept: ConceptName,
    layers: Layers = "all",
    out: Out = Path("steerlens-geometry"),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    seed: Seed = 0,
    max_pairs: Annotated[int, typer.Option("--max-pairs", min=0, help="Use at most this many pairs; 0 for all.")] = 0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The control: the same architecture, weights drawn anew.")
    ] = False,
) -> None:
    """Probe a concept layer by layer: which functions read it, and which rung of the ladder it asks for."""
    from steerlens.concepts import load_concept
    from steerlens.evaluation import geometry as probe_layers
    from steerlens.models import load_model, random_twin
    from steerlens.reports import write_geometry

    numbers = None if layers == "all" else whole_numbers(layers, "--layers")
    pairs = load_concept(concept)
    pairs = pairs[:max_pairs] if max_pairs else pairs
    check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    lens = random_twin(lens, seed=seed) if random_weights else lens
    found = probe_layers(lens, pairs, sites_at(numbers, lens), seed=seed)
    print(found)
    say(write_geometry(found, out, command=command_line()))


@app.command()
def card(
    model: ModelName,
    concept: ConceptName,
    layer: Annotated[int, typer.Option("--layer", min=0, help="Block whose output is steered.")],
    map_name: Annotated[str, typer.Option("--map", help="One method; see `steerlens maps`.")] = "MeanShift",
    strengths: Strengths = "-1.5,-1,-0.5,0,0.5,1,1.5,2,4",
    out: Out = Path("steerlens-card"),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    budget: Budget = 0.1,
    other: Annotated[
        str, typer.Option("--other", help="Another concept, whose map is a control; empty for none.")
    ] = "formality",
    n_resampled: Annotated[
        int, typer.Option("--resampled", min=0, help="Fits to resampled pairs, 39 or more, or 0 for none.")
    ] = 39,
    chat: Chat = False,
    seed: Seed = 0,
    max_pairs: MaxPairs = 0,
    max_texts: Annotated[
        int, typer.Option("--max-texts", min=0, help="Use at most this many neutral texts, 10 or more; 0 for all.")
    ] = 24,
    neutral: Neutral = None,
) -> None:
    """Fit one method and write its card: what it does, how reliably, at what cost, and where it fails."""
    from steerlens.concepts import PLAIN, load_concept
    from steerlens.evaluation import CardPlan, card_and_map, chat_format
    from steerlens.maps import save_map
    from steerlens.models import load_model
    from steerlens.reports import write_card

    method = one_method(map_name)
    pairs = load_concept(concept)
    split = pairs.split(seed=seed)
    fit, test = (part[:max_pairs] if max_pairs else part for part in (split[0], split[2]))
    plan = CardPlan(
        strengths=tuple(sorted(set(numbers_in(strengths, "--strengths")))),
        budget=budget,
        n_resampled=n_resampled,
        other=load_concept(other) if other and other != pairs.name else None,
        instructions=instructions_for(pairs.name),
        seed=seed,
    )
    if 0 < max_texts < 10:
        raise OptionError(f"--max-texts must be 10 or more, or 0 for all, but got {max_texts}.")
    texts = neutral_from(neutral, most=max_texts, least=10)
    check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    site = sites_at([layer], lens)[0]
    plan = replace(plan, chat=chat_format(lens) if chat else PLAIN)
    found, fitted = card_and_map(
        lens, fit, test, site=site, method=method, plan=plan, neutral=texts, command=command_line()
    )
    save_map(fitted, out, provenance=map_provenance(found.model, found.concept, site, found.method.name))
    print(found)
    say(write_card(found, out))


@app.command()
def evaluate(
    model: ModelName,
    folders: Annotated[
        list[Path],
        typer.Option("--map", help="Folder of a saved map, such as maps/MeanShift-20; may be repeated."),
    ],
    tasks: Annotated[
        str,
        typer.Option("--tasks", help="Tasks of lm-evaluation-harness, comma-separated; `mini` is the bundled set."),
    ] = "mini",
    include_path: Annotated[
        Path | None, typer.Option("--include-path", help="Folder with task files of your own.")
    ] = None,
    strength: Annotated[str, typer.Option("--strength", help="Strengths of each map, such as 1,2.")] = "1",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Items of each task, 5 or more; 0 for all.")] = 0,
    num_fewshot: Annotated[
        int, typer.Option("--num-fewshot", min=-1, help="Examples in front of a question; -1 for what the task says.")
    ] = -1,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Put questions in the tokenizer's chat format.")
    ] = False,
    out: Out = Path("steerlens-evaluate"),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Answer the same items without and with steering, and test the differences."""
    from steerlens.evaluation import MINI, evaluate_tasks, find_tasks, joined, mini_capability
    from steerlens.interventions import load_intervention
    from steerlens.maps import read_manifest
    from steerlens.models import load_model

    names, strengths = words(tasks), numbers_in(strength, "--strength")
    if not names or not strengths or 0 < limit < 5:
        raise OptionError(
            f"evaluate needs --tasks, --strength and a --limit of 5 or more (0 for all), but got {tasks!r}, "
            f"{strength!r} and {limit}."
        )
    for folder in folders:
        read_manifest(folder)
    of_harness = [name for name in names if name != MINI]
    if of_harness:
        find_tasks(of_harness, include_path)
    check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    asked_for = arms_of(folders, strengths)
    arms = {name: load_intervention(lens, folder, strength=s) for name, (folder, s) in asked_for.items()}
    found = [mini_capability(lens, arms, seed=seed)] if MINI in names else []
    if of_harness:
        asked = None if num_fewshot < 0 else num_fewshot
        found.append(evaluate_tasks(
            lens, arms, of_harness, limit=limit or None, seed=seed, include_path=include_path, num_fewshot=asked,
            chat_template=chat_template,
        ))  # fmt: skip
    capability = joined(found)
    print(capability)
    say(capability.save(out) / "capability.json")


def arms_of(folders: Sequence[Path], strengths: Sequence[float]) -> dict[str, tuple[Path, float]]:
    """Each map at each strength once, under a name of its own.

    A map is called by its folder's name, or by the path as given where others have that name; strengths are written in
    full where they would else look alike.
    """
    maps, steps = list(dict.fromkeys(folders)), list(dict.fromkeys(strengths))
    names = Counter(folder.name for folder in maps)
    alike = len({f"{s:g}" for s in steps}) < len(steps)
    return {
        f"{folder.name if names[folder.name] == 1 else folder} × {s if alike else format(s, 'g')}": (folder, s)
        for folder in maps
        for s in steps
    }

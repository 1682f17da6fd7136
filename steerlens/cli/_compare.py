"""Comparisons: the demo, one concept, several, and the report of a stored one."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerlens.cli._app import (
    Budget,
    Chat,
    Device,
    Dtype,
    Layers,
    MapNames,
    MaxPairs,
    ModelName,
    Neutral,
    Out,
    Seed,
    Strengths,
    app,
    instructions_for,
    methods_named,
    neutral_from,
    numbers_in,
    sites_at,
    whole_numbers,
)
from steerlens.cli._output import check_folder, command_line, folder_name, map_provenance, say
from steerlens.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerlens.concepts import Split
    from steerlens.evaluation import Comparison, ComparisonPlan, FittedMaps
    from steerlens.models import LensModel

DEMO_LAYERS = "16,20,24"
DEMO_STRENGTHS = "-1,0,1,2,4"
DEMO_NEUTRAL = 24
DEMO_PROMPTS = ("The film was", "I went to the new restaurant and", "My honest opinion of this hotel:")


@app.command()
def demo(out: Out = Path("steerlens-demo"), seed: Seed = 0) -> None:
    """Compare the ladder of maps on sentiment in SmolLM2-135M and write a report."""
    compare(
        model="smollm2-135m-instruct",
        concept=["sentiment"],
        layers=DEMO_LAYERS,
        strengths=DEMO_STRENGTHS,
        out=out,
        seed=seed,
        max_texts=DEMO_NEUTRAL,
        prompts=list(DEMO_PROMPTS),
    )


@app.command()
def compare(
    model: ModelName,
    concept: Annotated[
        list[str],
        typer.Option(
            "--concept",
            help="Built-in concept or a file; see `steerlens concepts`. Give several for a comparison over concepts.",
        ),
    ],
    layers: Layers = "all",
    maps: MapNames = "all",
    strengths: Strengths = "-1.5,-1,-0.5,0,0.5,1,1.5,2,3,4",
    out: Out = Path("steerlens-compare"),
    dtype: Dtype = "float32",
    device: Device = "cpu",
    budget: Budget = 0.1,
    n_random: Annotated[
        int, typer.Option("--random", min=0, help="Random directions at the chosen layer, as control.")
    ] = 20,
    controls: Annotated[
        bool, typer.Option(help="Exchanged labels, a wrong layer, PC1 of neutral texts as controls.")
    ] = True,
    lora: Annotated[bool, typer.Option("--lora", help="Fine-tune on the same pairs as a rival (needs peft).")] = False,
    chat: Chat = False,
    seed: Seed = 0,
    max_pairs: MaxPairs = 0,
    max_texts: Annotated[
        int, typer.Option("--max-texts", min=0, help="Use at most this many neutral texts, 10 or more; 0 for all.")
    ] = 0,
    neutral: Neutral = None,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", help="A text to continue; may be repeated.")] = None,
) -> None:
    """Compare steering methods on a concept, or on several, at one budget of side effects, and write a report."""
    from steerlens.activations import Site
    from steerlens.concepts import PLAIN
    from steerlens.evaluation import ComparisonPlan, chat_format
    from steerlens.interventions import LoraFinetune
    from steerlens.models import load_model

    # Everything that can be refused without the model is refused before it is loaded.
    numbers = None if layers == "all" else whole_numbers(layers, "--layers")
    plan = ComparisonPlan(
        sites=tuple(Site.resid_post(n) for n in dict.fromkeys((0,) if numbers is None else numbers)),
        methods=methods_named(maps),
        strengths=tuple(sorted(set(numbers_in(strengths, "--strengths")))),
        budget=budget,
        n_random=n_random,
        prompts=tuple(prompts or ()),
        controls=controls,
        finetune=LoraFinetune(seed=seed) if lora else None,
        seed=seed,
    )
    texts = neutral_from(neutral, most=max_texts, least=10)
    if len(texts) < 10:
        raise OptionError(f"--max-texts must be 10 or more, 5 for each half, or 0 for all, but got {max_texts}.")
    splits = _splits(concept, seed=seed, max_pairs=max_pairs)
    check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    plan = replace(plan, sites=sites_at(numbers, lens), chat=chat_format(lens) if chat else PLAIN)
    say(_compared(lens, splits, plan, texts, out))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder written by `steerlens demo` or `steerlens compare`.")],
) -> None:
    """Write the report of a finished comparison again."""
    from steerlens.evaluation import Comparison
    from steerlens.reports import write_report

    say(write_report(Comparison.load(folder), folder))


def _splits(concepts: "Sequence[str]", *, seed: int, max_pairs: int) -> "dict[str, Split]":
    """The parts of each concept, by its name; of each part the first so many pairs, or all for 0."""
    from steerlens.concepts import Split, load_concept

    splits: dict[str, Split] = {}
    for name in concepts:
        pairs = load_concept(name)
        if folder_name(pairs.name) in map(folder_name, splits):
            raise OptionError(f"--concept must differ, but {pairs.name!r} was given twice.")
        parts = ((part[:max_pairs] if max_pairs else part) for part in pairs.split(seed=seed))
        splits[pairs.name] = Split(*parts)
    return splits


def _compared(
    lens: "LensModel", splits: "dict[str, Split]", plan: "ComparisonPlan", texts: "Sequence[str]", out: Path
) -> Path:
    """One comparison, or one for each concept with a page over all; the path of the page."""
    from steerlens.evaluation import compare_concepts, run_comparison
    from steerlens.reports import write_across

    said = {name: both for name in splits if (both := instructions_for(name)) is not None}
    if len(splits) == 1:
        name, split = next(iter(splits.items()))
        own = replace(plan, instructions=said.get(name))
        comparison, fitted = run_comparison(
            lens, split.fit, split.test, own, select=split.select, neutral=texts, command=command_line()
        )
        return save_comparison(comparison, fitted, out)
    found = compare_concepts(
        lens, splits, plan, instructions=said, neutral=texts, command=command_line(),
        done=lambda name, comparison, fitted: say(save_comparison(comparison, fitted, out / folder_name(name))),
    )  # fmt: skip
    return write_across(found, out, command=command_line())


def save_comparison(comparison: "Comparison", fitted: "FittedMaps", out: Path) -> Path:
    """Tables, chosen maps and report; the path of the report."""
    from steerlens.maps import save_map
    from steerlens.reports import write_report

    comparison.save(out)
    facts = comparison.provenance
    chosen = set(zip(comparison.headline["method"], comparison.headline["site"], strict=True))
    for (site, name), steering_map in fitted.items():
        if (name, site.hook_name) in chosen:
            provenance = map_provenance(facts.model, facts.concept, site, name)
            save_map(steering_map, out / "maps" / f"{name.partition('(')[0]}-{site.layer}", provenance=provenance)
    return write_report(comparison, out)

"""The command line: every command is a few lines over the library."""

import math
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from steerlens.errors import OptionError, SteerlensError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerlens.activations import Site
    from steerlens.concepts import Split
    from steerlens.evaluation import Comparison, ComparisonPlan, FittedMaps
    from steerlens.interventions import OutputMethod
    from steerlens.maps import SteeringMethod
    from steerlens.models import LensModel

DEMO_LAYERS = "16,20,24"
DEMO_STRENGTHS = "-1,0,1,2,4"
DEMO_NEUTRAL = 24
PLANTED_MAPS = "MeanShift,DirectionalAblation,GaussianTransport,FlowMatching,ResidualMLP,ClassifierGradient"
DEMO_PROMPTS = ("The film was", "I went to the new restaurant and", "My honest opinion of this hotel:")

app = typer.Typer(
    name="steerlens",
    help="Does steering really work here, and why? Compare steering maps on language models, fairly.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

ModelName = Annotated[
    str, typer.Option("--model", help="Hub name, folder, .gguf file, or a name from `steerlens models`.")
]
ConceptName = Annotated[str, typer.Option("--concept", help="Built-in concept or a file; see `steerlens concepts`.")]
Layers = Annotated[
    str,
    typer.Option("--layers", help="Blocks whose output is steered, such as 8,14,20; `all` for every block."),
]
MapNames = Annotated[str, typer.Option("--maps", help="Methods, comma-separated; `all` for the ladder.")]
Strengths = Annotated[str, typer.Option("--strengths", help="Grid of strengths, with 0 and 1 in it.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for report, records and maps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option("--device", help="Where the model runs, such as cpu or cuda.")]
Budget = Annotated[
    float, typer.Option("--budget", help="KL on neutral text, nats per token, at which effects are compared.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of splits, bootstrap and random directions.")]
MaxPairs = Annotated[
    int, typer.Option("--max-pairs", min=0, help="Use at most this many pairs of each split; 0 for all.")
]


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
        bool, typer.Option(help="Fit each method to exchanged labels and at a wrong layer, too.")
    ] = True,
    lora: Annotated[bool, typer.Option("--lora", help="Fine-tune on the same pairs as a rival (needs peft).")] = False,
    seed: Seed = 0,
    max_pairs: MaxPairs = 0,
    max_texts: Annotated[
        int, typer.Option("--max-texts", min=0, help="Use at most this many neutral texts, 10 or more; 0 for all.")
    ] = 0,
    prompts: Annotated[list[str] | None, typer.Option("--prompt", help="A text to continue; may be repeated.")] = None,
) -> None:
    """Compare steering methods on a concept, or on several, at one budget of side effects, and write a report."""
    from steerlens.activations import Site
    from steerlens.concepts import Split, load_concept
    from steerlens.evaluation import ComparisonPlan, neutral_texts
    from steerlens.interventions import LoraFinetune
    from steerlens.models import load_model

    # Everything that can be refused without the model is refused before it is loaded.
    numbers = None if layers == "all" else _whole_numbers(layers, "--layers")
    plan = ComparisonPlan(
        sites=tuple(Site.resid_post(n) for n in dict.fromkeys((0,) if numbers is None else numbers)),
        methods=_methods(maps),
        strengths=tuple(sorted(set(_numbers(strengths, "--strengths")))),
        budget=budget,
        n_random=n_random,
        prompts=tuple(prompts or ()),
        controls=controls,
        finetune=LoraFinetune(seed=seed) if lora else None,
        seed=seed,
    )
    texts = neutral_texts()[: max_texts or None]
    if len(texts) < 10:
        raise OptionError(f"--max-texts must be 10 or more, 5 for each half, or 0 for all, but got {max_texts}.")
    splits: dict[str, Split] = {}
    for name in concept:
        pairs = load_concept(name)
        if _folder_name(pairs.name) in map(_folder_name, splits):
            raise OptionError(f"--concept must differ, but {pairs.name!r} was given twice.")
        parts = ((part[:max_pairs] if max_pairs else part) for part in pairs.split(seed=seed))
        splits[pairs.name] = Split(*parts)
    _check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    plan = replace(plan, sites=_sites(numbers, lens))
    _say(_compared(lens, splits, plan, texts, out))


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

    numbers = None if layers == "all" else _whole_numbers(layers, "--layers")
    pairs = load_concept(concept)
    pairs = pairs[:max_pairs] if max_pairs else pairs
    _check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    lens = random_twin(lens, seed=seed) if random_weights else lens
    found = probe_layers(lens, pairs, _sites(numbers, lens), seed=seed)
    print(found)
    _say(write_geometry(found, out, command=_command()))


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
    seed: Seed = 0,
    max_pairs: MaxPairs = 0,
) -> None:
    """Fit one method and write its card: what it does, how reliably, at what cost, and where it fails."""
    from steerlens.concepts import load_concept
    from steerlens.evaluation import CardPlan, card_and_map
    from steerlens.maps import save_map
    from steerlens.models import load_model
    from steerlens.reports import write_card

    method = _one_method_on_samples(map_name)
    pairs = load_concept(concept)
    split = pairs.split(seed=seed)
    fit, test = (part[:max_pairs] if max_pairs else part for part in (split[0], split[2]))
    plan = CardPlan(
        strengths=tuple(sorted(set(_numbers(strengths, "--strengths")))),
        budget=budget,
        n_resampled=n_resampled,
        other=load_concept(other) if other and other != pairs.name else None,
        instructions=_instructions(pairs.name),
        seed=seed,
    )
    _check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    site = _sites([layer], lens)[0]
    found, fitted = card_and_map(lens, fit, test, site=site, method=method, plan=plan, command=_command())
    provenance = {
        "model": lens.name,
        "revision": lens.revision,
        "site": site.hook_name,
        "tokens": repr(site.tokens),
        "method": found.method.name,
        "concept": fit.name,
        "fit_fingerprint": fit.fingerprint,
        "fit_pairs": len(fit),
    }
    save_map(fitted, out, provenance=provenance)
    print(found)
    _say(write_card(found, out))


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

    names, strengths = _words(tasks), _numbers(strength, "--strength")
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
    _check_folder(out)
    lens = load_model(model, dtype=dtype, device=device)
    arms = {
        f"{folder.name} × {s:g}": load_intervention(lens, folder, strength=s) for folder in folders for s in strengths
    }
    found = [mini_capability(lens, arms, seed=seed)] if MINI in names else []
    if of_harness:
        found.append(
            evaluate_tasks(
                lens,
                arms,
                of_harness,
                limit=limit or None,
                seed=seed,
                include_path=include_path,
                num_fewshot=None if num_fewshot < 0 else num_fewshot,
                chat_template=chat_template,
            )
        )
    capability = joined(found)
    print(capability)
    _say(capability.save(out) / "capability.json")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder written by `steerlens demo` or `steerlens compare`.")],
) -> None:
    """Write the report of a finished comparison again."""
    from steerlens.evaluation import Comparison
    from steerlens.reports import write_report

    _say(write_report(Comparison.load(folder), folder))


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
    _table(
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
    _table("Concepts", ("name", "pairs", "groups", "licence", "what"), rows)


@app.command()
def tasks() -> None:
    """List the built-in in-context tasks."""
    from steerlens.concepts import load_task, task_summaries

    rows = [
        (s.name, str(s.pairs), " → ".join(load_task(s.name).pairs[0]), s.licence, s.description)
        for s in task_summaries()
    ]
    _table("In-context tasks", ("name", "pairs", "such as", "licence", "what"), rows)


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

        print(planted_table(_methods_on_samples(names), n=rows, seed=seed))
        return
    from steerlens.interventions import all_summaries
    from steerlens.maps import LADDER, method_name

    ladder = {method_name(m) for m in LADDER}
    listed = [
        (m.name + ("*" if m.name in ladder else ""), m.family, m.needs, m.reverse, m.assumes or m.what, m.source or "—")
        for m in all_summaries()
    ]
    _table(
        "Steering methods (* the ladder: what --maps all means)",
        ("name", "family", "fitted on", "reverse", "right when", "source"),
        listed,
    )


def main() -> None:
    """Entry point: what goes wrong on purpose becomes one line and exit code 2, Ctrl-C one line and 130."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except SteerlensError as error:
        _fail(str(error), 2)
    except _USAGE_ERROR as error:
        _fail(f"{error.format_message()} See `steerlens {' '.join(sys.argv[1:2])} --help`.", 2)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    if code == _STOPPED:  # what typer makes of Ctrl-C
        _fail("stopped by Ctrl-C. Run the same command to start again.", _STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


_STOPPED = 130
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""An unknown option, a missing one, a bad value; typer exports only its subclass."""


def _fail(message: str, code: int) -> NoReturn:
    Console(stderr=True).print(
        "steerlens: " + " ".join(message.split()), style="red", highlight=False, markup=False, soft_wrap=True
    )
    sys.exit(code)


def _check_folder(out: Path) -> None:
    """Make the folder of results, so that hours of work are not lost for want of it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"--out must be a folder that can be made, but {str(out)!r} cannot: {error.strerror}."
        ) from None
    if not os.access(out, os.W_OK):
        raise OptionError(f"--out must be a folder that can be written to, but {str(out)!r} cannot.")


def _compared(
    lens: "LensModel", splits: "dict[str, Split]", plan: "ComparisonPlan", texts: "Sequence[str]", out: Path
) -> Path:
    """One comparison, or one for each concept with a page over all; the path of the page."""
    from steerlens.evaluation import compare_concepts, run_comparison
    from steerlens.reports import write_across

    said = {name: found for name in splits if (found := _instructions(name)) is not None}
    if len(splits) == 1:
        name, split = next(iter(splits.items()))
        own = replace(plan, instructions=said.get(name))
        comparison, fitted = run_comparison(
            lens, split.fit, split.test, own, select=split.select, neutral=texts, command=_command()
        )
        return _save(comparison, fitted, out)
    found = compare_concepts(
        lens, splits, plan, instructions=said, neutral=texts, command=_command(),
        done=lambda name, comparison, fitted: _say(_save(comparison, fitted, out / _folder_name(name))),
    )  # fmt: skip
    return write_across(found, out, command=_command())


def _folder_name(name: str) -> str:
    """A concept's name as a name of a folder: letters, digits, dots within, and dashes for all else."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "concept"


def _save(comparison: "Comparison", fitted: "FittedMaps", out: Path) -> Path:
    """Tables, chosen maps and report; the path of the report."""
    from steerlens.maps import save_map
    from steerlens.reports import write_report

    comparison.save(out)
    facts = comparison.provenance
    chosen = set(zip(comparison.headline["method"], comparison.headline["site"], strict=True))
    for (site, name), steering_map in fitted.items():
        if (name, site.hook_name) in chosen:
            provenance = {
                "model": facts.model["name"],
                "revision": facts.model["revision"],
                "site": site.hook_name,
                "tokens": repr(site.tokens),
                "method": name,
                "concept": facts.concept["name"],
                "fit_fingerprint": facts.concept["fit_fingerprint"],
                "fit_pairs": facts.concept["fit_pairs"],
            }
            save_map(steering_map, out / "maps" / f"{name.partition('(')[0]}-{site.layer}", provenance=provenance)
    return write_report(comparison, out)


def _methods(names: str) -> "tuple[SteeringMethod | OutputMethod, ...]":
    from steerlens.interventions import find_method
    from steerlens.maps import LADDER

    return LADDER if names == "all" else tuple(find_method(n) for n in _words(names))


def _methods_on_samples(names: str) -> "tuple[SteeringMethod, ...]":
    from steerlens.maps import METHODS, method_by_name

    return METHODS if names == "all" else tuple(method_by_name(n) for n in _words(names))


def _instructions(concept: str) -> tuple[str, str] | None:
    """For and against a built-in concept; for other data nobody wrote any."""
    from steerlens.concepts import instructions
    from steerlens.errors import UnknownNameError

    try:
        return instructions(concept)
    except UnknownNameError:
        return None


def _one_method_on_samples(name: str) -> "SteeringMethod":
    found = _methods_on_samples(name)
    if len(found) != 1 or name == "all":
        raise OptionError(f"--map takes one method, such as MeanShift, but got {name!r}.")
    return found[0]


def _sites(layers: "list[int] | None", model: "LensModel") -> "tuple[Site, ...]":
    from steerlens.activations import Site

    numbers = range(model.n_layers) if layers is None else layers
    outside = [n for n in numbers if not 0 <= n < model.n_layers]
    if outside:
        raise OptionError(f"{model.name!r} has blocks 0 to {model.n_layers - 1}, but --layers asks for {outside[0]}.")
    return tuple(Site.resid_post(n) for n in dict.fromkeys(numbers))


def _words(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(w) for w in _words(text)]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(n) for n in numbers):
        raise OptionError(f"{option} takes numbers separated by commas, such as 0,0.5,1, but got {text!r}.")
    return numbers


def _whole_numbers(text: str, option: str) -> list[int]:
    try:
        return [int(w) for w in _words(text)]
    except ValueError:
        raise OptionError(
            f"{option} takes whole numbers separated by commas, such as 8,14, but got {text!r}."
        ) from None


def _table(title: str, columns: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*[escape(cell) for cell in row])
    Console().print(table)


def _command() -> str:
    return "steerlens " + shlex.join(sys.argv[1:])


def _say(path: Path) -> None:
    """The path alone on the last line, never wrapped."""
    print(path, flush=True)

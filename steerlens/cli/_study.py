"""Published protocols as studies: any number of models, one after the other, and a report."""

from pathlib import Path
from typing import Annotated

import typer

from steerlens.cli._app import Device, Dtype, Out, Seed, app, numbers_in, whole_numbers, words
from steerlens.cli._output import check_folder, command_line, say
from steerlens.errors import OptionError

study_app = typer.Typer(
    name="study",
    help="Run a published protocol on any number of models; the same command again goes on where it stopped.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
app.add_typer(study_app)

ModelNames = Annotated[list[str], typer.Option("--model", help="A model; give several, they are loaded in turn.")]
MemoryLimit = Annotated[
    float, typer.Option("--memory", min=0, help="Models that need more than this many GB are left out; 0 for no limit.")
]
NTest = Annotated[int, typer.Option("--n-test", min=5, help="Words or pairs to test on, at most.")]
NDev = Annotated[int, typer.Option("--n-dev", min=5, help="Words or pairs to choose settings on, at most.")]
Depths = Annotated[
    str, typer.Option("--depths", help="Blocks for function vectors, as shares of the depth; `all` for every block.")
]
Doses = Annotated[str, typer.Option("--strengths", help="Strengths of function vectors.")]
NPatched = Annotated[int, typer.Option("--n-patched", min=1, help="Shuffled prompts in which heads are patched.")]
NShots = Annotated[int, typer.Option("--fit-shots", min=2, help="Examples in the prompts that vectors are made of.")]
AtLeast = Annotated[
    int, typer.Option("--at-least", min=0, help="Prompts that a model must answer right to have a vector; 0: any.")
]


@study_app.command("off-course")
def off_course_command(
    model: ModelNames,
    task: Annotated[list[str], typer.Option("--task", help="Built-in task or a file; may be repeated.")],
    out: Out = Path("steerlens-off-course"),
    methods: Annotated[str, typer.Option("--methods", help="Methods, separated by semicolons; `all`.")] = "all",
    n_test: NTest = 50,
    n_dev: NDev = 20,
    heads: Annotated[str, typer.Option("--heads", help="Numbers of heads that the search tries.")] = "2,16,64,256,512",
    strengths: Doses = "0.5,1,2,4,8",
    depths: Depths = "all",
    shots: Annotated[int, typer.Option("--shots", min=2, help="Examples of the level to be recovered.")] = 5,
    fit_shots: NShots = 10,
    n_patched: NPatched = 25,
    at_least: AtLeast = 5,
    dola: Annotated[bool, typer.Option(help="Also answer the bundled multiple choice by contrast of layers.")] = True,
    memory: MemoryLimit = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Steering off Course: which methods recover the few-shot level, on which tasks, in which models."""
    from steerlens.evaluation import capability_questions
    from steerlens.experiments import OFF_COURSE_METHODS, OffCoursePlan, VectorRecipe, model_loaders, off_course
    from steerlens.reports import write_off_course

    chosen = OFF_COURSE_METHODS if methods == "all" else tuple(m.strip() for m in methods.split(";") if m.strip())
    plan = OffCoursePlan(
        methods=chosen,
        n_shots=shots,
        n_test=n_test,
        n_dev=n_dev,
        recipe=VectorRecipe(n_shots=fit_shots, n_patched=n_patched, at_least=at_least),
        n_heads=tuple(whole_numbers(heads, "--heads")),
        strengths=tuple(numbers_in(strengths, "--strengths")),
        depths=_shares(depths),
        seed=seed,
    )
    check_folder(out)
    found = off_course(
        model_loaders(model, dtype=dtype, device=device), task, plan=plan, out=out,
        questions=capability_questions() if dola else (), memory_limit=_bytes(memory),
    )  # fmt: skip
    say(write_off_course(found, out, command=command_line()))


@study_app.command("prompt-structure")
def prompt_structure_command(
    model: ModelNames,
    task: Annotated[str, typer.Option("--task", help="Built-in task or a file.")] = "antonyms",
    out: Out = Path("steerlens-prompt-structure"),
    conditions: Annotated[
        str, typer.Option("--conditions", help="Forms of prompt, separated by semicolons; `all`.")
    ] = "all",
    distractors: Annotated[str, typer.Option("--distractors", help="Numbers of neutral sentences in front.")] = "0,1,3",
    n_test: NTest = 40,
    n_heads: Annotated[int, typer.Option("--n-heads", min=0, help="Heads in the vector; 0 for one in fifty.")] = 0,
    strengths: Doses = "0,0.5,1,2",
    depths: Depths = "0.2,0.333,0.5",
    fit_shots: NShots = 10,
    n_patched: NPatched = 25,
    at_least: AtLeast = 5,
    memory: MemoryLimit = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Limitations of steering: does a vector's effect depend on the form of the prompt and on its context?"""
    from steerlens.errors import UnknownNameError
    from steerlens.experiments import (
        PROMPT_CONDITIONS,
        PromptStructurePlan,
        VectorRecipe,
        model_loaders,
        prompt_structure,
    )
    from steerlens.reports import write_prompt_structure

    known = {c.name: c for c in PROMPT_CONDITIONS}
    names = list(known) if conditions == "all" else [c.strip() for c in conditions.split(";") if c.strip()]
    for name in names:
        if name not in known:
            raise UnknownNameError("form of prompt", name, known)
    plan = PromptStructurePlan(
        conditions=tuple(known[name] for name in names),
        distractors=tuple(whole_numbers(distractors, "--distractors")),
        strengths=tuple(numbers_in(strengths, "--strengths")),
        depths=_shares(depths),
        n_test=n_test,
        recipe=VectorRecipe(n_shots=fit_shots, n_patched=n_patched, at_least=at_least),
        n_heads=n_heads or None,
        seed=seed,
    )
    check_folder(out)
    found = prompt_structure(
        model_loaders(model, dtype=dtype, device=device), task, plan=plan, out=out, memory_limit=_bytes(memory)
    )
    say(write_prompt_structure(found, out, command=command_line()))


@study_app.command("bottom-up")
def bottom_up_command(
    model: ModelNames,
    task: Annotated[list[str] | None, typer.Option("--task", help="A function: built-in task or a file.")] = None,
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="A behaviour: built-in concept or a file.")
    ] = None,
    out: Out = Path("steerlens-bottom-up"),
    n_test: NTest = 50,
    n_dev: NDev = 20,
    n_heads: Annotated[int, typer.Option("--n-heads", min=0, help="Heads in the vector; 0 for one in fifty.")] = 0,
    strengths: Doses = "0.5,1,2,4",
    depths: Depths = "0.2,0.333,0.5",
    vector_strengths: Annotated[
        str, typer.Option("--vector-strengths", help="Strengths of in-context vectors.")
    ] = "0.7,1,1.5,3",
    demonstrations: Annotated[
        int, typer.Option("--demonstrations", min=2, help="Pairs that in-context vectors are fitted on, at most.")
    ] = 50,
    fit_shots: NShots = 10,
    n_patched: NPatched = 25,
    at_least: AtLeast = 5,
    memory: MemoryLimit = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    seed: Seed = 0,
) -> None:
    """Function vectors against in-context vectors, on tasks (functions) and on concepts (behaviours)."""
    from steerlens.experiments import BottomUpPlan, VectorRecipe, bottom_up, model_loaders
    from steerlens.reports import write_bottom_up

    if not task and not concept:
        raise OptionError("Give at least one --task or --concept; see `steerlens tasks` and `steerlens concepts`.")
    plan = BottomUpPlan(
        function_strengths=tuple(numbers_in(strengths, "--strengths")),
        depths=_shares(depths),
        n_heads=n_heads or None,
        vector_strengths=tuple(numbers_in(vector_strengths, "--vector-strengths")),
        n_demonstrations=demonstrations,
        n_test=n_test,
        n_dev=n_dev,
        recipe=VectorRecipe(n_shots=fit_shots, n_patched=n_patched, at_least=at_least),
        seed=seed,
    )
    check_folder(out)
    found = bottom_up(
        model_loaders(model, dtype=dtype, device=device), task or [], concept or [], plan=plan, out=out,
        memory_limit=_bytes(memory),
    )  # fmt: skip
    say(write_bottom_up(found, out, command=command_line()))


def _shares(text: str) -> tuple[float, ...]:
    """Shares of the depth; none for every block."""
    found = () if text == "all" else tuple(numbers_in(text, "--depths"))
    if not all(0 <= d <= 1 for d in found) or (not found and not words(text)):
        raise OptionError(f"--depths takes shares between 0 and 1, such as 0.2,0.5, or all, but got {text!r}.")
    return found


def _bytes(gigabytes: float) -> int | None:
    return int(gigabytes * 1e9) or None

"""The application, the options that commands share, and how their values are read."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerlens.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steerlens.activations import Site
    from steerlens.interventions import OutputMethod
    from steerlens.maps import SteeringMethod
    from steerlens.models import LensModel

app = typer.Typer(
    name="steerlens",
    help="Does steering really work here, and why? Compare steering maps on language models, fairly.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

NEUTRAL_WORDS = 8
"""Neutral texts of a file with fewer words are left out: of each text the first tokens are context only."""

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
Neutral = Annotated[
    Path | None,
    typer.Option(
        "--neutral",
        help="File of neutral texts in place of the bundled ones: .txt, .jsonl, .parquet, WikiText, OpenAssistant; "
        f"texts of fewer than {NEUTRAL_WORDS} words are left out.",
    ),
]
Chat = Annotated[bool, typer.Option("--chat", help="Give prompts as rivals in the model's chat format, too.")]
MaxPairs = Annotated[
    int, typer.Option("--max-pairs", min=0, help="Use at most this many pairs of each split; 0 for all.")
]


def methods_named(names: str) -> "tuple[SteeringMethod | OutputMethod, ...]":
    """Methods by name, comma-separated; the ladder for ``all``."""
    from steerlens.interventions import find_method
    from steerlens.maps import LADDER

    return LADDER if names == "all" else tuple(find_method(n) for n in words(names))


def methods_on_samples(names: str) -> "tuple[SteeringMethod, ...]":
    """Methods that are fitted on activations alone; every one for ``all``."""
    from steerlens.maps import METHODS, method_by_name

    return METHODS if names == "all" else tuple(method_by_name(n) for n in words(names))


def one_method(name: str) -> "SteeringMethod":
    """The one method of this name, fitted on activations."""
    found = methods_on_samples(name)
    if len(found) != 1 or name == "all":
        raise OptionError(f"--map takes one method, such as MeanShift, but got {name!r}.")
    return found[0]


def instructions_for(concept: str) -> tuple[str, str] | None:
    """For and against a built-in concept; for other data nobody wrote any."""
    from steerlens.concepts import instructions
    from steerlens.errors import UnknownNameError

    try:
        return instructions(concept)
    except UnknownNameError:
        return None


def sites_at(layers: "list[int] | None", model: "LensModel") -> "tuple[Site, ...]":
    """The output of these blocks, or of all; refused where the model has no such block."""
    from steerlens.activations import Site

    numbers = range(model.n_layers) if layers is None else layers
    outside = [n for n in numbers if not 0 <= n < model.n_layers]
    if outside:
        raise OptionError(f"{model.name!r} has blocks 0 to {model.n_layers - 1}, but --layers asks for {outside[0]}.")
    return tuple(Site.resid_post(n) for n in dict.fromkeys(numbers))


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [w.strip() for w in text.split(",") if w.strip()]


def numbers_in(text: str, option: str) -> list[float]:
    """Finite numbers between commas."""
    try:
        numbers = [float(w) for w in words(text)]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(n) for n in numbers):
        raise OptionError(f"{option} takes numbers separated by commas, such as 0,0.5,1, but got {text!r}.")
    return numbers


def whole_numbers(text: str, option: str) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [int(w) for w in words(text)]
    except ValueError:
        raise OptionError(
            f"{option} takes whole numbers separated by commas, such as 8,14, but got {text!r}."
        ) from None


def neutral_from(path: Path | None, *, most: int, least: int) -> "Sequence[str]":
    """Neutral texts: the first bundled ones; or those of a file, of as many documents as there are, by turns.

    Args:
        path: The file; None for the bundled texts.
        most: How many to take; 0 for all.
        least: How many documents are needed.

    Raises:
        OptionError: If there are fewer.
    """
    from steerlens.evaluation import neutral_texts, read_texts

    if path is None:
        return neutral_texts()[: most or None]
    texts = read_texts(path, min_words=NEUTRAL_WORDS)
    texts = texts.spread(most) if most else texts
    n_documents = len(set(texts.documents))
    if n_documents < least:
        raise OptionError(
            f"--neutral needs texts of at least {least} documents, but {path} has {len(texts)} texts of {n_documents}"
            + (f" within --max-texts {most}." if most else ".")
        )
    return texts

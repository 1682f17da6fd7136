"""Models of a study: named before they are loaded, loaded one after the other, and freed."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch

from steerlens.errors import ModelError, OptionError, SteerlensError
from steerlens.experiments._stored_parts import StoredParts, StudyPart
from steerlens.models import LensModel, describe, load_model, model_revision
from steerlens.progress import progress

LOAD_ERRORS = (Exception,)
"""What a model that cannot be had, read or held raises, which can be anything; it ends this model's part of a study and
no other. Ctrl-C and `SystemExit` are none of them."""

Measure = Callable[[str], StudyPart]
"""Measures one part of a study, by its name."""


@final
@dataclass(frozen=True, eq=False)
class ModelLoader:
    """A model that is not loaded yet.

    Args:
        name: What it is called in tables and files.
        load: Loads it; called once, when its turn comes.
        precision: Such as ``"float32"``; results of two precisions are stored apart.
        needed_bytes: Says how much memory it needs, before it is loaded; None if nobody knows.
        revision: Says which weights it would load, as `LensModel.revision` will, before it is loaded; None if nobody
            knows, or if that is what it says.
    """

    name: str
    load: Callable[[], LensModel]
    precision: str = "float32"
    needed_bytes: Callable[[], int] | None = None
    revision: Callable[[], str | None] | None = None


@final
@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why.

    Args:
        model: Name of the model.
        part: What of it, such as a task; empty if the model could not be loaded at all.
        reason: The message of the error.
    """

    model: str
    part: str
    reason: str


def model_loaders(names: Sequence[str], *, dtype: str, device: str) -> tuple[ModelLoader, ...]:
    """Loaders of models by name; a name that does not exist fails when its turn comes.

    Args:
        names: Anything `steerlens.load_model` takes by name.
        dtype: Precision of all.
        device: Where all run.
    """
    return tuple(
        ModelLoader(
            name,
            lambda name=name: load_model(name, dtype=dtype, device=device),  # type: ignore[misc]
            dtype,
            lambda name=name: describe(name).needed_bytes(dtype),  # type: ignore[misc]
            lambda name=name: model_revision(name),  # type: ignore[misc]
        )
        for name in names
    )


def measure_models(
    models: Sequence[ModelLoader],
    wanted: Mapping[str, str],
    prepare: Callable[[LensModel], Measure],
    stored: StoredParts,
    *,
    memory_limit: int | None = None,
) -> tuple[Failure, ...]:
    """Measure every part of every model that is not stored yet, and store each as soon as it is done.

    Models are loaded one after the other, and freed. One that cannot be loaded, or needs more than the limit, is left
    out and named; so is a part that fails. Where all parts of a model are stored, and its loader knows the revision, it
    is not loaded; where the loader does not, it is loaded to compare.

    Args:
        models: Whom to measure.
        wanted: Names of parts, each with a fingerprint of its data.
        prepare: Called once for each model; what it returns measures a part.
        stored: Where results are kept.
        memory_limit: In bytes; models that say they need more are not loaded.

    Returns:
        What failed, in order.

    Raises:
        OptionError: There is no model or part, or two models have one name.
        ModelError: A model has other weights than the parts that are stored under its name.
    """
    names = [m.name for m in models]
    if not models or not wanted or len(set(names)) < len(names):
        raise OptionError(f"A study needs different models and something to measure, but got {names} and {[*wanted]}.")
    known = {m.name: _known_revision(m, stored) for m in models}
    failures: list[Failure] = []
    with progress("study", len(models) * len(wanted)) as advance:
        for loader in models:
            missing = [
                part for part, data in wanted.items() if not stored.has(loader.name, loader.precision, part, data)
            ]
            advance(len(wanted) - len(missing))
            if missing or known[loader.name] is None:
                failures += _measure_model(loader, missing, wanted, prepare, stored, memory_limit, advance)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return tuple(failures)


def _known_revision(loader: ModelLoader, stored: StoredParts) -> str | None:
    """Which weights a model has that has stored parts, if that is known before it is loaded.

    Raises:
        ModelError: They are not those of the parts.
    """
    if loader.revision is None or not stored.holds(loader.name, loader.precision):
        return None
    try:
        revision = loader.revision()
    except LOAD_ERRORS:
        return None  # loading meets it again, and says it
    if revision is not None:
        stored.check_weights(loader.name, loader.precision, revision)
    return revision


def _measure_model(
    loader: ModelLoader,
    missing: Sequence[str],
    wanted: Mapping[str, str],
    prepare: Callable[[LensModel], Measure],
    stored: StoredParts,
    memory_limit: int | None,
    advance: Callable[[int], None],
) -> list[Failure]:
    """The model lives in this frame alone."""
    try:
        _check_size(loader, memory_limit)
        model = loader.load()
    except LOAD_ERRORS as error:
        advance(len(missing))
        reason = _said(error) if missing else f"All is stored, but its weights could not be compared: {_said(error)}"
        return [Failure(loader.name, "", reason)]
    stored.check_weights(loader.name, loader.precision, model.revision)
    if not missing:
        return []
    try:
        measure = prepare(model)
    except LOAD_ERRORS as error:
        advance(len(missing))
        return [Failure(loader.name, "", _said(error))]
    failures = []
    for part in missing:
        try:
            found = measure(part)
        except LOAD_ERRORS as error:
            failures.append(Failure(loader.name, part, _said(error)))
        else:
            stored.write(loader.name, loader.precision, part, wanted[part], model.revision, found)
        advance(1)
    return failures


def _check_size(loader: ModelLoader, memory_limit: int | None) -> None:
    if memory_limit is None or loader.needed_bytes is None:
        return
    needed = loader.needed_bytes()
    if needed > memory_limit:
        raise ModelError(
            f"{loader.name!r} needs about {needed / 1e9:.1f} GB in {loader.precision}, more than the limit of "
            f"{memory_limit / 1e9:.1f} GB, and was not loaded. Raise the limit, or choose a smaller precision."
        )


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, SteerlensError) else f"{type(error).__name__}: {text}"[:400]

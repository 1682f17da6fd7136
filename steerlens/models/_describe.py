"""What a model is and whether it fits, from its configuration alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from steerlens.errors import ModelError, OptionError, UnknownNameError
from steerlens.models._host_errors import as_model_error
from steerlens.models._memory import ITEM_BYTES, free_bytes, gigabytes, needed_bytes
from steerlens.models._names import PLANTED_NAMES, TINY_NAMES, hub_name, looks_like_path, suggestions
from steerlens.models._published import PUBLISHED

if TYPE_CHECKING:
    from steerlens.models._host import PretrainedConfig


@final
@dataclass(frozen=True)
class ModelDescription:
    """The shape of a model.

    Args:
        name: What was asked about.
        architecture: Class of the model in transformers.
        n_layers: Blocks.
        d_model: Width of the residual stream.
        n_heads: Query heads of a block.
        n_kv_heads: Key and value heads of a block; fewer than `n_heads` when queries share them.
        d_vocab: Number of logits.
        n_parameters: Number of weights, exact, tied ones counted once.
    """

    name: str
    architecture: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_vocab: int
    n_parameters: int

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of the weights in this precision."""
        return self.n_parameters * ITEM_BYTES[_known_dtype(dtype)]

    def needed_bytes(self, dtype: str) -> int:
        """Estimate of the bytes to run it: weights, a tenth of them to work in, 0.6 GB for the libraries."""
        return needed_bytes(self.n_parameters, _known_dtype(dtype))

    def fits(self, n_bytes: int, dtype: str = "float32") -> bool:
        """Whether it runs in this much memory, by the estimate of `needed_bytes`."""
        return self.needed_bytes(dtype) <= n_bytes

    def __str__(self) -> str:
        free = free_bytes()
        heads = f"{self.n_heads} heads" + (
            "" if self.n_kv_heads == self.n_heads else f" ({self.n_kv_heads} for keys and values)"
        )
        lines = [
            self.name,
            f"  architecture  {self.architecture}",
            f"  shape         {self.n_layers} layers, width {self.d_model}, {heads}",
            f"  vocabulary    {self.d_vocab:,}",
            f"  parameters    {self.n_parameters:,}",
            f"  free memory   {'unknown' if free is None else gigabytes(free)}",
        ]
        for dtype in ITEM_BYTES:
            weights, need = gigabytes(self.weight_bytes(dtype)), gigabytes(self.needed_bytes(dtype))
            verdict = "" if free is None else ", fits" if self.fits(free, dtype) else ", does not fit"
            lines.append(f"  {dtype:<14}{weights} of weights, about {need} to run{verdict}")
        return "\n".join(lines)


def describe(source: str | Path) -> ModelDescription:
    """Describe a model without loading its weights.

    Args:
        source: Anything `load_model` takes except a live model. GPT-2 and Llama need no network.

    Raises:
        UnknownNameError: The name is none of ours, no path, and not like a hub name.
        ModelError: Its configuration cannot be read, or makes no causal language model.
    """
    from steerlens.models._wrap import quiet

    name = str(source)
    config = _configuration(name)
    advice = "Does its config.json describe a causal language model that transformers knows?"
    with quiet(), as_model_error(f"the shape of {name!r}", advice):
        return _described(name, config, _weightless(config))


def _described(name: str, config: "PretrainedConfig", model: Any) -> ModelDescription:
    text = config.get_text_config()
    n_heads = int(text.num_attention_heads)
    return ModelDescription(
        name=name,
        architecture=type(model).__name__,
        n_layers=int(text.num_hidden_layers),
        d_model=int(text.hidden_size),
        n_heads=n_heads,
        n_kv_heads=int(getattr(text, "num_key_value_heads", None) or n_heads),
        d_vocab=int(text.vocab_size),
        n_parameters=sum(p.numel() for p in model.parameters()),
    )


def _configuration(name: str) -> "PretrainedConfig":
    import transformers

    from steerlens.models import _planted, _tiny

    path = Path(name).expanduser()
    if name in TINY_NAMES:
        return _tiny.tiny_config(name.removeprefix("tiny-"))
    if name in PLANTED_NAMES:
        return _planted.planted_config()
    if path.exists():
        return _read_configuration(name, path)
    if looks_like_path(name):
        raise ModelError(f"There is no file or folder {name!r}. Give a folder with config.json or a .gguf file.")
    hub = name if name in PUBLISHED else hub_name(name)
    if hub is None:
        raise UnknownNameError("model", name, suggestions())
    if hub in PUBLISHED:
        known = PUBLISHED[hub]
        made: PretrainedConfig = transformers.AutoConfig.for_model(known.kind, **known.arguments)
        return made
    return _read_configuration(hub, None)


def _read_configuration(name: str, path: Path | None) -> "PretrainedConfig":
    from transformers import AutoConfig

    from steerlens.models._read import OFFLINE_WAYS, hub_reachable
    from steerlens.models._wrap import quiet

    where: dict[str, Any] = {"local_files_only": path is not None or not hub_reachable()}
    source = name if path is None else str(path)
    if path is not None and path.suffix == ".gguf":
        source, where = str(path.parent), {**where, "gguf_file": path.name}
    advice = OFFLINE_WAYS if path is None else "Is it a folder with config.json, or a .gguf file?"
    with quiet(), as_model_error(f"the configuration of {name!r}", advice):
        made: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
    return made


def _weightless(config: "PretrainedConfig") -> Any:
    """The model on the meta device, where parameters have shapes and no memory."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    build: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"), no_init_weights():
        model = build(config)
    model.tie_weights()
    return model


def _known_dtype(dtype: str) -> str:
    short = str(dtype).removeprefix("torch.")
    if short not in ITEM_BYTES:
        raise OptionError(f"dtype must be one of {', '.join(ITEM_BYTES)}, not {dtype!r}.")
    return short

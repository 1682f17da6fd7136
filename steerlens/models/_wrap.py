"""From a Hugging Face model to a `LensModel`: the last steps, common to all sources."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steerlens.errors import ModelError, OptionError
from steerlens.models._host import PreTrainedModel, PreTrainedTokenizerBase
from steerlens.models._host_errors import host_reason
from steerlens.models._lens_model import LensModel

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def resolve_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The torch dtype of this name; only floating types in which a model can run."""
    found = DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    return found


def resolve_device(device: torch.device | str) -> torch.device:
    """The torch device of this name, if it is present."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OptionError(f"device={str(device)!r} cannot be used here: {reason} Try device='cpu'.") from error
    return found


@contextmanager
def quiet(*, keep_bars: bool = False) -> Iterator[None]:
    """Silence the host libraries' notes and progress bars, and keep the global generator as it was.

    Args:
        keep_bars: Leave the bars on, for a download may take long.
    """
    from transformers.utils import logging as host

    logging: Any = host  # its functions have no annotations
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not keep_bars:
        logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    revision: str,
    device: torch.device,
    dtype: torch.dtype,
) -> LensModel:
    """Cast, move, freeze, and only then wrap; the model is rewired in place and belongs to the bridge."""
    check_tokenizer(tokenizer, name)
    with quiet():
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        ready: Any = model
        first = next(ready.parameters())
        if first.device != device or any(p.dtype != dtype for p in ready.parameters()):
            ready = ready.to(device=device, dtype=dtype)
        ready.eval().requires_grad_(False)
        if device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
            _lay_out_for_cpu(ready)
        try:
            bridge = build_bridge_from_module(ready, type(ready).__name__, hf_config=ready.config, model_name=name)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the adapters check little, so a strange model fails anywhere in them
            raise ModelError(
                f"TransformerLens cannot adapt {type(ready).__name__}, the architecture of {name!r}: "
                f"{host_reason(error)}"
            ) from error
        bridge.requires_grad_(False)
        if dtype == torch.float64:
            _exact_attention(bridge)
    return LensModel(name=name, bridge=bridge, tokenizer=tokenizer, add_bos=adds_bos(tokenizer), revision=revision)


def _lay_out_for_cpu(model: Any) -> None:
    """Store GPT-2's matrices, [in, out], column by column, as every other model's are; the numbers stay.

    Without native bfloat16 a CPU multiplies by the other layout 16 times slower (measured on AVX2).
    """
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, Conv1D):
            module.weight.data = module.weight.data.t().contiguous().t()


def _exact_attention(bridge: Any) -> None:
    """Take attention's softmax in float64, where Hugging Face and TransformerLens round it to float32.

    Rounded, a row depends on how many masked keys stand beside it; and float64's lowest number, which masks,
    becomes −∞, so that padding beyond a sliding window has a softmax of NaN, which spreads to real tokens.
    """

    def softmax(scores: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return scores.softmax(dim=-1)

    for block in bridge.blocks:
        attention = getattr(block, "attn", None)
        if hasattr(attention, "_masked_softmax"):
            object.__setattr__(attention, "_masked_softmax", softmax)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer without a vocabulary, which Hugging Face makes of a bare folder."""
    if len(tokenizer) <= 100:
        raise ModelError(
            f"The tokenizer of {name!r} knows {len(tokenizer)} tokens, so its files are missing or broken. "
            "Put tokenizer.json beside the weights, or pass tokenizer=."
        )


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """What the tokenizer does by itself to a plain text."""
    ids: list[int] = tokenizer("Hi")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id

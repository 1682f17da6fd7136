"""Seeded small models with a real tokenizer: milliseconds, no download, all the plumbing of a real one.

They have learned nothing. Their logits are spread out, so that those of a steered model differ.
"""

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from steerlens.errors import UnknownNameError
from steerlens.models._host import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from steerlens.models._lens_model import LensModel

# Merges of a byte-level vocabulary, in order; "Ġ" is a space. Frequent English pairs, written down once.
_MERGES = (
    "Ġ t|h e|Ġ a|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|Ġ o|e n|Ġ c|i t|i s|a n|o r|e s|Ġ b|e d|Ġ f|in g|Ġ p|o u|"
    "Ġa n|a l|a r|Ġt o|Ġ m|Ġo f|Ġ in|Ġ d|Ġ h|Ġan d|i c|l e|a s|l l|o m|v e|s t"
)
_SPECIALS = ("<pad>", "<bos>", "<eos>")
WITH_BOS = {"llama", "gemma3"}
FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")


def tiny_tokenizer(*, add_bos: bool) -> PreTrainedTokenizerBase:
    """A byte-level BPE of about 300 tokens that round-trips every text.

    Args:
        add_bos: Whether the tokenizer puts `<bos>` in front by itself, as Llama's does and GPT-2's does not.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs: list[tuple[str, str]] = [(left, right) for left, right in (m.split(" ") for m in _MERGES.split("|"))]
    words = [*_SPECIALS, *alphabet, *(left + right for left, right in pairs)]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=pairs))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if add_bos:
        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 1)]
        )
    build: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerBase = build(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    return made


def tiny_config(family: str) -> PretrainedConfig:
    """Four layers of one family: grouped queries in Llama, a sliding window in Gemma."""
    import transformers as hf

    ids: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    shared: dict[str, Any] = {
        "vocab_size": 304,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        **ids,
    }
    if family == "gpt2":
        return hf.GPT2Config(vocab_size=304, n_positions=512, n_embd=48, n_layer=4, n_head=6, **ids)
    if family == "llama":
        return hf.LlamaConfig(**shared, tie_word_embeddings=False)
    if family == "gemma3":
        return hf.Gemma3TextConfig(**shared, head_dim=12, sliding_window=8, query_pre_attn_scalar=12)
    if family == "qwen2":
        return hf.Qwen2Config(**shared, tie_word_embeddings=True)
    raise UnknownNameError("tiny family", family, FAMILIES)


def tiny_model(family: str, *, seed: int = 0, dtype: torch.dtype | str = torch.float32) -> "LensModel":
    """A seeded small model of a family, with a byte-level tokenizer.

    Args:
        family: One of `"gpt2"`, `"llama"`, `"gemma3"`, `"qwen2"`.
        seed: Seed of the weights.
        dtype: Precision; weights are drawn in float64 first, so they agree between precisions up to rounding.

    Raises:
        UnknownNameError: There is no tiny model of this family.
    """
    from steerlens.models._wrap import resolve_dtype, wrap

    precision = resolve_dtype(dtype)
    return wrap(
        seeded_model(tiny_config(family), seed=seed),
        tiny_tokenizer(add_bos=family in WITH_BOS),
        name=f"tiny-{family}" if seed == 0 else f"tiny-{family}-seed{seed}",
        revision=identity(family, seed),
        device=torch.device("cpu"),
        dtype=precision,
    )


def identity(family: str, seed: int) -> str:
    """What determines a tiny model's weights; the version changes with the recipe."""
    return f"tiny-{family}:v1:seed{seed}"


def seeded_model(config: PretrainedConfig, *, seed: int, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A Hugging Face model whose every weight is drawn; the global generator is untouched.

    Matrices have variance 1 / fan-in, so that a residual stream grows about as in a trained model; norms and
    biases are drawn as well, for a bug that ignores them must show.
    """
    model = _uninitialised(config, dtype)
    generator = torch.Generator().manual_seed(seed)
    norms_at_zero = "gemma" in type(model).__name__.lower()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_(_scaled(name, drawn, norms_at_zero))
    model.tie_weights()
    return cast("PreTrainedModel", model.train(False))


def _scaled(name: str, drawn: Tensor, norms_at_zero: bool) -> Tensor:
    if drawn.ndim == 1:
        centre = 0.0 if name.endswith("bias") or norms_at_zero else 1.0
        return centre + 0.1 * drawn
    if "wpe" in name:
        return 0.2 * drawn
    fan_in = drawn.shape[0] if ".c_" in name else drawn.shape[-1]  # GPT-2 stores its matrices transposed
    return drawn / math.sqrt(fan_in)


def random_model(
    config: PretrainedConfig, *, dtype: torch.dtype | str = torch.bfloat16, seed: int = 0
) -> PreTrainedModel:
    """A Hugging Face model of full size with cheap random weights, for speed, memory and plumbing.

    One tile of normal numbers (std 0.02) is repeated over all matrices, which is several times faster than
    drawing them; rows are therefore correlated, and no statistic of such a model means anything.

    Args:
        config: Any causal language model's configuration.
        dtype: Precision of the weights; nothing larger is held meanwhile.
        seed: Seed of the tile.
    """
    from steerlens.models._wrap import resolve_dtype

    precision = resolve_dtype(dtype)
    model = _uninitialised(config, precision)
    generator = torch.Generator().manual_seed(seed)
    tile = torch.empty(1 << 20).normal_(0.0, 0.02, generator=generator).to(precision)
    norm = 0.0 if "gemma" in type(model).__name__.lower() else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith("bias") else norm)
                continue
            flat = weight.view(-1)
            for start in range(0, flat.numel(), tile.numel()):
                flat[start : start + tile.numel()] = tile[: flat.numel() - start]
    model.tie_weights()
    return cast("PreTrainedModel", model.train(False))


def _uninitialised(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from steerlens.models._wrap import quiet

    build: Any = AutoModelForCausalLM.from_config
    model: PreTrainedModel
    with quiet(), no_init_weights():
        try:
            model = build(config, dtype=dtype, attn_implementation="sdpa")
        except ValueError:  # an architecture that refuses sdpa, such as Gemma 2
            model = build(config, dtype=dtype, attn_implementation="eager")
    return model

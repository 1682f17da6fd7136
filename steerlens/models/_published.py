"""Published configurations, so that sizes can be told without a network.

The numbers are those of the `config.json` on the hub. Models whose licence gates that file are the reason:
one wants to know whether they fit before asking for access.
"""

from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Published:
    """What is known of a model: arguments of its configuration class, and its number of parameters."""

    kind: str
    arguments: dict[str, Any]
    n_parameters: int


def _gpt2(n_layer: int, n_embd: int, n_head: int, n_parameters: int) -> Published:
    shape = {"vocab_size": 50257, "n_positions": 1024, "n_layer": n_layer, "n_embd": n_embd, "n_head": n_head}
    return Published("gpt2", shape, n_parameters)


def _llama(layers: int, width: int, inner: int, heads: int, n_parameters: int, **more: Any) -> Published:
    shape = {
        "vocab_size": 32000,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        **more,
    }
    return Published("llama", shape, n_parameters)


_LLAMA3 = {"vocab_size": 128256, "num_key_value_heads": 8}
_LONG = {"max_position_embeddings": 131072}
_LLAMA3_8B = _llama(32, 4096, 14336, 32, 8_030_261_248, **_LLAMA3, max_position_embeddings=8192)
_LLAMA31_8B = _llama(32, 4096, 14336, 32, 8_030_261_248, **_LLAMA3, **_LONG)
_LLAMA2_7B = _llama(32, 4096, 11008, 32, 6_738_415_616)
_LLAMA2_13B = _llama(40, 5120, 13824, 40, 13_015_864_320)
_LLAMA32_1B = _llama(16, 2048, 8192, 32, 1_235_814_400, **_LLAMA3, **_LONG, head_dim=64, tie_word_embeddings=True)
_LLAMA32_3B = _llama(28, 3072, 8192, 24, 3_212_749_824, **_LLAMA3, **_LONG, head_dim=128, tie_word_embeddings=True)

PUBLISHED: dict[str, Published] = {
    "smollm2-135m-instruct": _llama(
        30, 576, 1536, 9, 134_515_008, vocab_size=49152, num_key_value_heads=3, max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "gpt2": _gpt2(12, 768, 12, 124_439_808),
    "gpt2-medium": _gpt2(24, 1024, 16, 354_823_168),
    "gpt2-large": _gpt2(36, 1280, 20, 774_030_080),
    "gpt2-xl": _gpt2(48, 1600, 25, 1_557_611_200),
    "meta-llama/Llama-3.2-1B": _LLAMA32_1B,
    "meta-llama/Llama-3.2-1B-Instruct": _LLAMA32_1B,
    "meta-llama/Llama-3.2-3B": _LLAMA32_3B,
    "meta-llama/Llama-3.2-3B-Instruct": _LLAMA32_3B,
    "meta-llama/Llama-2-7b-hf": _LLAMA2_7B,
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA2_7B,
    "meta-llama/Llama-2-13b-hf": _LLAMA2_13B,
    "meta-llama/Llama-2-13b-chat-hf": _LLAMA2_13B,
    "meta-llama/Meta-Llama-3-8B": _LLAMA3_8B,
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA3_8B,
    "meta-llama/Llama-3.1-8B": _LLAMA31_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA31_8B,
}  # fmt: skip

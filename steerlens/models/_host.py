"""Types of the host libraries, known to the type checker and not imported when the program runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
else:
    HookPoint = PretrainedConfig = PreTrainedModel = PreTrainedTokenizerBase = Any

__all__ = ["HookPoint", "PreTrainedModel", "PreTrainedTokenizerBase", "PretrainedConfig"]

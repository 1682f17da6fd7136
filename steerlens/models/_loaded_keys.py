"""Whether a checkpoint filled its model: what it lacks would be random weights, without a word."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from steerlens.errors import ModelError
from steerlens.models._host import PreTrainedModel

_SHOWN = 3
_BLOCK = re.compile(r"(.*?)\.(\d+)\.")
"""The list that a block stands in, and its number there."""


def check_keys(model: PreTrainedModel, report: Mapping[str, Any], what: str) -> None:
    """Refuse a model whose weights are not all those of its checkpoint.

    Left-over keys are allowed, for many checkpoints carry buffers and heads that the model does not use; but not the
    weights of blocks that the configuration does not count.

    Args:
        model: As transformers built it.
        report: Its ``output_loading_info``.
        what: Whose weights they are.

    Raises:
        ModelError: Names some of the keys.
    """
    missing = set(report["missing_keys"]) - set(getattr(model, "all_tied_weights_keys", None) or ())
    mismatched = [f"{key} ({_shape(has)}, not {_shape(wants)})" for key, has, wants in report["mismatched_keys"]]
    beyond = _beyond(model, report["unexpected_keys"])
    faults = [
        f"it lacks {_some(missing)}" if missing else "",
        f"of another shape are {_some(mismatched)}" if mismatched else "",
        f"the configuration has no blocks for {_some(beyond)}" if beyond else "",
    ]
    if any(faults):
        raise ModelError(
            f"The weights of {what} are not those of a {type(model).__name__} as its configuration says: "
            f"{'; '.join(fault for fault in faults if fault)}. Give config.json and weights of one model."
        )


def _beyond(model: PreTrainedModel, unexpected: Iterable[str]) -> list[str]:
    """Keys of blocks numbered beyond the model's own, in a list of blocks that it has."""
    prefix = f"{model.base_model_prefix}."
    n_blocks: dict[str, int] = {}
    for key in model.state_dict():
        if found := _BLOCK.match(key.removeprefix(prefix)):
            name, number = found[1], int(found[2])
            n_blocks[name] = max(n_blocks.get(name, 0), number + 1)
    numbered = [(key, _BLOCK.match(key.removeprefix(prefix))) for key in unexpected]
    return [key for key, found in numbered if found and found[1] in n_blocks and int(found[2]) >= n_blocks[found[1]]]


def _some(keys: Iterable[str]) -> str:
    known = sorted(keys)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more


def _shape(size: Iterable[int]) -> str:
    return "×".join(str(n) for n in size)

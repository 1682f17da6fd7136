"""How many token columns one forward pass may have, from the memory that is free."""

import torch

from steerlens.models._lens_model import LensModel
from steerlens.models._memory import free_bytes

CPU_COLUMNS, GPU_COLUMNS = 1024, 16384
"""More columns in a pass do not make it faster (measured on two CPU cores; taken for a GPU)."""
SHARE = 0.25
"""Share of the free memory that a pass may take by the estimate, which is rough."""


def columns_that_fit(model: LensModel) -> int:
    """Columns of a pass: as many as are of use, fewer where memory is short, and never none."""
    on_gpu = model.device.type == "cuda"
    most = GPU_COLUMNS if on_gpu else CPU_COLUMNS
    free = torch.cuda.mem_get_info(model.device)[0] if on_gpu else free_bytes()
    return most if free is None else max(1, min(most, int(SHARE * free) // column_bytes(model)))


def column_bytes(model: LensModel) -> int:
    """Estimate of the working memory of one column: inside a block, its keys in all blocks, and its logits twice."""
    config, item = model.config, model.dtype.itemsize
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * model.d_model
    kv_heads = getattr(config, "num_key_value_heads", None) or model.n_heads
    block = 12 * model.d_model + 3 * int(inner)
    keys = 2 * model.n_layers * int(kv_heads) * model.d_head
    return item * (block + keys + model.d_vocab) + 8 * model.d_vocab


def is_out_of_memory(error: BaseException) -> bool:
    """Torch has a type for CUDA's lack of memory, and only messages for the CPU's."""
    messages = ("allocate memory", "bad_alloc", "could not create a memory object", "could not create a primitive")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(m in str(error) for m in messages)

"""Batches that shrink when memory runs out."""

from collections import deque
from collections.abc import Callable, Sequence

import torch

from steerlens.activations._rows import batches
from steerlens.errors import ActivationError
from steerlens.models import is_out_of_memory


def shrinking_batches(lengths: Sequence[int], run: Callable[[list[int]], None], *, tokens: int) -> None:
    """Call ``run`` with batches of row numbers until every row is done, halving batches that do not fit in memory.

    ``run`` must have no effect when it raises. Rows are batched by length; the order of batches is shortest first.

    Raises:
        ActivationError: If a single row does not fit.
    """
    waiting = deque(batches(range(len(lengths)), lengths, tokens=tokens))
    while waiting:
        batch = waiting[0]
        try:
            run(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            longest = lengths[batch[-1]]
            if len(batch) == 1:
                raise ActivationError(
                    f"A single text of {longest} tokens does not fit in memory. Use a smaller model or dtype."
                ) from error
            left = [row for b in waiting for row in b]
            waiting = deque(batches(left, lengths, tokens=len(batch) // 2 * longest))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            waiting.popleft()

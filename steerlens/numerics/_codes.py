"""Groups as numbers."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def codes_of(groups: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """Groups as numbers 0, 1, … in the order of their first rows."""
    order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    return np.array([order[g] for g in groups], dtype=np.int64)

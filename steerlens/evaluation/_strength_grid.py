"""Propensities over a grid of strengths, checked before anything is computed from them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError

Array = npt.NDArray[np.float64]


def checked_grid(
    propensity: npt.ArrayLike, strengths: Sequence[float], n_questions: int | None = None
) -> tuple[tuple[float, ...], Array]:
    """Strengths ascending, and propensities in their order.

    Args:
        propensity: Shape (strength, question).
        strengths: The strength of each row, in any order.
        n_questions: How many questions there should be, one for each group given; None takes as many as there are.

    Raises:
        OptionError: If shapes do not fit, or a strength is not finite or given twice.
        EstimateError: If a propensity is not finite.
    """
    m, s = np.asarray(propensity, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    fits = m.ndim == 2 and len(m) == len(s) and n_questions in (None, m.shape[1])
    if not fits:
        groups = "" if n_questions is None else f" and {n_questions} groups"
        raise OptionError(
            f"Expected shape (strength, question) with {len(s)} strengths{groups}, but got {m.shape}. Give one row "
            "for each strength."
        )
    if not np.isfinite(s).all():
        raise OptionError(f"Every strength should be finite, but got {s.tolist()}.")
    if len(set(s.tolist())) < len(s):
        raise OptionError(f"Every strength should be given once, but got {s.tolist()}.")
    if not np.isfinite(m).all():
        bad = int((~np.isfinite(m)).any(axis=0).sum())
        raise EstimateError(f"Propensities of {bad} of {m.shape[1]} questions are NaN or infinite. Leave them out.")
    order = np.argsort(s)
    return tuple(s[order].tolist()), m[order]

"""The records behind a comparison or a steering card: one row for each question or neutral text, arm and strength."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import Question
from steerlens.evaluation._comparison import ITEM_COLUMNS, TEXT_COLUMNS
from steerlens.evaluation._measure import Measured
from steerlens.evaluation._text_baselines import TextBaseline, TextRole

Array = npt.NDArray[np.float64]


def item_records(measured: Sequence[Measured], said: Sequence[tuple[TextRole, TextBaseline]]) -> pd.DataFrame:
    """Questions, columns `ITEM_COLUMNS`."""
    frames = [_item_frame(m.arm.role, m.arm.method, m.arm.strengths, m.log_prob, m.questions) for m in measured]
    frames += [_item_frame(role, t.name, (0.0, 1.0), t.log_prob, t.questions) for role, t in said]
    return pd.concat(frames, ignore_index=True)[list(ITEM_COLUMNS)]


def _item_frame(
    role: str, name: str, strengths: Sequence[float], log_prob: Array, questions: Sequence[Question]
) -> pd.DataFrame:
    n, k = len(questions), len(strengths)
    return pd.DataFrame(
        {
            "role": role,
            "arm": name,
            "strength": np.repeat(np.asarray(strengths, dtype=np.float64), n),
            "question": np.tile(np.arange(n), k),
            "group": [q.group for q in questions] * k,
            "side": [q.side for q in questions] * k,
            "positive": log_prob[0].ravel(),
            "negative": log_prob[1].ravel(),
        }
    )


def text_records(measured: Sequence[Measured], said: Sequence[tuple[TextRole, TextBaseline]]) -> pd.DataFrame:
    """Neutral texts, columns `TEXT_COLUMNS`."""
    rows: list[tuple[str, str, Sequence[float], Array, Array, Array]] = [
        (m.arm.role, m.arm.method, m.arm.strengths, m.kl, m.nll, m.n_tokens) for m in measured
    ]
    rows += [(role, t.name, (0.0, 1.0), t.kl, t.nll, t.n_tokens) for role, t in said]
    frames = []
    for role, name, strengths, kl, nll, n_tokens in rows:
        n, k = len(n_tokens), len(strengths)
        frames.append(
            pd.DataFrame(
                {
                    "role": role,
                    "arm": name,
                    "strength": np.repeat(np.asarray(strengths, dtype=np.float64), n),
                    "text": np.tile(np.arange(n), k),
                    "kl": kl.ravel(),
                    "nll": nll.ravel(),
                    "n_tokens": np.tile(n_tokens, k),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)[list(TEXT_COLUMNS)]

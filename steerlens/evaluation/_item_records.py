"""The records behind a comparison or a steering card: one row for each question or neutral text, arm and strength."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import Question
from steerlens.evaluation._comparison import DISPLACEMENT_COLUMNS, ITEM_COLUMNS, TEXT_COLUMNS
from steerlens.evaluation._finetuned import FinetunedBaseline
from steerlens.evaluation._measure import Measured
from steerlens.evaluation._text_baselines import TextBaseline, TextRole

Array = npt.NDArray[np.float64]
Said = Sequence[tuple[TextRole, TextBaseline]]
FINE_TUNED = "fine-tuned"


def item_records(measured: Sequence[Measured], said: Said, tuned: Sequence[FinetunedBaseline] = ()) -> pd.DataFrame:
    """Questions, columns `ITEM_COLUMNS`."""
    frames = [
        _item_frame(m.arm.role, m.arm.method, m.arm.strengths, m.log_prob, m.continuation_tokens, m.questions)
        for m in measured
    ]
    frames += [
        _item_frame(role, t.name, (0.0, 1.0), t.log_prob, t.continuation_tokens, t.questions) for role, t in said
    ]
    frames += [
        _item_frame(FINE_TUNED, t.name, t.strengths, t.log_prob, t.continuation_tokens, t.questions) for t in tuned
    ]
    return pd.concat(frames, ignore_index=True)[list(ITEM_COLUMNS)]


def _item_frame(
    role: str, name: str, strengths: Sequence[float], log_prob: Array, tokens: Array, questions: Sequence[Question]
) -> pd.DataFrame:
    """Rows of one arm; ``tokens`` are those of the continuations, once for all strengths or for each."""
    n, k = len(questions), len(strengths)
    lengths = np.broadcast_to(tokens if tokens.ndim == 3 else tokens[:, None], log_prob.shape)
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
            "n_positive": lengths[0].ravel(),
            "n_negative": lengths[1].ravel(),
        }
    )


def text_records(measured: Sequence[Measured], said: Said, tuned: Sequence[FinetunedBaseline] = ()) -> pd.DataFrame:
    """Neutral texts, columns `TEXT_COLUMNS`."""
    frames = [
        _text_frame(m.arm.role, m.arm.method, m.arm.strengths, m.kl, m.nll, m.n_tokens, m.documents) for m in measured
    ]
    frames += [_text_frame(role, t.name, (0.0, 1.0), t.kl, t.nll, t.n_tokens, t.documents) for role, t in said]
    frames += [_text_frame(FINE_TUNED, t.name, t.strengths, t.kl, t.nll, t.n_tokens, t.documents) for t in tuned]
    return pd.concat(frames, ignore_index=True)[list(TEXT_COLUMNS)]


def _text_frame(
    role: str, name: str, strengths: Sequence[float], kl: Array, nll: Array, n_tokens: Array,
    documents: Sequence[Hashable],
) -> pd.DataFrame:  # fmt: skip
    n, k = len(n_tokens), len(strengths)
    return pd.DataFrame(
        {
            "role": role,
            "arm": name,
            "strength": np.repeat(np.asarray(strengths, dtype=np.float64), n),
            "text": np.tile(np.arange(n), k),
            "kl": kl.ravel(),
            "nll": nll.ravel(),
            "n_tokens": np.tile(n_tokens, k),
            "document": [str(d) for d in documents] * k,
        }
    )


def displacement_records(measured: Sequence[Measured]) -> pd.DataFrame:
    """Held-out source activations, columns `DISPLACEMENT_COLUMNS`."""
    frames = []
    for m in measured:
        n, k = len(m.norms), len(m.arm.strengths)
        frames.append(
            pd.DataFrame(
                {
                    "role": m.arm.role,
                    "arm": m.arm.method,
                    "strength": np.repeat(np.asarray(m.arm.strengths, dtype=np.float64), n),
                    "row": np.tile(np.arange(n), k),
                    "group": list(m.pair_groups) * k,
                    "moved": m.moved.ravel(),
                    "norm": np.tile(m.norms, k),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)[list(DISPLACEMENT_COLUMNS)]

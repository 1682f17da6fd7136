"""Dose curves from stored rows: of a comparison's tables, and of a trial's."""

import numpy as np
import pandas as pd

from steerlens.evaluation._reliability import DoseCurve


def stored_curve(questions: pd.DataFrame, texts: pd.DataFrame) -> DoseCurve:
    """Effect and cost over strengths, of one method, from rows for each question and neutral text at each strength.

    Rows may stand in any order; strengths below 0 are left out.

    Args:
        questions: Columns ``strength``, ``number`` (of the question), ``group`` and ``propensity``.
        texts: Columns ``strength``, ``number`` (of the text), ``kl``, ``n_tokens`` and ``document``.
    """
    asked, read = (frame[frame["strength"] >= 0] for frame in (questions, texts))
    propensity = asked.pivot(index="strength", columns="number", values="propensity").sort_index()
    kl = read.pivot(index="strength", columns="number", values="kl").sort_index()
    groups = asked.drop_duplicates("number").set_index("number")["group"].loc[propensity.columns]
    of_text = read.drop_duplicates("number").set_index("number").loc[kl.columns]
    values = propensity.to_numpy(dtype=np.float64)
    return DoseCurve(
        strengths=tuple(float(s) for s in propensity.index),
        change=values - values[0],
        groups=tuple(groups),
        kl=kl.to_numpy(dtype=np.float64),
        n_tokens=of_text["n_tokens"].to_numpy(dtype=np.float64),
        documents=tuple(of_text["document"]),
    )

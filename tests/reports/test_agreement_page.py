"""The figure and the page of an agreement: what is drawn is what was found, and the words say it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.errors import OptionError
from steerlens.evaluation import (
    AGREEMENT_COLUMNS,
    AGREEMENT_MEASURES,
    AGREEMENT_RANDOM_COLUMNS,
    Agreement,
    agreement_ranks,
)
from steerlens.reports import agreement_reading, prepare_agreement, write_agreement

X = np.array([-0.4, 0.2, 0.5, 0.9, 1.4, 2.0, 2.2, 3.0])


def found(open_text: np.ndarray) -> Agreement:
    frame = pd.DataFrame({c: np.full(len(X), 1.0) for c in AGREEMENT_COLUMNS})
    frame["concept"] = [f"<c{i}>" for i in range(len(X))]
    frame = frame.assign(level=0.95, reached=True, n_items=24, n_questions=48, n_clusters=12)
    for name in ("choice", *AGREEMENT_MEASURES):
        values = X if name == "choice" else open_text
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = values, values - 0.1, values + 0.2
    draws = [(c, d, *np.random.default_rng(d).normal(size=6)) for d in range(20) for c in frame["concept"]]
    random = pd.DataFrame(draws, columns=list(AGREEMENT_RANDOM_COLUMNS))
    return Agreement(
        frame, random, agreement_ranks(frame, random), "m", "float32", "MeanShift()", "blocks.1.hook_resid_post", 0.1
    )


def test_points_and_random_directions_are_those_of_the_frames():
    one = found(X**2)
    panels = prepare_agreement(one)
    assert [p.title for p in panels][:3] == ["separation", "promotion", "suppression"]
    for panel in panels:
        assert [p.choice for p in panel.points] == [(x, x - 0.1, x + 0.2) for x in X]
        assert [p.open_ended for p in panel.points] == [(x, x - 0.1, x + 0.2) for x in X**2]
        assert panel.random.shape == (160, 2)
        np.testing.assert_array_equal(panel.random[:, 0], one.random["choice"])
        assert not any(p.by_letter for p in panel.points)
        assert "1 of 8 differ in sign" in panel.said


def test_an_order_is_said_where_it_is_shown_and_only_there():
    same, reverse = (agreement_reading(found(y)) for y in (X**3, -X))
    assert "After Holm an order is shown for separation (the same order)" in same
    assert "(the reverse order)" in reverse
    none = agreement_reading(found(np.array([0.5, 0.1, 0.9, -0.2, 0.8, 0.3, 0.6, 0.4])))
    assert "After Holm no order is shown" in none
    assert "with a power of 0.8" in none
    assert "the letter" not in none


def test_concepts_at_floor_are_hollow_and_named():
    one = found(X)
    low = replace(one, frame=one.frame.assign(same_choice_high=[0.2, *[0.9] * 7]))
    assert [p.by_letter for p in prepare_agreement(low)[0].points] == [True, *[False] * 7]
    assert "At floor: asked about <c0>," in agreement_reading(low)


def test_the_page_is_complete_and_escapes_names(tmp_path: Path):
    one = found(X**2)
    path = write_agreement(one, tmp_path / "new", command="steerlens agreement --model m")
    page = path.read_text("utf-8")
    assert "<c1>" not in page
    assert "&lt;c1&gt;" in page
    assert "steerlens agreement --model m" in page
    assert (path.parent / "agreement.png").stat().st_size > 0
    pd.testing.assert_frame_equal(pd.read_parquet(path.parent / "agreement-ranks.parquet"), one.ranks)
    pd.testing.assert_frame_equal(pd.read_parquet(path.parent / "agreement-concepts.parquet"), one.frame)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="needs a folder"):
        write_agreement(one, tmp_path / "file")

"""Open-ended likelihood: planted changes come out where they were planted, and anchors do what the docs say."""

import math

import numpy as np
import pandas as pd
import pytest

from steerlens.activations import AllTokens, Site
from steerlens.concepts import ChatFormat, ConceptDataset, ContrastivePair, Instructions, in_chat
from steerlens.errors import ConceptError, EstimateError, OptionError
from steerlens.evaluation import (
    OPEN_ENDED_COLUMNS,
    OPEN_ITEM_COLUMNS,
    Likelihoods,
    generated_references,
    open_ended,
    open_ended_report,
    score_continuations,
)
from steerlens.evaluation._open_ended import _statistic
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model

THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp")
GROUPS = tuple("aabbccddeeffgg")
DRAW = np.random.default_rng(0)
BASE = Likelihoods(-2 + DRAW.normal(size=14) / 2, -3 + DRAW.normal(size=14) / 2)
STEERED = Likelihoods(BASE.positive + DRAW.normal(size=14) / 4, BASE.negative + DRAW.normal(size=14) / 4)


def moved(positive: float, negative: float) -> Likelihoods:
    return Likelihoods(BASE.positive + positive, BASE.negative + negative)


def value(frame: pd.DataFrame, form: str, share: float, quantity: str) -> float:
    rows = frame[(frame["form"] == form) & (frame["share"] == share) & (frame["quantity"] == quantity)]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def values(frame: pd.DataFrame, form: str) -> pd.DataFrame:
    return frame[frame["form"] == form]


def test_independent_anchors_cancel_a_uniform_shift_and_the_raw_change_does_not():
    frame = open_ended_report(BASE, moved(-0.7, -0.7), GROUPS, seed=0)
    cancelled = values(frame, "subtract")
    np.testing.assert_allclose(cancelled[["value", "low", "high"]], 0, atol=1e-12)
    raw = values(frame, "raw")
    for quantity, expected in (("promotion", -0.7), ("suppression", 0.7), ("separation", 0.0)):
        np.testing.assert_allclose(raw[raw["quantity"] == quantity]["value"], expected, atol=1e-12)


def test_division_by_anchors_cancels_a_uniform_factor_and_a_shift_it_does_not():
    scaled = Likelihoods(1.3 * BASE.positive, 1.3 * BASE.negative)
    divided = values(open_ended_report(BASE, scaled, GROUPS, seed=0, shares=(0.25, 1.0)), "divide")
    np.testing.assert_allclose(divided[["value", "low", "high"]], 0, atol=1e-12)
    shifted = values(open_ended_report(BASE, moved(-0.7, -0.7), GROUPS, seed=0, shares=(1.0,)), "divide")
    assert shifted["value"].abs().max() > 0.01


def test_nothing_done_is_exactly_nothing():
    frame = open_ended_report(BASE, BASE, GROUPS, seed=0)
    assert (frame[["value", "low", "high"]] == 0).all(axis=None)
    assert not np.signbit(frame["value"]).any()


@pytest.mark.parametrize(("positive", "negative"), [(0.4, 0.0), (0.0, -0.4)])
def test_promotion_and_suppression_are_told_apart(positive: float, negative: float):
    frame = values(open_ended_report(BASE, moved(positive, negative), GROUPS, seed=0), "raw")
    for quantity, expected in (("promotion", positive), ("suppression", -negative), ("separation", 0.4)):
        np.testing.assert_allclose(frame[frame["quantity"] == quantity]["value"], expected, atol=1e-12)


def by_hand(items: pd.DataFrame, form: str, share: float, anchors: pd.DataFrame | None = None) -> tuple[float, float]:
    """Promotion and suppression from the frame of items, with pandas alone; anchors are of other items if given."""
    all_items = items if anchors is None else anchors
    was = (all_items["negative_base"].max() + all_items["positive_base"].min()) / 2
    now = (all_items["negative_steered"].max() + all_items["positive_steered"].min()) / 2

    def related(column: str, anchor: float) -> pd.Series:
        if form == "raw":
            return items[column]
        return items[column] - anchor if form == "subtract" else items[column] / abs(anchor)

    n = math.ceil(share * len(items))
    positive = items["positive_base"].nsmallest(n).index
    negative = items["negative_base"].nlargest(n).index
    up = (related("positive_steered", now) - related("positive_base", was))[positive].mean()
    down = (related("negative_base", was) - related("negative_steered", now))[negative].mean()
    return float(up), float(down)


def as_items(base: Likelihoods, steered: Likelihoods) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "positive_base": base.positive, "positive_steered": steered.positive,
            "negative_base": base.negative, "negative_steered": steered.negative,
        }
    )  # fmt: skip


@pytest.mark.parametrize("form", ["raw", "subtract", "divide"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 1.0])
def test_every_number_follows_from_the_items_with_pandas_alone(form: str, share: float):
    frame = open_ended_report(BASE, STEERED, GROUPS, seed=0, shares=(share,))
    up, down = by_hand(as_items(BASE, STEERED), form, share)
    assert value(frame, form, share, "promotion") == pytest.approx(up, abs=1e-12)
    assert value(frame, form, share, "suppression") == pytest.approx(down, abs=1e-12)
    assert value(frame, form, share, "separation") == pytest.approx(up + down, abs=1e-12)


@pytest.mark.parametrize("form", ["raw", "subtract", "divide"])
@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
def test_a_resample_finds_its_own_hardest_items_and_keeps_the_anchors(form, share: float):
    times = np.random.default_rng(3).integers(0, 3, size=14)
    times[[BASE.negative.argmax(), BASE.positive.argmin()]] = 0, 2  # one extreme is left out, one is drawn twice
    drawn = np.repeat(np.arange(14), times)
    again = as_items(BASE, STEERED).iloc[drawn].reset_index(drop=True)
    found = [
        float(_statistic(BASE, STEERED, form, share, quantity)(times[None].astype(float))[0])
        for quantity in ("promotion", "suppression")
    ]
    assert found == pytest.approx(by_hand(again, form, share, anchors=as_items(BASE, STEERED)), abs=1e-12)


def test_subtracted_anchors_leave_the_separation_alone_and_what_depends_on_them_is_marked():
    frame = open_ended_report(BASE, STEERED, GROUPS, seed=0, shares=(0.25, 1.0))
    for share in (0.25, 1.0):
        assert value(frame, "subtract", share, "separation") == pytest.approx(value(frame, "raw", share, "separation"))
        assert value(frame, "subtract", share, "promotion") != pytest.approx(value(frame, "raw", share, "promotion"))
    marked = frame[frame["interval"].str.endswith(", given its anchors")]
    assert set(zip(marked["form"], marked["quantity"], strict=True)) == {
        ("subtract", "promotion"), ("subtract", "suppression"),
        ("divide", "promotion"), ("divide", "suppression"), ("divide", "separation"),
    }  # fmt: skip


def test_nonsense_is_refused():
    with pytest.raises(EstimateError, match="at least 5"):
        open_ended_report(BASE, BASE, tuple("aabbccddddaaaa"), seed=0)
    with pytest.raises(OptionError, match="Shares"):
        open_ended_report(BASE, BASE, GROUPS, seed=0, shares=(0.0, 1.0))
    with pytest.raises(EstimateError, match="same items"):
        open_ended_report(BASE, Likelihoods(BASE.positive[1:], BASE.negative[1:]), GROUPS, seed=0)
    with pytest.raises(EstimateError, match="finite"):
        Likelihoods(np.array([0.0, np.nan]), np.zeros(2))
    zero = Likelihoods(np.zeros(14), np.zeros(14))
    with pytest.raises(EstimateError, match="'divide'"):
        open_ended_report(zero, BASE, GROUPS, seed=0)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.fixture(scope="module")
def items() -> ConceptDataset:
    return ConceptDataset(
        "made up",
        tuple(ContrastivePair(f"The {t} is", " good and fine", " bad", group=t) for t in THINGS),
    )


@pytest.mark.slow
def test_a_model_s_likelihoods_are_those_of_its_continuations(model: LensModel, items: ConceptDataset):
    push = Intervention({Site.resid_post(2): random_direction(model.d_model, norm=3.0, seed=0)}, 1.0)
    nothing = Intervention({Site.resid_post(1, AllTokens()): random_direction(model.d_model, norm=3.0, seed=1)}, 0.0)
    found = open_ended(model, items, {"push": push, "nothing": nothing}, seed=0)
    assert tuple(found.to_frame().columns) == OPEN_ENDED_COLUMNS
    assert tuple(found.items.columns) == OPEN_ITEM_COLUMNS
    zero = found.frame[found.frame["intervention"] == "nothing"]
    assert (zero[["value", "low", "high"]] == 0).all(axis=None)
    pushed = found.frame[found.frame["intervention"] == "push"]
    assert pushed["value"].abs().min() > 0
    own = found.items[found.items["intervention"] == "push"].reset_index(drop=True)
    for form in ("raw", "subtract", "divide"):
        up, down = by_hand(own, form, 0.5)
        assert value(pushed, form, 0.5, "promotion") == pytest.approx(up, abs=1e-12)
        assert value(pushed, form, 0.5, "suppression") == pytest.approx(down, abs=1e-12)
    scores = score_continuations(model, [p.prompt for p in items], [(p.positive, p.negative) for p in items], [push])
    np.testing.assert_allclose(own["positive_steered"], scores.per_token[0, 0::2], atol=1e-12)
    np.testing.assert_allclose(own["negative_steered"], scores.per_token[0, 1::2], atol=1e-12)
    assert list(own["n_positive"]) == scores.n_tokens[0::2].tolist()
    assert "push: promotion" in str(found)


def test_something_must_be_done(model: LensModel, items: ConceptDataset):
    with pytest.raises(OptionError, match="at least one intervention"):
        open_ended(model, items, {}, seed=0)


@pytest.mark.slow
def test_generated_references_are_what_the_model_writes_when_told(model: LensModel, items: ConceptDataset):
    said = Instructions("Praise everything.", "Find fault.")
    found = generated_references(model, items, said, max_new_tokens=5)
    for pair in found:
        for text, reference in ((said.positive, pair.positive), (said.negative, pair.negative)):
            asked = f"{text}\n\n{pair.prompt}"
            assert model.generate(asked, max_new_tokens=5) == asked + reference
    assert {p.prompt for p in found} <= {p.prompt for p in items}
    assert "left out" in found.description
    questions = generated_references(model, [p.prompt for p in items], said, max_new_tokens=5)
    assert [(q.positive, q.negative) for q in questions] == [(p.positive, p.negative) for p in found]
    assert {q.group for q in questions} == {q.prompt for q in questions}
    with pytest.raises(OptionError, match="list of texts"):
        generated_references(model, [], said)
    talk = ChatFormat("<s>", "</s><u>", "<u>", "</u>")
    with pytest.raises(OptionError, match="conversation already"):
        generated_references(model, in_chat(items, talk), said)
    chatted = generated_references(model, items, said, max_new_tokens=5, chat=talk)
    assert all(p.prompt.startswith("<u>The ") and p.prompt.endswith(" is</u>") for p in chatted)
    assert not any("chat" in p.metadata for p in found)
    with pytest.raises(OptionError, match="conversation already"):
        generated_references(model, chatted, said, chat=talk)
    with pytest.raises(ConceptError, match="same under both"):
        generated_references(model, items, Instructions("Praise.", "Praise."), max_new_tokens=5)

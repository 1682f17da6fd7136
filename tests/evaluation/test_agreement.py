"""Agreement of two evaluations: known orders come out, noise does not, and both effects are those of the parts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair, lettered_choices
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import (
    AGREEMENT_COLUMNS,
    AGREEMENT_MEASURES,
    AGREEMENT_RANDOM_COLUMNS,
    AGREEMENT_RANK_COLUMNS,
    Agreement,
    AgreementItems,
    KLBudget,
    agreement,
    agreement_items,
    agreement_ranks,
    open_ended,
    score_questions,
)
from steerlens.interventions import Intervention
from steerlens.maps import MeanShift, random_direction
from steerlens.models import LensModel, tiny_model

SITE = Site.resid_post(2)
WORDS = {
    "praise": (" good", " bad"), "colour": (" red", " blue"), "size": (" big", " small"), "heat": (" hot", " cold"),
    "age": (" old", " new"),
}  # fmt: skip
THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river", "road",
    "house", "train", "horse", "bread", "apple", "school", "letter",
)  # fmt: skip


def effects(choice: np.ndarray, open_text: np.ndarray, *, half: float = 0.1) -> pd.DataFrame:
    """Concepts with these effects, whose intervals reach so far on both sides."""
    n = len(choice)
    frame = pd.DataFrame({c: np.full(n, np.nan) for c in AGREEMENT_COLUMNS})
    frame["concept"] = [f"concept {i:02d}" for i in range(n)]
    frame["level"] = 0.95
    for name in ("choice", *AGREEMENT_MEASURES):
        values = choice if name == "choice" else open_text
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = values, values - half, values + half
    return frame


def draws(n_concepts: int, *, n: int = 40, shared: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Random directions whose two effects share a part of their spread."""
    rng, rows = np.random.default_rng(seed), []
    for draw in range(n):
        for i in range(n_concepts):
            x, noise = rng.normal(size=2)
            y = shared * x + np.sqrt(1 - shared**2) * noise
            rows.append((f"concept {i:02d}", draw, x, *[y] * len(AGREEMENT_MEASURES)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_RANDOM_COLUMNS))


def separation(frame: pd.DataFrame, random: pd.DataFrame) -> pd.Series:
    return agreement_ranks(frame, random).set_index("measure").loc["raw_separation"]


X = np.array([-0.9, -0.5, -0.2, 0.3, 0.4, 0.8, 1.1, 1.6, 2.0, 2.4, 3.1, 3.3])


def test_one_order_is_a_correlation_of_one_whatever_the_scale():
    row = separation(effects(X, np.expm1(X)), draws(12))
    assert row["rho"] == pytest.approx(1)
    assert (row["opposite"], row["n_clear"], row["n_clear_opposite"]) == (0, 12, 0)
    assert row["low"] > 0.9
    assert row["random_reach"] == 0


def test_the_reverse_order_is_minus_one_and_every_sign_differs():
    row = separation(effects(X, -X), draws(12))
    assert row["rho"] == pytest.approx(-1)
    assert (row["opposite"], row["n_clear_opposite"]) == (1, 12)
    assert row["high"] < -0.9
    assert row["random_reach"] == 1


def test_effects_that_have_nothing_to_do_with_each_other_show_no_order():
    rng = np.random.default_rng(0)
    covered = [
        (r := separation(effects(rng.normal(size=12), rng.normal(size=12)), draws(12, n=1)))["low"] <= 0 <= r["high"]
        for _ in range(300)
    ]
    assert 0.91 <= np.mean(covered) <= 0.99


def test_correlation_and_share_are_those_of_scipy_and_statsmodels():
    rng = np.random.default_rng(3)
    y = 0.6 * X + rng.normal(size=12)
    row = separation(effects(X, y), draws(12))
    expected = stats.spearmanr(X, y)
    assert row["rho"] == pytest.approx(expected.statistic, abs=1e-12)
    assert row["p_value"] == pytest.approx(expected.pvalue, abs=1e-9)
    half = stats.norm.ppf(0.975) * np.sqrt((1 + row["rho"] ** 2 / 2) / 9)
    assert row["low"] == pytest.approx(np.tanh(np.arctanh(row["rho"]) - half), abs=1e-9)
    k = int((X * y < 0).sum())
    assert 0 < k < 12
    low, high = proportion_confint(k, 12, method="wilson")
    assert (row["opposite"], row["opposite_low"], row["opposite_high"]) == pytest.approx((k / 12, low, high))


def test_only_concepts_with_both_intervals_clear_of_zero_differ_clearly():
    frame = effects(X, -X, half=0.45)  # −0.2, 0.3 and 0.4 are within reach of zero
    row = separation(frame, draws(12))
    assert (row["opposite"], row["n_clear"], row["n_clear_opposite"]) == (1, 9, 9)


def test_directions_that_agree_by_themselves_are_told_from_those_that_do_not():
    """A method that agrees no better than random directions has a rho in their range."""
    y = X + np.random.default_rng(1).normal(size=12)
    tied, free = (separation(effects(X, y), draws(12, shared=s, n=200)) for s in (0.95, 0.0))
    assert tied["random_low"] > 0.5
    assert tied["random_reach"] > 0.5
    assert free["random_low"] < 0 < free["random_high"]
    assert free["random_reach"] < 0.05
    by_hand = [stats.spearmanr(d["choice"], d["raw_separation"]).statistic for _, d in draws(12).groupby("draw")]
    row = separation(effects(X, y), draws(12))
    assert (row["random_low"], row["random_high"]) == pytest.approx(np.quantile(by_hand, [0.025, 0.975]).tolist())


def test_draws_are_matched_to_concepts_by_name_and_none_may_be_missing():
    frame, random = effects(X, X), draws(12, shared=0.9)
    shuffled = random.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(agreement_ranks(frame, random), agreement_ranks(frame, shuffled))
    with pytest.raises(EstimateError, match="each of the concepts"):
        agreement_ranks(frame, random.iloc[1:])


def test_p_is_adjusted_over_the_open_ended_effects():
    frame = effects(X, X + np.random.default_rng(5).normal(size=12) * 2)
    ranks = agreement_ranks(frame, draws(12))
    assert tuple(ranks.columns) == AGREEMENT_RANK_COLUMNS
    np.testing.assert_allclose(ranks["p_holm"], np.minimum(1, 5 * ranks["p_value"].min()))


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


def dataset(name: str) -> ConceptDataset:
    yes, no = WORDS[name]
    return ConceptDataset(name, tuple(ContrastivePair(f"The {t} is", yes, no, group=t) for t in THINGS))


@pytest.fixture(scope="module")
def items() -> list[AgreementItems]:
    return [agreement_items(dataset(name), seed=0) for name in WORDS]


@pytest.fixture(scope="module")
def found(model: LensModel, items: list[AgreementItems]) -> Agreement:
    return agreement(model, items, site=SITE, method=MeanShift(), strength=1.5, seed=0)


def fitted(model: LensModel, one: AgreementItems) -> Intervention:
    acts = extract(model, one.fit, [SITE])[SITE]
    return Intervention({SITE: MeanShift().fit(source=acts.negative, target=acts.positive)}, 1.5)


def test_the_parts_share_no_group_and_test_parts_are_the_same(items: list[AgreementItems]):
    one = items[0]
    assert not set(one.fit.groups) & set(one.open_ended.groups)
    assert one.choice.groups == one.open_ended.groups
    assert len(one.choice) == 2 * len(one.open_ended)
    few = agreement_items(dataset("praise"), seed=0, max_pairs=5)
    assert (len(few.fit), len(few.choice), len(few.open_ended)) == (5, 10, 5)
    with pytest.raises(OptionError, match="max_pairs"):
        agreement_items(dataset("praise"), seed=0, max_pairs=0)


@pytest.mark.slow
def test_both_effects_are_those_measured_apart(model: LensModel, items: list[AgreementItems], found: Agreement):
    assert tuple(found.to_frame().columns) == AGREEMENT_COLUMNS
    assert list(found.frame["concept"]) == list(WORDS)
    for row, one in zip(found.frame.to_dict("records"), items, strict=True):
        steered = fitted(model, one)
        plain, moved = score_questions(model, one.choice.questions, [Intervention({}, 0.0), steered]).propensity
        assert row["choice"] == pytest.approx(float((moved - plain).mean()), abs=1e-9)
        same = [(plain[2 * i] > 0) == (plain[2 * i + 1] > 0) for i in range(len(one.open_ended))]
        assert row["same_choice"] == pytest.approx(float(torch.tensor(same).double().mean()))
        apart = open_ended(model, one.open_ended, {"m": steered}, seed=0, shares=(1.0,)).frame
        for measure in AGREEMENT_MEASURES:
            form, quantity = measure.split("_")
            there = apart[(apart["form"] == form) & (apart["quantity"] == quantity)].iloc[0]
            ends = [row[f"{measure}{end}"] for end in ("", "_low", "_high")]
            assert ends == pytest.approx([there["value"], there["low"], there["high"]], abs=1e-9)
    pd.testing.assert_frame_equal(found.ranks, agreement_ranks(found.frame, found.random))
    assert (found.frame["strength"] == 1.5).all()
    assert found.budget is None


@pytest.mark.slow
def test_the_control_is_random_directions_of_the_map_s_length(
    model: LensModel, items: list[AgreementItems], found: Agreement
):
    assert found.random.groupby("concept").size().to_dict() == dict.fromkeys(WORDS, 20)
    k, one = 3, items[3]
    step = next(iter(fitted(model, one).plan.values())).vector * 1.5
    push = Intervention({SITE: random_direction(model.d_model, norm=float(step.norm()), seed=k * 1_000 + 7)}, 1.0)
    plain, moved = score_questions(model, one.choice.questions, [Intervention({}, 0.0), push]).propensity
    row = found.random[(found.random["concept"] == one.name) & (found.random["draw"] == 7)].iloc[0]
    assert row["choice"] == pytest.approx(float((moved - plain).mean()), abs=1e-9)
    apart = open_ended(model, one.open_ended, {"m": push}, seed=0, shares=(1.0,)).frame
    there = apart[(apart["form"] == "subtract") & (apart["quantity"] == "suppression")]["value"].item()
    assert row["subtract_suppression"] == pytest.approx(there, abs=1e-9)


@pytest.mark.slow
def test_the_pairs_own_questions_would_agree_with_themselves(model: LensModel):
    """Why letters are asked for: of continuations of k tokens log-odds are k times the separation, by definition."""
    words = [(" bad", " sad"), (" red", " dim"), (" big", " wet"), (" hot", " old"), (" sad", " hot")]
    assert {len(model.encode(w, bos=False)) for pair in words for w in pair} == {3}
    made = [
        agreement_items(
            ConceptDataset(yes, tuple(ContrastivePair(f"The {t} is", yes, no, group=t) for t in THINGS)), seed=0
        )
        for yes, no in words
    ]
    own = [replace(one, choice=one.open_ended) for one in made]
    asked, circular = (
        agreement(model, items, site=SITE, method=MeanShift(), strength=1.5, seed=0) for items in (made, own)
    )
    for frame in (circular.frame, circular.random):
        np.testing.assert_allclose(frame["choice"], 3 * frame["raw_separation"], atol=1e-9)
    row, letters = (f.ranks.set_index("measure").loc["raw_separation"] for f in (circular, asked))
    assert (row["rho"], row["random_low"]) == pytest.approx((1, 1))
    assert letters["random_low"] < 0
    assert circular.frame["same_choice"].isna().all()


@pytest.mark.slow
def test_a_budget_is_met_by_every_concept(model: LensModel, items: list[AgreementItems]):
    found = agreement(model, items, site=SITE, method=MeanShift(), strength=KLBudget(0.05), seed=0)
    assert found.budget == 0.05
    assert found.frame["reached"].all()
    assert found.frame["strength"].nunique() == 5
    assert found.frame["kl"].between(0.025, 0.1).all()
    text = str(found)
    assert "5 concepts show a rho of" in text
    assert "raw_promotion" in text


def test_a_model_that_goes_by_the_letter_is_said_to(found: Agreement):
    low = replace(found, frame=found.frame.assign(same_choice=0.1, same_choice_high=[0.3, 0.3, 0.6, np.nan, 0.7]))
    assert low.by_letter == ("praise", "colour")
    assert "goes by the letter" in str(low)
    fine = replace(found, frame=found.frame.assign(same_choice=0.9, same_choice_high=1.0))
    assert fine.by_letter == ()
    assert "letter" not in str(fine)


def test_half_precision_is_said_to_round(found: Agreement):
    assert found.dtype == "float64"
    assert "rounded" not in str(found)
    assert "In bfloat16 logits are rounded" in str(replace(found, dtype="bfloat16"))


def test_too_little_is_refused_before_anything_runs(model: LensModel, items: list[AgreementItems]):
    def run(concepts: list[AgreementItems], n_random: int = 20) -> None:
        agreement(model, concepts, site=SITE, method=MeanShift(), strength=1.0, seed=0, n_random=n_random)

    with pytest.raises(OptionError, match="at least 5 different"):
        run(items[:4])
    with pytest.raises(OptionError, match="at least 5 different"):
        run([*items[:4], items[0]])
    with pytest.raises(OptionError, match="20 random"):
        run(items, n_random=19)
    with pytest.raises(OptionError, match="leaks"):
        run([*items[:4], replace(items[4], choice=lettered_choices(items[4].fit))])
    with pytest.raises(EstimateError, match="at least 5 groups"):
        run([*items[:4], replace(items[4], open_ended=items[4].open_ended[:3])])

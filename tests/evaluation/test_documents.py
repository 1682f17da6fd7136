"""Neutral texts of one document are resampled together, and stand in one half."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlens.activations import AllTokens, Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair, Split
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import (
    CardPlan,
    Comparison,
    DoseCurve,
    KLBudget,
    TextSet,
    area_under_frontier,
    calibrate_strength,
    card,
    compare,
    contrast,
    finetuned_baseline,
    neutral_texts,
    prompt_baseline,
    score_neutral,
)
from steerlens.evaluation._across import dose_curve
from steerlens.evaluation._frontier_area import area_contrast
from steerlens.evaluation._measure import Arm, measure
from steerlens.evaluation._per_token import mean_per_token, ratio_of_perplexities
from steerlens.evaluation._texts import halves
from steerlens.experiments import dose_curve as trial_curve
from steerlens.experiments._measure import _item_frame
from steerlens.interventions import Intervention, LoraFinetune
from steerlens.maps import MeanShift, Training, random_direction
from steerlens.models import LensModel, tiny_model

THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river",
    "road", "house", "train", "horse", "bread", "apple", "school", "letter",
)  # fmt: skip
SITE = Site.resid_post(1)
EVERYWHERE = Site.resid_post(1, AllTokens())
TEXTS = TextSet(neutral_texts()[:22], (*(f"d{i}" for i in range(11) for _ in range(2)),))
"""Eleven documents of two texts each, one after the other."""


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.fixture(scope="module")
def split() -> Split:
    pairs = tuple(ContrastivePair(f"The {thing} is", " good", " bad", thing) for thing in THINGS)
    return ConceptDataset("made up", pairs, description="", source="", licence="").split(
        seed=0, fractions=(0.4, 0.3, 0.3)
    )


@pytest.fixture(scope="module")
def found(model: LensModel, split: Split) -> Comparison:
    return compare(
        model, split.fit, split.test, sites=(SITE, Site.resid_post(0)), select=split.select, methods=[MeanShift()],
        strengths=(0.0, 1.0, 2.0), budget=0.01, n_random=2, neutral=TEXTS, instructions=("Praise.", "Blame."),
        controls=False, seed=1,
    )  # fmt: skip


def test_halves_share_no_document():
    first, second = halves(TEXTS)
    assert isinstance(first, TextSet)
    assert isinstance(second, TextSet)
    assert set(first.documents) == {f"d{i}" for i in range(0, 11, 2)}
    assert set(second.documents) == {f"d{i}" for i in range(1, 11, 2)}
    assert sorted([*first, *second]) == sorted(TEXTS)
    assert dict(zip(TEXTS, TEXTS.documents, strict=True)) == dict(
        zip([*first, *second], [*first.documents, *second.documents], strict=True)
    )
    assert set(TEXTS[0::2].documents) & set(TEXTS[1::2].documents)  # what every other text would have done


def test_halves_of_a_plain_list_are_every_other_text():
    assert halves(["a", "b", "c"]) == (["a", "c"], ["b"])


def test_a_smaller_set_keeps_as_many_documents_as_it_can():
    texts = TextSet(tuple("abcdef"), ("x", "x", "x", "y", "z", "z"), 3)
    assert texts.spread(3) == TextSet(("a", "d", "e"), ("x", "y", "z"), 3)
    assert texts.spread(4).texts == ("a", "b", "d", "e")
    assert texts.spread(99) == texts


def curve(kl: np.ndarray, n_tokens: np.ndarray, documents: tuple[str, ...] = (), scale: float = 1.0) -> DoseCurve:
    change = scale * np.outer((0.0, 1.0, 4.0), np.linspace(0.5, 1.5, 7))
    return DoseCurve((0.0, 1.0, 2.0), change, tuple("abcdefg"), kl, n_tokens, documents=documents)


def test_documents_are_as_one_long_text_each():
    """A sum over the tokens of a document does not know how it was cut into texts."""
    rng = np.random.default_rng(0)
    documents = tuple(np.repeat(list("pqrstuvw"), 4))
    level = np.repeat(rng.gamma(2.0, size=8), 4)
    n_tokens = rng.integers(5, 20, size=32).astype(float)
    kl = np.outer((0.0, 0.2, 1.0), level * n_tokens)
    whole_kl, whole_n = kl.reshape(3, 8, 4).sum(2), n_tokens.reshape(8, 4).sum(1)
    cut, whole = curve(kl, n_tokens, documents), curve(whole_kl, whole_n)
    cut2, whole2 = curve(kl, n_tokens, documents, 0.3), curve(whole_kl, whole_n, scale=0.3)
    pairs = [
        (cut.at_budget(0.5, seed=1).effect, whole.at_budget(0.5, seed=1).effect),
        (contrast(cut, cut2, 0.5, seed=1), contrast(whole, whole2, 0.5, seed=1)),
        (area_under_frontier(cut, 0.5, seed=1), area_under_frontier(whole, 0.5, seed=1)),
        (area_contrast(cut, cut2, 0.5, seed=1), area_contrast(whole, whole2, 0.5, seed=1)),
        (
            mean_per_token(kl[1], n_tokens, documents, seed=1),
            mean_per_token(whole_kl[1], whole_n, range(8), seed=1),
        ),
        (
            ratio_of_perplexities(kl[1], n_tokens, documents, seed=1),
            ratio_of_perplexities(whole_kl[1], whole_n, range(8), seed=1),
        ),
    ]
    for a, b in pairs:
        np.testing.assert_allclose((a.value, a.low, a.high), (b.value, b.low, b.high), rtol=1e-9)
    alone = curve(kl, n_tokens).at_budget(0.5, seed=1).effect
    assert alone.high - alone.low < 0.8 * (pairs[0][0].high - pairs[0][0].low)


def test_intervals_by_document_cover_and_intervals_by_text_do_not():
    """KL per token of twelve documents of eight texts, drawn from a population whose mean is 1."""
    rng = np.random.default_rng(3)
    documents, n, truth = np.repeat(np.arange(12), 8), np.full(96, 20.0), 1.0
    hits = {"document": 0, "text": 0}
    for k in range(120):
        level = np.exp(0.5 * rng.normal(size=12) - 0.125)[documents]
        kl = n * level * np.exp(0.3 * rng.normal(size=96) - 0.045)
        for name, of in (("document", documents.tolist()), ("text", range(96))):
            e = mean_per_token(kl, n, of, seed=k)
            hits[name] += e.low <= truth <= e.high
    # Of 120 at 0.95 fewer than 106 come about once in 1000 times.
    assert hits["document"] >= 106
    assert hits["text"] < 84


def test_curves_of_other_documents_are_not_paired():
    kl, n = np.outer((0.0, 0.2, 1.0), np.arange(1.0, 7.0)), np.full(6, 5.0)
    a, b = curve(kl, n), curve(kl, n, tuple("xxyyzz"))
    with pytest.raises(EstimateError, match="same questions and neutral texts"):
        contrast(a, b, 0.1, seed=0)
    with pytest.raises(EstimateError, match="same questions and neutral texts"):
        area_contrast(a, b, 0.1, seed=0)
    with pytest.raises(OptionError, match="6 and 2"):
        curve(kl, n, ("x", "y"))
    assert a.documents == tuple(range(6))


def test_scores_and_arms_know_the_documents(model: LensModel, split: Split):
    shift = random_direction(model.d_model, norm=1.0, seed=0)
    scores = score_neutral(model, TEXTS, [Intervention({EVERYWHERE: shift})])
    assert scores.documents == TEXTS.documents
    assert score_neutral(model, list(TEXTS), [Intervention({EVERYWHERE: shift})]).documents == tuple(range(22))
    held_out = extract(model, split.test, [EVERYWHERE])
    arm = Arm("shift", "additive", "method", EVERYWHERE, shift, (0.0, 1.0))
    measured = measure(model, [arm], split.test.questions, TEXTS, held_out)[0]
    assert measured.dose_curve.documents == TEXTS.documents
    items = _item_frame(measured)
    again = trial_curve(items)
    assert again.documents == TEXTS.documents
    older = trial_curve(items.assign(group=items["group"].where(items["item"] == "question")))
    assert len(set(older.documents)) == len(TEXTS)
    said = prompt_baseline(model, split.test, "Praise.", texts=TEXTS)
    assert said.cost(seed=0).n_clusters == 11
    assert said.dose_curve.documents == TEXTS.documents


def test_a_calibrated_cost_is_over_documents(model: LensModel):
    shift = random_direction(model.d_model, norm=1.0, seed=0)
    at = calibrate_strength(model, EVERYWHERE, shift, texts=TEXTS, budget=KLBudget(0.01), seed=0)
    plain = calibrate_strength(model, EVERYWHERE, shift, texts=list(TEXTS), budget=KLBudget(0.01), seed=0)
    assert (at.cost.n, at.cost.n_clusters) == (22, 11)
    assert (plain.cost.n, plain.cost.n_clusters, plain.strength) == (22, 22, at.strength)
    few = TextSet(TEXTS.texts, tuple(str(i % 4) for i in range(22)))
    with pytest.raises(OptionError, match="22 of 4"):
        calibrate_strength(model, EVERYWHERE, shift, texts=few, budget=KLBudget(0.01), seed=0)


def test_a_comparison_resamples_documents_and_splits_by_them(model: LensModel, split: Split, found: Comparison):
    r = found.records[found.records["metric"].isin(["kl", "perplexity_ratio"])]
    assert set(zip(r["split"], r["n"], r["n_clusters"], strict=True)) == {("select", 12, 6), ("test", 10, 5)}
    assert set(found.texts["document"]) == {f"d{i}" for i in range(1, 11, 2)}
    assert found.provenance.settings["neutral_documents"] == 11
    assert dose_curve(found, "MeanShift").documents == halves(TEXTS)[1].documents  # type: ignore[attr-defined]
    few = TextSet(TEXTS.texts, tuple(str(i % 9) for i in range(22)))
    with pytest.raises(OptionError, match="22 texts of 9"):
        compare(model, split.fit, split.test, site=SITE, neutral=few)


def test_a_card_resamples_documents(model: LensModel, split: Split):
    plan = CardPlan(
        strengths=(0.0, 0.5, 1.0), n_permuted=1, n_resampled=0, capability=False, shifted=False, open_ended=False,
        instructions=("Praise.", "Blame."),
    )  # fmt: skip
    made = card(model, split.fit, split.test, site=SITE, method=MeanShift(), plan=plan, neutral=TEXTS)
    assert (made.cost.kl.n, made.cost.kl.n_clusters) == (10, 5)
    assert made.cost.perplexity_ratio.n_clusters == 5
    assert set(made.texts["document"]) == set(halves(TEXTS)[1].documents)


def test_documents_are_stored_and_older_folders_have_none(found: Comparison, tmp_path: Path):
    found.save(tmp_path)
    again = Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(again.texts, found.texts)
    assert dose_curve(again, "MeanShift").documents == dose_curve(found, "MeanShift").documents
    # As schema 2 was written.
    document = json.loads((tmp_path / "comparison.json").read_text())
    (tmp_path / "comparison.json").write_text(json.dumps(document | {"schema": "steerlens/comparison/2"}))
    found.texts.drop(columns="document").to_parquet(tmp_path / "texts.parquet")
    found.items.drop(columns=["n_positive", "n_negative"]).to_parquet(tmp_path / "items.parquet")
    (tmp_path / "displacements.parquet").unlink()
    older = Comparison.load(tmp_path)
    assert list(older.texts.columns) == list(found.texts.columns)
    assert set(dose_curve(older, "MeanShift").documents) == {str(i) for i in range(10)}
    assert older.items["n_positive"].isna().all()
    assert older.displacements.empty


@pytest.mark.slow
def test_fine_tuning_resamples_documents(model: LensModel, split: Split):
    pytest.importorskip("peft")
    method = LoraFinetune(training=Training(steps=1), seed=0)
    tuned = finetuned_baseline(model, split.fit, split.test, texts=TEXTS, strengths=(0.0, 1.0), method=method)
    assert tuned.dose_curve.documents == TEXTS.documents
    r = tuned.to_records(split="test", budget=0.1, seed=0)
    assert set(r[r["metric"] == "kl"]["n_clusters"]) == {11}

"""Several concepts: the concept counts, and every number follows from what is stored."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, ContrastivePair, Split
from steerlens.errors import OptionError
from steerlens.evaluation import (
    AcrossConcepts,
    Comparison,
    ComparisonPlan,
    FittedMaps,
    across,
    compare_concepts,
    neutral_texts,
)
from steerlens.evaluation._across import dose_curve
from steerlens.maps import DirectionalAblation, GaussianTransport, MeanShift, method_name
from steerlens.models import LensModel, tiny_model
from steerlens.reports import across_html, write_across
from steerlens.reports._across import reading

WORDS = {
    "praise": (" good", " bad"), "colour": (" red", " blue"), "size": (" big", " small"), "heat": (" hot", " cold"),
    "age": (" old", " new"),
}  # fmt: skip
THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river", "road",
    "house", "train", "horse", "bread", "apple", "school", "letter",
)  # fmt: skip
PLAN = ComparisonPlan(
    sites=(Site.resid_post(1),), methods=(MeanShift(), DirectionalAblation(), GaussianTransport()),
    strengths=(0.0, 1.0, 2.0), budget=0.05, n_random=3, seed=1,
)  # fmt: skip


def split(name: str) -> Split:
    positive, negative = WORDS[name]
    pairs = tuple(ContrastivePair(f"The {t} is", positive, negative, group=f"{name}-{t}") for t in THINGS)
    data = ConceptDataset(name, pairs, description=name, source="this test", licence="MIT")
    return data.split(seed=0)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def saved(model: LensModel) -> tuple[AcrossConcepts, list[str]]:
    seen: list[str] = []

    def done(name: str, comparison: Comparison, maps: FittedMaps) -> None:
        assert {m for _, m in maps} == set(comparison.headline["method"])
        seen.append(name)

    found = compare_concepts(model, {w: split(w) for w in WORDS}, PLAN, neutral=neutral_texts()[:10], done=done)
    return found, seen


@pytest.fixture(scope="module")
def found(saved: tuple[AcrossConcepts, list[str]]) -> AcrossConcepts:
    return saved[0]


def test_each_concept_is_handed_over_as_soon_as_it_is_done(saved: tuple[AcrossConcepts, list[str]]):
    assert saved[1] == list(WORDS)


def test_the_mean_is_that_of_the_headlines(found: AcrossConcepts):
    table = found.to_frame().groupby("method")["effect"].mean()
    for _, row in found.methods.iterrows():
        assert row["effect"] == pytest.approx(table[row["method"]], abs=1e-9)
        assert row["low"] < row["effect"] < row["high"]
        assert row["n_concepts"] == 5
        assert "two-stage" in row["interval"]


def test_the_next_concept_s_maps_are_a_control(found: AcrossConcepts):
    names = list(WORDS)
    for k, (name, c) in enumerate(found.comparisons.items()):
        others = c.records[c.records["role"] == "other concept"]["method"].unique()
        assert all(m.endswith(f" of {names[(k + 1) % 5]}") for m in others), name
        assert len(others) == 3


def test_stored_dose_curves_give_the_headline(found: AcrossConcepts):
    for c in found.comparisons.values():
        for _, row in c.headline.iterrows():
            curve = dose_curve(c, row["method"])
            assert curve.changes_at(0.05).mean() == pytest.approx(row["effect"], abs=1e-9)
    with pytest.raises(OptionError, match="'nothing' was not compared"):
        dose_curve(next(iter(found.comparisons.values())), "nothing")


def test_with_five_concepts_signs_of_concepts_are_flipped(found: AcrossConcepts):
    c = found.contrasts
    assert len(c) == 3
    assert (c["p_value"] >= 2 / 2**5).all(), "five signs: nothing below 2/2^5"
    reference, method = method_name(MeanShift()), method_name(DirectionalAblation())
    row = c[(c["method"] == method) & (c["reference"] == reference)].iloc[0]
    by_concept = found.to_frame().pivot(index="concept", columns="method", values="effect")
    assert row["difference"] == pytest.approx((by_concept[method] - by_concept[reference]).mean(), abs=1e-9)
    assert (c["p_holm"] >= c["p_value"]).all()


def test_fewer_concepts_speak_of_themselves_alone(found: AcrossConcepts):
    few = across({n: found.comparisons[n] for n in ("praise", "size", "heat")}, seed=0)
    assert "these concepts alone" in reading(few)
    assert "concepts like these" in reading(found)
    assert not few.methods["interval"].str.contains("two-stage").any()
    # Groups are drawn within each concept: moving one of three moves the mean by a third, and no width.
    before, after = (
        across({n: _free(c, by if n == "size" else 0.0) for n, c in few.comparisons.items()}, seed=0)
        for by in (0.0, 3.0)
    )
    for column in ("effect", "low", "high"):
        assert (after.methods[column] - before.methods[column]).to_numpy() == pytest.approx(1.0, abs=1e-6)


def _free(c: Comparison, by: float) -> Comparison:
    """Steering that costs nothing, so that the largest strength counts, and moves every question further."""
    items = c.items.copy()
    items.loc[items["strength"] != 0, "positive"] += by
    return Comparison(c.provenance, c.records, c.headline, c.contrasts, items, c.texts.assign(kl=0.0))


def test_methods_must_be_the_same(found: AcrossConcepts):
    one, two = list(found.comparisons.items())[:2]
    less = Comparison(
        two[1].provenance, two[1].records, two[1].headline.iloc[:1], two[1].contrasts, two[1].items, two[1].texts
    )
    with pytest.raises(OptionError, match="those of 'colour' differ"):
        across({one[0]: one[1], two[0]: less}, seed=0)


def test_one_concept_is_refused(model: LensModel):
    with pytest.raises(OptionError, match="at least two"):
        compare_concepts(model, {"praise": split("praise")}, PLAN)


def test_the_page_holds_every_number_and_no_script(found: AcrossConcepts, tmp_path: Path):
    page = write_across(found, tmp_path, command="steerlens compare <b>").read_text()
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    for name in WORDS:
        assert name in page
    assert across_html(found).removeprefix('<div class="steerlens-comparison">').removesuffix("</div>") in page
    assert len(pd.read_parquet(tmp_path / "across-methods.parquet")) == 3
    assert len(pd.read_parquet(tmp_path / "across-contrasts.parquet")) == 3
    assert (tmp_path / "across.png").read_bytes().startswith(b"\x89PNG")


def test_where_no_random_directions_were_measured_that_is_said(found: AcrossConcepts):
    def without(c: Comparison) -> Comparison:
        head = c.headline.assign(random_low=float("nan"), random_high=float("nan"), random_n=0, z=float("nan"))
        return replace(c, headline=head)

    none = across({n: without(c) for n, c in found.comparisons.items()}, seed=0)
    assert none.methods["n_above_random"].isna().all()
    assert "Random directions were not measured" in reading(none)
    assert "above random not measured" in across_html(none)
    assert "above random on 0" not in across_html(none)
    assert "random not measured, layer" in across_html(none)
    some = across({n: without(c) if n == "age" else c for n, c in found.comparisons.items()}, seed=0)
    assert "of 4 measured" in across_html(some)
    assert found.methods["n_above_random"].notna().all()
    assert "above random on" in across_html(found)
    assert "measured" not in across_html(found)

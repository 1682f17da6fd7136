"""A whole comparison on a tiny model."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from steerlens.activations import AllTokens, ContrastiveActivations, Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair, Split
from steerlens.errors import ArtefactError, EstimateError, OptionError
from steerlens.evaluation import (
    Comparison,
    ComparisonPlan,
    across,
    compare,
    neutral_texts,
    score_continuations,
    score_neutral,
    score_questions,
)
from steerlens.evaluation._across import dose_curve
from steerlens.evaluation._comparison import CONTRAST_COLUMNS, HEADLINE_COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS
from steerlens.evaluation._controls import neutral_arm, random_arms
from steerlens.interventions import Intervention
from steerlens.maps import (
    AdditiveMap,
    DirectionalAblation,
    GaussianTransport,
    MeanShift,
    ResidualMLP,
    SteeringMethod,
    Training,
)
from steerlens.models import LensModel, tiny_model
from steerlens.reports._answer import answer
from steerlens.reports._limits import limits
from steerlens.reports._numbers import estimate
from steerlens.reports._tables import controls_table, headline_table, rivals_table

THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river",
    "road", "house", "train", "horse", "bread", "apple", "school", "letter", "game", "table", "window", "door",
    "clock", "knife", "bottle", "paper", "stone", "bridge", "tower", "market", "office", "ship", "tree", "field",
)  # fmt: skip
METHODS: tuple[SteeringMethod, ...] = (
    MeanShift(),
    DirectionalAblation(),
    GaussianTransport(),
    ResidualMLP(training=Training(steps=30)),
)
STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
TEXTS = neutral_texts()[:10]
PROMPTS = ("The film was", "I went")
SAID = ("Praise what you see.", "Blame what you see.")
SITES = (Site.resid_post(1), Site.resid_post(2))


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def split() -> Split:
    pairs = tuple(
        ContrastivePair(prompt=f"The {thing} is", positive=" good", negative=" bad", group=thing) for thing in THINGS
    )
    data = ConceptDataset("made up", pairs, description="Good against bad.", source="this test", licence="MIT")
    return data.split(seed=0, fractions=(0.6, 0.2, 0.2))


def run(model: LensModel, split: Split) -> Comparison:
    return compare(
        model, split.fit, split.test, sites=SITES, select=split.select, methods=METHODS, strengths=STRENGTHS,
        budget=0.05, n_random=3, neutral=TEXTS, prompts=PROMPTS, instructions=SAID, seed=3,
        command="steerlens compare",
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(model: LensModel, split: Split) -> Comparison:
    return run(model, split)


def test_tables_have_their_declared_columns(found: Comparison):
    assert tuple(found.records.columns) == RECORD_COLUMNS
    assert tuple(found.headline.columns) == HEADLINE_COLUMNS
    assert tuple(found.contrasts.columns) == CONTRAST_COLUMNS
    assert tuple(found.samples.columns) == SAMPLE_COLUMNS
    assert_frame_equal(found.to_frame(), found.records)


def test_prompts_and_examples_are_measured_on_the_same_questions(model: LensModel, split: Split, found: Comparison):
    texts = found.records[found.records["role"] == "text"]
    names = [f"prompt: {SAID[0]}", f"prompt: {SAID[1]}", "4-shot"]
    assert list(texts["method"].unique()) == names
    assert set(texts["metric"]) == {"effect", "kl", "propensity", "effect_per_token", "perplexity_ratio"}
    own = found.records[(found.records["role"] == "method") & (found.records["split"] == "test")]
    assert set(texts["n"][texts["metric"] == "effect"]) == set(own["n"][own["metric"] == "effect"])
    asked = [(f"{SAID[0]}\n\n{q.context}", (q.positive, q.negative)) for q in split.test.questions]
    scores = score_continuations(model, [c for c, _ in asked], [both for _, both in asked]).log_prob[0]
    plain = score_questions(model, split.test.questions).propensity[0]
    expected = float((scores[0::2] - scores[1::2] - plain).mean())
    row = texts[(texts["method"] == names[0]) & (texts["metric"] == "effect")]
    assert row["value"].item() == pytest.approx(expected, abs=1e-5)
    table = rivals_table(found)
    for name in names:
        e = texts[(texts["method"] == name) & (texts["metric"] == "effect")].iloc[0]
        assert f">{name}<" in table
        assert f">{estimate(e['value'], e['low'], e['high'])}<" in table


def test_the_perplexity_ratio_of_a_small_strength_is_not_that_of_none(model: LensModel, split: Split):
    found = compare(
        model, split.fit, split.test, site=SITES[0], methods=METHODS[:1], strengths=STRENGTHS, budget=1e-9, n_random=0,
        neutral=TEXTS, controls=False,
    )  # fmt: skip
    row = found.headline.iloc[0]
    assert 0 < row["strength"] < 0.5
    r = found.records[found.records["metric"] == "perplexity_ratio"].set_index("strength")
    assert row["perplexity_ratio"] == r.loc[row["strength"], "value"] != 1
    assert row["perplexity_ratio_low"] < row["perplexity_ratio_high"]
    assert r.loc[0.0, "value"] == 1


def test_the_headline_has_one_row_per_method_at_one_site(found: Comparison):
    assert [m.partition("(")[0] for m in found.headline["method"]] == [type(m).__name__ for m in METHODS]
    assert list(found.headline["family"]) == ["additive", "affine", "affine", "nonlinear"]
    assert found.headline["site"].nunique() == 1
    assert set(found.headline["site"]) <= {s.hook_name for s in SITES}
    assert set(found.headline["n_tried"]) == {2}
    assert len(found.contrasts) == 6


def test_every_number_has_an_interval_and_an_n(found: Comparison):
    r = found.records
    assert r[["value", "low", "high"]].notna().all(axis=None)
    assert (r["low"] <= r["high"]).all()
    assert (r["n"] >= r["n_clusters"]).all()
    assert (r["n_clusters"] >= 5).all()


def test_random_directions_are_as_long_as_the_mean_shift(model: LensModel, split: Split):
    activations = extract(model, split.fit, SITES[:1])[SITES[0]]
    x = activations.negative.double()
    shift = MeanShift().fit(source=activations.negative, target=activations.positive)
    arms = random_arms(activations, (0.0, 1.0), n=3, seed=0)
    norms = [float(arm.steering_map.displacement(x)[0].norm()) for arm in arms]
    assert norms == pytest.approx([float(shift.displacement(x)[0].norm())] * 3, rel=1e-5)


def test_where_class_means_agree_controls_are_as_long_as_the_pairs_differences(model: LensModel, split: Split):
    """In a cycle all items are source and target: the mean difference is rounding, and no length for a control."""
    apart = extract(model, split.fit, SITES[:1])[SITES[0]]
    x = apart.negative
    cycle = dataclasses.replace(apart, positive=x.roll(1, dims=0) + 1e-7 * x.abs().max())
    mean = float((cycle.positive - x).double().norm(dim=1).mean())
    grid = (0.0, 1.0)

    def lengths(found: ContrastiveActivations) -> list[float]:
        arms = [*random_arms(found, grid, n=2, seed=0), neutral_arm(model, found, TEXTS, grid)]
        return [float(a.steering_map.displacement(x.double())[0].norm()) for a in arms]

    assert mean > 0.1
    assert lengths(cycle) == pytest.approx([mean] * 3, rel=1e-5)
    # A small concept is no rounding.
    small = dataclasses.replace(apart, positive=cycle.positive + 0.001 * mean)
    shift = float((small.positive.double().mean(0) - x.double().mean(0)).norm())
    assert lengths(small) == pytest.approx([shift] * 3, rel=1e-5)
    assert shift < 0.01 * mean


def test_random_directions_are_as_many_as_asked_for(found: Comparison):
    random = found.records[found.records["role"] == "random"]
    assert random["method"].nunique() == 3
    assert set(found.headline["random_n"]) == {3}
    assert set(random["site"]) == set(found.headline["site"])


def test_strength_zero_does_exactly_nothing(found: Comparison):
    zero = found.records[(found.records["strength"] == 0) & found.records["metric"].isin(["effect", "kl"])]
    assert len(zero) > 0
    assert (zero[["value", "low", "high"]] == 0).all(axis=None)


def test_strength_one_does_something(found: Comparison):
    r = found.records
    assert (r[(r["strength"] == 1) & (r["metric"] == "kl")]["value"] > 0).all()
    assert (r[(r["strength"] == 1) & (r["metric"] == "effect")]["value"] != 0).all()


def test_a_map_without_a_reverse_has_no_negative_strengths(found: Comparison):
    by_method = found.samples.groupby("method")["strength"].min()
    for method, least in by_method.items():
        assert least == (0.0 if str(method).startswith("DirectionalAblation") else -1.0)


def test_both_halves_are_recorded(found: Comparison):
    assert set(found.records["split"]) == {"select", "test"}
    assert set(found.records[found.records["split"] == "select"]["site"]) == {s.hook_name for s in SITES}


def test_headline_follows_from_the_items_and_texts_by_pandas_alone(found: Comparison):
    for _, row in found.headline.iterrows():
        items, texts = (
            f[(f["role"] == "method") & (f["arm"] == row["method"]) & (f["strength"] >= 0)]
            for f in (found.items, found.texts)
        )
        propensity = (items["positive"] - items["negative"]).groupby(items["strength"]).mean()
        sums = texts.groupby("strength")[["kl", "n_tokens"]].sum()
        kl = sums["kl"] / sums["n_tokens"]
        effect = propensity - propensity.loc[0.0]
        assert row["effect"] == pytest.approx(effect.loc[row["strength"]], abs=1e-9)
        assert row["kl"] == pytest.approx(kl.loc[row["strength"]], abs=1e-9)
        dose = found.doses[(found.doses["role"] == "method") & (found.doses["method"] == row["method"])].iloc[0]
        assert dose["strength"] == row["strength"]
        assert dose["reached"] == row["reached"] == (abs(dose["kl_select"] - row["budget"]) <= 0.01 * row["budget"])


def test_slopes_are_read_off_the_grid_and_not_off_strengths_that_were_added(found: Comparison):
    for _, row in found.headline.iterrows():
        own = found.samples[found.samples["method"] == row["method"]]
        assert row["strength"] in set(own["strength"])
        wide = own.pivot(index="question", columns="strength", values="propensity")
        s = np.array([c for c in wide.columns if c in STRENGTHS and abs(c) <= 1.5])
        slopes = (wide[s] - wide[s].mean(axis=1).to_numpy()[:, None]) @ (s - s.mean()) / ((s - s.mean()) ** 2).sum()
        assert slopes.mean() == pytest.approx(row["steerability"])
    assert not set(found.headline["strength"]) <= set(STRENGTHS), "otherwise nothing was added"


def test_on_the_selection_half_every_reported_strength_costs_the_budget(
    model: LensModel, split: Split, found: Comparison
):
    site = Site.resid_post(int(found.headline["layer"].iloc[0]))
    pairs = extract(model, split.fit, [site])[site]
    maps = {
        m: MeanShift().fit(source=pairs.negative, target=pairs.positive) for m in [str(found.headline["method"][0])]
    }
    maps |= {a.method: a.steering_map for a in random_arms(pairs, (0.0, 1.0), n=3, seed=3)}
    doses = found.doses.set_index("method")
    for name, steering_map in maps.items():
        for half, column in ((TEXTS[0::2], "kl_select"), (TEXTS[1::2], "kl")):
            scores = score_neutral(
                model, half, [Intervention({site: steering_map}, float(doses.loc[name, "strength"]))]
            )
            kl = float(scores.kl.sum() / scores.n_tokens.sum())
            assert kl == pytest.approx(doses.loc[name, column], rel=1e-3)
            if column == "kl_select" and doses.loc[name, "reached"]:
                assert kl == pytest.approx(0.05, rel=0.02)
    assert doses.loc[list(maps), "reached"].any()
    random = found.doses[found.doses["role"] == "random"]
    assert set(found.headline["random_reached"]) == {int(random["reached"].sum())}
    assert set(found.doses["role"]) == {"method", "random", "permuted", "wrong layer", "neutral direction"}


def test_random_directions_too_short_for_the_grid_are_taken_beyond_it_and_counted_where_that_is_not_enough(
    model: LensModel, split: Split
):
    """The budget that the longest direction meets at three times the grid; a tenfold one is out of reach of all."""
    site, grid = SITES[0], (0.0, 0.5, 1.0)
    pairs = extract(model, split.fit, [site])[site]
    steps = [Intervention({site: a.steering_map}, 3.0) for a in random_arms(pairs, grid, n=3, seed=0)]
    scores = score_neutral(model, TEXTS[0::2], steps)
    budget = float((scores.kl.sum(dim=1) / scores.n_tokens.sum()).max())
    for times, reached in ((1.0, 1), (100.0, 0)):
        found = compare(
            model, split.fit, split.test, site=site, methods=METHODS[:1], strengths=grid, budget=times * budget,
            n_random=3, neutral=TEXTS, controls=False,
        )  # fmt: skip
        random = found.doses[found.doses["role"] == "random"]
        assert int(found.headline["random_reached"].iloc[0]) == random["reached"].sum() >= reached
        assert (random["strength"] <= 4.0).all()
        if reached:
            assert random["strength"].max() > 1.5
            assert random.loc[random["reached"], "strength"].min() == pytest.approx(3.0, rel=0.05)
        else:
            assert not random["reached"].any()
            assert "0 of 3" in headline_table(found)
            assert "†" in found._repr_html_()


def test_each_method_stands_beside_itself_without_a_concept(found: Comparison):
    r = found.records[(found.records["split"] == "test") & (found.records["metric"] == "effect_at_budget")]
    own = set(r[r["role"] == "method"]["method"])
    assert set(r[r["role"] == "permuted"]["method"]) == {f"{m}, exchanged labels 00" for m in own}
    wrong = r[r["role"] == "wrong layer"]
    assert set(wrong["method"]) == {f"{m} at block 0" for m in own}
    assert set(wrong["layer"]) == {0}
    page = controls_table(found)
    for role in ("permuted", "wrong layer"):
        for _, row in r[r["role"] == role].iterrows():
            mark = "" if found.doses.set_index("method").loc[row["method"], "reached"] else " †"
            assert f">{estimate(row['value'], row['low'], row['high'])}{mark}<" in page


def test_the_neutral_direction_is_where_neutral_texts_vary_most_and_is_as_long_as_the_shift(
    model: LensModel, split: Split, found: Comparison
):
    site = Site.resid_post(1)
    pairs = extract(model, split.fit, [site])[site]
    texts = neutral_texts()[:8]
    arm = neutral_arm(model, pairs, texts, (0.0, 1.0))
    rows = []
    for text in texts:
        alone = ConceptDataset("alone", (ContrastivePair("", text, text + " too", "0"),))
        everywhere = Site.resid_post(1, AllTokens())
        rows.append(extract(model, alone, [everywhere])[everywhere].positive.double().numpy()[0])
    centred = np.stack(rows) - np.mean(rows, axis=0)
    first = np.linalg.svd(centred)[2][0]
    shift = (pairs.positive - pairs.negative).double().numpy().mean(axis=0)
    moved = arm.steering_map.step(torch.zeros(1, len(shift), dtype=torch.float64), strength=1.0)[0].numpy()
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(shift))
    assert abs(moved @ first) == pytest.approx(np.linalg.norm(shift), rel=1e-6)
    assert moved @ shift >= 0
    r = found.records[found.records["role"] == "neutral direction"]
    assert set(r["method"]) == {"PC1 of neutral texts"}
    assert "first principal component of neutral texts" in controls_table(found)


def test_p_values_are_of_sign_flips_and_adjusted_together(found: Comparison):
    c = found.contrasts
    assert len(c) == 6
    assert c["p_value"].between(2 / 2**7, 1).all(), "7 groups: no p-value below 2/2^7"
    assert (c["p_holm"] >= c["p_value"]).all()
    assert (c["detectable"] > 0).all()
    assert c["p_holm"].min() == pytest.approx(min(1.0, 6 * c["p_value"].min()))


@dataclasses.dataclass(frozen=True)
class Twin(SteeringMethod):
    """The mean shift, a millionth longer: the same map, up to rounding."""

    family = "additive"

    def fit(self, source: torch.Tensor, target: torch.Tensor) -> AdditiveMap:
        return AdditiveMap((target.double().mean(dim=0) - source.double().mean(dim=0)) * (1 + 1e-6))


def test_two_maps_that_differ_by_rounding_do_not_beat_each_other(model: LensModel, split: Split):
    twins = compare(
        model, split.fit, split.test, site=SITES[0], methods=(MeanShift(), Twin()), strengths=STRENGTHS, budget=0.05,
        n_random=3, controls=False, neutral=TEXTS,
    )  # fmt: skip
    a, b = (dose_curve(twins, m).changes_at(0.05) for m in twins.headline["method"])
    assert (a != b).any()
    row = twins.contrasts.iloc[0]
    assert (row["difference"], row["low"], row["high"], row["p_value"], row["p_holm"]) == (0, 0, 0, 1, 1)
    said = [f.text for f in answer(twins).findings if f.about == "Methods in pairs"]
    assert said == [f"Twin does what MeanShift does, up to rounding, n = {int(row['n'])}."]
    over = across({"one": twins, "two": twins}, seed=0).contrasts.iloc[0]
    assert (over["difference"], over["low"], over["high"], over["p_value"]) == (0, 0, 0, 1)


def test_samples_give_the_recorded_effect(found: Comparison):
    shift = found.samples[found.samples["method"].str.startswith("MeanShift")]
    table = shift.pivot(index="question", columns="strength", values="propensity")
    records = found.records[
        (found.records["split"] == "test")
        & (found.records["role"] == "method")
        & found.records["method"].str.startswith("MeanShift")
        & (found.records["metric"] == "effect")
    ].set_index("strength")["value"]
    for strength in STRENGTHS:
        assert (table[strength] - table[0.0]).mean() == pytest.approx(records[strength], abs=1e-9)


def test_every_prompt_is_continued_unsteered_and_by_each_method(found: Comparison):
    assert len(found.generations) == (1 + len(METHODS)) * len(PROMPTS)
    assert {g.prompt for g in found.generations} == set(PROMPTS)
    assert {g.method for g in found.generations} == {"unsteered", *found.headline["method"]}
    assert all(g.text.startswith(g.prompt) for g in found.generations)


def test_the_provenance_is_complete(found: Comparison, split: Split):
    facts = found.provenance
    assert facts.model["name"] == "tiny-llama"
    assert facts.concept["fit_fingerprint"] == split.fit.fingerprint
    assert facts.concept["test_groups"] == len(split.test.groups)
    assert facts.settings["seed"] == 3
    assert facts.settings["strengths"] == list(STRENGTHS)
    assert facts.command == "steerlens compare"
    assert "made up" in facts.question
    assert {"steerlens", "torch", "python", "date", "seconds"} <= set(facts.environment)


def test_the_same_seed_gives_the_same_tables(found: Comparison, model: LensModel, split: Split):
    again = run(model, split)
    for name in ("records", "headline", "contrasts", "samples", "doses"):
        assert_frame_equal(getattr(again, name), getattr(found, name))
    assert again.generations == found.generations


def test_what_is_saved_is_loaded_again(found: Comparison, tmp_path: Path):
    loaded = Comparison.load(found.save(tmp_path / "a" / "b"))
    for name in ("records", "headline", "contrasts", "samples", "doses"):
        assert_frame_equal(getattr(loaded, name), getattr(found, name))
    assert loaded.generations == found.generations
    assert dataclasses.asdict(loaded.provenance) == dataclasses.asdict(found.provenance)


def test_what_was_saved_before_strengths_were_chosen_still_loads(found: Comparison, tmp_path: Path):
    found.save(tmp_path)
    document = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    (tmp_path / "comparison.json").write_text(json.dumps(document | {"schema": "steerlens/comparison/2"}), "utf-8")
    (tmp_path / "doses.parquet").unlink()
    found.headline.drop(columns="random_reached").to_parquet(tmp_path / "headline.parquet")
    r = found.records
    cost = (r["role"] == "random") & (r["metric"] == "kl")
    costs = r["value"].where(~cost, 0.049).where(~(cost & (r["method"] == "random 01") & (r["strength"] == 2.0)), 0.05)
    r.assign(value=costs).to_parquet(tmp_path / "records.parquet")
    loaded = Comparison.load(tmp_path)
    assert loaded.doses.empty
    assert tuple(loaded.headline.columns) == HEADLINE_COLUMNS
    assert set(loaded.headline["random_reached"]) == {1}, "of one direction the largest strength costs the budget"
    curve = dose_curve(loaded, str(found.headline["method"][0]))
    assert curve.chosen is None
    assert curve.at_budget(0.05, seed=0).effect.value == pytest.approx(found.headline["effect"][0], rel=0.5)
    assert "by interpolation" in " ".join(limits(loaded))
    assert "found on the selection half" in " ".join(limits(found))
    r[~cost].to_parquet(tmp_path / "records.parquet")
    assert Comparison.load(tmp_path).headline["random_reached"].isna().all(), "nobody kept them"
    (tmp_path / "comparison.json").write_text(json.dumps(document | {"schema": "steerlens/comparison/1"}), "utf-8")
    with pytest.raises(ArtefactError, match="comparison/1"):
        Comparison.load(tmp_path)


def test_saving_over_a_file_is_refused(found: Comparison, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be made a folder"):
        found.save(tmp_path / "file")


@pytest.mark.parametrize("content", ["not json", "[]", '{"schema": "steerlens/comparison/99"}'])
def test_a_broken_document_is_an_artefact_error(found: Comparison, tmp_path: Path, content: str):
    found.save(tmp_path)
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(ArtefactError):
        Comparison.load(tmp_path)


def test_a_missing_or_broken_table_is_an_artefact_error(found: Comparison, tmp_path: Path):
    found.save(tmp_path)
    (tmp_path / "records.parquet").write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="Parquet"):
        Comparison.load(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "records.parquet")
    with pytest.raises(ArtefactError, match="lacks the columns"):
        Comparison.load(tmp_path)
    (tmp_path / "records.parquet").unlink()
    with pytest.raises(ArtefactError, match="missing"):
        Comparison.load(tmp_path)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("headline", lambda t: t.assign(effect=np.nan), "'effect' should hold finite numbers, but 4 of 4 are NaN"),
        ("headline", lambda t: t.assign(effect=t["effect"].astype(str)), "'effect' should hold numbers, but holds"),
        ("headline", lambda t: t.assign(z=np.inf), "'z' should hold finite numbers"),
        ("headline", lambda t: t.assign(anti_slope=7.0), r"'anti_slope' should be in \[0, 1\], but is 7.0 in row 0"),
        ("headline", lambda t: t.assign(effect_low=1e6), "'effect_low' should not be above 'effect_high'"),
        ("records", lambda t: t.assign(value=t["value"].where(t.index != 3)), "1 of .* the first in row 3"),
        ("records", lambda t: t.assign(n=-1), "'n_clusters' should not be above 'n'"),
        ("contrasts", lambda t: t.assign(p_holm=5.0), r"'p_holm' should be in \[0, 1\]"),
        ("items", lambda t: t.assign(positive=np.nan), "'positive' should hold finite numbers"),
        ("items", lambda t: pd.concat([t, t], ignore_index=True), "rows stand there twice"),
        ("texts", lambda t: t.assign(kl="much"), "'kl' should hold numbers"),
        ("texts", lambda t: pd.concat([t, t.iloc[:1]], ignore_index=True), "1 of .* rows stand there twice"),
    ],
)
def test_tables_that_were_changed_are_refused(found: Comparison, tmp_path: Path, table: str, change, message: str):
    found.save(tmp_path)
    change(getattr(found, table)).to_parquet(tmp_path / f"{table}.parquet", index=False)
    with pytest.raises(ArtefactError, match=rf"{table}\.parquet: .*{message}"):
        Comparison.load(tmp_path)


def test_what_was_not_measured_is_loaded_again(found: Comparison, tmp_path: Path):
    """Too few random directions say nothing of a method's place among them."""
    none = found.headline.assign(random_low=np.nan, random_high=np.nan, z=np.nan, random_n=0)
    dataclasses.replace(found, headline=none, contrasts=found.contrasts.iloc[:0]).save(tmp_path)
    assert_frame_equal(Comparison.load(tmp_path).headline, none)


def test_facts_that_are_no_object_are_refused(found: Comparison, tmp_path: Path):
    path = found.save(tmp_path) / "comparison.json"
    document = json.loads(path.read_text("utf-8"))
    document["provenance"]["model"] = "tiny"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(ArtefactError, match=r"provenance\.model should be an object, but is 'tiny'"):
        Comparison.load(tmp_path)


def test_a_folder_in_place_of_the_document_is_named(tmp_path: Path):
    (tmp_path / "comparison.json").mkdir()
    with pytest.raises(ArtefactError, match=r"comparison\.json cannot be read"):
        Comparison.load(tmp_path)


def test_a_file_is_not_a_folder_of_results(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match=r"no comparison\.json"):
        Comparison.load(tmp_path / "file")


def test_it_shows_itself(found: Comparison):
    assert "<" in found._repr_html_()
    assert "MeanShift" in found._repr_html_()
    assert "made up" in repr(found)
    assert "largest effect" in repr(found)
    assert repr(dataclasses.replace(found, headline=found.headline.iloc[:0])) == "Comparison of no methods"
    figure = found.plot()
    assert figure.axes
    import matplotlib.pyplot as plt

    plt.close("all")


def test_several_sites_need_pairs_to_choose_on(model: LensModel, split: Split):
    with pytest.raises(OptionError, match="select="):
        compare(model, split.fit, split.test, sites=SITES, methods=METHODS[:1], neutral=TEXTS)


def test_splits_that_share_a_group_are_refused(model: LensModel, split: Split):
    with pytest.raises(OptionError, match="share"):
        compare(model, split.fit, split.fit[:8], site=SITES[0], methods=METHODS[:1], neutral=TEXTS)


def test_fewer_than_ten_neutral_texts_are_refused(model: LensModel, split: Split):
    with pytest.raises(OptionError, match="10 neutral"):
        compare(model, split.fit, split.test, site=SITES[0], methods=METHODS[:1], neutral=TEXTS[:9])


def test_fewer_than_five_groups_to_measure_on_are_refused(model: LensModel, split: Split):
    with pytest.raises(EstimateError, match="test has 4"):
        compare(model, split.fit, split.test[:4], site=SITES[0], methods=METHODS[:1], neutral=TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": ()}, "at least one site"),
        ({"methods": ()}, "one method"),
        ({"methods": (MeanShift(), MeanShift())}, "must differ"),
        ({"strengths": (0.0, 2.0)}, "include 0 and 1"),
        ({"strengths": (0.0, 1.0, float("inf"))}, "finite"),
        ({"budget": 0.0}, "positive"),
        ({"n_random": -1}, "negative"),
    ],
)
def test_a_plan_out_of_range_is_refused(change: dict[str, object], message: str):
    with pytest.raises(OptionError, match=message):
        ComparisonPlan(**{"sites": SITES, "methods": METHODS, **change})


def test_a_plan_has_each_strength_once_and_ascending():
    assert ComparisonPlan(sites=SITES, strengths=(1, 0, -1.0, 1.0)).strengths == (-1.0, 0.0, 1.0)

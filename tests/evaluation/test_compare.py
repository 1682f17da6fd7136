"""A whole comparison on a seeded small model."""

import numpy as np
import pandas as pd
import pytest

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation import Comparison, compare, neutral_texts
from steerlens.evaluation._comparison import CONTRAST_COLUMNS, HEADLINE_COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS
from steerlens.maps import DirectionalAblation, GaussianTransport, MeanShift, ResidualMLP
from steerlens.models import LensModel, tiny_model

METHODS = (MeanShift(), DirectionalAblation(), GaussianTransport(), ResidualMLP(steps=30))
SITES = (Site.resid_post(1), Site.resid_post(2))


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def parts():
    pairs = tuple(
        ContrastivePair(f"Thing {i} was", f" good and {i % 7}", f" bad and {i % 5}", group=f"g{i}") for i in range(48)
    )
    return ConceptDataset("toy", pairs, "made for tests", "tests", "CC0-1.0").split(seed=0)


def run(model, parts, **changes) -> Comparison:
    options = {
        "sites": SITES, "select": parts.select, "methods": METHODS, "strengths": (-1, 0, 1, 2), "n_random": 3,
        "neutral": neutral_texts()[:10], "prompts": ("The film",),
    }  # fmt: skip
    return compare(model, parts.fit, parts.test, **(options | changes))


@pytest.fixture(scope="module")
def comparison(model, parts) -> Comparison:
    return run(model, parts)


def test_tables_have_their_columns_and_rows(comparison: Comparison):
    assert tuple(comparison.records.columns) == RECORD_COLUMNS
    assert tuple(comparison.headline.columns) == HEADLINE_COLUMNS
    assert tuple(comparison.contrasts.columns) == CONTRAST_COLUMNS
    assert tuple(comparison.samples.columns) == SAMPLE_COLUMNS
    assert list(comparison.headline["family"]) == ["additive", "affine", "affine", "nonlinear"]
    assert len(comparison.contrasts) == 6
    assert set(comparison.headline["random_n"]) == {3}
    assert comparison.headline["site"].nunique() == 1


def test_every_number_has_an_interval_and_an_n(comparison: Comparison):
    r = comparison.records
    assert (r["low"] <= r["high"]).all()
    assert r[["value", "low", "high"]].notna().all().all()
    assert (r["n"] >= r["n_clusters"]).all()
    assert (r["n_clusters"] >= 5).all()


def test_strength_zero_does_nothing_and_others_do(comparison: Comparison):
    r = comparison.records
    for metric in ("effect", "kl"):
        rows = r[r["metric"] == metric]
        assert (rows.loc[rows["strength"] == 0, "value"] == 0).all()
        assert (rows.loc[rows["strength"] > 0, "value"].abs() > 0).all()


def test_negative_strengths_are_left_out_where_there_is_no_reverse(comparison: Comparison):
    strengths = comparison.samples.groupby("method")["strength"].min()
    assert strengths["DirectionalAblation"] == 0
    assert strengths.filter(like="MeanShift").item() == -1


def test_equal_seeds_give_equal_tables(comparison: Comparison, model, parts):
    again = run(model, parts)
    pd.testing.assert_frame_equal(again.headline, comparison.headline)
    pd.testing.assert_frame_equal(again.records, comparison.records)


def test_it_comes_back_from_disk_as_it_was(comparison: Comparison, tmp_path):
    loaded = Comparison.load(comparison.save(tmp_path))
    for name in ("records", "headline", "contrasts", "samples"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(comparison, name))
    assert loaded.generations == comparison.generations
    assert loaded.provenance.question == comparison.provenance.question
    (tmp_path / "records.parquet").write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match="Parquet"):
        Comparison.load(tmp_path)


def test_it_shows_itself(comparison: Comparison):
    assert "MeanShift" in comparison._repr_html_()
    assert "largest effect" in repr(comparison)
    assert comparison.plot().get_axes()


def test_examples_are_written_by_every_method(comparison: Comparison):
    assert len(comparison.generations) == 1 + len(METHODS)
    assert comparison.generations[0].method == "unsteered"
    assert all(g.text.startswith("The film") for g in comparison.generations)


def test_the_report_says_how_to_repeat_it(comparison: Comparison):
    facts = comparison.provenance
    assert facts.model["name"] == "tiny-llama"
    assert facts.settings["seed"] == 0
    assert facts.concept["fit_pairs"] == 24
    assert facts.environment["torch"]


def test_arguments_that_would_mislead_are_refused(model, parts):
    for changes, message in (
        ({"select": None}, "Choosing among 2 sites"),
        ({"select": parts.fit}, "share 24 groups"),
        ({"neutral": neutral_texts()[:9]}, "at least 10 neutral texts"),
        ({"strengths": (0, 2)}, "include 0 and 1"),
        ({"budget": 0.0}, "KL budget"),
        ({"methods": (MeanShift(), MeanShift())}, "Methods must differ"),
        ({"sites": ()}, "at least one site"),
    ):
        with pytest.raises(OptionError, match=message):
            run(model, parts, **changes)


def test_random_directions_are_as_long_as_the_mean_shift(model, parts):
    c = run(model, parts, sites=SITES[:1], select=None, methods=(MeanShift(),), prompts=())
    moved = c.records[(c.records["metric"] == "displacement") & (c.records["strength"] == 1)]["value"].item()
    assert np.isfinite(moved)
    assert moved > 0

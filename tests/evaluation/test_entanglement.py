"""Entanglement: a map made for a concept stands out from random directions, and a random map does not."""

import numpy as np
import pytest
import torch

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import (
    ENTANGLEMENT_COLUMNS,
    OFF_TARGET_COLUMNS,
    Entanglement,
    KLBudget,
    calibrate_strength,
    entanglement,
    neutral_texts,
    score_questions,
)
from steerlens.interventions import Intervention
from steerlens.maps import AdditiveMap, GaussianTransport, random_direction
from steerlens.models import LensModel, tiny_model
from steerlens.reports import draw_entanglement, prepare_entanglement

THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe")
SITE = Site.resid_post(3)
ANSWERS = {"a or s": (" a", " s"), "w or o": (" w", " o"), "a or o": (" a", " o")}


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.fixture(scope="module")
def data() -> dict[str, ConceptDataset]:
    return {
        name: ConceptDataset(name, tuple(ContrastivePair(f"The {t} is", yes, no, group=t) for t in THINGS))
        for name, (yes, no) in ANSWERS.items()
    }


@pytest.fixture(scope="module")
def maps(model: LensModel) -> dict[str, AdditiveMap]:
    """Along the unembeddings of the first two concepts' answers; the third's map is a random direction."""
    rows = model.bridge.original_model.get_output_embeddings().weight.detach()

    def between(yes: str, no: str) -> AdditiveMap:
        (a, *_), (b, *_) = (model.encode(t, bos=False) for t in (yes, no))
        return AdditiveMap(2 * (rows[a] - rows[b]) / (rows[a] - rows[b]).norm())

    made = {name: between(*ANSWERS[name]) for name in ("a or s", "w or o")}
    return made | {"a or o": random_direction(model.d_model, norm=2.0, seed=99)}


@pytest.fixture(scope="module")
def found(model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset]) -> Entanglement:
    return entanglement(model, maps, data, SITE, 1.5, seed=4)


def cell(found: Entanglement, steered: str, measured: str):
    return found.frame.set_index(["steered", "measured"]).loc[(steered, measured)]


def test_effects_are_changes_of_propensity(
    model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset], found: Entanglement
):
    assert tuple(found.to_frame().columns) == ENTANGLEMENT_COLUMNS
    assert [(r.steered, r.measured) for r in found.frame.itertuples()] == [(a, b) for a in maps for b in data]
    for a in maps:
        for b in data:
            plain, steered = score_questions(
                model, data[b].questions, [Intervention({}, 0.0), Intervention({SITE: maps[a]}, 1.5)]
            ).propensity
            row = cell(found, a, b)
            assert row["effect"] == pytest.approx(float((steered - plain).mean()), abs=1e-9)
            assert row["low"] <= row["effect"] <= row["high"]
            assert row["norm"] == pytest.approx(3.0)


def test_the_null_are_random_directions_of_the_map_s_length(
    model: LensModel, data: dict[str, ConceptDataset], found: Entanglement
):
    plans = [Intervention({SITE: random_direction(model.d_model, norm=3.0, seed=40_000 + i)}, 1.0) for i in range(20)]
    scores = score_questions(model, data["w or o"].questions, [Intervention({}, 0.0), *plans]).propensity.numpy()
    null = (scores[1:] - scores[0]).mean(axis=1)
    row = cell(found, "a or s", "w or o")
    assert (row["null_mean"], row["null_sd"], row["null_n"]) == (
        pytest.approx(null.mean(), abs=1e-8), pytest.approx(null.std(ddof=1), abs=1e-8), 20,
    )  # fmt: skip
    assert row["z"] == pytest.approx((row["effect"] - null.mean()) / null.std(ddof=1), abs=1e-6)


def test_a_made_map_stands_out_on_its_concept_and_a_random_one_on_none(found: Entanglement, data):
    for name in ("a or s", "w or o"):
        assert cell(found, name, name)["z"] > 4
        assert cell(found, name, name)["low"] > 0
    assert max(abs(cell(found, "a or o", b)["z"]) for b in data) < 3
    # Both concepts ask for " a", so the first map is entangled with the third concept.
    assert cell(found, "a or s", "a or o")["z"] > 3


def test_the_worst_concept_off_target_is_found(found: Entanglement):
    off = found.off_target()
    assert tuple(off.columns) == OFF_TARGET_COLUMNS
    for row in off.itertuples():
        others = found.frame[(found.frame["steered"] == row.steered) & (found.frame["measured"] != row.steered)]
        assert abs(row.effect) == others["effect"].abs().max()
        assert row.worst != row.steered
        assert row.on_target == cell(found, row.steered, row.steered)["effect"]
    assert off.set_index("steered").loc["a or s", "worst"] == "a or o"


@pytest.mark.slow
def test_strength_may_be_given_for_each_map_or_as_a_budget(
    model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset], found: Entanglement
):
    one = {"a or s": maps["a or s"]}
    zero = entanglement(model, one, data, SITE, {"a or s": 0.0}, seed=4)
    assert (zero.frame[["effect", "low", "high", "norm", "null_sd"]] == 0).all(axis=None)
    assert zero.frame["z"].isna().all()
    budget = KLBudget(0.05)
    calibrated = calibrate_strength(
        model, SITE, maps["a or s"], texts=neutral_texts()[0::2], budget=budget, seed=4
    ).strength
    by_budget = entanglement(model, one, data, SITE, budget, seed=4)
    assert set(by_budget.frame["strength"]) == {calibrated}


def test_a_budget_that_cannot_be_met_is_said(
    model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset], found: Entanglement
):
    feeble = AdditiveMap(1e-7 * maps["w or o"].vector)
    both = entanglement(model, {"a or s": maps["a or s"], "w or o": feeble}, data, SITE, KLBudget(0.05), seed=4)
    by_map = both.frame.drop_duplicates("steered").set_index("steered")
    assert list(by_map["reached"]) == [True, False]
    assert by_map.loc["a or s", "kl"] == pytest.approx(0.05, rel=0.01)
    assert by_map.loc["w or o", "kl"] < 1e-6
    assert by_map.loc["w or o", "strength"] == 16
    assert both.unmet == ("w or o",)
    assert dict(zip(both.off_target()["steered"], both.off_target()["reached"], strict=True)) == {
        "a or s": True, "w or o": False,
    }  # fmt: skip
    said = str(both)
    assert "w or o †" in said
    assert "a or s †" not in said
    assert "† w or o does not meet the budget: at strength 16 it costs" in said
    square = prepare_entanglement(both)
    assert square.steered == ("a or s", "w or o †")
    figure = draw_entanglement(both)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a or s", "w or o †"]
    assert figure.get_supxlabel() == square.note != ""
    # Where strengths were given, none was asked to meet anything.
    assert found.frame["reached"].isna().all()
    assert found.frame["kl"].isna().all()
    assert found.unmet == ()
    assert "†" not in str(found)
    assert prepare_entanglement(found).note == ""


def test_a_map_that_moves_rows_unequally_is_matched_in_its_mean_step(model: LensModel, data):
    acts = extract(model, data["a or s"], [SITE])[SITE]
    draw = torch.Generator().manual_seed(0)
    source, target = (torch.randn(40, model.d_model, generator=draw, dtype=torch.float64) for _ in range(2))
    transport = GaussianTransport().fit(source=source, target=2 * target)
    found = entanglement(model, {"a or s": transport}, data, SITE, 0.5, seed=0)
    expected = transport.step(acts.negative.double(), strength=0.5).norm(dim=1).mean()
    assert found.frame["norm"].iloc[0] == pytest.approx(float(expected))


def test_the_figure_shows_every_effect_and_greys_what_chance_does(found: Entanglement):
    square = prepare_entanglement(found)
    assert (square.steered, square.measured) == (tuple(ANSWERS), tuple(ANSWERS))
    np.testing.assert_allclose(square.z, found.frame["z"].to_numpy().reshape(3, 3))
    texts = [t.get_text() for t in draw_entanglement(found).axes[0].texts]
    for text, effect, z in zip(texts, sum(square.texts, ()), square.z.ravel(), strict=True):
        assert text == f"{effect}\nz = {z:.1f}".replace("z = -", "z = −")
    assert found.plot().axes
    assert "rows: steered" in str(found)


def test_nonsense_is_refused(model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset]):
    with pytest.raises(OptionError, match="not among"):
        entanglement(model, {"other": maps["a or s"]}, data, SITE, 1.0, seed=0)
    with pytest.raises(OptionError, match="at least 20"):
        entanglement(model, maps, data, SITE, 1.0, seed=0, n_random=19)
    with pytest.raises(OptionError, match="needs a strength"):
        entanglement(model, maps, data, SITE, {"a or s": 1.0}, seed=0)


def test_too_few_groups_are_refused_before_anything_is_scored(
    model: LensModel, maps: dict[str, AdditiveMap], data: dict[str, ConceptDataset], monkeypatch: pytest.MonkeyPatch
):
    from steerlens.evaluation import _entanglement as implementation

    def scored(*args: object) -> None:
        raise AssertionError("nothing should be scored")

    few = {**data, "a or o": data["a or o"][:4]}
    for name in ("score_questions", "extract"):
        monkeypatch.setattr(implementation, name, scored)
    with pytest.raises(EstimateError, match=r"at least 5 groups of pairs, but got \{'a or o': 4\}"):
        entanglement(model, maps, few, SITE, 1.0, seed=0)

"""Out of distribution: ratios and correlations against slopes fitted by hand; equal settings are equal."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, ContrastivePair, Instructions, shifts, with_context
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import OOD_COLUMNS, SLOPE_COLUMNS, OutOfDistribution, ood, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import AdditiveMap, AngularSteering, SteeringMap
from steerlens.models import LensModel, tiny_model

THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat")
SITE = Site.resid_post(3)
STRENGTHS = (-1.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.fixture(scope="module")
def settings() -> dict[str, ConceptDataset]:
    pairs = tuple(ContrastivePair(f"The {t} is", " a", " s", group=t[:1] + t[-1:]) for t in THINGS)
    data = ConceptDataset("made up", pairs)
    said = Instructions("Write an a.", "Write an s.")
    found = shifts(data, seed=0, said=said, contexts=(1,))
    return {name: found[name] for name in ("BASE", "SYS_POS", "CONTEXT_1")}


@pytest.fixture(scope="module")
def promoting(model: LensModel) -> AdditiveMap:
    """Along the difference of the unembeddings of both answers, so that the slope is large and positive."""
    rows = model.bridge.original_model.get_output_embeddings().weight
    positive, negative = (model.encode(t, bos=False)[0] for t in (" a", " s"))
    return AdditiveMap((3 * (rows[positive] - rows[negative]) / (rows[positive] - rows[negative]).norm()).detach())


def own_maps(promoting: AdditiveMap) -> dict[str, SteeringMap]:
    noise = np.random.default_rng(0).normal(size=promoting.vector.shape)
    other = AdditiveMap(promoting.vector + promoting.vector.new_tensor(noise) / 4)
    return {"BASE": promoting, "SYS_POS": other}


@pytest.fixture(scope="module")
def found(model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap) -> OutOfDistribution:
    return ood(model, own_maps(promoting), settings, SITE, STRENGTHS, seed=0)


def by_hand(model: LensModel, data: ConceptDataset, steering_map: SteeringMap, factor: float) -> np.ndarray:
    """Least-squares slopes by numpy, one question after another."""
    grid = (-1.0, 0.0, 0.5, 1.0)
    m = np.stack(
        [
            score_questions(model, data.questions, [Intervention({SITE: steering_map}, factor * s)]).propensity[0]
            for s in grid
        ]
    )
    return np.array([np.polyfit(grid, column, 1)[0] for column in m.T])


@pytest.mark.slow
def test_ratios_are_those_of_slopes_fitted_by_hand(
    model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap, found: OutOfDistribution
):
    maps = own_maps(promoting)
    frame = found.to_frame().set_index(["fitted_on", "tested_on"])
    assert (*frame.index.names, *frame.columns) == OOD_COLUMNS
    assert tuple(found.slopes.columns) == SLOPE_COLUMNS
    factor = {name: float(promoting.vector.norm() / m.vector.norm()) for name, m in maps.items()}
    s = {(a, b): by_hand(model, settings[b], maps[a], factor[a]) for a in maps for b in settings}
    for (a, b), slopes in s.items():
        row = frame.loc[(a, b)]
        assert row["steerability"] == pytest.approx(slopes.mean(), abs=1e-8)
        assert row["factor"] == pytest.approx(factor[a], rel=1e-6)
        assert row["retained"] == pytest.approx(slopes.mean() / s[a, a].mean(), abs=1e-8)
        assert row["correlation"] == pytest.approx(stats.spearmanr(s[a, a], slopes).statistic, abs=1e-8)
        if b in maps:
            assert row["relative"] == pytest.approx(slopes.mean() / s[b, b].mean(), abs=1e-8)
        else:
            assert np.isnan(row["relative"])
        own = found.slopes[(found.slopes["fitted_on"] == a) & (found.slopes["tested_on"] == b)]
        np.testing.assert_allclose(own["steerability"], slopes, atol=1e-8)
    assert abs(s["BASE", "BASE"] - s["BASE", "SYS_POS"]).min() > 1e-6, "the shift must change something"


def test_at_home_nothing_is_lost_and_no_interval_has_width(found: OutOfDistribution):
    home = found.frame[found.frame["fitted_on"] == found.frame["tested_on"]]
    for value in ("relative", "retained", "correlation"):
        np.testing.assert_allclose(home[[value, f"{value}_low", f"{value}_high"]], 1, atol=1e-9)


def test_equal_settings_are_equal_whatever_the_length_of_the_map(
    model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap
):
    long = AdditiveMap(2 * promoting.vector)
    same = {"one": settings["BASE"], "two": settings["BASE"]}
    found = ood(model, {"one": promoting, "two": long}, same, SITE, STRENGTHS, seed=0)
    np.testing.assert_allclose(found.matrix("relative"), 1, rtol=1e-9)
    assert list(found.frame["factor"]) == pytest.approx([1, 1, 0.5, 0.5])


def test_one_map_is_measured_against_its_home(
    model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap
):
    found = ood(model, promoting, settings, SITE, STRENGTHS, seed=0)
    assert list(found.frame["fitted_on"]) == ["BASE"] * 3
    assert found.frame["retained"].notna().all()
    assert "retained" in str(found)


def test_a_map_that_does_nothing_to_speak_of_is_not_divided_by(
    model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap
):
    weak = AdditiveMap(promoting.vector / 1e4)
    found = ood(model, {"BASE": weak, "SYS_POS": promoting}, settings, SITE, STRENGTHS, seed=0)
    assert found.frame["relative"].isna().all()
    assert found.frame["steerability"].abs().max() < 0.25
    assert found.frame["correlation"].notna().all()


def test_nonsense_is_refused(model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap):
    with pytest.raises(OptionError, match="at least one setting"):
        ood(model, promoting, {}, SITE, STRENGTHS, seed=0)
    with pytest.raises(OptionError, match="not among"):
        ood(model, {"elsewhere": promoting}, settings, SITE, STRENGTHS, seed=0)
    fewer = with_context(settings["BASE"][:9], 1, seed=0)
    with pytest.raises(OptionError, match="one by one in the same order"):
        ood(model, promoting, {"BASE": settings["BASE"], "fewer": fewer}, SITE, STRENGTHS, seed=0)
    still = dataclasses.replace(promoting, vector=promoting.vector * 0)
    with pytest.raises(EstimateError, match="move nothing"):
        ood(model, {"BASE": promoting, "SYS_POS": still}, settings, SITE, STRENGTHS, seed=0)
    rows = np.random.default_rng(0).normal(size=(2, 40, model.d_model))
    curved = AngularSteering().fit(*promoting.vector.new_tensor(rows))
    with pytest.raises(OptionError, match="along curves"):
        ood(model, {"BASE": promoting, "SYS_POS": curved}, settings, SITE, STRENGTHS, seed=0)


@pytest.mark.parametrize("strengths", [STRENGTHS, (1.0,)])
def test_one_map_that_moves_nothing_has_slopes_of_zero_and_nothing_to_relate_them_to(
    model: LensModel, settings: dict[str, ConceptDataset], promoting: AdditiveMap, strengths: tuple[float, ...]
):
    still = dataclasses.replace(promoting, vector=promoting.vector * 0)
    found = ood(model, still, settings, SITE, strengths, seed=0).frame
    np.testing.assert_allclose(found["steerability"], 0, atol=1e-12)
    assert found[["relative", "retained", "correlation"]].isna().all(axis=None)
    # Control: a small step has slopes that can be ranked.
    weak = dataclasses.replace(promoting, vector=promoting.vector / 1e4)
    assert ood(model, weak, settings, SITE, strengths, seed=0).frame["correlation"].notna().all()

"""Does the next block take steered activations for real ones?"""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from steerlens.activations import AllTokens, Site, extract, planted_concept
from steerlens.concepts import ConceptDataset, Split
from steerlens.errors import EstimateError, OptionError, SiteError
from steerlens.evaluation import next_layer_consistency
from steerlens.evaluation._next_layer import among, neighbour_radii
from steerlens.interventions import steer
from steerlens.maps import MeanShift, random_direction
from steerlens.models import LensModel, load_model

SITE = Site.resid_post(0)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return load_model("planted-linear")


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_concept("planted-linear").split(seed=0)


@pytest.fixture(scope="module")
def shift(model: LensModel, split: Split):
    found = extract(model, split.fit, [SITE])[SITE]
    return MeanShift().fit(found.negative, found.positive)


def test_a_right_map_lands_among_real_rows_and_no_map_does_not(model, split, shift):
    found = next_layer_consistency(model, split.fit, split.test, SITE, shift, seed=0)
    assert found.read_at == Site.resid_post(1)
    assert found.source.value == 0
    assert 0 == found.source.low < found.source.high
    assert found.target.value > 0.8
    still = next_layer_consistency(model, split.fit, split.test, SITE, shift, seed=0, strength=0.0)
    assert still.moved == found.source
    assert found.moved.value > still.moved.value
    assert found.moved.n == len(split.test)
    assert found.moved.n_clusters == len(split.test.groups)
    assert "held-out target" in str(found)


def test_a_random_direction_of_that_length_does_not(model, split, shift):
    away = random_direction(model.d_model, norm=3 * float(shift.vector.norm()), seed=0)
    assert next_layer_consistency(model, split.fit, split.test, SITE, away, seed=0).moved.value == 0


def test_it_is_the_share_within_the_balls_of_real_rows(model, split, shift):
    """Against scikit-learn's neighbours, through steered passes made here."""
    above = Site.resid_post(1)
    real = extract(model, split.fit, [above])[above].positive.double().numpy()
    with steer(model, {SITE: shift}, strength=0.7):
        rows = extract(model, split.test, [above])[above].negative.double().numpy()
    nearest = NearestNeighbors(n_neighbors=4).fit(real)
    radii = nearest.kneighbors(real)[0][:, 3]  # the row itself is its first neighbour
    inside = [(((real - row) ** 2).sum(1) ** 0.5 <= radii).any() for row in rows]
    found = next_layer_consistency(model, split.fit, split.test, SITE, shift, seed=0, strength=0.7, k=3)
    assert found.moved.value == pytest.approx(sum(inside) / len(inside))


def test_balls_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0]])
    assert neighbour_radii(real, 1).tolist() == [1.0, 1.0, 2.0]
    assert neighbour_radii(real, 2).tolist() == [3.0, 2.0, 3.0]
    rows = torch.tensor([[-1.0], [-1.1], [2.5], [5.0], [5.1]])
    assert among(rows, real, neighbour_radii(real, 1)).tolist() == [True, False, True, True, False]


def test_the_block_that_follows_is_read(model, split, shift):
    reference, pairs = split.fit[:40], split.test
    at = {s: next_layer_consistency(model, reference, pairs, s, shift, seed=0).read_at for s in (
        Site.resid_pre(1), Site.resid_post(0, AllTokens()), Site.mlp_out(0))}  # fmt: skip
    assert list(at.values()) == [Site.resid_post(1), Site.resid_post(1, AllTokens()), Site.resid_post(1)]
    with pytest.raises(SiteError, match="No block"):
        next_layer_consistency(model, reference, pairs, Site.resid_post(1), shift, seed=0)


def test_what_cannot_be_measured_is_refused(model, split, shift):
    for reference, pairs, k, error, message in (
        (split.fit, split.test, 0, OptionError, "from 1"),
        (split.fit[:5], split.test, 5, EstimateError, "5 pairs"),
        (split.fit, split.fit, 5, OptionError, "share"),
        (split.fit, few(split.test), 5, EstimateError, "clusters|groups"),
    ):
        with pytest.raises(error, match=message):
            next_layer_consistency(model, reference, pairs, SITE, shift, seed=0, k=k)


def few(pairs: ConceptDataset) -> ConceptDataset:
    return pairs.filter(lambda pair: pair.group in pairs.groups[:3])

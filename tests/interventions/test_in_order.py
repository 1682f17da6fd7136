"""Maps at several layers, each fitted on what those below it leave."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import AllTokens, LastToken, Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import OptionError
from steerlens.interventions import fit_in_order, steer
from steerlens.maps import GaussianTransport, MeanShift, random_direction
from steerlens.models import LensModel, tiny_model

THINGS = (
    "film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river", "road",
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.fixture(scope="module")
def pairs() -> ConceptDataset:
    made = (ContrastivePair(f"The {thing} is", " really good", " not bad", thing) for thing in THINGS)
    return ConceptDataset("made up", tuple(made))


@pytest.mark.parametrize("selector", [LastToken(), AllTokens()], ids=repr)
def test_it_equals_doing_it_by_hand(model: LensModel, pairs: ConceptDataset, selector):
    low, mid, high = Site.resid_post(0, selector), Site.mlp_out(2, selector), Site.resid_post(2, selector)
    method = GaussianTransport(rank=3)
    plan = fit_in_order(model, pairs, [high, low, mid], method)
    assert list(plan) == [low, mid, high]

    target = extract(model, pairs, [low, mid, high])
    first = method.fit(target[low].negative, target[low].positive)
    with steer(model, {low: first}):
        second = method.fit(extract(model, pairs, [mid])[mid].negative, target[mid].positive)
    with steer(model, {low: first, mid: second}):
        third = method.fit(extract(model, pairs, [high])[high].negative, target[high].positive)
    rows = target[high].negative
    for site, by_hand in ((low, first), (mid, second), (high, third)):
        assert torch.equal(plan[site](rows), by_hand(rows))


def test_the_maps_together_arrive_once_where_maps_fitted_at_once_overshoot(model: LensModel, pairs: ConceptDataset):
    sites = [Site.resid_post(layer, AllTokens()) for layer in (1, 2)]
    plain = extract(model, pairs, sites)
    goal = plain[sites[1]].positive.mean(0)
    start = (plain[sites[1]].negative.mean(0) - goal).norm()
    at_once = {s: MeanShift().fit(plain[s].negative, plain[s].positive) for s in sites}
    left = {}
    for name, plan in (("in order", fit_in_order(model, pairs, sites, MeanShift())), ("at once", at_once)):
        with steer(model, plan):
            left[name] = (extract(model, pairs, sites[1:])[sites[1]].negative.mean(0) - goal).norm() / start
    assert left["in order"] < 1e-9
    assert left["at once"] > 0.1


def test_one_site_is_the_plain_fit_and_nothing_stays_on_the_model(model: LensModel, pairs: ConceptDataset):
    site = Site.resid_post(1)
    found = extract(model, pairs, [site])[site]
    plan = fit_in_order(model, pairs, [site], MeanShift())
    rows = found.negative
    assert_close(plan[site](rows), MeanShift().fit(rows, found.positive)(rows), rtol=0, atol=0)
    assert not model.is_hooked


def test_what_cannot_be_ordered_is_refused(model: LensModel, pairs: ConceptDataset):
    with pytest.raises(OptionError, match="at least one site"):
        fit_in_order(model, pairs, [], MeanShift())
    with pytest.raises(OptionError, match="no known place"):
        fit_in_order(model, pairs, [Site("blocks.1.ln1.hook_in")], MeanShift())
    other = {Site.resid_post(0): random_direction(model.d_model, norm=1.0, seed=0)}
    with steer(model, other), pytest.raises(OptionError, match="hooks already"):
        fit_in_order(model, pairs, [Site.resid_post(1)], MeanShift())

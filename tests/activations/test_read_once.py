"""What was read once is given out for parts as extraction would give it, without a pass through the model."""

import pytest
import torch

import steerlens.activations._read_once as module
from steerlens.activations import ReadOnce, Site, extract
from steerlens.concepts import load_concept
from steerlens.models import LensModel, load_model

PAIRS = load_concept("sentiment")
SITES = (Site.resid_post(0), Site.resid_post(1))


@pytest.fixture(scope="module")
def tiny() -> LensModel:
    return load_model("tiny-llama")


@pytest.fixture(scope="module")
def once(tiny: LensModel) -> ReadOnce:
    return ReadOnce.of(tiny, PAIRS, SITES)


def test_a_part_is_what_extraction_of_the_part_gives(tiny: LensModel, once: ReadOnce, monkeypatch: pytest.MonkeyPatch):
    part = PAIRS.split(seed=0).test[::-1]
    assert [p.group for p in part] != sorted(p.group for p in part)  # not in the order of the whole
    expected = extract(tiny, part, SITES)
    monkeypatch.setattr(module, "extract", lambda *_: pytest.fail("read again"))
    found = once(tiny, part, SITES[::-1])
    assert tuple(found) == SITES[::-1]
    for site in SITES:
        assert torch.allclose(found[site].positive, expected[site].positive, atol=1e-5)
        assert torch.allclose(found[site].negative, expected[site].negative, atol=1e-5)
        assert (found[site].groups, found[site].source) == (expected[site].groups, expected[site].source)
        assert not torch.allclose(found[site].positive, found[site].negative, atol=1e-2)


@pytest.mark.parametrize("what", ["another site", "other pairs", "another model"])
def test_what_it_has_not_read_is_extracted(what: str, tiny: LensModel, once: ReadOnce):
    model = load_model("tiny-gpt2") if what == "another model" else tiny
    pairs = load_concept("truth")[:12] if what == "other pairs" else PAIRS[:12]
    sites = (SITES[0], Site("blocks.0.hook_resid_pre", SITES[0].tokens)) if what == "another site" else SITES
    found, expected = once(model, pairs, sites), extract(model, pairs, sites)
    for site in sites:
        assert torch.allclose(found[site].positive, expected[site].positive, atol=1e-5)
        assert found[site].source == expected[site].source

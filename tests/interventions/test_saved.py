"""Maps on disk as interventions."""

from pathlib import Path

import pytest

from steerlens.activations import (
    AllTokens,
    AnswerToken,
    FromIndex,
    LastToken,
    PromptEnd,
    PromptTokens,
    Site,
    SpanTokens,
)
from steerlens.errors import ArtefactError, SiteError
from steerlens.interventions import generate, load_intervention
from steerlens.maps import random_direction, save_map
from steerlens.models import LensModel, tiny_model


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


def saved(model: LensModel, folder: Path, **facts: str) -> Path:
    shift = random_direction(model.d_model, norm=9.0, seed=0)
    return save_map(shift, folder, provenance={"model": model.name, **facts})


@pytest.mark.parametrize(
    "tokens", [LastToken(), AllTokens(), PromptTokens(), PromptEnd(), AnswerToken(), FromIndex(3), SpanTokens(1, 4)]
)
def test_a_map_comes_back_at_its_site(model: LensModel, tmp_path: Path, tokens):
    site = Site.resid_post(2, tokens)
    folder = saved(model, tmp_path / "map", site=site.hook_name, tokens=repr(site.tokens))
    found = load_intervention(model, folder, strength=2.0)
    assert list(found.plan) == [site]
    assert found.strength == 2.0


def test_it_steers(model: LensModel, tmp_path: Path):
    site = Site.resid_post(2, AllTokens())
    folder = saved(model, tmp_path / "map", site=site.hook_name, tokens=repr(site.tokens))
    arms = [load_intervention(model, folder, strength=s) for s in (0.0, 3.0)]
    plain, steered = generate(model, ["The film was"], arms, max_new_tokens=8)
    assert plain != steered
    assert plain == [model.generate("The film was", max_new_tokens=8)]


@pytest.mark.parametrize(
    ("facts", "error", "message"),
    [
        ({}, ArtefactError, "does not say where"),
        ({"site": "blocks.2.hook_resid_post"}, ArtefactError, "needs 'site' and 'tokens'"),
        ({"site": "blocks.9.hook_resid_post", "tokens": "LastToken()"}, SiteError, "blocks.9"),
        ({"site": "blocks.2.hook_resid_post", "tokens": "Nowhere()"}, ArtefactError, "no selector"),
        ({"site": "blocks.2.hook_resid_post", "tokens": "__import__('os').getcwd()"}, ArtefactError, "no selector"),
        ({"site": "blocks.2.hook_resid_post", "tokens": "FromIndex(start=print(1))"}, ArtefactError, "no selector"),
        ({"site": "blocks.2.hook_resid_post", "tokens": "FromIndex("}, ArtefactError, "no selector"),
        ({"site": "blocks.2.hook_resid_post", "tokens": "FromIndex(begin=1)"}, ArtefactError, "no selector"),
    ],
)
def test_what_does_not_fit_is_refused(model: LensModel, tmp_path: Path, facts, error, message: str):
    with pytest.raises(error, match=message):
        load_intervention(model, saved(model, tmp_path / "map", **facts), strength=1.0)


def test_a_map_of_another_model_is_refused(model: LensModel, tmp_path: Path):
    folder = saved(model, tmp_path / "map", site="blocks.2.hook_resid_post", tokens="LastToken()")
    with pytest.raises(ArtefactError, match="fitted on 'tiny-llama'"):
        load_intervention(tiny_model("gpt2"), folder, strength=1.0)

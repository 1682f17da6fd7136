"""Steered generation of many rows: the text of each row is the one it has alone."""

import pytest

from steerlens.activations import AllTokens, LastToken, Site
from steerlens.errors import OptionError
from steerlens.interventions import Intervention, generate, grid, steer
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model

PROMPTS = ["The film was", "A considerably longer text about nothing", "Two dogs"]


@pytest.fixture(params=("gpt2", "llama", "gemma3", "qwen2"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.fixture
def many(model: LensModel) -> list[Intervention]:
    shifts = [random_direction(model.d_model, norm=4.0, seed=i) for i in range(2)]
    return [
        Intervention({}, 0.0),
        *grid([{Site.resid_post(1, LastToken()): shifts[0]}], (0.5, 1.0, -1.0)),
        Intervention({Site.resid_pre(2, AllTokens()): shifts[1], Site.resid_mid(1): shifts[0]}, 1.5),
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_row_is_what_it_is_alone(model: LensModel, many: list[Intervention], temperature: float):
    options = {"max_new_tokens": 7, "temperature": temperature, "seed": 3}
    together = generate(model, PROMPTS, many, **options)
    for one, texts in zip(many, together, strict=True):
        with steer(model, one.plan, strength=one.strength):
            assert model.generate(PROMPTS, **options) == texts
    assert len({texts[0] for texts in together}) > 1
    assert not model.is_hooked


def test_a_sample_does_not_depend_on_its_neighbours(model: LensModel, many: list[Intervention]):
    options = {"max_new_tokens": 7, "temperature": 1.0, "seed": 3}
    assert generate(model, PROMPTS[:1], many[1:2], **options)[0][0] == generate(model, PROMPTS, many, **options)[1][0]
    assert generate(model, PROMPTS, many, **options) != generate(model, PROMPTS, many, **{**options, "seed": 4})


def test_ten_strengths_of_one_prompt_cost_one_generation(model: LensModel):
    rows = grid([{Site.resid_post(1): random_direction(model.d_model, norm=4.0, seed=0)}], range(10))
    passes = []
    handle = model.bridge.original_model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        generate(model, PROMPTS[:1], rows, max_new_tokens=5)
    finally:
        handle.remove()
    assert len(passes) <= 5


def test_prompts_must_be_a_list_with_something_in_it(model: LensModel):
    for prompts in ("The film was", []):
        with pytest.raises(OptionError, match="non-empty list"):
            generate(model, prompts, [Intervention({}, 0.0)])

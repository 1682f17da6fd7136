"""Generation that ends before a string."""

from itertools import chain

import pytest

from steerlens.activations import AllTokens, Site
from steerlens.errors import OptionError
from steerlens.interventions import Intervention, generate
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model
from steerlens.models._generate import until

PROMPTS = ["The film was", "So it goes on and", "x"]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def test_a_text_ends_before_the_first_stop_and_others_go_on(model: LensModel):
    whole = model.generate(PROMPTS, max_new_tokens=16)
    first = whole[0][len(PROMPTS[0]) :]
    stops = ["no such thing", first[3:6], first[1:3]]  # two are in the text, the later one in front
    assert all(stops)
    stopped = model.generate(PROMPTS, max_new_tokens=16, stop=stops)
    for prompt, full, cut in zip(PROMPTS, whole, stopped, strict=True):
        added = full[len(prompt) :]
        assert cut == prompt + added[: min((added.find(s) for s in stops if s in added), default=len(added))]
    assert stopped[0] == PROMPTS[0] + first[: first.find(stops[2])]


def test_a_stop_in_the_prompt_stops_nothing(model: LensModel):
    assert model.generate(PROMPTS[0], max_new_tokens=6, stop=["film"]) == model.generate(PROMPTS[0], max_new_tokens=6)


def test_no_token_is_computed_behind_the_last_stop(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    steps: list[int] = []
    step = LensModel._step
    monkeypatch.setattr(LensModel, "_step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    whole = str(model.generate(PROMPTS[0], max_new_tokens=30))
    every = len(steps)
    steps.clear()
    model.generate(PROMPTS[0], max_new_tokens=30, stop=[whole[len(PROMPTS[0]) :][:2]])
    assert len(steps) < every / 3


def test_every_intervention_stops_on_its_own(model: LensModel):
    shift = random_direction(model.d_model, norm=3.0, seed=1)
    arms = [Intervention({Site.resid_post(2, AllTokens()): shift}, s) for s in (0.0, 1.0)]
    whole = generate(model, PROMPTS, arms, max_new_tokens=12)
    # The longest text that steering gives: a shift may also end one at once.
    stop = max((t[len(p) :] for p, t in zip(PROMPTS, whole[1], strict=True)), key=len)[1:3]
    assert stop
    stopped = generate(model, PROMPTS, arms, max_new_tokens=12, stop=[stop])
    for full, cut in zip(chain(*whole), chain(*stopped), strict=True):
        prompt = next(p for p in PROMPTS if full.startswith(p))
        added = full[len(prompt) :]
        assert cut == prompt + (added[: added.find(stop)] if stop in added else added)
    assert stopped != whole


def test_a_stop_must_be_a_list_of_texts(model: LensModel):
    for stop in (".", ["a", ""]):
        with pytest.raises(OptionError, match="non-empty strings"):
            model.generate("The film", max_new_tokens=2, stop=stop)


def test_of_several_stops_in_a_text_the_earliest_counts():
    assert until("one. two; three", [";", ".", "four"]) == "one"
    assert until("one. two; three", ["four"]) == "one. two; three"

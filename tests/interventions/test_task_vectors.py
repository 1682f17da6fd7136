"""Task vectors replace the state at the prompt's end, or add to it, and their block is chosen on other prompts."""

import pytest
import torch
from in_context_words import prompts
from torch import Tensor
from torch.testing import assert_close

from steerlens.activations import LastToken, PromptEnd, Site
from steerlens.concepts import InContextTask, task_prompts
from steerlens.errors import OptionError
from steerlens.interventions import (
    Intervention,
    TaskVector,
    answer_scores,
    answered_right,
    mean_residuals,
    steer,
    task_vector_search,
)
from steerlens.maps import AdditiveMap, ConstantMap
from steerlens.models import LensModel, TokenBatch, load_model, tiny_model
from steerlens.numerics import cluster_share
from steerlens.testing import MapLaws


class TestConstantMap(MapLaws):
    @pytest.fixture
    def steering_map(self) -> ConstantMap:
        return ConstantMap(torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64))

    def test_strength_one_replaces_and_one_half_goes_half_way(self, steering_map: ConstantMap, rows: Tensor) -> None:
        assert_close(steering_map(rows), steering_map.point.expand_as(rows))
        assert_close(steering_map(rows, strength=0.5), (rows + steering_map.point) / 2)
        assert steering_map.reverse is None


@pytest.fixture(params=("gpt2", "llama"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def test_replacing_the_last_block_s_output_gives_the_other_prompt_s_answer(model: LensModel):
    """Nothing above the last block reads other tokens, so the state alone decides."""
    given = prompts(3)[0]
    state = mean_residuals(model, [given])[-1]
    wanted = model.logits(given.prompt)[0, -1]
    others = prompts(0)[:4]
    with steer(model, TaskVector(state, model.n_layers - 1).plan):
        for other in others:
            assert_close(model.logits(other.prompt)[0, -1], wanted, rtol=0, atol=1e-9)
    with steer(model, TaskVector(state, model.n_layers - 1, "add").plan):
        assert (model.logits(others[0].prompt)[0, -1] - wanted).abs().max() > 0.01
    with steer(model, TaskVector(mean_residuals(model, [given])[0], 0).plan):
        low = [model.logits(other.prompt)[0, -1] for other in others]
    assert (low[0] - low[1]).abs().max() > 0.01, "put in low, the question is still read from the other tokens"


def test_the_two_modes_are_a_constant_map_and_an_additive_one_at_the_prompt_s_end():
    state = torch.arange(4, dtype=torch.float64)
    ((site, acting),) = TaskVector(state, 5).plan.items()
    assert site == Site.resid_post(5, PromptEnd())
    assert isinstance(acting, ConstantMap)
    assert_close(acting.point, state)
    added = TaskVector(state, 5, "add").plan[site]
    assert isinstance(added, AdditiveMap)
    assert_close(added.vector, state)
    with pytest.raises(OptionError, match="'replace' or 'add', not 'swap'"):
        TaskVector(state, 5, "swap")


def test_what_follows_the_prompt_keeps_its_own_state(model: LensModel):
    """With `LastToken` every later token would be replaced, too, and all would predict the same."""
    ids = model.encode("Q: cat\nA: the cats and")
    batch = TokenBatch.from_rows([ids], pad_id=model.pad_id, n_prompt=[6])
    state = mean_residuals(model, prompts(2))[-1]

    def predicted(plan) -> Tensor:
        with steer(model, plan):
            return model.logits(batch)[0]

    plain = model.logits(batch)[0]
    changed = (predicted(TaskVector(state, model.n_layers - 1).plan) - plain).abs().amax(dim=-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [5]
    onward = predicted({Site.resid_post(model.n_layers - 1, LastToken()): ConstantMap(state)})
    assert_close(onward[5:], onward[5].expand_as(onward[5:]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ["replace", "add"])
def test_the_search_tries_every_block_as_steering_would(model: LensModel, mode: str):
    states = mean_residuals(model, prompts(2))
    dev, test = prompts(0, which=slice(0, 5)), prompts(0, which=slice(5, 12))
    found = task_vector_search(model, states, dev=dev, test=test, mode=mode, seed=0)
    frame = found.to_frame()
    assert frame.layer.tolist() == list(range(model.n_layers))
    for layer, log_prob in zip(frame.layer, frame.log_prob, strict=True):
        with steer(model, TaskVector(states[layer], layer, mode).plan):
            total = 0.0
            for p in dev:
                whole, n = model.encode(p.prompt + p.answer), len(model.encode(p.prompt))
                total += model.logits(p.prompt)[0, -1].log_softmax(-1)[whole[n]].item()
        assert log_prob == pytest.approx(total / len(dev), abs=1e-9)
    assert frame.log_prob.nunique() == model.n_layers
    (site,) = found.chosen.intervention.plan
    assert site.layer == found.chosen.settings["layer"] == frame.layer[frame.chosen].item()


def test_states_of_another_model_are_refused():
    model = tiny_model("gpt2")
    dev, test = prompts(0, which=slice(0, 5)), prompts(0, which=slice(5, 12))
    states = torch.zeros(3, model.d_model, dtype=torch.float64)
    with pytest.raises(OptionError, match=r"\(4, 48\).*got \(3, 48\)"):
        task_vector_search(model, states, dev=dev, test=test, mode="replace", seed=0)


NOUNS = """
apple bird chair table house river mountain flower garden window door book letter pencil paper teacher student
doctor farmer king queen prince soldier sailor horse dog cat cow pig duck frog bear tiger lion snake turtle
spider ant bee car truck train boat ship plane road street bridge tower castle village cloud star moon planet
stone
"""


@pytest.mark.real
@pytest.mark.slow
def test_on_the_real_model_a_task_vector_pluralises_without_examples():
    model = load_model("smollm2-135m-instruct")
    task = InContextTask("plural", tuple((w, w + "s") for w in NOUNS.split()))
    fit, dev, test = task.split(seed=0, fractions=(0.3, 0.2, 0.5))
    zero_dev, zero_test = (task_prompts(fit, part, format="qa", n_shots=0, seed=0) for part in (dev, test))
    shown = answered_right(model, task_prompts(fit, fit, format="qa", n_shots=8, seed=0), at_least=10)
    found = task_vector_search(
        model, mean_residuals(model, shown), dev=zero_dev, test=zero_test, mode="replace", seed=0
    )
    assert found.unsteered.value < 0.05
    assert found.test.low > 0.6
    assert 18 <= found.chosen.settings["layer"] <= 23
    # The control: states of prompts without examples, at the same block.
    layer = int(found.chosen.settings["layer"])
    bare = task_prompts(fit, fit, format="qa", n_shots=0, seed=0)
    control = TaskVector(mean_residuals(model, bare)[layer], layer)
    right = answer_scores(model, zero_test, [Intervention(control.plan)]).right[0].double().numpy()
    assert cluster_share(right, [p.group for p in zero_test], seed=0).high < 0.3

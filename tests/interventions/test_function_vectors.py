"""Function vectors are sums of what heads write, added where they say, and chosen on other prompts than tested on."""

import dataclasses

import pytest
import torch
from in_context_words import TASK, prompts
from torch import Tensor
from torch.testing import assert_close

from steerlens.activations import LastToken, Site
from steerlens.errors import EstimateError, OptionError
from steerlens.interventions import (
    Candidate,
    FunctionVector,
    HeadEffects,
    Intervention,
    answer_scores,
    function_vector,
    function_vector_search,
    head_vectors,
    layer_average_vector,
    mean_head_outputs,
    mean_residuals,
    random_head_vector,
    search_answers,
    steer,
)
from steerlens.interventions._function_vectors import usual_heads
from steerlens.maps import AdditiveMap
from steerlens.models import LensModel, tiny_model

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")


@pytest.fixture(params=FAMILIES, scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def effects_of(average: Tensor) -> HeadEffects:
    return HeadEffects(average[..., None], average[..., None], torch.zeros(1, dtype=torch.float64))


def random_effects(model: LensModel) -> HeadEffects:
    generator = torch.Generator().manual_seed(0)
    return effects_of(torch.randn(model.n_layers, model.n_heads, generator=generator, dtype=torch.float64))


def test_what_heads_write_adds_up_to_what_attention_adds_to_the_stream_less_its_bias(model: LensModel):
    """Gemma's norm after attention included: with one prompt the held scale is the prompt's own."""
    one = prompts(2)[:1]
    written = head_vectors(model, mean_head_outputs(model, one)).sum(dim=1)
    _, cache = model.bridge.run_with_cache(torch.tensor([model.encode(one[0].prompt)]))
    for layer, block in enumerate(model.bridge.blocks):
        normed = model.name == "tiny-gemma3"
        out = cache[f"blocks.{layer}.{'ln1_post' if normed else 'attn'}.hook_out"][0, -1]
        bias = getattr(block.attn, "b_O", None)
        assert (bias is not None) == (model.name == "tiny-gpt2")
        if bias is not None:
            assert (out - written[layer]).abs().max() > 0.01
            out = out - bias
        # The norm is computed in float32.
        assert_close(written[layer], out.detach(), rtol=0, atol=1e-6 if normed else 1e-10)


def test_a_norm_after_attention_is_linear_in_heads_once_its_scale_is_held():
    """Another mean of one head changes the scale, and so every head: the parts of one norm, not norms of the parts."""
    model = tiny_model("gemma3", dtype="float64")
    means = mean_head_outputs(model, prompts(2)[:1])
    written = head_vectors(model, means)
    scale = model.bridge.blocks[0].ln1_post.original_component
    raw = means[0, 1] @ model.bridge.blocks[0].attn.W_O[1].detach()
    total = torch.einsum("hk,hkd->d", means[0], model.bridge.blocks[0].attn.W_O.detach())
    by_hand = raw * (1 + scale.weight.detach()) / (total.square().mean() + scale.eps).sqrt()
    assert_close(written[0, 1], by_hand, rtol=0, atol=1e-6)
    means[0, 0] *= 3
    assert (head_vectors(model, means)[0, 1] - written[0, 1]).abs().max() > 1e-3


def test_a_function_vector_is_the_sum_over_its_heads():
    """By Hugging Face's own matrices, which GPT-2 stores the other way round."""
    for family in ("gpt2", "llama"):
        model = tiny_model(family, dtype="float64")
        mean_heads = mean_head_outputs(model, prompts(2))
        average = torch.zeros(4, 6, dtype=torch.float64)
        average[3, 1], average[1, 5] = 0.2, 0.1
        found = function_vector(model, effects_of(average), mean_heads, n_heads=2)
        assert found.heads == ((3, 1), (1, 5))
        total = torch.zeros(model.d_model, dtype=torch.float64)
        for layer, head in found.heads:
            of_head = slice(head * model.d_head, (head + 1) * model.d_head)
            weight = model.bridge.blocks[layer].attn.o.original_component.weight.detach()
            rows = weight[of_head] if family == "gpt2" else weight[:, of_head].T
            total += mean_heads[layer, head] @ rows
        assert_close(found.vector, total, rtol=0, atol=1e-12)


def test_by_default_one_head_in_fifty_but_ten_are_added_a_third_of_the_way_up(model: LensModel):
    found = function_vector(model, random_effects(model), mean_head_outputs(model, prompts(1)))
    assert found.layer == 1, "of 4"
    assert found.heads == random_effects(model).top(10)
    published = {28 * 16: 10, 32 * 32: 20, 80 * 64: 100}
    for n_all, wanted in published.items():
        assert usual_heads(n_all) == pytest.approx(wanted, rel=0.03)
    assert usual_heads(6) == 6


def test_it_is_added_at_the_last_token_after_its_block(model: LensModel):
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = FunctionVector(vector, layer=2)
    ids = torch.tensor([model.encode(prompts(1)[0].prompt)])

    def add(x: Tensor, hook: object) -> Tensor:
        x = x.clone()
        x[:, -1] += 2 * vector
        return x

    with torch.no_grad():
        plain = model.bridge(ids)
        with model.bridge.hooks(fwd_hooks=[("blocks.2.hook_resid_post", add)]):
            by_hand = model.bridge(ids)
        with steer(model, found.plan, strength=2.0):
            assert_close(model.bridge(ids), by_hand, rtol=0, atol=1e-10)
    assert (plain - by_hand).abs().max() > 0.01
    assert list(found.plan) == [Site.resid_post(2, LastToken())]


def test_random_heads_are_others_as_many_and_decided_by_the_seed():
    model = tiny_model("llama", dtype="float64")
    mean_heads = mean_head_outputs(model, prompts(1))
    fv = function_vector(model, random_effects(model), mean_heads, n_heads=5, layer=2)
    drawn = [random_head_vector(model, mean_heads, fv, seed=s) for s in range(30)]
    for one in drawn:
        assert (len(set(one.heads)), one.layer) == (5, 2)
        assert not set(one.heads) & set(fv.heads)
        assert_close(one.vector, torch.stack([head_vectors(model, mean_heads)[h] for h in one.heads]).sum(dim=0))
    assert len({h for one in drawn for h in one.heads}) == 24 - 5, "every other head comes up"
    assert drawn[3].heads == random_head_vector(model, mean_heads, fv, seed=3).heads
    assert drawn[3].heads != drawn[4].heads
    many = function_vector(model, random_effects(model), mean_heads, n_heads=13)
    with pytest.raises(OptionError, match="13 other heads are wanted, but the model has 11"):
        random_head_vector(model, mean_heads, many, seed=0)


def test_a_matched_vector_keeps_its_direction():
    a, b = FunctionVector(torch.tensor([3.0, 4.0]).double(), 1), FunctionVector(torch.tensor([0.0, 10.0]).double(), 2)
    found = a.as_long_as(b)
    assert_close(found.vector, torch.tensor([6.0, 8.0]).double())
    assert found.layer == 1


def test_the_layer_average_is_the_mean_stream_at_its_block():
    model = tiny_model("gpt2", dtype="float64")
    states = mean_residuals(model, prompts(2))
    found = layer_average_vector(states, layer=3)
    assert_close(found.vector, states[3])
    assert (found.layer, found.heads) == (3, ())
    for wrong in (-1, 4):
        with pytest.raises(OptionError, match="Blocks are 0 to 3"):
            layer_average_vector(states, layer=wrong)


def test_every_cell_of_the_search_is_what_steering_by_hand_gives():
    model = tiny_model("llama", dtype="float64")
    mean_heads, effects = mean_head_outputs(model, prompts(2)), random_effects(model)
    dev, test = prompts(0, which=slice(0, 6)), prompts(0, which=slice(6, 12))
    found = function_vector_search(
        model, effects, mean_heads, dev=dev, test=test, n_heads=(1, 4), strengths=(1, 8.0), layers=(0, 3), seed=0
    )
    frame = found.to_frame()
    assert list(frame.columns) == ["n_heads", "layer", "strength", "right", "log_prob", "chosen"]
    assert len(frame) == 8
    assert frame.chosen.sum() == 1
    for row in frame.itertuples():
        fv = function_vector(model, effects, mean_heads, n_heads=int(row.n_heads), layer=int(row.layer))
        with steer(model, fv.plan, strength=row.strength):
            total = 0.0
            for p in dev:
                whole, n = model.encode(p.prompt + p.answer), len(model.encode(p.prompt))
                total += model.logits(p.prompt)[0, -1].log_softmax(-1)[whole[n]].item()
        assert row.log_prob == pytest.approx(total / len(dev), abs=1e-9), row
    assert frame.log_prob.nunique() == 8, "every setting does something else"


def pushes(model: LensModel) -> tuple[list[Candidate], str]:
    """Candidates at the last block that make every answer begin with the letters a, b, c, at two strengths."""
    weights = model.bridge.W_U.detach()
    found = []
    for letter in "abc":
        token = model.encode(f"x {letter}", bos=False)[-1]
        plan = {Site.resid_post(3): AdditiveMap(weights[:, token].double())}
        found += [Candidate({"letter": ord(letter), "strength": s}, Intervention(plan, s)) for s in (0.0, 50.0)]
    return found, "abc"


def lettered(letters: str, which: slice):
    return tuple(
        dataclasses.replace(p, answer=f" {letter}") for p, letter in zip(prompts(0, which=which), letters, strict=True)
    )


def test_the_best_on_development_prompts_is_chosen_and_tried_on_the_others():
    model = tiny_model("gpt2", dtype="float64")
    candidates, _ = pushes(model)
    dev, test = lettered("bbbac", slice(0, 5)), lettered("bbaccca", slice(5, 12))
    found = search_answers(model, candidates, dev, test, seed=0)
    plain = answer_scores(model, (*dev, *test)).right
    assert not plain.any(), "unsteered no answer is right"
    assert dict(found.chosen.settings) == {"letter": ord("b"), "strength": 50.0}
    assert found.right.tolist() == [0, 0.2, 0, 0.6, 0, 0.2]
    assert found.test.value == pytest.approx(2 / 7), "c would have been better there, but is not known to be"
    assert (found.unsteered.value, found.dev_unsteered) == (0, 0)
    assert (found.change.gained, found.change.lost) == (2, 0)
    assert found.test.n == 7
    assert "letter 98, strength 50.0 of 6 candidates: right 0.286" in str(found)


def test_of_equally_many_right_answers_the_likelier_ones_decide():
    model = tiny_model("gpt2", dtype="float64")
    dev, test = lettered("bbbac", slice(0, 5)), lettered("bbaccca", slice(5, 12))
    weak = [Candidate({"i": i}, Intervention(c.intervention.plan, s)) for i, (c, s) in enumerate(
        zip(pushes(model)[0][2:4], (1e-3, 2e-3), strict=True)
    )]  # fmt: skip
    for order in (weak, weak[::-1]):
        found = search_answers(model, order, dev, test, seed=0)
        assert found.right.tolist() == [0, 0]
        assert found.best == int(found.log_prob.argmax())
        assert dict(found.chosen.settings) == {"i": 1}


def test_a_search_that_would_fool_us_is_refused():
    model = tiny_model("gpt2", dtype="float64")
    candidates, _ = pushes(model)
    dev = lettered("bbbac", slice(0, 5))
    with pytest.raises(OptionError, match=r"share 1 groups, such as 'hat/hats'"):
        search_answers(model, candidates, dev, lettered("abcabcab", slice(4, 12)), seed=0)
    with pytest.raises(OptionError, match="at least one candidate"):
        search_answers(model, [], dev, lettered("abcabca", slice(5, 12)), seed=0)
    with pytest.raises(EstimateError):
        search_answers(model, candidates, dev, lettered("abc", slice(5, 8)), seed=0)
    assert len(TASK) == 12

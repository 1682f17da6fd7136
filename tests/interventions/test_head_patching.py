"""Head patching equals one hooked pass for each head, in float64, also where heads share keys and values."""

import dataclasses
import logging

import pytest
import torch
from in_context_words import prompts
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import InContextTask, TaskPrompt, task_prompts
from steerlens.errors import ConceptError, OptionError
from steerlens.interventions import (
    HeadEffects,
    _replay,
    answer_rows,
    answer_scores,
    answered_right,
    check_first_tokens,
    head_effects,
    mean_head_outputs,
    mean_residuals,
)
from steerlens.models import LensModel, tiny_model

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")


@pytest.fixture(params=FAMILIES, scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def ids_of(model: LensModel, prompt: TaskPrompt) -> tuple[Tensor, int]:
    """Ids of a prompt, and the first token of its answer."""
    whole, alone = model.encode(prompt.prompt + prompt.answer), model.encode(prompt.prompt)
    return torch.tensor([alone]), whole[len(alone)]


def one_head_at_a_time(model: LensModel, some: tuple[TaskPrompt, ...], mean_heads: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities with each head patched, and without, by TransformerLens's hooks in whole passes."""
    patched = torch.zeros(model.n_layers, model.n_heads, len(some), dtype=torch.float64)
    plain = torch.zeros(len(some), dtype=torch.float64)
    for p, prompt in enumerate(some):
        ids, answer = ids_of(model, prompt)
        with torch.no_grad():
            plain[p] = model.bridge(ids)[0, -1].log_softmax(-1)[answer]
            for layer in range(model.n_layers):
                for head in range(model.n_heads):

                    def patch(z: Tensor, hook: object, at: tuple[int, int] = (layer, head)) -> Tensor:
                        z = z.clone()
                        z[:, -1, at[1]] = mean_heads[at]
                        return z

                    with model.bridge.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", patch)]):
                        patched[layer, head, p] = model.bridge(ids)[0, -1].log_softmax(-1)[answer]
    return patched, plain


def test_all_heads_at_once_are_what_one_head_at_a_time_is(model: LensModel):
    mean_heads = mean_head_outputs(model, prompts(3))
    some = prompts(3, shuffled=True)[:3]
    found = head_effects(model, some, mean_heads)
    patched, plain = one_head_at_a_time(model, some, mean_heads)
    assert_close(found.base_log_prob, plain, rtol=0, atol=1e-10)
    assert_close(found.log_prob, patched - plain, rtol=0, atol=1e-10)
    assert_close(found.prob, patched.exp() - plain.exp(), rtol=0, atol=1e-10)
    assert found.log_prob.abs().amax(dim=(1, 2)).min() > 1e-3, "in every block some head matters"
    assert_close(found.average, found.prob.mean(dim=2))


def test_a_head_s_own_output_changes_nothing(model: LensModel):
    one = prompts(3)[:1]
    assert head_effects(model, one, mean_head_outputs(model, one)).log_prob.abs().max() < 1e-12
    other = head_effects(model, one, mean_head_outputs(model, prompts(3)[1:2]))
    assert other.log_prob.abs().max() > 1e-3


def test_means_are_those_of_single_prompts(model: LensModel):
    some = prompts(2) + prompts(0)[:5]  # of unequal length
    heads, stream = [], []
    for prompt in some:
        _, cache = model.bridge.run_with_cache(ids_of(model, prompt)[0])
        heads.append(torch.stack([cache[f"blocks.{i}.attn.hook_z"][0, -1] for i in range(model.n_layers)]))
        stream.append(torch.stack([cache[f"blocks.{i}.hook_resid_post"][0, -1] for i in range(model.n_layers)]))
    found = mean_head_outputs(model, some)
    assert found.shape == (model.n_layers, model.n_heads, model.d_head), "a head for every query head"
    assert_close(found, torch.stack(heads).mean(dim=0), rtol=0, atol=1e-10)
    assert_close(mean_residuals(model, some), torch.stack(stream).mean(dim=0), rtol=0, atol=1e-10)
    assert (heads[0] - found).abs().max() > 0.01, "prompts differ"


def test_small_batches_make_no_difference(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    from steerlens.interventions import _prompt_means

    some, mean_heads = prompts(2, shuffled=True)[:4], mean_head_outputs(model, prompts(2))
    whole = head_effects(model, some, mean_heads)
    monkeypatch.setattr(_replay, "columns_that_fit", lambda _: 5)
    monkeypatch.setattr(_prompt_means, "BATCH_TOKENS", 1)
    assert_close(mean_head_outputs(model, prompts(2)), mean_heads, rtol=0, atol=1e-10)
    assert_close(head_effects(model, some, mean_heads).log_prob, whole.log_prob, rtol=0, atol=1e-10)


def test_answer_scores_are_the_model_s_own(model: LensModel):
    some = prompts(1)
    found = answer_scores(model, some)
    for p, prompt in enumerate(some):
        ids, answer = ids_of(model, prompt)
        logits = model.bridge(ids)[0, -1].detach()
        assert found.log_prob[0, p].item() == pytest.approx(logits.log_softmax(-1)[answer].item(), abs=1e-10)
        assert found.right[0, p].item() == (logits.argmax().item() == answer)


def likeliest_answers(model: LensModel) -> tuple[TaskPrompt, ...]:
    """Prompts with answers that are right by construction, where the likeliest token is a text of its own."""
    found = []
    for prompt in prompts(1) + prompts(2):
        text = model.tokenizer.decode([int(model.logits(prompt.prompt)[0, -1].argmax())])
        made = dataclasses.replace(prompt, answer=text)
        if model.encode(prompt.prompt + text)[:-1] == model.encode(prompt.prompt):
            found.append(made)
    return tuple(found)


def test_only_prompts_that_are_answered_right_are_kept():
    model = tiny_model("llama", dtype="float64")
    right = likeliest_answers(model)
    assert len(right) >= 2
    mixed = (*prompts(1)[:3], *right)
    wanted = tuple(p for p, yes in zip(mixed, answer_scores(model, mixed).right[0].tolist(), strict=True) if yes)
    assert {id(p) for p in right} <= {id(p) for p in wanted}
    assert answered_right(model, mixed, at_least=len(right)) == wanted
    with pytest.raises(OptionError, match=f"answers {len(wanted)} of {len(mixed)} prompts right.*at least 99"):
        answered_right(model, mixed, at_least=99)


def test_the_top_heads_come_in_order():
    average = torch.tensor([[0.1, 0.4], [-0.9, 0.3], [0.2, 0.2]], dtype=torch.float64)
    effects = HeadEffects(average[..., None], average[..., None], torch.zeros(1, dtype=torch.float64))
    assert effects.top(4) == ((0, 1), (1, 1), (2, 0), (2, 1))
    assert effects.top(6)[-1] == (1, 0), "a harmful head is last, however large its effect"
    for wrong in (0, 7):
        with pytest.raises(OptionError, match="6 heads"):
            effects.top(wrong)


def test_means_of_another_model_are_refused():
    model = tiny_model("gpt2")
    with pytest.raises(OptionError, match=r"\(4, 6, 8\).*got \(4, 5, 8\)"):
        head_effects(model, prompts(2), torch.zeros(4, 5, 8, dtype=torch.float64))
    for work in (lambda: answer_scores(model, ()), lambda: mean_head_outputs(model, ())):
        with pytest.raises(OptionError, match="at least one"):
            work()


def test_prompts_that_do_not_end_where_the_answer_begins_are_refused():
    model = tiny_model("gpt2")
    merged = [dataclasses.replace(p, prompt=p.prompt + " ", answer="the") for p in prompts(1)]
    for refuse in (answer_scores, answer_rows, check_first_tokens):
        with pytest.raises(ConceptError, match="merges the end"):
            refuse(model, merged)


def test_answers_that_begin_alike_are_refused():
    model = tiny_model("gpt2")
    alike = [dataclasses.replace(p, answer="\n" + p.output) for p in prompts(1)]
    same = [dataclasses.replace(p, answer="\nsame") for p in prompts(1)]
    for refuse in (answer_scores, check_first_tokens):
        with pytest.raises(ConceptError, match="does not tell them apart"):
            refuse(model, alike)
        refuse(model, same)
    assert [model.tokenizer.decode(row.ids[row.n_prompt :]) for row in answer_rows(model, alike)] == [
        p.answer for p in alike
    ]


def test_a_word_in_the_first_place_is_warned_of(caplog: pytest.LogCaptureFixture):
    task = InContextTask("plural", (("cat", "cats"), ("dog", "dogs"), ("hat", "hats")))
    bare = task_prompts(task, task, format="arrow", n_shots=0, seed=0)
    behind = task_prompts(task, task, format="arrow", n_shots=1, seed=0)
    with caplog.at_level(logging.WARNING):
        answer_scores(tiny_model("llama"), bare)  # its tokenizer puts BOS in front
        answer_scores(tiny_model("gpt2"), behind)
        assert not caplog.records
        answer_scores(tiny_model("gpt2"), bare)
    assert "3 prompts begin with the word" in caplog.records[0].getMessage()

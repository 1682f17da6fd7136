"""Scores against plain log-softmax of one text at a time."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import AllTokens, LastToken, Site
from steerlens.concepts import Question
from steerlens.errors import OptionError
from steerlens.evaluation import UNSTEERED, score_continuations, score_neutral, score_questions
from steerlens.interventions import Intervention, steer
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model

QUESTIONS = (
    Question(context="The film was", positive=" good", negative=" bad", group="a", side="both"),
    Question(
        context="A much longer beginning of a sentence that is",
        positive=" fine and well",
        negative=" x",
        group="b",
        side="both",
    ),
    Question(context="So", positive=" it goes", negative=" it ends here, all of it", group="c", side="both"),
)
TEXTS = (
    "Rivers carry sand to the sea.",
    "A library gives each book a number that tells where it stands.",
    "Salt dissolves in water.",
)


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3", "qwen2"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def plans(model: LensModel) -> list[Intervention]:
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    return [
        UNSTEERED,
        Intervention({Site.resid_post(2): shift}, 1.0),
        Intervention({Site.resid_pre(1, AllTokens()): shift}, 2.0),
        Intervention({Site.resid_mid(3, AllTokens()): shift, Site.attn_out(1): shift}, -1.0),
    ]


def by_hand(model: LensModel, context: str, continuation: str, intervention: Intervention) -> tuple[float, int]:
    n, ids = len(model.encode(context)), model.encode(context + continuation)
    tokens = model.to_tokens(context + continuation)
    tokens = type(tokens)(tokens.ids, tokens.attention_mask, torch.tensor([n]))
    with steer(model, intervention.plan, strength=intervention.strength):
        logp = model.logits(tokens)[0].log_softmax(-1)
    return float(sum(logp[i - 1, ids[i]] for i in range(n, len(ids)))), len(ids) - n


def test_scores_are_those_of_one_text_at_a_time(model: LensModel):
    scores = score_questions(model, QUESTIONS, plans(model))
    for k, plan in enumerate(plans(model)):
        for i, q in enumerate(QUESTIONS):
            for got, n, continuation in (
                (scores.positive[k, i], scores.n_positive[i], q.positive),
                (scores.negative[k, i], scores.n_negative[i], q.negative),
            ):
                expected, length = by_hand(model, q.context, continuation, plan)
                assert int(n) == length
                assert float(got) == pytest.approx(expected, abs=1e-8)
    assert (scores.propensity[1:] - scores.propensity[0]).abs().min() > 1e-4


def test_continuations_are_numbered_through_the_prompts(model: LensModel):
    prompts = ["The film was", "A much longer beginning of a sentence that is", "So"]
    continuations = [[" good", " bad", " good and long"], [" fine and well"], [" it goes", " it"]]
    scores = score_continuations(model, prompts, continuations, plans(model))
    assert scores.prompt.tolist() == [0, 0, 0, 1, 2, 2]
    flat = [(p, c) for p, cs in zip(prompts, continuations, strict=True) for c in cs]
    for k, plan in enumerate(plans(model)):
        for i, (prompt, continuation) in enumerate(flat):
            expected, length = by_hand(model, prompt, continuation, plan)
            assert int(scores.n_tokens[i]) == length
            assert float(scores.log_prob[k, i]) == pytest.approx(expected, abs=1e-8)
            assert float(scores.per_token[k, i]) == pytest.approx(expected / length, abs=1e-8)


@pytest.mark.parametrize(
    ("prompts", "continuations", "message"),
    [
        ("The film was", [[" good"]], "in place of a list"),
        (["The film was"], [" good"], "in place of a list"),
        (["The film was"], [[]], "at least one continuation"),
        (["a", "b"], [[" good"]], "at least one continuation"),
        ([], [], "at least one continuation"),
    ],
)
def test_prompts_and_continuations_must_be_lists(model: LensModel, prompts, continuations, message: str):
    with pytest.raises(OptionError, match=message):
        score_continuations(model, prompts, continuations)


def test_propensities_per_token_divide_by_each_continuation_s_length(model: LensModel):
    scores = score_questions(model, QUESTIONS)
    expected = scores.positive / scores.n_positive - scores.negative / scores.n_negative
    assert_close(scores.propensity_per_token, expected)
    assert set(scores.n_positive.tolist()) != {1}


def test_kl_and_likelihood_are_those_of_one_text_at_a_time(model: LensModel):
    scores = score_neutral(model, TEXTS, plans(model)[1:])
    for i, text in enumerate(TEXTS):
        tokens = model.to_tokens(text)
        tokens = type(tokens)(tokens.ids, tokens.attention_mask, torch.tensor([4]))
        base = model.logits(tokens)[0].log_softmax(-1)
        target = tokens.ids[0, 4:]
        assert int(scores.n_tokens[i]) == len(target)
        assert float(scores.base_nll[i]) == pytest.approx(
            -float(base[3:-1].gather(-1, target[:, None]).sum()), abs=1e-8
        )
        for k, plan in enumerate(plans(model)[1:]):
            with steer(model, plan.plan, strength=plan.strength):
                steered = model.logits(tokens)[0].log_softmax(-1)
            kl = (base.exp() * (base - steered)).sum(-1)[3:-1].sum()
            assert float(scores.kl[k, i]) == pytest.approx(float(kl), abs=1e-8)
            assert float(scores.nll[k, i]) == pytest.approx(
                -float(steered[3:-1].gather(-1, target[:, None]).sum()), abs=1e-8
            )
    assert scores.kl.min() > 0


def test_no_steering_costs_nothing(model: LensModel):
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    scores = score_neutral(model, TEXTS, [Intervention({Site.resid_post(1): shift}, 0.0)])
    assert torch.equal(scores.kl, torch.zeros_like(scores.kl))
    assert torch.equal(scores.nll[0], scores.base_nll)


def test_steering_starts_at_the_last_token_of_the_prompt(model: LensModel):
    """The first scored token is predicted from a steered position, the second-to-last block away from the logits."""
    plain = score_questions(model, QUESTIONS)
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    steered = score_questions(model, QUESTIONS, [Intervention({Site.resid_post(3, LastToken()): shift}, 1.0)])
    assert (steered.positive - plain.positive).abs().min() > 1e-4


def test_nothing_to_score_is_an_error(model: LensModel):
    with pytest.raises(OptionError, match="at least one question"):
        score_questions(model, [])
    with pytest.raises(OptionError, match="whole sentences"):
        score_neutral(model, ["Hi"], [UNSTEERED])
    with pytest.raises(OptionError, match=r"5 tokens each, but text 1 has \d \('Hi'\)"):
        score_neutral(model, [TEXTS[0], "Hi", TEXTS[1]], [UNSTEERED])

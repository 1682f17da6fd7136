"""Baselines by text: effects and costs against log-softmax of whole texts; nothing in front costs nothing."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from steerlens.activations import Site
from steerlens.concepts import (
    FORMATS,
    PLAIN,
    ChatFormat,
    ConceptDataset,
    ContrastivePair,
    InContextTask,
    task_prompts,
)
from steerlens.errors import ModelError, OptionError
from steerlens.evaluation import (
    UNSTEERED,
    chat_format,
    contrast,
    few_shot_baseline,
    neutral_texts,
    prompt_baseline,
    score_neutral,
    score_questions,
)
from steerlens.evaluation._comparison import RECORD_COLUMNS
from steerlens.evaluation._measure import Arm, measure
from steerlens.evaluation._text_baselines import score_openings
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model

THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp")
CHAT = ChatFormat(before_system="<s>", after_system="</s>\n<u>", before_user="<u>", after_user="</u>\n")
TEXTS = neutral_texts()[:6]
SAID = "Say something good."


def pairs(things: tuple[str, ...]) -> ConceptDataset:
    return ConceptDataset("made up", tuple(ContrastivePair(f"The {t} is", " good", " bad", group=t) for t in things))


TEST, FIT = pairs(THINGS[:6]), pairs(THINGS[6:])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def log_prob(model: LensModel, prompt: str, continuation: str) -> float:
    n, ids = len(model.encode(prompt)), model.encode(prompt + continuation)
    logp = model.logits(model.to_tokens(prompt + continuation))[0].log_softmax(-1)
    return float(sum(logp[i - 1, ids[i]] for i in range(n, len(ids))))


@pytest.mark.parametrize(
    ("placement", "chat", "before", "after"),
    [
        ("system", PLAIN, ("", ""), (f"{SAID}\n\n", "")),
        ("user", PLAIN, ("", ""), (f"{SAID}\n", "")),
        ("system", CHAT, ("<u>", "</u>\n"), (f"<s>{SAID}</s>\n<u>", "</u>\n")),
        ("user", CHAT, ("<u>", "</u>\n"), (f"<u>{SAID}\n", "</u>\n")),
    ],
)
def test_propensities_are_those_of_the_texts_as_written(model: LensModel, placement, chat, before, after):
    found = prompt_baseline(model, TEST, SAID, texts=TEXTS, placement=placement, chat=chat)
    reply = (" good", " bad") if chat == PLAIN else ("good", "bad")
    for row, (opening, closing) in enumerate((before, after)):
        for i, pair in enumerate(TEST):
            prompt = opening + pair.prompt + closing
            expected = log_prob(model, prompt, reply[0]) - log_prob(model, prompt, reply[1])
            assert found.propensity[row, i] == pytest.approx(expected, abs=1e-8)
    assert found.effect(seed=0).value == pytest.approx((found.propensity[1] - found.propensity[0]).mean())
    assert abs(found.propensity[1] - found.propensity[0]).min() > 1e-6


def test_cost_is_kl_at_the_same_tokens_of_the_text(model: LensModel):
    found = prompt_baseline(model, TEST, SAID, texts=TEXTS)
    bos = model.encode(TEXTS[0])[0:1] if model.add_bos else []
    for i, text in enumerate(TEXTS):
        own = model.encode(text, bos=False)
        front = model.encode(f"{SAID}\n\n", bos=False)
        plain, instructed = (
            model.bridge.original_model(torch.tensor([ids])).logits[0].log_softmax(-1)
            for ids in (bos + own, bos + front + own)
        )
        n = len(bos + own) - 4
        p, q = plain[-n - 1 : -1], instructed[-n - 1 : -1]
        assert found.n_tokens[i] == n
        assert found.kl[1, i] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-8)
        target = torch.tensor(own[-n:])
        assert found.nll[0, i] == pytest.approx(-float(p.gather(1, target[:, None]).sum()), abs=1e-8)
        assert found.nll[1, i] == pytest.approx(-float(q.gather(1, target[:, None]).sum()), abs=1e-8)
    assert found.cost(seed=0).value == pytest.approx(found.kl[1].sum() / found.n_tokens.sum())
    assert found.cost(seed=0).value > 1e-4
    assert (found.kl[0] == 0).all()


def test_tokens_and_likelihoods_are_those_by_which_maps_are_measured(model: LensModel):
    found, neutral = prompt_baseline(model, TEST, SAID, texts=TEXTS), score_neutral(model, TEXTS, [UNSTEERED])
    np.testing.assert_array_equal(found.n_tokens, neutral.n_tokens.numpy())
    np.testing.assert_allclose(found.nll[0], neutral.base_nll, atol=1e-8)


def test_the_same_opening_costs_exactly_nothing(model: LensModel):
    for opening in ("", "Say it."):
        kl, nll, _ = score_openings(model, TEXTS, opening, opening)
        assert (kl == 0).all()
        np.testing.assert_array_equal(nll[0], nll[1])


def test_a_text_stands_beside_maps(model: LensModel):
    """The arrays are of one kind: a paired contrast takes both, and records have the same columns."""
    site = Site.resid_post(2)
    from steerlens.activations import extract

    arm = Arm("push", "random", "random", site, random_direction(model.d_model, norm=2.0, seed=0), (0.0, 1.0))
    measured = measure(model, [arm], TEST.questions, TEXTS, extract(model, TEST, [site]))[0]
    text = prompt_baseline(model, TEST, SAID, texts=TEXTS)
    budget = 0.5 * min(text.cost(seed=0).value, float(measured.kl[1].sum() / measured.n_tokens.sum()))
    d = contrast(text.dose_curve, measured.dose_curve, budget, seed=0)
    assert d.value == pytest.approx(
        text.dose_curve.at_budget(budget, seed=0).effect.value
        - measured.dose_curve.at_budget(budget, seed=0).effect.value
    )
    records = text.to_records(split="test", seed=0)
    assert tuple(records.columns) == RECORD_COLUMNS
    rows = records.set_index("metric")
    assert rows.loc["effect", "value"] == text.effect(seed=0).value
    assert rows.loc["kl", "value"] == text.cost(seed=0).value
    ratio = np.exp((text.nll[1] - text.nll[0]).sum() / text.n_tokens.sum())
    assert rows.loc["perplexity_ratio", "value"] == pytest.approx(ratio)
    assert set(records["family"]) == {"text"}


@pytest.mark.slow
def test_examples_come_from_the_fitting_pairs_and_show_the_positive_continuation(model: LensModel):
    found = few_shot_baseline(model, TEST, FIT, n_shots=2, texts=TEXTS, seed=0)
    orders = [["The shoe is good", "The lamp is good"], ["The lamp is good", "The shoe is good"]]
    fits = 0
    for order in orders:
        prompt = "\n\n".join([*order, TEST[0].prompt])
        expected = log_prob(model, prompt, " good") - log_prob(model, prompt, " bad")
        fits += found.propensity[1, 0] == pytest.approx(expected, abs=1e-8)
    assert fits == 1
    again = few_shot_baseline(model, TEST, FIT, n_shots=2, texts=TEXTS, seed=0)
    np.testing.assert_array_equal(again.propensity, found.propensity)
    other = [few_shot_baseline(model, TEST, FIT, n_shots=1, texts=TEXTS, seed=s).propensity[1, 0] for s in range(6)]
    assert len({round(x, 9) for x in other}) == 2


def test_of_every_group_one_example_comes_before_a_second(model: LensModel):
    from steerlens.evaluation._text_baselines import _drawn

    many = ConceptDataset(
        "t", tuple(ContrastivePair(f"{g}{i} is", " good", " bad", group=g) for g in "abc" for i in range(3))
    )
    for seed in range(5):
        drawn = _drawn(many, 5, seed)
        assert {q.group for q in drawn[:3]} == {"a", "b", "c"}
        assert len(set(drawn)) == 5


def test_nonsense_is_refused(model: LensModel):
    with pytest.raises(OptionError, match="share 6 groups"):
        few_shot_baseline(model, TEST, TEST, n_shots=1, texts=TEXTS, seed=0)
    for n in (0, 3):
        with pytest.raises(OptionError, match="2 questions to draw from"):
            few_shot_baseline(model, TEST, FIT, n_shots=n, texts=TEXTS, seed=0)
    with pytest.raises(OptionError, match="'system' or 'user'"):
        prompt_baseline(model, TEST, SAID, texts=TEXTS, placement="above")
    with pytest.raises(OptionError, match="whole sentences"):
        prompt_baseline(model, TEST, SAID, texts=["So."])


WITH_SYSTEM = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WITHOUT_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + WITH_SYSTEM


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch) -> Iterator[LensModel]:
    one = tiny_model("gpt2")
    monkeypatch.setattr(one.tokenizer, "chat_template", WITH_SYSTEM)
    return one


def test_the_chat_format_is_the_template_s(chatty: LensModel, monkeypatch: pytest.MonkeyPatch):
    found = chat_format(chatty)
    for turns in ([("user", "Hi there")], [("system", "Be brief."), ("user", "Hi there")]):
        expected = chatty.tokenizer.apply_chat_template(
            [{"role": r, "content": c} for r, c in turns], tokenize=False, add_generation_prompt=True
        )
        system = dict(turns).get("system", "")
        assert found.opening(system) + "Hi there" + found.after_user == expected
    monkeypatch.setattr(chatty.tokenizer, "chat_template", WITHOUT_SYSTEM)
    assert chat_format(chatty).opening("Be brief.") == "<user>Be brief.\n\n"


def test_examples_in_turns_are_the_template_s_own_conversation(chatty: LensModel, monkeypatch: pytest.MonkeyPatch):
    task = InContextTask("t", (("hot", "cold"), ("up", "down"), ("in", "out")), instruction="Be brief.")
    form = replace(FORMATS["words"], opening="{instruction}").in_chat(chat_format(chatty))
    (p,) = task_prompts(task, task[:1], format=form, n_shots=2, seed=0)
    shown = [turn for a, b in p.demonstrations for turn in (("user", a), ("assistant", b))]
    expected = chatty.tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in (("system", "Be brief."), *shown, ("user", "hot"))],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert (p.prompt, p.answer) == (expected, "cold")
    once = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + WITH_SYSTEM
    monkeypatch.setattr(chatty.tokenizer, "chat_template", once)
    assert chat_format(chatty).next_user == ""


def test_a_model_without_a_template_is_no_chat_model():
    with pytest.raises(ModelError, match="no chat template"):
        chat_format(tiny_model("llama"))


def test_scores_of_a_conversation_can_be_steered(chatty: LensModel):
    """Chat-formatted questions are questions like others."""
    from steerlens.concepts import in_chat

    questions = in_chat(TEST, chat_format(chatty)).questions
    push = Intervention({Site.resid_post(2): random_direction(chatty.d_model, norm=3.0, seed=0)}, 1.0)
    scores = score_questions(chatty, questions, [UNSTEERED, push])
    assert (scores.propensity[1] - scores.propensity[0]).abs().min() > 1e-4

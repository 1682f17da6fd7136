"""A steered model inside lm-evaluation-harness, against the harness's own Hugging Face class on the same weights."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from steerlens.activations import AllTokens, LastToken, Site
from steerlens.errors import OptionError
from steerlens.evaluation import UNSTEERED, SteeredLM
from steerlens.interventions import Intervention, steer
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_config, tiny_model, tiny_tokenizer
from steerlens.models._tiny import WITH_BOS, seeded_model

pytest.importorskip("lm_eval", reason="lm-eval is an extra; CI installs it and runs these tests")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FAMILIES = ("gpt2", "llama")
PAIRS = (
    ("The film was", " good"),
    ("The film was", " good and long"),
    ("The film was", " bad"),
    ("The film was ", "good"),  # the space goes to the continuation
    ("The film was  ", " good"),
    ("", "The film was good"),  # an empty context
    ("", "T"),
    ("Wh", "at is this"),  # a border inside a word
    ("a\n", "\nb"),
    ("Grüße aus ", "Köln"),
    ("An answer:", " " + "in the beginning of the story " * 3),
)
LONG = "the cat and the dog in the house " * 60
DEEP = ("the other side of the river " * 40).strip()


def request(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.fixture(scope="module")
def theirs(model: LensModel) -> Any:
    """The harness's class over the same seeded weights, loaded without steerlens or TransformerLens."""
    from lm_eval.models.huggingface import HFLM

    family = model.name.removeprefix("tiny-")
    hf = seeded_model(tiny_config(family), seed=0)
    assert isinstance(hf, tuple(AutoModelForCausalLM._model_mapping.values()))
    # Its cache confuses requests that are one text cut at two places: in 0.4.13 a sum is over the wrong tokens.
    return HFLM(pretrained=hf, tokenizer=tiny_tokenizer(add_bos=family in WITH_BOS), batch_size=3, logits_cache=False)


def scored(lm: Any, pairs: Any) -> list[tuple[float, bool]]:
    found: list[tuple[float, bool]] = lm.loglikelihood([request("loglikelihood", *p) for p in pairs], disable_tqdm=True)
    return found


def assert_alike(ours: Any, expected: Any) -> None:
    assert [g for _, g in ours] == [g for _, g in expected]
    for (x, _), (y, _) in zip(ours, expected, strict=True):
        assert x == pytest.approx(y, abs=1e-9)


def greedy(model: LensModel, context: str, n: int) -> str:
    return str(model.generate(context, max_new_tokens=n))[len(context) :]


def test_loglikelihoods_are_those_of_the_harness_s_own_class(model: LensModel, theirs: Any):
    pairs = (*PAIRS, (LONG, " and so on"), (LONG, " " + DEEP[:400]))
    ours = scored(SteeredLM(model, seed=0), pairs)
    assert_alike(ours, scored(theirs, pairs))
    assert len({round(x, 3) for x, _ in ours}) > 8


def test_a_greedy_continuation_is_known_as_such(model: LensModel, theirs: Any):
    one = greedy(model, "The film was", 1)
    assert one
    pairs = [("The film was", one), ("The film was", " zebra")]
    ours = scored(SteeredLM(model, seed=0), pairs)
    assert [g for _, g in ours] == [True, False]
    assert_alike(ours, scored(theirs, pairs))


@pytest.mark.slow
def test_rolling_windows_are_those_of_the_harness_s_own_class(model: LensModel, theirs: Any):
    requests = [request("loglikelihood_rolling", text) for text in ("So it goes.", LONG, DEEP + LONG + DEEP)]
    assert len(model.encode(DEEP + LONG + DEEP)) > 2 * SteeredLM(model, seed=0).max_length
    ours = SteeredLM(model, seed=0).loglikelihood_rolling(requests)
    expected = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours == pytest.approx(expected, abs=1e-8)


@pytest.mark.slow
def test_generation_is_that_of_the_harness_s_own_class(model: LensModel, theirs: Any):
    stop = greedy(model, "The film was", 12)[5:7]
    kwargs = [{"until": [stop], "max_gen_toks": 12}, {"until": [], "max_gen_toks": 7}, {"until": "\n\n"}]
    requests = [request("generate_until", c, k) for k in kwargs for c in ("The film was", "So it goes", "x")]
    ours = SteeredLM(model, seed=0).generate_until(requests)
    assert ours == theirs.generate_until(requests, disable_tqdm=True)
    assert stop not in ours[0]
    assert len(ours[0]) < len(ours[3])


def test_a_shifted_model_is_another_model_and_scores_are_those_of_hooks(model: LensModel):
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    for site in (Site.resid_post(2, AllTokens()), Site.resid_post(1, LastToken())):
        one = Intervention({site: shift}, 2.0)
        steered = scored(SteeredLM(model, one, seed=0), PAIRS)
        plain = scored(SteeredLM(model, seed=0), PAIRS)
        apart = {pair: abs(x - y) for pair, (x, _), (y, _) in zip(PAIRS, steered, plain, strict=True)}
        of_prefix = apart.pop(("", "T"))  # predicted from the first token alone, which AllTokens leaves out
        assert (of_prefix == 0) == (site.tokens == AllTokens())
        assert min(apart.values()) > 1e-4
        ids, context = model.encode("The film was good and long"), model.encode("The film was")
        tokens = model.to_tokens("The film was good and long")
        tokens = type(tokens)(tokens.ids, tokens.attention_mask, torch.tensor([len(context)]))
        with steer(model, one.plan, strength=one.strength):
            log_prob = model.logits(tokens)[0].log_softmax(-1)
        expected = sum(float(log_prob[i - 1, ids[i]]) for i in range(len(context), len(ids)))
        assert steered[1][0] == pytest.approx(expected, abs=1e-8)


def test_arms_that_share_give_what_each_gives_alone_and_run_once(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    from steerlens.evaluation import _harness

    shift = random_direction(model.d_model, norm=3.0, seed=0)
    arms = (UNSTEERED, Intervention({Site.resid_post(2, AllTokens()): shift}, 2.0))
    generations = [request("generate_until", "The film was", {"until": [], "max_gen_toks": 8})]
    alone = [SteeredLM(model, one, seed=0) for one in arms]
    expected = [(scored(lm, PAIRS), lm.generate_until(generations)) for lm in alone]
    calls = []
    for name in ("score_trees", "generate"):
        inner = getattr(_harness, name)
        monkeypatch.setattr(_harness, name, lambda *a, _f=inner, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    shared = SteeredLM.sharing(model, arms, seed=0)
    for lm, (scores, texts) in zip(shared, expected, strict=True):
        assert_alike(scored(lm, PAIRS), scores)
        assert lm.generate_until(generations) == texts
    assert sorted(calls) == ["generate", "score_trees"]
    assert expected[0] != expected[1]


def test_repeats_of_a_sampled_request_differ_and_seeds_repeat_them(model: LensModel):
    requests = [request("generate_until", "The film", {"until": [], "max_gen_toks": 8, "do_sample": True})] * 3
    first, again, other = (SteeredLM(model, seed=s).generate_until(requests) for s in (0, 0, 1))
    assert first == again
    assert len(set(first)) == 3
    assert first != other


def test_what_it_cannot_decode_is_refused(model: LensModel):
    lm = SteeredLM(model, seed=0)
    for kwargs, message in (
        ({"until": [], "num_beams": 4}, "num_beams"),
        ({"until": [], "do_sample": True, "top_p": 0.9}, "top_p"),
        ({"until": [], "max_gen_toks": 512}, "Lower max_gen_toks"),
    ):
        with pytest.raises(OptionError, match=message):
            lm.generate_until([request("generate_until", "The film", kwargs)])
    with pytest.raises(OptionError, match="takes 512"):
        scored(lm, [("The", " " + LONG)])
    with pytest.raises(OptionError, match="chat template"):
        lm.apply_chat_template([{"role": "user", "content": "Hello"}])


def test_a_long_context_keeps_its_end(model: LensModel):
    """Where the ids of the kept text are those of the kept ids, the harness's own class continues alike."""
    lm = SteeredLM(model, seed=0)
    short = lm._shortened(LONG, 12)
    assert LONG.endswith(short)
    assert 512 - 12 - 3 <= len(model.encode(short)) <= 512 - 12
    assert lm._shortened("The film", 12) == "The film"


def test_a_context_of_spaces_is_scored_after_the_prefix(model: LensModel):
    """The harness's own class fails on it where the tokenizer adds no BOS."""
    ours = scored(SteeredLM(model, seed=0), [("  ", "good")])
    assert_alike(ours, scored(SteeredLM(model, seed=0), [("", "  good")]))

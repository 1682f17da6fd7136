"""Perplexity against plain log-softmax, one window at a time."""

import math

import numpy as np
import pytest
import torch

from steerlens.activations import AllTokens, LastToken, Site
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import Perplexity, TextSet, perplexity, score_neutral
from steerlens.evaluation._perplexity import windows
from steerlens.interventions import Intervention, _replay, steer
from steerlens.maps import random_direction
from steerlens.models import LensModel, TokenBatch, tiny_model
from steerlens.numerics import Estimate

TEXTS = (
    "Rivers carry sand to the sea, and the sea carries it away.",
    "Salt dissolves in water.",
    "A library gives each book a number that tells where it stands. " * 4,
    "The oldest of the houses in the street has a red door and no window at all.",
    "In the end of the story they all went home, and the others sat at the fire. " * 3,
    "So it goes on and on.",
)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def plans(model: LensModel) -> list[Intervention]:
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    return [
        Intervention({Site.resid_post(2, AllTokens()): shift}, 1.0),
        Intervention({Site.resid_post(1, LastToken()): shift}, 2.0),
    ]


def by_hand(model: LensModel, text: str, one: Intervention, window: int, stride: int) -> tuple[float, int]:
    """Negative log-likelihood of a text, windows cut anew: BOS, then tokens from the window's begin."""
    ids = model.encode(text)
    head = ids[:1] if model.add_bos else []
    body = ids[len(head) :]
    total, n, done, begin = 0.0, 0, 4 - len(head), 0
    while done < len(body):
        row = head + body[begin : begin + window - len(head) + 1]
        first = len(head) + done - begin
        batch = TokenBatch.from_rows([row[:-1]], pad_id=0, n_prompt=[first])
        with steer(model, one.plan, strength=one.strength):
            log_prob = model.logits(batch)[0].log_softmax(-1)
        assert len(row) - 1 <= window
        for i in range(first, len(row)):
            total -= float(log_prob[i - 1, row[i]])
            n += 1
        done = begin + len(row) - len(head)
        begin += stride
    return total, n


@pytest.mark.slow
@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 12), (31, 5), (512, 256)])
def test_windows_score_every_token_once_as_one_window_at_a_time(model: LensModel, window: int, stride: int):
    found = perplexity(model, TEXTS, plans(model), seed=0, window=window, stride=stride)
    for i, text in enumerate(TEXTS):
        for k, one in enumerate((Intervention({}, 0.0), *plans(model))):
            expected, n = by_hand(model, text, one, window, stride)
            assert int(found.n_tokens[i]) == n == len(model.encode(text)) - 4
            assert float(found.nll[k, i]) == pytest.approx(expected, abs=1e-8)
    assert (found.window, found.stride) == (window, stride)


def test_values_are_those_of_all_tokens_together(model: LensModel):
    found = perplexity(model, TEXTS, plans(model), seed=0)
    n = float(found.n_tokens.sum())
    assert found.unsteered.value == pytest.approx(math.exp(float(found.nll[0].sum()) / n))
    for k in range(2):
        assert found.steered[k].value == pytest.approx(math.exp(float(found.nll[1 + k].sum()) / n))
        assert found.ratio[k].value == pytest.approx(found.steered[k].value / found.unsteered.value)
        assert found.ratio[k].value != pytest.approx(1, abs=1e-3)


def test_within_one_window_it_is_what_neutral_scores_say(model: LensModel):
    neutral = score_neutral(model, TEXTS, plans(model))
    found = perplexity(model, TEXTS, plans(model), seed=0)
    assert np.allclose(found.nll[0], neutral.base_nll, atol=1e-8)
    assert np.allclose(found.nll[1:], neutral.nll, atol=1e-8)


def test_nothing_changes_nothing(model: LensModel):
    found = perplexity(model, TEXTS, [Intervention(plans(model)[0].plan, 0.0)], seed=0)
    assert found.steered[0] == found.unsteered
    assert (found.ratio[0].value, found.ratio[0].low, found.ratio[0].high) == (1, 1, 1)


@pytest.mark.slow
def test_batches_and_order_change_nothing(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    arguments = {"seed": 0, "window": 24, "stride": 12}
    whole = perplexity(model, TEXTS, plans(model), **arguments)
    turned = [4, 2, 0, 5, 1, 3]
    other = perplexity(model, [TEXTS[i] for i in turned], plans(model), **arguments)
    monkeypatch.setattr(_replay, "columns_that_fit", lambda _: 40)
    small = perplexity(model, TEXTS, plans(model), **arguments)
    assert torch.allclose(other.nll, whole.nll[:, turned], atol=1e-9, rtol=0)
    assert torch.allclose(small.nll, whole.nll, atol=1e-9, rtol=0)
    for again in (other, small):
        for x, y in zip(estimates(again), estimates(whole), strict=True):
            assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high), abs=1e-8)


def estimates(found: Perplexity) -> list[Estimate]:
    return [found.unsteered, *found.steered, *found.ratio]


def test_texts_of_one_document_are_resampled_together(model: LensModel):
    texts = [*TEXTS, *TEXTS]
    alone = perplexity(model, texts, [], seed=0)
    together = perplexity(model, texts, [], seed=0, documents=[*range(6), *range(6)])
    assert (alone.unsteered.n_clusters, together.unsteered.n_clusters) == (12, 6)
    assert together.unsteered.value == pytest.approx(alone.unsteered.value)
    assert together.unsteered.high - together.unsteered.low > alone.unsteered.high - alone.unsteered.low
    named = perplexity(model, TextSet(tuple(texts), tuple("abcdef" * 2)), [], seed=0)
    assert named.unsteered.n_clusters == 6


def test_a_long_text_needs_no_longer_window_than_the_model_has(model: LensModel):
    long = "The river runs on and on to the sea. " * 60
    assert len(model.encode(long)) > 2 * 512
    found = perplexity(model, [long, *TEXTS], [], seed=0)
    assert int(found.n_tokens[0]) == len(model.encode(long)) - 4
    assert (found.window, found.stride) == (512, 256)


@pytest.mark.parametrize("bos", [True, False])
def test_windows_overlap_by_what_the_stride_leaves(bos: bool):
    row = list(range(100, 200))
    found = windows(row, 20, 8, bos=bos)
    assert [t for tree in found for c in tree.continuations for t in c] == row[4:]
    for tree in found[1:]:
        assert len(tree.prompt) >= 20 - 8
        assert len(tree.prompt) + len(tree.continuations[0]) - 1 <= 20
        assert (tree.prompt[0] == 100) == bos


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": []}, "non-empty list"),
        ({"texts": "A single text."}, "non-empty list"),
        ({"texts": ["x", *TEXTS]}, "Text 0 has"),
        ({"documents": [1, 2]}, "documents must name one"),
        ({"window": 513}, "8 to 512"),
        ({"window": 7}, "8 to 512"),
        ({"window": 16, "stride": 13}, "stride 1 to"),
        ({"window": 16, "stride": 0}, "stride 1 to"),
    ],
)
def test_bad_arguments_say_what_is_expected(model: LensModel, change: dict, message: str):
    with pytest.raises(OptionError, match=message):
        perplexity(model, **{"texts": TEXTS, "interventions": [], "seed": 0, **change})


def test_few_documents_are_an_error(model: LensModel):
    with pytest.raises(EstimateError, match="at least 5"):
        perplexity(model, TEXTS[:4], [], seed=0)

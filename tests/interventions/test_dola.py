"""Decoding by contrast of layers: candidates, and generation against a plain loop over single prompts."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from steerlens.activations import AllTokens, Site
from steerlens.errors import OptionError
from steerlens.interventions import DoLa, candidate_layers, generate_dola, steer
from steerlens.interventions._dola_generate import _Contrasting
from steerlens.maps import random_direction
from steerlens.models import LensModel, TokenBatch, stream_logits, tiny_model

PROMPTS = ["The film was one of the best", "a", "Nothing at all"]
PAPER = DoLa((0, 1, 2, 3), alpha=0.2)
CODE = DoLa.as_published((0, 1, 2, 3), alpha=0.1)


@pytest.fixture(params=("gpt2", "llama", "gemma3", "qwen2"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@cache
def twin(name: str) -> LensModel:
    """The same weights, for Hugging Face leaves hooks behind where it has collected hidden states."""
    return tiny_model(name.removeprefix("tiny-"), dtype="float64")


def hidden(model: LensModel, ids: list[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hugging Face's hidden states and logits at the last token, without padding and without a cache."""
    with torch.no_grad():
        out = model.bridge.original_model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    return [h[0, -1] for h in out.hidden_states[:-1]], out.logits[0, -1]


def normed(model: LensModel, x: torch.Tensor) -> torch.Tensor:
    """Hugging Face's own final norm."""
    out: torch.Tensor = model.bridge.ln_final.original_component(x)
    return out


def early_logits(model: LensModel, x: torch.Tensor, norm: str) -> np.ndarray:
    head = model.bridge.original_model.get_output_embeddings().weight
    return (head @ (normed(model, x) if norm == "final" else x)).numpy()


def read_by_hooks(model: LensModel, ids: list[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The same from hook points, for Hugging Face may collect a hidden state before TransformerLens has changed it."""
    batch, seen = TokenBatch.from_rows([ids], pad_id=0), []
    names = [Site.resid_pre(j).hook_name for j in range(model.n_layers)]
    model.read(batch, names, lambda name, value: seen.append(value[0, -1].clone()))
    return seen, model.logits(batch)[0, -1]


def token_by_token(
    model: LensModel, prompt: str, dola: DoLa, *, steps: int, penalty: float, look=hidden
) -> tuple[str, list[int]]:
    """One prompt, no cache, no batch, numpy."""
    ids, picks, n_prompt = model.encode(prompt), [], len(model.encode(prompt))
    for _ in range(steps):
        streams, last = look(model, ids)
        p = softmax(last.numpy())
        early = [early_logits(model, streams[j], dola.norm) for j in dola.layers]
        far = []
        for q in map(softmax, early):
            m = (p + q) / 2
            paper = jensenshannon(p, q) ** 2
            code = 0.5 * (np.mean(rel_entr(m, p)) + np.mean(rel_entr(m, q)))
            far.append(paper if dola.divergence == "jensen-shannon" else code)
        picks.append(int(np.argmax(far)))
        f = np.log(p) - log_softmax(early[picks[-1]])
        if dola.normalisation == "vocabulary":
            f = f - logsumexp(f)
        f = np.where(p >= dola.alpha * p.max(), f, -np.inf)
        if dola.normalisation == "plausible":
            f = f - logsumexp(f)
        seen = np.array(sorted(set(ids)))
        f[seen] = np.where(f[seen] > 0, f[seen] / penalty, f[seen] * penalty)
        token = int(np.argmax(f))
        if token in model.stop_ids:
            break
        ids.append(token)
    return prompt + model.tokenizer.decode(ids[n_prompt:], skip_special_tokens=True), picks


@pytest.mark.parametrize("norm", ["final", "none"])
def test_early_layers_are_read_from_hugging_faces_hidden_states(model: LensModel, norm):
    ids = model.encode(PROMPTS[0])
    streams, _ = hidden(twin(model.name), ids)
    read: dict[str, torch.Tensor] = {}
    names = [Site.resid_pre(j).hook_name for j in range(model.n_layers)]
    model.read(model.to_tokens(PROMPTS[:1]), names, lambda name, value: read.__setitem__(name, value[0, -1:].clone()))
    for j, name in enumerate(names):
        found = stream_logits(model, read[name], norm=norm)[0]
        torch.testing.assert_close(found.numpy(), early_logits(model, streams[j], norm), rtol=1e-9, atol=1e-9)


def test_the_final_norm_is_the_formula(model: LensModel):
    """To float32's precision, for Hugging Face's RMSNorm computes in float32 whatever the model's dtype is."""
    x = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = model.bridge.ln_final.weight
    if model.name == "tiny-gpt2":
        centred = x - x.mean(-1, keepdim=True)
        by_hand = (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + model.bridge.ln_final.bias
        )
    else:
        scale = 1 + weight if model.name == "tiny-gemma3" else weight
        by_hand = x / (x.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt() * scale
    head = model.bridge.original_model.get_output_embeddings().weight
    torch.testing.assert_close(stream_logits(model, x), by_hand @ head.T, rtol=1e-5, atol=1e-5)


def test_without_the_norm_early_layers_read_otherwise(model: LensModel):
    x = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    apart = stream_logits(model, x, norm="final") - stream_logits(model, x, norm="none")
    assert float(apart.abs().max()) > 0.1


@pytest.mark.parametrize("dola", [PAPER, CODE, DoLa((1,), 0.0, normalisation="vocabulary")])
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_batched_cached_generation_equals_a_loop_over_prompts(model: LensModel, dola: DoLa, penalty: float):
    found = generate_dola(model, PROMPTS, dola, max_new_tokens=9, repetition_penalty=penalty)
    alone = [token_by_token(twin(model.name), prompt, dola, steps=9, penalty=penalty) for prompt in PROMPTS]
    assert list(found.texts) == [text for text, _ in alone]
    for counts, (_, picks) in zip(found.counts, alone, strict=True):
        assert counts.tolist() == np.bincount(picks, minlength=len(dola.layers)).tolist()
    assert not model.is_hooked


def test_contrast_and_penalty_change_the_text(model: LensModel):
    plain = model.generate(PROMPTS, max_new_tokens=12)
    texts = [
        tuple(plain),
        generate_dola(model, PROMPTS, CODE, max_new_tokens=12, repetition_penalty=1.0).texts,
        generate_dola(model, PROMPTS, CODE, max_new_tokens=12, repetition_penalty=1.5).texts,
    ]
    assert len(set(texts)) == 3


def test_alpha_one_keeps_only_the_likeliest_token(model: LensModel):
    greedy = generate_dola(model, PROMPTS, DoLa((0, 2), alpha=1.0), max_new_tokens=8, repetition_penalty=1.0)
    assert list(greedy.texts) == model.generate(PROMPTS, max_new_tokens=8)


def test_a_sample_does_not_depend_on_its_neighbours(model: LensModel):
    options = {"max_new_tokens": 7, "temperature": 1.0, "seed": 3}
    together = generate_dola(model, PROMPTS, PAPER, **options)
    alone = generate_dola(model, PROMPTS[:1], PAPER, **options)
    assert together.texts[0] == alone.texts[0]
    assert together.counts[0].tolist() == alone.counts[0].tolist()
    assert together.texts != generate_dola(model, PROMPTS, PAPER, **{**options, "seed": 4}).texts


def test_samples_keep_to_the_plausible_tokens(model: LensModel):
    """Of tokens at least half as likely as the likeliest; without the cut others are drawn as well."""
    ids = model.encode(PROMPTS[0])
    p = model.logits(PROMPTS[0])[0, -1].softmax(-1)
    allowed = {model.tokenizer.decode([i]) for i in (p >= 0.5 * p.max()).nonzero().flatten().tolist()}
    many = [PROMPTS[0]] * 60
    drawn = {
        alpha: {
            text[len(PROMPTS[0]) :]
            for text in generate_dola(
                model, many, DoLa((0, 2), alpha=alpha), max_new_tokens=1, temperature=1.0, seed=0
            ).texts
        }
        for alpha in (0.5, 0.0)
    }
    assert drawn[0.5] <= allowed | {""}
    assert not drawn[0.0] <= allowed | {""}
    assert len(ids) > 1


def test_under_steering_all_layers_are_the_steered_models(model: LensModel):
    plan = {Site.resid_post(0, AllTokens()): random_direction(model.d_model, norm=6.0, seed=0)}
    with steer(model, plan):
        steered = generate_dola(model, PROMPTS, PAPER, max_new_tokens=6, repetition_penalty=1.0)
        alone = token_by_token(model, PROMPTS[0], PAPER, steps=6, penalty=1.0, look=read_by_hooks)[0]
    assert steered.texts[0] == alone
    assert steered.texts != generate_dola(model, PROMPTS, PAPER, max_new_tokens=6, repetition_penalty=1.0).texts


def test_choices_of_a_text_that_has_ended_do_not_count(model: LensModel):
    """The first text ends at a character that the others do not write, so that the batch goes on without it."""
    whole = generate_dola(model, PROMPTS, PAPER, max_new_tokens=12)
    new = [text[len(prompt) :] for text, prompt in zip(whole.texts, PROMPTS, strict=True)]
    row, stop = next((i, c) for i in range(3) for c in new[i][:6] if all(c not in new[j] for j in range(3) if j != i))
    found = generate_dola(model, PROMPTS, PAPER, max_new_tokens=12, stop=[stop])
    alone = generate_dola(model, [PROMPTS[row]], PAPER, max_new_tokens=12, stop=[stop])
    assert found.texts[row] == alone.texts[0] == PROMPTS[row] + new[row][: new[row].index(stop)]
    assert found.counts[row].tolist() == alone.counts[0].tolist()
    others = [i for i in range(3) if i != row]
    assert int(found.counts[row].sum()) < max(int(found.counts[i].sum()) for i in others)
    assert [found.counts[i].tolist() for i in others] == [whole.counts[i].tolist() for i in others]


def test_padding_is_no_repetition():
    """The short prompt is padded with the very token that follows it."""
    model, dola = tiny_model("gpt2", dtype="float64"), DoLa((0, 2), alpha=0.0)
    scores = []

    def keep(logits, rows, going_on):
        scores.append(logits[0].argmax())
        return logits

    with _Contrasting(model, dola, 1, 1.0) as contrast:
        model.generate("a", max_new_tokens=1, rescore=lambda *seen: keep(contrast(*seen), *seen[1:]))
    model.__dict__["pad_id"] = int(scores[0])
    alone = generate_dola(model, ["a"], dola, max_new_tokens=3, repetition_penalty=50.0)
    beside = generate_dola(model, ["a", PROMPTS[0]], dola, max_new_tokens=3, repetition_penalty=50.0)
    assert model.to_tokens(["a", PROMPTS[0]], padding_side="left").ids[0, 0] == scores[0]
    assert beside.texts[0] == alone.texts[0]


@pytest.mark.parametrize(
    ("n_layers", "low", "high"),
    [
        (32, range(0, 16, 2), range(16, 32, 2)),
        (30, range(0, 15, 2), range(16, 30, 2)),
        (40, range(0, 20, 2), range(20, 40, 2)),
        (80, range(0, 20, 2), range(60, 80, 2)),
        (4, (0,), (2,)),
    ],
)
def test_buckets_are_the_even_layers_of_the_first_and_last_part(n_layers, low, high):
    assert candidate_layers(n_layers, "low") == tuple(low)
    assert candidate_layers(n_layers, "high") == tuple(high)
    assert candidate_layers(n_layers, "all") == tuple(range(0, n_layers, 2))
    if n_layers > 4:
        assert candidate_layers(n_layers, "low", embedding=False) == tuple(low)[1:]


def test_candidates_that_do_not_exist_are_refused(model: LensModel):
    with pytest.raises(OptionError, match="no even layer"):
        candidate_layers(4, "low", embedding=False)
    with pytest.raises(OptionError, match=r"\[4, 7\] are no candidates.*has 4 blocks"):
        generate_dola(model, PROMPTS, DoLa((0, 4, 7)))
    for layers in ((), (1, 1), (-1, 2)):
        with pytest.raises(OptionError, match="layers must be"):
            DoLa(layers)
    with pytest.raises(OptionError, match="between 0 and 1"):
        DoLa((0,), alpha=2.0)


def test_impossible_generations_are_refused(model: LensModel):
    for prompts in ("a", []):
        with pytest.raises(OptionError, match="non-empty list"):
            generate_dola(model, prompts, PAPER)
    with pytest.raises(OptionError, match="repetition_penalty"):
        generate_dola(model, PROMPTS, PAPER, repetition_penalty=0.5)
    with pytest.raises(OptionError, match="sampling needs seed="):
        generate_dola(model, PROMPTS, PAPER, temperature=1.0)
    assert not model.is_hooked

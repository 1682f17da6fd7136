"""The laws of steering, in float64 on four families, with seeded random directions.

A constant added to every coordinate would be invisible to LayerNorm; a random direction is not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import (
    AllTokens,
    AnswerToken,
    FromIndex,
    LastToken,
    PromptEnd,
    PromptTokens,
    Site,
    SpanTokens,
)
from steerlens.errors import FitError, ModelError, OptionError, SiteError
from steerlens.interventions import steer
from steerlens.maps import DirectionalAblation, GaussianTransport, random_direction
from steerlens.models import LensModel, TokenBatch, tiny_model
from steerlens.testing import gaussian_samples

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")
SELECTORS = (LastToken(), AllTokens(), PromptTokens(), PromptEnd(), AnswerToken(), FromIndex(2), SpanTokens(1, 3))
TEXTS = ("The film was", "A considerably longer text about nothing in particular", "Two dogs")
EXACT = {"rtol": 0, "atol": 1e-9}


def direction(model: LensModel, norm: float = 3.0):
    return random_direction(model.d_model, norm=norm, seed=0)


def kinds(layer: int = 1, tokens=None) -> list[Site]:
    return [
        kind(layer, tokens) for kind in (Site.resid_pre, Site.resid_mid, Site.resid_post, Site.attn_out, Site.mlp_out)
    ]


def batch(model: LensModel, texts, side: str = "right") -> TokenBatch:
    """Texts of which the last two tokens are continuation."""
    rows = [model.encode(t) for t in texts]
    return TokenBatch.from_rows(rows, pad_id=model.pad_id, padding_side=side, n_prompt=[len(r) - 2 for r in rows])


@contextmanager
def hooked(model: LensModel, name: str, function) -> Iterator[None]:
    point = model.hook_point(name)
    handle = point.add_hook(function)
    try:
        yield
    finally:
        handle.hook.remove()
        point.fwd_hooks.remove(handle)


def attached(model: LensModel) -> int:
    """Hooks on the model, ours or anybody's."""
    return sum(len(p.fwd_hooks) + len(p._forward_hooks) for p in model.bridge.hook_dict.values())


def real(logits: torch.Tensor, tokens: TokenBatch) -> torch.Tensor:
    return logits[tokens.attention_mask.bool()]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_padding_and_batching_make_no_difference(model: LensModel, selector):
    right, left = batch(model, TEXTS), batch(model, TEXTS, "left")
    with steer(model, {Site.resid_post(1, selector): direction(model)}):
        steered = real(model.logits(right), right)
        assert_close(real(model.logits(left), left), steered, **EXACT)
        alone = [batch(model, [t]) for t in TEXTS]
        assert_close(torch.cat([real(model.logits(one), one) for one in alone]), steered, **EXACT)
    assert (steered - real(model.logits(right), right)).abs().max() > 1e-3


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_cached_generation_equals_uncached(model: LensModel, selector):
    for site in (Site.resid_post(1, selector), Site.resid_mid(2, selector)):
        with steer(model, {site: direction(model)}, strength=2.0):
            cached = model.generate(list(TEXTS), max_new_tokens=8)
            assert model.generate(list(TEXTS), max_new_tokens=8, use_cache=False) == cached
            assert [model.generate(t, max_new_tokens=8) for t in TEXTS] == cached


def test_selectors_steer_prompt_generated_or_both(model: LensModel):
    tokens = batch(model, TEXTS[:1])
    n_prompt = int(tokens.n_prompt[0])
    plain = model.logits(tokens)[0]

    def changed(selector) -> list[bool]:
        with steer(model, {Site.resid_post(3, selector): direction(model)}):
            return ((model.logits(tokens)[0] - plain).abs().amax(-1) > 1e-6).tolist()

    # At the last block a change shows at its own token and nowhere else.
    n = tokens.ids.shape[1]
    assert changed(PromptTokens()) == [1 <= i < n_prompt for i in range(n)]
    assert changed(PromptEnd()) == [i == n_prompt - 1 for i in range(n)]
    assert changed(AnswerToken()) == [i >= n_prompt for i in range(n)]
    assert changed(AllTokens()) == [i >= 1 for i in range(n)]
    assert changed(LastToken()) == [i >= n_prompt - 1 for i in range(n)]


def test_strength_zero_is_bit_identical(model: LensModel):
    tokens = batch(model, TEXTS)
    plain, text = model.logits(tokens), model.generate(TEXTS[0], max_new_tokens=6)
    ours = attached(model)
    with steer(model, {site: direction(model) for site in kinds()}, strength=0.0):
        assert attached(model) == ours, "strength 0 has nothing to do"
        assert torch.equal(model.logits(tokens), plain)
        assert model.generate(TEXTS[0], max_new_tokens=6) == text


@pytest.mark.parametrize("kind", range(5), ids=["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_an_edit_moves_the_stream_by_just_what_the_map_says(model: LensModel, kind: int):
    site, shift = kinds(2, AllTokens())[kind], direction(model)
    name = f"blocks.2.hook_resid_{'pre' if kind == 0 else 'mid' if kind in (1, 3) else 'post'}"

    # Later hooks see the edited value; the reader runs after the edit because it is attached later.
    def stream() -> torch.Tensor:
        seen = []
        model.read(TEXTS[1], [name], lambda _, x: seen.append(x.clone()))
        return seen[0][0, 1:]

    plain = stream()
    with steer(model, {site: shift}, strength=1.5):
        moved = stream() - plain
    assert_close(moved, 1.5 * shift.vector.expand_as(moved), **EXACT)


def test_what_others_hold_of_the_stream_is_not_changed(model: LensModel):
    """resid_post of a block and resid_pre of the next are one tensor; an edit in place would change both."""
    held = []
    with (
        hooked(model, "blocks.1.hook_resid_post", lambda x, hook: held.extend((x, x.clone()))),
        steer(model, {Site.resid_pre(2, AllTokens()): direction(model)}),
    ):
        model.logits(TEXTS[1])
    assert torch.equal(held[0], held[1])


def test_writing_resid_mid_reaches_the_stream_and_not_only_the_mlp(model: LensModel):
    shift = direction(model)
    with hooked(model, "blocks.2.hook_mlp_out", lambda x, hook: torch.zeros_like(x)):
        seen = []
        plain_read = ["blocks.2.hook_resid_post"]
        model.read(TEXTS[1], plain_read, lambda _, x: seen.append(x.clone()))
        with steer(model, {Site.resid_mid(2, AllTokens()): shift}):
            model.read(TEXTS[1], plain_read, lambda _, x: seen.append(x.clone()))
        assert_close(seen[1][0, 1:] - seen[0][0, 1:], shift.vector.expand_as(seen[0][0, 1:]), **EXACT)


def test_resid_mid_is_transformed_as_a_whole(model: LensModel):
    """A map that depends on its input sees the stream, not the attention output."""
    source, target = gaussian_samples(width=model.d_model)
    fitted = DirectionalAblation().fit(source, target)
    seen = []
    with steer(model, {Site.resid_mid(2, AllTokens()): fitted}):
        model.read(TEXTS[1], ["blocks.2.hook_resid_mid"], lambda _, x: seen.append(x.clone()))
    along = seen[0][0] @ fitted.read
    assert along[1:].abs().max() < 1e-9
    assert along[0].abs() > 1e-6


def test_one_head_is_steered_alone(model: LensModel):
    shift = random_direction(model.d_head, norm=2.0, seed=0)
    seen = []
    with steer(model, {Site.z(1, 3, AllTokens()): shift}):
        model.read(TEXTS[1], ["blocks.1.attn.hook_z"], lambda _, x: seen.append(x.clone()))
    model.read(TEXTS[1], ["blocks.1.attn.hook_z"], lambda _, x: seen.append(x.clone()))
    moved = (seen[0] - seen[1])[0]
    assert_close(moved[1:, 3], shift.vector.expand_as(moved[1:, 3]), **EXACT)
    moved[1:, 3] = 0
    assert moved.abs().max() < 1e-12


def test_sites_add_up_and_blocks_nest(model: LensModel):
    tokens, shift = batch(model, TEXTS), direction(model)
    one, two = Site.resid_post(1), Site.resid_post(2)
    with steer(model, {one: shift, two: shift}):
        together = model.logits(tokens)
    with steer(model, {one: shift}), steer(model, {two: shift}):
        assert_close(model.logits(tokens), together, **EXACT)
    with steer(model, {one: shift}), steer(model, {one: shift}, strength=-1.0):
        assert_close(model.logits(tokens), model.logits(tokens), **EXACT)
        undone = model.logits(tokens)
    assert_close(undone, model.logits(tokens), **EXACT)


def test_sites_of_one_hook_point_act_in_the_order_of_the_plan(model: LensModel):
    tokens, shift = batch(model, TEXTS), direction(model)
    fitted = DirectionalAblation().fit(*gaussian_samples(width=model.d_model))
    one, two = Site.resid_post(1, AllTokens()), Site.resid_post(1, FromIndex(1))
    with steer(model, {one: shift}), steer(model, {two: fitted}):
        nested = model.logits(tokens)
    with steer(model, {one: shift, two: fitted}):
        assert_close(model.logits(tokens), nested, **EXACT)
    with steer(model, {two: fitted, one: shift}):
        assert (model.logits(tokens) - nested).abs().max() > 1e-6


def breaks(model: LensModel, tokens: TokenBatch) -> None:
    model.logits(tokens)
    raise KeyError("inside")


def test_nothing_is_left_behind(model: LensModel):
    tokens = batch(model, TEXTS)
    plain = model.logits(tokens)
    mine = []
    ours = attached(model)
    with hooked(model, "blocks.1.hook_resid_post", lambda x, hook: mine.append(1)):
        with (
            pytest.raises(KeyError, match="inside"),
            steer(model, {site: direction(model) for site in kinds()}),
        ):
            breaks(model, tokens)
        before = len(mine)
        assert torch.equal(model.logits(tokens), plain)
        assert len(mine) == before + 1, "somebody else's hook was removed"
    assert attached(model) == ours


def test_all_hooks_or_none(model: LensModel):
    ours = attached(model)
    with (
        pytest.raises(SiteError),
        steer(model, {Site.resid_post(1): direction(model), Site.resid_post(99): direction(model)}),
    ):
        pytest.fail("the block was entered")
    assert attached(model) == ours


def test_the_bridge_called_directly_is_steered_too(model: LensModel):
    ids = model.to_tokens(TEXTS[1]).ids
    with steer(model, {Site.resid_post(1, AllTokens()): direction(model)}):
        ours, direct = model.logits(TEXTS[1]), model.bridge(ids)
    assert_close(direct, ours, **EXACT)


def test_what_cannot_work_is_refused_before_the_block(model: LensModel):
    for plan, strength, error, message in (
        ({Site.resid_post(1): random_direction(7, norm=1.0, seed=0)}, 1.0, FitError, "width 7"),
        ({Site.resid_post(1): direction(model)}, float("nan"), OptionError, "finite"),
        (
            {Site.resid_post(1): DirectionalAblation().fit(*gaussian_samples(width=model.d_model))},
            -1.0,
            OptionError,
            "no reverse",
        ),
        ({Site("blocks.0.hook_resid_pst"): direction(model)}, 1.0, SiteError, "hook_resid_post"),
    ):
        with pytest.raises(error, match=message), steer(model, plan, strength=strength):
            pytest.fail("the block was entered")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_its_dtype(dtype: str):
    model = tiny_model("llama", dtype=dtype)
    fitted = GaussianTransport(rank=4).fit(*gaussian_samples(width=model.d_model))
    plain = model.logits(TEXTS[0])
    with steer(model, {Site.resid_post(1): fitted}):
        steered = model.logits(TEXTS[0])
    assert steered.dtype == plain.dtype == getattr(torch, dtype)
    assert torch.isfinite(steered).all()
    assert not torch.equal(steered, plain)


def test_a_shorter_mask_than_tokens_is_refused(model: LensModel):
    with (
        steer(model, {Site.resid_post(1): direction(model)}),
        pytest.raises((ModelError, SiteError, ValueError, RuntimeError)),
    ):
        model.bridge(model.to_tokens(TEXTS[1]).ids, attention_mask=torch.ones(1, 2))

"""Wrappers stand aside only while nobody listens, and nothing but time changes."""

import logging

import pytest
import torch
from torch.testing import assert_close

from steerlens.models import LensModel, _lean, load_model, tiny_model, tiny_tokenizer

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")
TEXTS = ["The film was one of the best", "a"]


@pytest.fixture(params=FAMILIES, scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param)


def modules(model: LensModel) -> list[tuple[str, int]]:
    return [(name, id(module)) for name, module in model.bridge.original_model.named_modules()]


def names_that_fire(model: LensModel) -> set[str]:
    """Of the wrapped model, all hook points listened to at once."""
    fired: set[str] = set()
    points = {p.name: p for p in model.bridge.hook_dict.values() if p.name in model.hook_names}
    handles = [p.register_forward_hook(lambda *_, name=name: fired.add(name)) for name, p in points.items()]
    try:
        model.bridge(model.to_tokens(TEXTS).ids)
    finally:
        for handle in handles:
            handle.remove()
    return fired


def test_it_is_in_use_and_puts_everything_back(model: LensModel):
    before = modules(model)
    assert len(model.wrappers) > 4 * model.n_layers
    config = model.bridge.original_model.config
    attention = config._attn_implementation
    inside = []
    handle = model.bridge.original_model.register_forward_pre_hook(
        lambda *_: inside.append((modules(model), config._attn_implementation))
    )
    try:
        model.logits(TEXTS)
    finally:
        handle.remove()
    assert len(inside[0][0]) < len(before) / 2, "wrappers were in the way"
    assert inside[0][1] == "sdpa"
    assert modules(model) == before
    assert config._attn_implementation == attention


def test_everything_is_put_back_after_an_error(model: LensModel):
    before = modules(model)

    def fails(*_):
        raise KeyError("inside")

    handle = model.bridge.blocks[1].original_component.register_forward_pre_hook(fails)
    try:
        with pytest.raises(KeyError, match="inside"):
            model.logits(TEXTS)
    finally:
        handle.remove()
    assert modules(model) == before


def test_every_hook_point_that_fires_in_the_bridge_fires_here_with_the_same_value(model: LensModel):
    names = sorted(n for n in names_that_fire(model) if n.startswith(("blocks.0.", "blocks.3.")) or "." not in n[:7])
    assert len(names) > 30
    # One text, for the padding of a batch is not the same in both attentions, and means nothing.
    ids = model.to_tokens(TEXTS[0])
    for name in names:
        ours, theirs = [], []
        with model.hooked(name, lambda x, hook, seen=ours: seen.append(x.clone())):
            model.logits(ids)
        with model.hooked(name, lambda x, hook, seen=theirs: seen.append(x.clone())):
            model.bridge(ids.ids, attention_mask=ids.attention_mask, position_ids=ids.position_ids)
        assert len(ours) == len(theirs) > 0, name
        if ours[0].is_floating_point() and "attn_scores" not in name:
            assert_close(ours[0], theirs[0], atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_an_edit_at_any_site_has_the_same_effect_as_in_the_bridge(model: LensModel):
    ids = model.to_tokens(TEXTS)
    mask = ids.attention_mask.bool()
    plain = model.logits(ids)[mask]
    for name in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "attn.hook_z", "attn.hook_pattern"):
        with model.hooked(f"blocks.2.{name}", lambda x, hook: x.roll(1, -1)):
            ours = model.logits(ids)[mask]
            theirs = model.bridge(ids.ids, attention_mask=ids.attention_mask, position_ids=ids.position_ids)[mask]
        assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        assert (ours - plain).abs().max() > 1e-3, name


def test_a_hook_point_that_another_part_of_its_block_fires_is_heard():
    """Granite's block fires the hook point of attention's output after it has scaled it."""
    from transformers import AutoModelForCausalLM, GraniteConfig

    config = GraniteConfig(
        vocab_size=304, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config)
    model = load_model(made, tokenizer=tiny_tokenizer(add_bos=False))
    plain = model.logits(TEXTS[0])
    for name in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"):
        with model.hooked(f"blocks.1.{name}", lambda x, hook: x.roll(1, -1) + 1):
            assert (model.logits(TEXTS[0]) - plain).abs().max() > 1e-6, name


def test_hooks_are_counted_against_those_of_the_loaded_model(model: LensModel):
    assert not model.is_hooked
    with model.hooked("blocks.1.hook_resid_post", lambda x, hook: None):
        assert model.is_hooked
    handle = model.bridge.blocks[1].original_component.register_forward_hook(lambda *_: None)
    assert model.is_hooked
    handle.remove()
    assert not model.is_hooked


def test_a_model_that_computes_something_else_without_wrappers_keeps_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(_lean, "nearly_equal", lambda found, expected: False)
    with caplog.at_level(logging.WARNING):
        model = tiny_model("llama")
    assert model.wrappers == ()
    assert "wrappers" in caplog.records[0].getMessage()
    assert torch.isfinite(model.logits("The film")).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_told_from_wrong_logits(dtype: torch.dtype):
    logits = torch.randn(20, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    assert _lean.nearly_equal((logits.double() * (1 + torch.finfo(dtype).eps)).to(dtype), logits)
    assert not _lean.nearly_equal(logits.roll(1, 0), logits)
    assert not _lean.nearly_equal(torch.full_like(logits, float("nan")), logits)

"""Logits equal Hugging Face's, and padding and batching do not change them."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from steerlens.errors import ModelError, OptionError, SiteError
from steerlens.models import LensModel, TokenBatch, load_model, tiny_config, tiny_model, tiny_tokenizer
from steerlens.models._tiny import FAMILIES, seeded_model

TEXTS = ["The film was one of the best", "a", "Nothing at all happens in it and that for hours"]


@pytest.fixture(params=FAMILIES)
def exact(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_plain_hugging_face(family: str) -> None:
    plain = seeded_model(tiny_config(family), seed=0).float()
    model = tiny_model(family)
    tokens = model.to_tokens(TEXTS[0])
    with torch.no_grad():
        expected = plain(tokens.ids).logits
    assert expected.std() > 0.5, "flat logits would agree with anything"
    # two attention kernels, both float32
    torch.testing.assert_close(model.logits(tokens), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.real
@pytest.mark.slow
def test_logits_of_the_demo_model_equal_plain_hugging_face() -> None:
    from steerlens.models._demo import demo_folder

    plain = AutoModelForCausalLM.from_pretrained(demo_folder(), dtype=torch.float32, attn_implementation="eager")
    model = load_model("smollm2-135m-instruct")
    tokens = model.to_tokens("The capital of France is")
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tokens), plain(tokens.ids).logits, atol=2e-4, rtol=1e-5)


def test_padding_side_does_not_matter(exact: LensModel) -> None:
    left, right = exact.to_tokens(TEXTS, padding_side="left"), exact.to_tokens(TEXTS, padding_side="right")
    assert not torch.equal(left.ids, right.ids)
    a, b = exact.logits(left), exact.logits(right)
    torch.testing.assert_close(a[left.attention_mask.bool()], b[right.attention_mask.bool()], atol=1e-9, rtol=0.0)


def test_a_batch_gives_what_single_texts_give(exact: LensModel) -> None:
    batch = exact.to_tokens(TEXTS)
    together = exact.logits(batch)
    for row, text in enumerate(TEXTS):
        n = int(batch.lengths[row])
        torch.testing.assert_close(together[row, :n], exact.logits(text)[0], atol=1e-9, rtol=0.0)


def test_keep_last_gives_the_last_columns(exact: LensModel) -> None:
    tokens = exact.to_tokens(TEXTS, padding_side="left")
    kept = exact.logits(tokens, keep_last=2)
    torch.testing.assert_close(kept, exact.logits(tokens)[:, -2:], atol=1e-12, rtol=0.0)


def test_keep_last_must_be_positive() -> None:
    with pytest.raises(OptionError, match="keep_last must be at least 1, not 0"):
        tiny_model("llama").logits("a film", keep_last=0)


def test_logits_carry_no_gradient() -> None:
    model = tiny_model("llama")
    assert not model.logits("a film").requires_grad
    assert not any(p.requires_grad for p in model.bridge.parameters())
    assert not model.bridge.original_model.training


def test_a_row_longer_than_the_table_of_positions_is_refused() -> None:
    model = tiny_model("gpt2")
    assert model.max_tokens == 512
    long = TokenBatch.from_rows([[5] * 513], pad_id=0)
    with pytest.raises(ModelError, match=r"513 tokens are asked of 'tiny-gpt2'.*ends at 512"):
        model.logits(long)


def test_rotary_models_have_no_table_of_positions() -> None:
    assert tiny_model("llama").max_tokens is None


def test_facts_are_those_of_the_configuration() -> None:
    model = tiny_model("gemma3", dtype="bfloat16")
    assert (model.n_layers, model.d_model, model.n_heads, model.d_head, model.d_vocab) == (4, 48, 6, 12, 304)
    assert (model.device.type, model.dtype) == ("cpu", torch.bfloat16)
    assert not model.parallel_blocks
    assert "tiny-gemma3" in repr(model)
    assert "bfloat16" in model.describe()


def test_parallel_blocks_are_recognised() -> None:
    config = GPTNeoXConfig(
        vocab_size=304, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6
    )
    model = load_model(seeded_model(config, seed=0), tokenizer=tiny_tokenizer(add_bos=False))
    assert model.parallel_blocks
    assert "blocks.0.hook_resid_mid" not in model.hook_names


def test_a_hook_point_is_found_by_canonical_name_and_alias() -> None:
    model = tiny_model("llama")
    assert model.hook_point("blocks.1.hook_resid_post") is model.hook_point("blocks.1.hook_out")
    assert {"blocks.1.hook_resid_post", "blocks.1.hook_out", "blocks.3.attn.hook_z"} <= model.hook_names


def test_a_misspelt_hook_point_names_its_neighbours() -> None:
    with pytest.raises(SiteError) as caught:
        tiny_model("llama").hook_point("blocks.0.hook_resid_pst")
    assert str(caught.value).startswith(
        "'blocks.0.hook_resid_pst' is not a hook point of 'tiny-llama' (4 layers). "
        "Closest: 'blocks.0.hook_resid_post', 'blocks.0.hook_resid_pre'"
    )


def test_a_switched_off_hook_point_is_refused_until_switched_on() -> None:
    model = tiny_model("llama")
    assert "blocks.0.attn.hook_result" not in model.hook_names
    with pytest.raises(SiteError, match=r"set_use_attn_result\(True\)"):
        model.hook_point("blocks.0.attn.hook_result")
    model.bridge.set_use_attn_result(True)
    assert model.hook_point("blocks.0.attn.hook_result") is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_reduced_precision_stays_near_the_exact_logits(family: str) -> None:
    exact, rounded = tiny_model(family), tiny_model(family, dtype="bfloat16")
    expected = exact.logits(TEXTS[0])
    error = (rounded.logits(TEXTS[0]).float() - expected).abs().mean()
    # eight bits of mantissa over four layers
    assert error < 0.05 * expected.std()

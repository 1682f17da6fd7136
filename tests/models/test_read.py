"""Reading activations: the right ones, once each, and no work behind the last."""

import pytest
import torch
from torch import Tensor

from steerlens.errors import SiteError
from steerlens.models import LensModel, tiny_model

NAMES = (
    "hook_embed",
    "blocks.0.hook_resid_pre",
    "blocks.1.attn.hook_z",
    "blocks.2.hook_attn_out",
    "blocks.2.hook_out",
)


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param)


def read(model: LensModel, names: tuple[str, ...]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        assert name not in seen
        seen[name] = value.clone()

    model.read(model.to_tokens(["The film", "a"]), names, keep)
    return seen


def test_read_equals_the_hosts_own_cache(model: LensModel) -> None:
    tokens = model.to_tokens(["The film", "a"])
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(
            tokens.ids, attention_mask=tokens.attention_mask, position_ids=tokens.position_ids
        )
    seen = read(model, NAMES)
    assert set(seen) == set(NAMES)
    for name, value in seen.items():
        # two attention kernels, both float32
        torch.testing.assert_close(value, cache[name], atol=2e-5, rtol=1e-4)


def test_both_spellings_of_a_hook_point_are_read(model: LensModel) -> None:
    seen = read(model, ("blocks.1.hook_resid_post", "blocks.1.hook_out"))
    torch.testing.assert_close(seen["blocks.1.hook_resid_post"], seen["blocks.1.hook_out"], atol=0.0, rtol=0.0)


def test_nothing_behind_the_deepest_hook_point_runs(model: LensModel) -> None:
    fired: list[str] = []
    watched = ("blocks.1.hook_out", "blocks.2.hook_in", "unembed.hook_out")
    with model.bridge.hooks(fwd_hooks=[(n, lambda x, hook: fired.append(hook.name)) for n in watched]):
        read(model, ("blocks.1.hook_resid_post",))
        assert fired == ["blocks.1.hook_out"]
        fired.clear()
        model.logits("The film")
        assert fired == list(watched)


def test_the_stream_of_the_last_block_is_read_without_unembedding(model: LensModel) -> None:
    fired: list[str] = []
    with model.bridge.hooks(fwd_hooks=[("unembed.hook_out", lambda x, hook: fired.append(hook.name))]):
        seen = read(model, ("blocks.3.hook_resid_post",))
    assert fired == []
    assert seen["blocks.3.hook_resid_post"].shape[-1] == model.d_model


def test_logits_can_be_read_too(model: LensModel) -> None:
    assert read(model, ("unembed.hook_out",))["unembed.hook_out"].shape[-1] == model.d_vocab


def test_the_model_is_clean_after_reading_and_after_a_failing_reader(model: LensModel) -> None:
    before = model.logits("The film")

    def fail(name: str, value: Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.read("The film", ["blocks.1.hook_resid_post"], fail)
    read(model, NAMES)
    assert not any(point.fwd_hooks for point in model.bridge.hook_dict.values())
    torch.testing.assert_close(model.logits("The film"), before, atol=0.0, rtol=0.0)


def test_an_unknown_name_is_refused_before_anything_runs(model: LensModel) -> None:
    seen: list[str] = []
    with pytest.raises(SiteError, match=r"blocks\.9\.hook_out"):
        model.read("The film", ["blocks.0.hook_out", "blocks.9.hook_out"], lambda name, value: seen.append(name))
    assert seen == []
    assert not model.hook_point("blocks.0.hook_out").fwd_hooks


def test_activations_come_without_gradients(model: LensModel) -> None:
    assert not any(value.requires_grad for value in read(model, NAMES).values())

"""The logit lens at the last block is the model; below, it is what TransformerLens computes from its own cache."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import Site, extract
from steerlens.concepts import load_concept
from steerlens.errors import ModelError
from steerlens.models import LensModel, check_readout, lens_logits, load_model, logit_lens, stream_logits, tiny_model


@pytest.fixture(scope="module", params=["tiny-gpt2", "tiny-llama"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return load_model(request.param)


def test_at_the_last_block_it_is_the_model(model: LensModel):
    texts = ["The film was", "A river in the north", "One"]
    targets = torch.tensor([5, 17, 40])
    batch = model.to_tokens(texts, padding_side="left")
    name = Site.resid_post(model.n_layers - 1).hook_name
    caught = []
    with model.hooked(name, lambda x, **_: caught.append(x.detach().clone())):
        ends = model.run(batch)[:, -1].log_softmax(-1)
    found = logit_lens(model, caught[0][:, -1], targets)
    assert_close(found.log_prob.float(), ends.gather(1, targets[:, None])[:, 0], atol=1e-4, rtol=0)
    assert found.rank.tolist() == [(row > row[t]).sum().item() for row, t in zip(ends, targets, strict=True)]


def test_leading_axes_and_chunks_do_not_matter(model: LensModel):
    site = Site.resid_post(1)
    x = extract(model, load_concept("sentiment")[:6], [site])[site].positive
    targets = torch.arange(6) + 10
    whole = logit_lens(model, x, targets)
    folded = logit_lens(model, x.reshape(2, 3, -1), targets.reshape(2, 3))
    assert_close(folded.log_prob.flatten(), whole.log_prob, atol=0, rtol=0)
    in_chunks = logit_lens(model, x, targets, rows=2)
    # Products of other shapes add up in another order: eight steps of float32 between 4 and 8.
    assert_close(in_chunks.log_prob, whole.log_prob, atol=8 * 2**-21, rtol=0)
    assert in_chunks.rank.tolist() == folded.rank.flatten().tolist() == whole.rank.tolist()


def test_logits_of_some_tokens_are_those_of_all_and_have_gradients(model: LensModel):
    site = Site.resid_post(1)
    x = extract(model, load_concept("sentiment")[:6], [site])[site].positive.requires_grad_()
    ids = torch.tensor([3, 40, 17])
    some = lens_logits(model, x, ids)
    given = torch.stack([logit_lens(model, x.detach(), torch.full((6,), int(i))).log_prob for i in ids], dim=1)
    # Log-probabilities and logits differ by one number a row.
    assert_close((some - some[:, :1]).double(), given - given[:, :1], atol=1e-4, rtol=0)
    some.sum().backward()
    assert x.grad.norm() > 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen2"])
def test_the_stream_that_leaves_the_last_block_reads_as_the_model_s_logits(family: str):
    model = tiny_model(family, dtype="float64")
    tokens, seen = model.to_tokens("The film was"), []
    model.read(tokens, [f"blocks.{model.n_layers - 1}.hook_resid_post"], lambda name, x: seen.append(x[0].clone()))
    assert_close(stream_logits(model, seen[0]), model.logits(tokens)[0], rtol=1e-10, atol=1e-10)
    assert float((stream_logits(model, seen[0], norm="none") - model.logits(tokens)[0]).abs().max()) > 0.1


def test_a_model_that_reads_out_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("gpt2")
    check_readout(model)
    monkeypatch.setattr(type(model.bridge.blocks[0]), "hook_out_is_single_residual_stream", False)
    with pytest.raises(ModelError, match="cannot be read by the logit lens"):
        check_readout(model)

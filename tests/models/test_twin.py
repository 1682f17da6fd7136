"""The random twin: the same shape and words, other weights, seeded."""

import torch

from steerlens.models import load_model, random_twin


def test_it_has_the_shape_and_the_words_and_other_weights():
    model = load_model("tiny-llama")
    before = model.logits("The film was")
    twin = random_twin(model, seed=1)
    assert (twin.n_layers, twin.d_model, twin.d_vocab) == (model.n_layers, model.d_model, model.d_vocab)
    assert twin.encode("The film was") == model.encode("The film was")
    assert not torch.allclose(twin.logits("The film was"), before, atol=0.1)
    assert torch.equal(model.logits("The film was"), before)
    assert twin.revision != model.revision


def test_its_seed_decides():
    model = load_model("tiny-gpt2")
    state = torch.get_rng_state()
    a, b, c = (random_twin(model, seed=s).logits("A river") for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)

"""In-context vectors are what the authors' code, or their paper, says: two methods, tested apart."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.testing import assert_close

from steerlens.activations import AllTokens, FromIndex, Site
from steerlens.errors import FitError, OptionError
from steerlens.interventions import Intervention, in_context_vectors, replay, steer
from steerlens.models import LensModel, TokenTree, tiny_model

PAIRS = (
    ("The film was bad.", "The film was good!"),
    ("I hate this tree.", "I love this tree, truly."),
    ("What a waste of a day", "What a fine use of a day"),
    ("It is the end", "It is a start"),
    ("No one came there", "All of them came there in time"),
)
TEXT = "Then the river rose over the road"


@pytest.fixture(params=("gpt2", "llama"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def differences(model: LensModel) -> Tensor:
    """Of all layers, one behind the other, by hand."""
    rows = []
    for pair in PAIRS:
        states = []
        for text in pair:
            _, cache = model.bridge.run_with_cache(torch.tensor([model.encode(text)]))
            states.append(torch.cat([cache[f"blocks.{i}.hook_resid_post"][0, -1] for i in range(model.n_layers)]))
        rows.append(states[1] - states[0])
    return torch.stack(rows).detach()


@pytest.mark.parametrize("rank", [1, 3])
def test_the_code_s_vector_is_the_mean_and_scikit_learn_s_components(model: LensModel, rank: int):
    d = differences(model)
    pca = PCA(n_components=rank, svd_solver="full").fit(d.numpy())
    scores = pca.transform(d.numpy())
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(rank)])
    wanted = pca.mean_ + (signs[:, None] * pca.components_).sum(axis=0)
    found = in_context_vectors(model, PAIRS, variant="code", rank=rank)
    assert_close(found.vectors.flatten(), torch.tensor(wanted), rtol=0, atol=1e-9)
    assert (found.vectors.flatten() - d.mean(dim=0)).norm().item() == pytest.approx(rank**0.5), "components count"


def test_the_paper_s_vector_is_the_mean_along_the_first_component(model: LensModel):
    d = differences(model)
    values, vectors = torch.linalg.eigh(d.T @ d)
    e = vectors[:, -1]
    assert values[-1] > 1.01 * values[-2]
    found = in_context_vectors(model, PAIRS, variant="paper").vectors.flatten()
    assert_close(found, e * (e @ d.mean(dim=0)), rtol=0, atol=1e-8)
    turned = in_context_vectors(model, [(y, x) for x, y in PAIRS], variant="paper").vectors.flatten()
    assert_close(turned, -found, rtol=0, atol=1e-8)
    code = in_context_vectors(model, PAIRS, variant="code").vectors.flatten()
    assert torch.cosine_similarity(found, code, dim=0) < 0.999, "the two are different methods"


def test_equal_differences_give_their_mean(model: LensModel):
    found = in_context_vectors(model, [PAIRS[0]] * 3, variant="code").vectors.flatten()
    assert_close(found, differences(model)[0], rtol=0, atol=1e-9)


def code_rule(x: Tensor, v: Tensor, strength: float) -> Tensor:
    """As published, token by token, with λ = 0.1."""
    unit_x, unit_v = x / x.norm(dim=-1, keepdim=True), v / v.norm()
    dose = 1 + (-(unit_x @ unit_v)).clamp(min=0)
    moved = unit_x + 0.1 * strength * dose[..., None] * unit_v
    return x.norm(dim=-1, keepdim=True) * moved / moved.norm(dim=-1, keepdim=True)


def paper_rule(x: Tensor, v: Tensor, strength: float) -> Tensor:
    moved = x + strength * v
    return x.norm(dim=-1, keepdim=True) * moved / moved.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("strength", [3.0, -3.0])
@pytest.mark.parametrize(
    ("variant", "hook_name", "rule"),
    [("code", "hook_mlp_out", code_rule), ("paper", "hook_resid_post", paper_rule)],
)
def test_steering_is_the_published_rule_in_every_layer(
    model: LensModel, variant, hook_name: str, rule, strength: float, caplog: pytest.LogCaptureFixture
):
    found = in_context_vectors(model, PAIRS, variant=variant)
    ids = torch.tensor([model.encode(TEXT)])
    norms: list[Tensor] = []
    sides: list[Tensor] = []

    def act(v: Tensor):
        def hook(x: Tensor, hook: object) -> Tensor:
            out = x.clone()
            out[:, 1:] = rule(x[:, 1:], v, strength)
            sides.append((x[:, 1:] @ v > 0).flatten())
            norms.append((out.norm(dim=-1) - x.norm(dim=-1)).abs().max())
            return out

        return hook

    hooks = [(f"blocks.{i}.{hook_name}", act(v)) for i, v in enumerate(found.vectors)]
    with torch.no_grad():
        plain = model.bridge(ids)
        with model.bridge.hooks(fwd_hooks=hooks):
            by_hand = model.bridge(ids)
        with steer(model, found.plan, strength=strength):
            assert_close(model.bridge(ids), by_hand, rtol=0, atol=1e-9)
    replayed: list[Tensor] = []
    tree = TokenTree(tuple(ids[0, :-1].tolist()), ((int(ids[0, -1]),),))
    fresh = tiny_model(model.name.removeprefix("tiny-"), dtype="float64")  # hooks leave marks, which stop replay
    replay(fresh, [tree], [Intervention(found.plan, strength)], lambda part: replayed.append(part.logits[0, 0]))
    assert_close(replayed[0], by_hand[0, -2], rtol=0, atol=1e-9)
    assert "instead of replay" not in caplog.text
    assert torch.cat(sides).unique().tolist() == [False, True], "tokens on either side of v"
    assert (by_hand - plain)[:, 1:].abs().max() > 0.1
    assert len(norms) == model.n_layers
    assert max(norms) < 1e-9, "every norm is kept"


def test_the_first_token_is_steered_only_when_asked(model: LensModel):
    ids = torch.tensor([model.encode(TEXT)])
    plain = model.logits(TEXT)[0, 0]
    for tokens, moves in ((None, False), (AllTokens(), False), (FromIndex(0), True)):
        found = in_context_vectors(model, PAIRS, variant="code", tokens=tokens)
        assert set(found.plan) == {Site.mlp_out(i, tokens or AllTokens()) for i in range(model.n_layers)}
        with steer(model, found.plan, strength=5.0), torch.no_grad():
            assert bool((model.bridge(ids)[0, 0] - plain).abs().max() > 1e-3) == moves


def test_what_cannot_be_fitted_is_refused():
    model = tiny_model("gpt2")
    for change, message in (
        ({"variant": "book"}, "'code' or 'paper', not 'book'"),
        ({"rank": 5}, "rank must be 1 to 4"),
        ({"rank": 0}, "rank must be 1 to 4"),
        ({"variant": "paper", "rank": 2}, "The paper has one component"),
    ):
        with pytest.raises(OptionError, match=message):
            in_context_vectors(model, PAIRS, **{"variant": "code", **change})
    with pytest.raises(OptionError, match="at least two demonstrations"):
        in_context_vectors(model, PAIRS[:1], variant="code")
    with pytest.raises(FitError, match="do not differ"):
        in_context_vectors(model, [("the same", "the same"), ("text", "text")], variant="paper")

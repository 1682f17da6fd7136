"""Replay equals hooks: every site, selector, padding side and family, in float64 to 1e-9."""

import logging
import math

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import AllTokens, FromIndex, LastToken, Site
from steerlens.errors import ModelError, OptionError, SiteError
from steerlens.interventions import (
    Intervention,
    ModelReport,
    Replayed,
    _check,
    _replay,
    check_model,
    grid,
    probe_interventions,
    replay,
    steer,
)
from steerlens.interventions._check import SELECTORS
from steerlens.maps import random_direction
from steerlens.models import LensModel, TokenBatch, TokenTree, load_model, tiny_model, tree_obstacle
from steerlens.testing import ModelLaws

FAMILIES = ("gpt2", "llama", "gemma3", "qwen2")
TREES = [
    TokenTree((5, 9, 17, 30, 12, 8), ((3, 4), (7,))),
    TokenTree((21, 6), ((9, 2, 8),)),
    TokenTree((40, 41, 42, 43, 44, 45, 46, 47, 48), ((1,), (2,))),
]


@pytest.fixture(params=FAMILIES, scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


class TestEverySiteAndSelector(ModelLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def report(cls, model: LensModel) -> ModelReport:
        every = probe_interventions(model, layers=(0, model.n_layers - 1), selectors=SELECTORS)
        assert len(every) >= 6 * 6 * 2
        return check_model(model, every)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_lower_precision_replay_is_within_the_noise_between_batches(family: str, dtype: str):
    report = check_model(tiny_model(family, dtype=dtype))
    assert report.holds, str(report)


@pytest.mark.slow
@pytest.mark.real
class TestTheRealModel(ModelLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> LensModel:
        return load_model("smollm2-135m-instruct")


def test_not_a_number_in_one_intervention_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("llama")
    whole = _check._replayed

    def broken(*args):
        found = whole(*args)
        found[1][0, 0] = math.nan
        return found

    assert check_model(model, probe_interventions(model)[:3]).holds
    monkeypatch.setattr(_check, "_replayed", broken)
    report = check_model(model, probe_interventions(model)[:3])
    assert not report.holds
    assert "FAILS  replay = hooks" in str(report)


def shift(model: LensModel):
    return random_direction(model.d_model, norm=4.0, seed=0)


def collected(model: LensModel, trees, interventions) -> list[dict[int, torch.Tensor]]:
    """Logits of each tree's targets, by intervention and tree."""
    out: list[dict[int, torch.Tensor]] = [{} for _ in interventions]

    def keep(part: Replayed) -> None:
        targets = part.batch.targets
        rows = targets.cell_row[targets.cell]
        for i, k in enumerate(part.interventions):
            for r, tree in enumerate(part.trees):
                out[k][tree] = part.logits[min(i, len(part.logits) - 1)][targets.cell[rows == r]].clone()

    replay(model, trees, interventions, keep)
    return out


def some(model: LensModel) -> list[Intervention]:
    plans = [
        {Site.resid_post(layer, selector): shift(model)} for layer in (0, 2) for selector in (LastToken(), AllTokens())
    ]
    return grid(plans, (0.0, 0.5, 1.0, -1.0, 2.0))


def passes(model: LensModel, work) -> int:
    """Forward passes of the model during some work."""
    tree_obstacle(model)  # tried once for each model
    seen = []
    handle = model.bridge.original_model.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(seen)


def test_a_grid_costs_one_unsteered_pass_and_one_pass_per_block_and_first_token(model: LensModel):
    many = some(model)
    assert passes(model, lambda: collected(model, TREES, many)) == 1 + 4


def test_lower_blocks_are_not_run(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    tree_obstacle(model)
    ran: list[int] = []
    for number, block in enumerate(model.bridge.blocks):
        whole = block.original_component
        forward = whole.forward
        monkeypatch.setitem(
            whole.__dict__, "forward", lambda *a, n=number, f=forward, **k: (ran.append(n), f(*a, **k))[1]
        )
    collected(model, TREES, [Intervention({Site.resid_post(1): shift(model)}, s) for s in (1.0, 2.0)])
    assert ran == [0, 1, 2, 3, 2, 3], "once unsteered, and then from the block behind the site"


def test_torch_hooks_of_somebody_else_are_noticed(model: LensModel, caplog: pytest.LogCaptureFixture):
    handle = model.bridge.blocks[3].original_component.register_forward_hook(lambda m, a, out: None)
    try:
        collected(model, TREES, [Intervention({Site.resid_post(1): shift(model)}, 1.0)])
    finally:
        handle.remove()
    assert "hooks are on the model" in caplog.records[0].getMessage()


def test_chunks_make_no_difference(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    whole = collected(model, TREES, some(model))
    for limit in (1, 7, 40):
        monkeypatch.setattr(_replay, "columns_that_fit", lambda _, limit=limit: limit)
        for one, other in zip(collected(model, TREES, some(model)), whole, strict=True):
            for tree, logits in other.items():
                assert_close(one[tree], logits, rtol=0, atol=1e-9)


def test_a_lack_of_memory_halves_the_chunk_and_goes_on(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    whole = collected(model, TREES, some(model))
    resume, sizes = _replay.resume_trees, []

    def short_of_memory(model, unsteered, layer, layout, stream):
        sizes.append(layout.n)
        if layout.n > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return resume(model, unsteered, layer, layout, stream)

    monkeypatch.setattr(_replay, "resume_trees", short_of_memory)
    for one, other in zip(collected(model, TREES, some(model)), whole, strict=True):
        for tree, logits in other.items():
            assert_close(one[tree], logits, rtol=0, atol=1e-9)
    assert max(sizes) == 4
    assert sizes.count(2) >= 4


def test_other_errors_are_not_taken_for_a_lack_of_memory(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(_replay, "resume_trees", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        collected(model, TREES, some(model))


@pytest.mark.parametrize("case", ["hooked", "embedding", "architecture"])
def test_what_cannot_be_replayed_falls_back_to_hooks_and_says_why(
    model: LensModel, case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    many = [Intervention({Site.resid_post(1): shift(model)}, 1.0), Intervention({}, 0.0)]
    expected = collected(model, TREES, many)
    if case == "embedding":
        many.append(Intervention({Site("embed.hook_out", AllTokens()): shift(model)}, 1.0))
    if case == "architecture":
        monkeypatch.setattr(_replay, "tree_obstacle", lambda _: "its masks are unknown")
    with caplog.at_level(logging.WARNING):
        if case == "hooked":
            with model.hooked("blocks.3.hook_resid_post", lambda x, hook: None):
                found = collected(model, TREES, many)
        else:
            found = collected(model, TREES, many)
    for one, other in zip(found, expected, strict=False):
        for tree, logits in other.items():
            assert_close(one[tree], logits, rtol=0, atol=1e-9)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert {"hooked": "hooks are on", "embedding": "embed.hook_out", "architecture": "masks are unknown"}[case] in said[
        0
    ]


def test_hooks_of_somebody_else_act_in_the_fallback(model: LensModel):
    with model.hooked("blocks.3.hook_resid_post", lambda x, hook: torch.zeros_like(x)):
        silenced = collected(model, TREES, [Intervention({}, 0.0)])[0]
    assert (silenced[0] - collected(model, TREES, [Intervention({}, 0.0)])[0][0]).abs().max() > 1e-3


def test_replay_leaves_nothing_behind(model: LensModel):
    plain = model.logits("The film was")
    names = [(n, type(m)) for n, m in model.bridge.original_model.named_modules()]
    collected(model, TREES, some(model))
    with pytest.raises(KeyError, match="sink"):
        replay(model, TREES, some(model), lambda part: (_ for _ in ()).throw(KeyError("sink")))
    assert torch.equal(model.logits("The film was"), plain)
    assert [(n, type(m)) for n, m in model.bridge.original_model.named_modules()] == names
    assert not model.is_hooked


def test_the_last_block_can_be_steered(model: LensModel):
    """What leaves the last block goes on into the final norm alone."""
    last = Intervention({Site.resid_post(model.n_layers - 1, FromIndex(0)): shift(model)}, 1.0)
    tree = TREES[2]
    found = collected(model, [tree], [last])[0][0][0]
    with steer(model, last.plan):
        rows = TokenBatch.from_rows([tree.prompt], pad_id=0)
        assert_close(found, model.logits(rows)[0, -1], rtol=0, atol=1e-9)


def test_what_does_not_fit_is_refused_before_anything_runs(model: LensModel):
    with pytest.raises(SiteError, match="hook_resid_pst"):
        collected(model, TREES, [Intervention({Site("blocks.0.hook_resid_pst"): shift(model)})])
    with pytest.raises(OptionError, match="finite"):
        collected(model, TREES, [Intervention({Site.resid_post(0): shift(model)}, math.inf)])
    for strength in (math.nan, math.inf, -math.inf):
        same = {Site.resid_post(0): shift(model)}
        with pytest.raises(OptionError, match="finite"):
            collected(model, TREES, [*grid([same], (1.0, -1.0)), Intervention(same, strength)])
    with pytest.raises(OptionError, match="no tokens"):
        TokenTree((1,), ((),))
    with pytest.raises(OptionError, match="predicts nothing"):
        TokenTree((), ((1,),))
    if model.max_tokens is not None:
        with pytest.raises(ModelError, match="table of positions"):
            collected(model, [TokenTree(tuple(range(3)), ((1,) * (model.max_tokens + 1),))], [Intervention({}, 0.0)])

"""Sensitivity of the output: what replay finds is what hooks find."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import Site
from steerlens.evaluation import sensitivity
from steerlens.evaluation._sensitivity import N_DIRECTIONS, SHARE, OwnLength
from steerlens.interventions import steer
from steerlens.models import LensModel, TokenBatch, load_model

PROMPTS = ((5, 9, 11, 3), (7, 2))


@pytest.fixture(scope="module")
def model() -> LensModel:
    return load_model("tiny-llama", dtype="float64")


def lengths_at(model: LensModel, layers: list[int]) -> dict[int, torch.Tensor]:
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    names = {Site.resid_post(layer).hook_name: layer for layer in layers}
    for ids in PROMPTS:
        batch = TokenBatch.from_rows([list(ids)], pad_id=model.pad_id, padding_side="left")
        model.read(batch, list(names), lambda name, value: found[names[name]].append(value[0, -1].norm()))
    return {layer: torch.stack(values) for layer, values in found.items()}


def by_hooks(model: LensModel, layer: int, ids: tuple[int, ...], length: float, seed: int) -> float:
    """One direction at a time, whole passes, logits less their mean."""
    drawn = torch.randn(N_DIRECTIONS, model.d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    batch = TokenBatch.from_rows([list(ids)], pad_id=model.pad_id, padding_side="left")
    base = model.logits(batch, keep_last=1)[0, -1]
    found = []
    for v in drawn:
        with steer(model, {Site.resid_post(layer): OwnLength(v / v.norm())}, strength=SHARE):
            step = model.logits(batch, keep_last=1)[0, -1] - base
        found.append(float((step - step.mean()).norm()))
    return sum(found) / len(found) / (SHARE * length)


def test_it_is_what_hooks_find(model: LensModel):
    lengths = lengths_at(model, [0, model.n_layers - 1])
    found = sensitivity(model, PROMPTS, lengths, seed=3)
    for row, layer in enumerate(lengths):
        expected = [by_hooks(model, layer, ids, float(n), 3) for ids, n in zip(PROMPTS, lengths[layer], strict=True)]
        assert_close(found[row], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(found[0], found[1], rtol=0.01)


def test_twice_the_length_is_half_the_sensitivity_of_the_same_step(model: LensModel):
    lengths = lengths_at(model, [1])
    doubled = {1: 2 * lengths[1]}
    assert_close(sensitivity(model, PROMPTS, doubled, seed=0), sensitivity(model, PROMPTS, lengths, seed=0) / 2)


def test_other_directions_give_another_number_near_by(model: LensModel):
    lengths = lengths_at(model, [1])
    first, second = (sensitivity(model, PROMPTS, lengths, seed=s) for s in (0, 1))
    assert not torch.equal(first, second)
    assert_close(first, second, rtol=0.5, atol=0)

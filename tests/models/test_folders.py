"""Folders of weights: one identity for one content, and no weights that the folder does not have."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steerlens.errors import ModelError
from steerlens.models import _identity, describe, load_model, model_revision, tiny_config, tiny_tokenizer
from steerlens.models._identity import folder_identity
from steerlens.models._tiny import seeded_model


def saved(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    seeded_model(tiny_config(family), seed=seed).float().save_pretrained(folder)
    tiny_tokenizer(add_bos=True).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


def set_times(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))


def configured(folder: Path, **change: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_other_weights_are_another_model_though_names_sizes_and_times_agree(folder: Path, tmp_path: Path):
    other = saved(tmp_path / "other", seed=1)
    for one in (folder, other):
        set_times(one)
    facts = [{p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in f.iterdir()} for f in (folder, other)]
    assert facts[0] == facts[1]
    assert folder_identity(folder) != folder_identity(other)


def test_a_copy_is_the_same_model_whatever_its_times_and_whatever_lies_beside_it(folder: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    set_times(copy)
    (copy / "README.md").write_text("About this model.")
    assert load_model(copy).revision == load_model(folder).revision == model_revision(folder) == model_revision(copy)
    assert model_revision(copy) == f"folder:{folder_identity(folder)}"


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "merges.txt",
    ],
)
def test_every_file_that_a_model_is_read_from_counts(folder: Path, name: str):
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    before = folder_identity(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert folder_identity(folder) != before
    (folder / name).unlink()
    assert folder_identity(folder) != before


def test_a_file_that_moves_its_content_to_another_name_counts(tmp_path: Path):
    (tmp_path / "vocab.json").write_text("{}")
    before = folder_identity(tmp_path)
    (tmp_path / "vocab.json").rename(tmp_path / "config.json")
    assert folder_identity(tmp_path) != before


def test_a_large_file_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    real = _identity._read

    def counted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(_identity, "_read", counted)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(_identity._LARGE))
    first = folder_identity(tmp_path)
    assert folder_identity(tmp_path) == first
    assert read == ["model.safetensors"]
    set_times(tmp_path)
    assert folder_identity(tmp_path) == first
    assert read == ["model.safetensors"] * 2
    weights.write_bytes(bytes(_identity._LARGE) + b"1")
    assert folder_identity(tmp_path) != first


@pytest.mark.parametrize(("family", "key"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_blocks_that_the_weights_do_not_have_are_not_made_up(tmp_path: Path, family: str, key: str):
    model = configured(saved(tmp_path, family), **{key: 9})
    with pytest.raises(ModelError, match=r"it lacks .*\.4\..* and \d+ more.*Give config\.json and weights of one"):
        load_model(model)


@pytest.mark.parametrize(("family", "key"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_blocks_that_the_configuration_does_not_count_are_not_dropped(tmp_path: Path, family: str, key: str):
    model = configured(saved(tmp_path, family), **{key: 2})
    with pytest.raises(ModelError, match=r"the configuration has no blocks for .*\.2\."):
        load_model(model)


@pytest.mark.parametrize("kind", ["bert", "mamba"])
def test_weights_of_another_architecture_are_refused(folder: Path, kind: str):
    with pytest.raises(ModelError, match=r"not those of a \w+ as its configuration says: it lacks"):
        load_model(configured(folder, model_type=kind))


def test_a_weight_that_is_missing_or_of_another_shape_is_named(folder: Path):
    name = "model.layers.1.mlp.up_proj.weight"

    def halve(weights: dict[str, torch.Tensor]) -> None:
        weights[name] = weights[name][:48].clone()

    rewritten(folder, halve)
    with pytest.raises(ModelError, match=rf"of another shape are {name} \(48×48, not \d+×48\)"):
        load_model(folder)
    rewritten(folder, lambda weights: weights.__delitem__(name))
    with pytest.raises(ModelError, match=rf"it lacks {name}\."):
        load_model(folder)


def test_buffers_and_heads_that_the_model_does_not_use_are_no_fault(folder: Path):
    expected = load_model(folder).logits("The film")

    def add(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        weights["model.layers.3.self_attn.masked_bias"] = torch.ones(1)
        weights["vision.layers.30.weight"] = torch.ones(2)
        weights["score.weight"] = torch.ones(2, 48)

    rewritten(folder, add)
    torch.testing.assert_close(load_model(folder).logits("The film"), expected, atol=0.0, rtol=0.0)


def test_tied_weights_need_not_be_there_twice(tmp_path: Path):
    model = saved(tmp_path, "gpt2")
    assert not any("lm_head" in name for name in load_file(model / "model.safetensors"))
    assert load_model(model).logits("The film").isfinite().all()


BAD_CONFIGURATIONS = [
    {"num_attention_heads": 0},
    {"hidden_size": "abc"},
    {"num_hidden_layers": None},
    {"hidden_act": "no-such-function"},
    {"rope_scaling": {"type": "no-such-type", "factor": 2.0}},
    {"vocab_size": -1},
]


@pytest.mark.parametrize("change", BAD_CONFIGURATIONS, ids=lambda change: next(iter(change)))
def test_a_configuration_that_makes_no_model_is_an_error_of_ours(folder: Path, change: dict[str, Any]):
    configured(folder, **change)
    with pytest.raises(ModelError, match=r"Could not load the (configuration|shape) of .*model"):
        describe(folder)
    with pytest.raises(ModelError, match="Could not load the folder"):
        load_model(folder)

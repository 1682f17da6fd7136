"""Where models come from, and what is said when they do not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config

from steerlens.errors import ModelError, OptionError, UnknownNameError
from steerlens.models import _read, load_model, tiny_config, tiny_model, tiny_tokenizer
from steerlens.models._tiny import seeded_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    seeded_model(tiny_config("llama"), seed=0).float().save_pretrained(tmp_path)
    tiny_tokenizer(add_bos=True).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_the_model_that_was_saved(folder: Path) -> None:
    model = load_model(folder)
    torch.testing.assert_close(model.logits("The film"), tiny_model("llama").logits("The film"), atol=0.0, rtol=0.0)
    assert model.add_bos
    assert model.revision == load_model(str(folder)).revision


def test_the_identity_of_a_folder_follows_its_content(folder: Path) -> None:
    before = load_model(folder).revision
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 77.0}))
    assert load_model(folder).revision != before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", torch.float32, "torch.float32"])
def test_weights_come_in_the_precision_asked_for(folder: Path, dtype: str | torch.dtype) -> None:
    model = load_model(folder, dtype=dtype)
    assert str(dtype).removeprefix("torch.") == str(model.dtype).removeprefix("torch.")
    assert {p.dtype for p in model.bridge.parameters()} == {model.dtype}
    assert model.logits("a film").isfinite().all()


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_model(folder)
    assert load_model(folder, tokenizer=tiny_tokenizer(add_bos=False)).add_bos is False


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors weights.*can run code"):
        load_model(folder)


def test_broken_weights_are_reported(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match="Could not load the folder"):
        load_model(folder)


def test_code_in_a_folder_is_not_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')\nclass C: ...\nclass M: ...\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="Could not load the folder"):
        load_model(folder)


def test_a_folder_that_is_no_model_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"Give the file itself: .*some\.gguf"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="Could not load the GGUF file"):
        load_model(tmp_path / "some.gguf")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"neither a folder nor a \.gguf file"):
        load_model(tmp_path / "weights.bin")


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/place", "model.gguf", "a/b/c"])
def test_a_path_that_does_not_exist_is_reported(path: str) -> None:
    with pytest.raises(ModelError, match="There is no file or folder"):
        load_model(path)


def test_a_live_model_keeps_its_precision_and_logits() -> None:
    plain = seeded_model(tiny_config("qwen2"), seed=3)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = plain(ids).logits
    model = load_model(plain, tokenizer=tiny_tokenizer(add_bos=False))
    assert model.dtype == torch.float64
    with torch.no_grad():
        # Hugging Face rounds attention to float32
        torch.testing.assert_close(model.bridge(ids), expected, atol=1e-5, rtol=1e-5)


def test_the_identity_of_a_live_model_follows_its_weights() -> None:
    def identity(seed: int) -> str:
        live = seeded_model(tiny_config("qwen2"), seed=seed)
        return load_model(live, tokenizer=tiny_tokenizer(add_bos=False)).revision

    assert identity(0) == identity(0)
    assert identity(0) != identity(1)


def test_a_live_model_needs_its_tokenizer_and_is_wrapped_once() -> None:
    live = seeded_model(tiny_config("gpt2"), seed=0)
    with pytest.raises(ModelError, match="pass tokenizer="):
        load_model(live)
    load_model(live, tokenizer=tiny_tokenizer(add_bos=False))
    with pytest.raises(ModelError, match="wrapped by TransformerLens already"):
        load_model(live, tokenizer=tiny_tokenizer(add_bos=False))
    with pytest.raises(ModelError, match="must be a Hugging Face causal language model"):
        load_model(torch.nn.Linear(2, 2), tokenizer=tiny_tokenizer(add_bos=False))  # type: ignore[arg-type]


def test_an_architecture_that_refuses_sdpa_is_loaded_eagerly(tmp_path: Path) -> None:
    config = Gemma2Config(
        vocab_size=304, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    seeded_model(config, seed=0).float().save_pretrained(tmp_path)
    model = load_model(tmp_path, tokenizer=tiny_tokenizer(add_bos=True))
    assert model.config._attn_implementation == "eager"
    assert model.logits("a film").isfinite().all()


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_tiny_models_are_the_same_every_time(name: str) -> None:
    a, b = load_model(name), tiny_model(name.removeprefix("tiny-"))
    assert (a.name, a.revision) == (b.name, b.revision) == (name, b.revision)
    torch.testing.assert_close(a.logits("The film"), b.logits("The film"), atol=0.0, rtol=0.0)
    other = tiny_model(name.removeprefix("tiny-"), seed=1)
    assert other.revision != a.revision
    assert not torch.allclose(a.logits("The film"), other.logits("The film"))


@pytest.mark.parametrize(("name", "near"), [("tiny-lama", "'tiny-llama'"), ("gpt2-xll", "'gpt2-xl'")])
def test_an_unknown_name_suggests_its_neighbours(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=near):
        load_model(name)
    with pytest.raises(UnknownNameError, match="not a known tiny family"):
        tiny_model("bert")


@pytest.mark.parametrize("name", ["gpt2-xl", "gpt2-small", "no-such-org/no-such-model"])
def test_an_unreachable_hub_names_what_works_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read, "hub_reachable", lambda: False)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    for way in (
        "hub cannot be reached",
        "a .gguf file",
        "local folder",
        "smollm2-135m-instruct",
        "tiny-gpt2",
    ):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, float64, not 'int8'"),
        ({"dtype": torch.int64}, "dtype must be one of"),
        ({"device": "warp"}, "device='warp' cannot be used here"),
        ({"revision": "main"}, "only the hub has revisions"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_model("tiny-llama", **options)  # type: ignore[arg-type]


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, steerlens.models as m; rows = m.model_catalogue(); assert rows; "
        "bad = {'torch', 'transformers', 'transformer_lens'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves() -> None:
    import steerlens.models as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = package.absent

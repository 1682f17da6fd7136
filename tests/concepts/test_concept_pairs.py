"""What a pair contrasts, what it asks, and what it refuses."""

import copy
import pickle

import pytest

from steerlens.concepts import ContrastivePair, Question
from steerlens.errors import ConceptError


def test_texts_are_prompt_and_continuation_verbatim() -> None:
    pair = ContrastivePair("On the table", " lay two cats", " lay a cat", "cat")
    assert pair.texts.positive == "On the table lay two cats"
    assert pair.texts.negative == "On the table lay a cat"


def test_a_pair_without_answers_asks_which_continuation_follows() -> None:
    pair = ContrastivePair("The capital of France is", " Paris", " Madrid", "France")
    assert pair.questions == (Question("The capital of France is", " Paris", " Madrid", "France", "both"),)


def test_a_pair_with_answers_asks_for_the_read_out_after_each_text() -> None:
    pair = ContrastivePair("Review:", " Fine.\nMood:", " Vile.\nMood:", "film", answers=(" up", " down"))
    assert pair.questions == (
        Question("Review: Fine.\nMood:", " up", " down", "film", "positive"),
        Question("Review: Vile.\nMood:", " up", " down", "film", "negative"),
    )


def test_metadata_cannot_be_changed_through_the_pair_or_its_origin() -> None:
    origin = {"index": 1}
    pair = ContrastivePair("a", " b", " c", "g", origin)
    origin["index"] = 2
    assert pair.metadata == {"index": 1}
    with pytest.raises(TypeError):
        pair.metadata["index"] = 3  # type: ignore[index]


def test_pairs_hash_copy_and_pickle() -> None:
    pair = ContrastivePair("a", " b", " c", "g", {"index": 1, "kind": "x"}, (" y", " n"))
    assert pickle.loads(pickle.dumps(pair)) == copy.deepcopy(pair) == pair
    assert len({pair, copy.deepcopy(pair)}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positive": "  "}, r"field 'positive' is empty\. Expected .* Fill it in\."),
        ({"group": ""}, r"field 'group' is empty"),
        ({"positive": " c"}, r"fields 'positive' and 'negative' are equal: ' c'\. Expected"),
        (
            {"metadata": {"x": float("nan")}},
            r"metadata 'x' is nan \(float\)\. Expected a text, a finite number",
        ),
        ({"metadata": {"prompt": "x"}}, r"metadata key 'prompt' is not allowed\. .* Rename it\."),
        ({"answers": (" y", " y")}, r"fields 'answers\[0\]' and 'answers\[1\]' are equal"),
        ({"answers": (" y", "")}, r"field 'answers\[1\]' is empty"),
    ],
)
def test_a_malformed_pair_is_refused_with_the_name_of_the_field(fields: dict, message: str) -> None:
    good = {"prompt": "a", "positive": " b", "negative": " c", "group": "g"}
    assert ContrastivePair(**good).group == "g"
    with pytest.raises(ConceptError, match=message):
        ContrastivePair(**{**good, **fields})

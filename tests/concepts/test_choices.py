"""Lettered choices: both orders of every pair, nothing else changed, and nothing left of a read-out's cue."""

import pytest

from steerlens.concepts import ChatFormat, ConceptDataset, ContrastivePair, in_chat, lettered_choices
from steerlens.errors import ConceptError

PAIRS = (
    ContrastivePair("The film was", " good", " bad", group="film", metadata={"source": "mine"}),
    ContrastivePair("", "I am glad.\nMood:", "I am sad.\nMood:", group="mood", answers=(" up", " down")),
)
DATA = ConceptDataset("praise", PAIRS)


def test_a_pair_is_asked_in_both_orders_and_the_letter_follows_the_option():
    first, second = lettered_choices(DATA)[:2]
    assert first.prompt == "The film was\n\nChoices:\n (A) good\n (B) bad\n\nAnswer: ("
    assert second.prompt == "The film was\n\nChoices:\n (A) bad\n (B) good\n\nAnswer: ("
    assert [(p.positive, p.negative) for p in (first, second)] == [("A", "B"), ("B", "A")]
    for pair in (first, second):
        assert f"({pair.positive}) good" in pair.prompt
        assert f"({pair.negative}) bad" in pair.prompt


def test_groups_and_metadata_stay_and_say_what_belongs_together():
    found = lettered_choices(DATA)
    assert [p.group for p in found] == ["film", "film", "mood", "mood"]
    assert [p.metadata["asked"] for p in found] == [0, 0, 1, 1]
    assert [p.metadata["answer_letter"] for p in found] == ["A", "B", "A", "B"]
    assert found[0].metadata["source"] == "mine"


def test_a_read_out_s_cue_is_no_part_of_an_option():
    prompt = lettered_choices(DATA)[2].prompt
    assert prompt == "Choices:\n (A) I am glad.\n (B) I am sad.\n\nAnswer: ("
    assert lettered_choices(DATA)[2].answers is None


def test_every_pair_is_one_question():
    assert [q.side for q in lettered_choices(DATA).questions] == ["both"] * 4


def test_a_conversation_is_refused():
    talk = ChatFormat("<s>", "</s><u>", "<u>", "</u>")
    with pytest.raises(ConceptError, match="conversation already"):
        lettered_choices(in_chat(DATA, talk))
    assert in_chat(lettered_choices(DATA), talk)[0].prompt.startswith("<u>The film was")

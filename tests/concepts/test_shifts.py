"""Shifts change what stands around the questions, and nothing of the questions."""

import dataclasses

import pytest

from steerlens.concepts import (
    PLAIN,
    ChatFormat,
    ConceptDataset,
    ContrastivePair,
    Instructions,
    concept_names,
    distractors,
    in_chat,
    instructions,
    load_concept,
    shifts,
    with_context,
    with_examples,
    with_persona,
    with_system,
    with_template,
    with_translation,
    with_user,
)
from steerlens.errors import ConceptError, OptionError, UnknownNameError

CHAT = ChatFormat(before_system="<s>", after_system="</s><u>", before_user="<u>", after_user="</u><a>")


@pytest.fixture
def plain() -> ConceptDataset:
    return ConceptDataset(
        "towns",
        (
            ContrastivePair("The town is", " big", " small", group="town"),
            ContrastivePair("The city is", " large", " tiny", group="city", metadata={"kind": 1}),
        ),
    )


@pytest.fixture
def asked() -> ConceptDataset:
    pair = ContrastivePair("Review:", " Fine.\nSentiment:", " Bad.\nSentiment:", "film", answers=(" good", " bad"))
    return ConceptDataset("reviews", (pair,))


def test_a_system_message_is_a_paragraph_before_plain_prompts(plain: ConceptDataset):
    assert [p.prompt for p in with_system(plain, "Be brief.")] == [
        "Be brief.\n\nThe town is",
        "Be brief.\n\nThe city is",
    ]
    assert with_user(plain, "Be brief.")[0].prompt == "Be brief.\nThe town is"
    assert with_persona(plain, "a porter")[0].prompt == "You are a porter.\n\nThe town is"


def test_nothing_but_the_surroundings_changes(plain: ConceptDataset):
    for shifted in shifts(plain, seed=0, said=Instructions("Yes.", "No.")).values():
        for before, after in zip(plain, shifted, strict=True):
            assert after.prompt.endswith(before.prompt)
            assert (after.positive, after.negative, after.group) == (before.positive, before.negative, before.group)


def test_metadata_name_the_shift_and_keep_what_was_there(plain: ConceptDataset):
    twice = with_system(with_context(plain, 2, seed=0), "Be brief.")
    assert twice[1].metadata == {"kind": 1, "shift": "context: 2 sentences + system: Be brief."}
    assert twice.description == "Shift: context: 2 sentences. Shift: context: 2 sentences + system: Be brief.."


def test_in_a_conversation_the_prompt_is_the_user_s_and_the_continuation_the_reply(plain: ConceptDataset):
    assert in_chat(plain, CHAT)[0].texts.positive == "<u>The town is</u><a>big"
    assert with_system(plain, "S", chat=CHAT)[0].texts.negative == "<s>S</s><u>The town is</u><a>small"
    assert with_user(plain, "S", chat=CHAT)[0].texts.negative == "<u>S\nThe town is</u><a>small"


def test_in_a_conversation_a_pair_with_answers_is_the_user_s_whole_text(asked: ConceptDataset):
    positive, negative = in_chat(asked, CHAT).questions
    assert positive.context == "<u>Review: Fine.\nSentiment:</u><a>"
    assert negative.context == "<u>Review: Bad.\nSentiment:</u><a>"
    assert (positive.positive, positive.negative) == ("good", "bad")
    plain = with_system(asked, "S").questions[0]
    assert (plain.context, plain.positive) == ("S\n\nReview: Fine.\nSentiment:", " good")


def test_a_conversation_is_not_shifted_again(plain: ConceptDataset):
    with pytest.raises(ConceptError, match="Shift first"):
        with_system(in_chat(plain, CHAT), "S")
    with pytest.raises(OptionError, match="PLAIN"):
        in_chat(plain, PLAIN)


def test_longer_contexts_begin_with_the_shorter_ones_and_are_one_for_a_group(plain: ConceptDataset):
    both = ConceptDataset("t", (*plain, ContrastivePair("The town was", " big", " small", group="town")))
    one, three = with_context(both, 1, seed=0), with_context(both, 3, seed=0)
    for short, long in zip(one, three, strict=True):
        assert long.prompt.startswith(short.prompt.split("\n")[0] + " ")
        assert sum(sentence in long.prompt for sentence in distractors()) == 3
    assert three[0].prompt.split("\n")[0] == three[2].prompt.split("\n")[0]
    assert three[0].prompt.split("\n")[0] != three[1].prompt.split("\n")[0]
    assert with_context(both, 3, seed=0) == three
    assert with_context(both, 3, seed=1) != three


def test_a_template_puts_words_on_both_sides(plain: ConceptDataset):
    shifted = with_template(plain, "Q: {prompt} (one word)")
    assert shifted[0].texts.positive == "Q: The town is (one word) big"
    for bad in ("Q:", "{prompt} and {prompt}"):
        with pytest.raises(OptionError, match="exactly once"):
            with_template(plain, bad)


def test_examples_are_paragraphs_before_the_prompt(plain: ConceptDataset):
    assert with_examples(plain, ["A is b", "C is d"])[0].prompt == "A is b\n\nC is d\n\nThe town is"
    for bad in ([], "A is b"):
        with pytest.raises(OptionError, match="non-empty list"):
            with_examples(plain, bad)


def test_a_translation_is_taken_if_it_is_one(plain: ConceptDataset):
    german = ConceptDataset(
        "orte",
        (
            ContrastivePair("Der Ort ist", " groß", " klein", group="town"),
            ContrastivePair("Die Stadt ist", " weit", " eng", group="city"),
        ),
    )
    shifted = with_translation(plain, german, "German")
    assert (shifted.name, shifted[0].prompt) == ("towns", "Der Ort ist")
    assert shifted[0].metadata["shift"] == "language: German"
    with pytest.raises(ConceptError, match="pair by pair"):
        with_translation(plain, german[::-1], "German")
    answered = dataclasses.replace(german[1], answers=(" a", " b"))
    with pytest.raises(ConceptError, match="pair by pair"):
        with_translation(plain, ConceptDataset("orte", (german[0], answered)), "German")


def test_the_standard_set_says_opposite_things_in_both_places():
    data = load_concept("past-tense")[:8]
    found = shifts(data, seed=0, contexts=(1, 3))
    assert list(found) == ["BASE", "SYS_POS", "SYS_NEG", "USER_POS", "USER_NEG", "CONTEXT_1", "CONTEXT_3"]
    said = instructions("past-tense")
    for name, text in (("SYS_POS", said.positive), ("SYS_NEG", said.negative), ("USER_POS", said.positive)):
        assert all(pair.prompt.startswith(text) for pair in found[name])
    assert [p.prompt for p in found["BASE"]] == [p.prompt for p in data]
    assert {p.metadata["shift"] for p in found["BASE"]} == {"BASE"}


def test_every_built_in_concept_has_two_instructions():
    for name in concept_names():
        said = instructions(name)
        assert said.positive != said.negative
    with pytest.raises(UnknownNameError, match="write the two instructions"):
        instructions("kindness")


@pytest.mark.parametrize("n", [0, 25])
def test_a_context_has_as_many_sentences_as_there_are(plain: ConceptDataset, n: int):
    with pytest.raises(OptionError, match="1 to 24"):
        with_context(plain, n, seed=0)


def test_an_empty_text_is_no_shift(plain: ConceptDataset):
    for shift in (with_system, with_user, with_persona):
        with pytest.raises(OptionError, match="visible"):
            shift(plain, " ")

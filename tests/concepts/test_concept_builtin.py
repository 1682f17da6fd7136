"""The built-in concepts keep the promises of their summaries."""

import subprocess
import sys

import pytest

from steerlens.concepts import ConceptDataset, concept_names, concept_summaries, load_concept

NAMES = (
    "antonyms",
    "capital-cities",
    "formality",
    "months",
    "past-tense",
    "plural",
    "sentiment",
    "truth",
    "weekdays",
)


@pytest.fixture(scope="module", params=NAMES)
def concept(request: pytest.FixtureRequest) -> ConceptDataset:
    return load_concept(request.param)


def test_the_names_are_those_of_the_files() -> None:
    assert concept_names() == NAMES


def test_each_set_is_large_enough_to_split(concept: ConceptDataset) -> None:
    assert len(concept) >= 120
    assert len(concept.groups) >= 30
    assert min(len(part) for part in concept.split(seed=0)) >= 25


def test_summaries_agree_with_the_data(concept: ConceptDataset) -> None:
    summary = next(s for s in concept_summaries() if s.name == concept.name)
    assert (summary.pairs, summary.groups) == (len(concept), len(concept.groups))
    assert (concept.licence, concept.source) == ("CC0-1.0", "written for steerlens")
    assert concept.description == summary.description != ""
    assert summary.notes


def test_prompts_and_continuations_meet_where_a_tokeniser_divides_words(concept: ConceptDataset) -> None:
    for pair in concept:
        assert pair.prompt == pair.prompt.strip()
        for text in (pair.positive, pair.negative, *(pair.answers or ())):
            assert text.startswith(" ")
            assert text == " " + text.strip()
            assert "  " not in text


def test_sentiment_twins_have_like_lengths_and_varied_words() -> None:
    whole = load_concept("sentiment")
    assert all(sum(p.group == g for p in whole) == 4 for g in whole.groups)
    words: dict[str, set[str]] = {}
    for pair in whole:
        reviews = [text.removesuffix("\nSentiment:").split() for text in (pair.positive, pair.negative)]
        assert all(8 <= len(review) <= 18 for review in reviews)
        assert abs(len(reviews[0]) - len(reviews[1])) <= 4
        assert pair.answers == (" positive", " negative")
        only = {word.strip(",.:") for word in set(reviews[0]) ^ set(reviews[1])}
        for word in only:
            words.setdefault(word, set()).add(pair.group)
    assert len(words) > 600
    telling = {word: groups for word, groups in words.items() if len(word) > 5}
    assert max(len(groups) for groups in telling.values()) <= 8


def test_each_tense_group_demands_the_past_once() -> None:
    whole = load_concept("past-tense")
    for group in whole.groups:
        assert [p.metadata["cue"] for p in whole if p.group == group].count("past") == 1
    assert {p.metadata["regular"] for p in whole} == {True, False}


def test_each_fact_is_told_plainly_and_negated_with_its_sides_exchanged() -> None:
    whole = load_concept("truth")
    for plain, negated in zip(whole[0::2], whole[1::2], strict=True):
        assert (plain.metadata["negated"], negated.metadata["negated"]) == (False, True)
        assert plain.group == negated.group
        assert (plain.positive, plain.negative) == (negated.negative, negated.positive)
        assert negated.prompt.split() != plain.prompt.split()
        assert [word for word in negated.prompt.split() if word != "not"] == plain.prompt.split()


@pytest.mark.parametrize(("name", "item", "n"), [("weekdays", "day", 7), ("months", "month", 12)])
def test_cycles_are_whole_in_every_template(name: str, item: str, n: int) -> None:
    whole = load_concept(name)
    for group in whole.groups:
        steps = [p for p in whole if p.group == group]
        assert [p.metadata["index"] for p in steps] == list(range(n))
        assert [p.positive for p in steps] == [p.negative for p in (*steps[1:], steps[0])]
        assert all(p.negative == f" {p.metadata[item]}" for p in steps)
        assert all(p.positive == f" {p.metadata['successor']}" for p in steps)


def test_importing_concepts_loads_nothing_heavy() -> None:
    code = (
        "import sys; import steerlens.concepts as c; c.load_concept('sentiment');"
        "print({'torch', 'pandas', 'transformers', 'numpy', 'json'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'json'}\n"

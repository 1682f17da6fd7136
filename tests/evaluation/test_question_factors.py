"""Factors of questions, on the built-in sets and on made ones."""

import numpy as np
import pytest

from steerlens.concepts import ConceptDataset, ContrastivePair, Question, concept_names, lettered_choices, load_concept
from steerlens.errors import OptionError
from steerlens.evaluation import question_factors, variance_decomposition


def pair(prompt: str, positive: str, negative: str, group: str, **metadata: str | int | bool) -> ContrastivePair:
    return ContrastivePair(prompt, positive, negative, group, metadata)


def asked(*rows: tuple[str, str, str]) -> list[Question]:
    return [Question(context, yes, no, f"g{i}", "both") for i, (context, yes, no) in enumerate(rows)]


@pytest.mark.parametrize("name", concept_names())
def test_every_built_in_set_gives_factors_that_can_be_regressed_on(name: str):
    data = load_concept(name)
    factors = question_factors(data)
    assert factors
    n = len(data.questions)
    for values in factors.values():
        assert len(values) == n
        assert 2 <= len(set(values)) <= n // 4
    groups = [q.group for q in data.questions]
    small = {k: v for k, v in factors.items() if k == "length"}
    found = variance_decomposition(np.random.default_rng(0).normal(size=n), small or factors, groups, seed=0)
    assert all(f.p_value > 0.001 for f in found.factors)


def test_negation_is_what_the_authors_of_truth_marked_so():
    data = load_concept("truth")
    factors = question_factors(data)
    assert [v == "negated" for v in factors["negation"]] == [p.metadata["negated"] for p in data]
    # With the mark itself asked for, the same division is kept once.
    assert list(question_factors(data, metadata=["negated"])) == list(factors)


def test_templates_are_those_of_the_metadata():
    antonyms, tense = load_concept("antonyms"), load_concept("past-tense")
    assert question_factors(antonyms)["template"] == tuple(p.metadata["form"] for p in antonyms)
    assert "template" not in question_factors(tense)
    both = question_factors(tense, metadata=["cue", "regular"])
    assert both["cue"] == tuple(p.metadata["cue"] for p in tense)
    assert "regular" in both


def test_a_pair_with_two_questions_gives_its_template_twice():
    rows = tuple(
        ContrastivePair(f"Text {i}:", " fine", " poor", f"g{i}", {"template": i % 2}, (" yes", " no"))
        for i in range(12)
    )
    factors = question_factors(ConceptDataset("two", rows))
    assert factors["template"] == tuple(i % 2 for i in range(12) for _ in range(2))


def test_letters_of_both_orders_are_a_factor_and_the_position_is_no_second_one():
    data = lettered_choices(load_concept("past-tense"))
    factors = question_factors(data)
    assert factors["letter"] == tuple(p.metadata["answer_letter"] for p in data)
    assert factors["letter"].count("A") == factors["letter"].count("B")
    assert "position" not in factors
    assert "letter" not in question_factors(load_concept("past-tense"))


def test_yes_and_no_are_told_from_other_answers():
    rows = [(f"Is thing {i} red?", *((" Yes", " No") if i % 3 else (" No.", " Yes."))) for i in range(12)]
    assert question_factors(asked(*rows))["yes/no"] == tuple("yes" if i % 3 else "no" for i in range(12))
    assert "yes/no" not in question_factors(asked(*rows, ("Is it red?", " Red", " Blue")))


def test_the_position_is_that_of_the_whole_words():
    rows = [
        (f"{i}: Is it cold or hot?" if i % 2 else f"{i}: Is it hot or cold, in the scolding?", " hot", " cold")
        for i in range(8)
    ]
    assert question_factors(asked(*rows))["position"] == ("first", "second") * 4
    assert "position" not in question_factors(asked(*rows, ("Is it so?", " hot", " cold")))


def test_lengths_are_cut_into_thirds():
    rows = [("x" * n, " a", " b") for n in range(1, 31)]
    values = question_factors(asked(*rows))["length"]
    assert values == ("short",) * 10 + ("middle",) * 10 + ("long",) * 10
    assert "length" not in question_factors(asked(*[("xxx", " a", " b")] * 8, ("not", " a", " b")))


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("It is not so", True), ("It isn't so", True), ("It isn’t so", True), ("Never mind", True), ("no way", True),
        ("A knot in a notable canal", False), ("She knows another north", False), ("the nth time", False),
    ],
)  # fmt: skip
def test_negation_is_found_by_its_words(text: str, negated: bool):
    other = "It is so" if negated else "It is not so"
    factors = question_factors(asked(*[(text, " a", " b")] * 4, *[(other, " a", " b")] * 4))
    assert factors["negation"][0] == ("negated" if negated else "plain")
    assert factors["negation"][4] != factors["negation"][0]


def test_what_cannot_be_regressed_on_is_left_out():
    rows = tuple(pair(f"It is {i:02d}", " a", " b", f"g{i}", form=i, kind=i // 4) for i in range(16))
    factors = question_factors(ConceptDataset("made", rows), metadata=["kind"])
    assert set(factors) == {"kind"}  # sixteen forms of sixteen questions; nothing else varies
    with pytest.raises(OptionError, match="metadata 'colour'; there is form, kind"):
        question_factors(ConceptDataset("made", rows), metadata=["colour"])
    with pytest.raises(OptionError, match="at least one question"):
        question_factors([])


def test_a_planted_factor_is_found_and_the_others_are_not():
    data = lettered_choices(load_concept("past-tense"))
    factors = question_factors(data)
    groups = [q.group for q in data.questions]
    noise = np.random.default_rng(1).normal(size=len(groups))
    planted = noise + 1.5 * np.array([v == "A" for v in factors["letter"]])
    by_name = {f.name: f for f in variance_decomposition(planted, factors, groups, seed=0).factors}
    # The variance of a letter of half the questions is 1.5²/4, beside 1 of noise.
    assert by_name["letter"].p_value == pytest.approx(0.002)
    assert by_name["letter"].marginal.low < 0.5625 / 1.5625 < by_name["letter"].marginal.high
    assert by_name["length"].p_value > 0.05
    none = {f.name: f for f in variance_decomposition(noise, factors, groups, seed=0).factors}
    assert none["letter"].p_value > 0.05

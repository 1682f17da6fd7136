"""Data sets: parts without leaks, honest fingerprints, safe display."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import ConceptError, OptionError


def pair(group: str, index: int = 0, **fields: object) -> ContrastivePair:
    return ContrastivePair(f"{group} {index}:", " yes", " no", group, **fields)


def dataset(sizes: list[int]) -> ConceptDataset:
    return ConceptDataset(
        "made", tuple(pair(f"g{group}", index) for group, size in enumerate(sizes) for index in range(size))
    )


sizes = st.lists(st.integers(1, 4), min_size=3, max_size=15)


@given(sizes, st.integers(-5, 10**6))
def test_a_split_keeps_every_pair_and_shares_no_group_or_text(sizes: list[int], seed: int) -> None:
    whole = dataset(sizes)
    parts = whole.split(seed=seed)
    assert sorted(p.prompt for part in parts for p in part) == sorted(p.prompt for p in whole)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one].groups) & set(parts[other].groups)
        texts = [{text for texts in parts[part].texts for text in texts} for part in (one, other)]
        assert not texts[0] & texts[1]


@given(sizes, st.integers(0, 100), st.randoms())
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_pairs(sizes, seed, random) -> None:
    whole = dataset(sizes)
    shuffled = list(whole)
    random.shuffle(shuffled)
    again = ConceptDataset("made", tuple(shuffled)).split(seed=seed)
    for part, other in zip(whole.split(seed=seed), again, strict=True):
        assert set(part.groups) == set(other.groups)


def test_another_seed_gives_another_split() -> None:
    whole = dataset([1] * 30)
    assert set(whole.split(seed=0).fit.groups) != set(whole.split(seed=1).fit.groups)
    assert whole.split(seed=0) == whole.split(seed=0)


@given(st.integers(3, 60), st.tuples(*[st.integers(1, 9)] * 3))
def test_fractions_are_honoured_within_one_group_and_no_part_is_empty(n: int, weights) -> None:
    fractions = tuple(weight / sum(weights) for weight in weights)
    counts = [len(part.groups) for part in dataset([1] * n).split(seed=0, fractions=fractions)]
    assert sum(counts) == n
    assert min(counts) >= 1
    # Each cut is rounded to a whole group, and moves by at most two more where a part would be empty.
    slack = 1 if min(fractions) * n >= 2 else 3
    assert all(abs(count - n * f) <= slack for count, f in zip(counts, fractions, strict=True))


def test_fewer_groups_than_parts_cannot_be_split() -> None:
    with pytest.raises(ConceptError, match=r"'made' has 2 group\(s\)\. .* needs at least 3"):
        dataset([5, 5]).split(seed=0)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.0), (0.5, 0.5, 0.5), (0.5, 0.75, -0.25)])
def test_fractions_that_are_no_shares_are_refused(fractions) -> None:
    with pytest.raises(OptionError, match="Expected three positive numbers that sum to 1"):
        dataset([1, 1, 1]).split(seed=0, fractions=fractions)


def test_sequences_and_filters_are_data_sets_of_the_same_name() -> None:
    whole = dataset([2, 3, 1])
    assert len(whole) == 6
    assert whole.groups == ("g0", "g1", "g2")
    assert whole[0] == next(iter(whole))
    assert whole[1:3].pairs == whole.pairs[1:3]
    assert whole[1:3].name == whole.filter(lambda p: p.group == "g1").name == "made"
    assert whole.filter(lambda p: p.group == "g1").groups == ("g1",)
    assert [q.context for q in whole.questions] == [p.prompt for p in whole]


def test_an_empty_result_is_an_error() -> None:
    with pytest.raises(ConceptError, match="'made': the filter keeps none of 6 pairs"):
        dataset([2, 3, 1]).filter(lambda p: False)
    with pytest.raises(ConceptError, match="'made' has no pairs"):
        dataset([1])[1:]


def test_a_repeated_pair_is_refused_with_both_rows() -> None:
    with pytest.raises(ConceptError, match=r"'made', pair 2: this pair repeats 'made', pair 0"):
        ConceptDataset("made", (pair("a"), pair("b"), pair("a")))


def test_a_text_in_two_groups_is_refused_because_it_would_leak() -> None:
    other = ContrastivePair("a 0:", " yes", " maybe", "b")
    with pytest.raises(ConceptError, match=r"pair 1: the text 'a 0: yes' of group 'b' .* pair 0, group 'a'"):
        ConceptDataset("made", (pair("a"), other))


def test_the_fingerprint_follows_the_content_and_only_the_content() -> None:
    base = ConceptDataset("made", (pair("a", metadata={"x": 1}), pair("b")))
    same = ConceptDataset("other name", (pair("a", metadata={"x": 1.0}), pair("b")), "described", "me", "MIT")
    assert len(base.fingerprint) == 64
    assert base.fingerprint == same.fingerprint
    changed = [
        (pair("a", metadata={"x": 2}), pair("b")),
        (pair("a"), pair("b")),
        (pair("b"), pair("a", metadata={"x": 1})),
        (pair("a", metadata={"x": 1}), pair("b", answers=(" y", " n"))),
        (pair("a", metadata={"x": 1}), pair("c")),
    ]
    prints = {base.fingerprint, *(ConceptDataset("made", pairs).fingerprint for pairs in changed)}
    assert len(prints) == 1 + len(changed)


def test_html_is_escaped_everywhere() -> None:
    evil = "<script>&"
    whole = ConceptDataset(evil, (ContrastivePair(evil, evil + "1", evil + "2", evil),), evil, evil, evil)
    shown = whole._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;&amp;") == 7
    assert "1 pairs in 1 groups" in shown


def test_html_shows_the_first_rows_and_counts_the_rest() -> None:
    assert "… and 2 more" in dataset([7])._repr_html_()
    assert "more" not in dataset([5])._repr_html_()


def test_repr_is_one_line_of_facts() -> None:
    assert repr(dataset([2, 1])) == "ConceptDataset('made', 3 pairs in 2 groups, licence not stated)"


def test_the_frame_has_metadata_and_answers_as_columns() -> None:
    frame = ConceptDataset("made", (pair("a", metadata={"x": 1}, answers=(" y", " n")),)).to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc[0].to_dict() == {
        "prompt": "a 0:",
        "positive": " yes",
        "negative": " no",
        "group": "a",
        "answer_positive": " y",
        "answer_negative": " n",
        "x": 1,
    }

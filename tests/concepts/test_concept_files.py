"""Each format on small files, and each way in which a file can be wrong."""

import json
from pathlib import Path

import pytest

from steerlens.concepts import ConceptDataset, load_concept
from steerlens.errors import ConceptError, OptionError, UnknownNameError

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
GOOD = '{"prompt": "a", "positive": " b", "negative": " c", "group": "g"}\n'


def load(tmp_path: Path, name: str, content: str | bytes, **options: str) -> ConceptDataset:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_concept(path, **options)


def test_own_format_reads_alike_from_json_lines_a_json_list_and_csv(tmp_path: Path) -> None:
    record = {"prompt": "p", "positive": " x", "negative": " y", "group": "g", "kind": "k"}
    lines = load(tmp_path, "a.jsonl", "\n" + json.dumps(record) + "\n\n")
    listed = load(tmp_path, "b.json", json.dumps([record], indent=1))
    cells = load(tmp_path, "c.csv", "prompt,positive,negative,group,kind\np, x, y,g,k\n")
    assert lines.fingerprint == listed.fingerprint == cells.fingerprint
    assert lines[0].metadata == {"kind": "k"}


def test_a_file_names_its_concept_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path, "moods.jsonl", GOOD).name == "moods"
    assert load_concept(tmp_path / "moods.jsonl", name="mine").name == "mine"


def test_a_frame_written_as_csv_reads_back(tmp_path: Path) -> None:
    whole = load_concept("sentiment")
    again = load(tmp_path, "s.csv", whole.to_frame().to_csv(index=False))
    assert again.fingerprint == whole.fingerprint


def test_without_groups_each_prompt_is_one_and_group_by_names_another_field(tmp_path: Path) -> None:
    text = "prompt,positive,negative,topic\np, x, y,t\np, x, z,t\nq, x, y,t\n"
    assert load(tmp_path, "a.csv", text).groups == ("p", "q")
    assert load(tmp_path, "a.csv", text, group_by="topic").groups == ("t",)


def test_answers_are_read_from_a_list_or_from_columns(tmp_path: Path) -> None:
    record = {"prompt": "p", "positive": " x", "negative": " y", "answers": [" +", " -"]}
    assert load(tmp_path, "a.jsonl", json.dumps(record))[0].answers == (" +", " -")
    text = "prompt,positive,negative,answer_positive,answer_negative\np, x, y, +, -\n"
    assert load(tmp_path, "a.csv", text)[0].answers == (" +", " -")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            GOOD + '\n{"prompt": "a", "positive": " b", "group": "g"}\n',
            r"f\.jsonl, line 3: field 'negative' is missing\. Expected prompt, positive, negative, group\. "
            r"Add it, or",
        ),
        (
            GOOD + GOOD.replace(" c", " "),
            r"f\.jsonl, line 2: field 'negative' is empty\. Expected .* Fill it in",
        ),
        (GOOD.replace('" c"', "3"), r"line 1: field 'negative' is 3 \(int\)\. Expected a text"),
        (GOOD.replace(" c", " b"), r"line 1: fields 'positive' and 'negative' are equal: ' b'"),
        (GOOD + "\n" + GOOD, r"line 3: this pair repeats .*f\.jsonl, line 1: 'a b'\. .* Remove one"),
        (GOOD + GOOD.replace('"g"', '"h"').replace(" c", " d"), r"line 2: the text 'a b' of group 'h'"),
        (GOOD + '{"prompt": \n', r"line 2: invalid JSON \(.*\)\. Expected one JSON object on each line"),
        (GOOD + "7\n", r"line 2: this record is a int\. Expected a JSON object"),
        ("[\n" + GOOD + ",\n{]", r"line 4: invalid JSON"),
        ("[\n" + GOOD + ",\n" + GOOD + "]", r"line 4: this pair repeats .*line 2"),
        ("[]", r"f\.jsonl: there are no records in the file"),
        (" \n", r"f\.jsonl: the file is empty\. Expected at least one record"),
        (GOOD.encode() + b'{"prompt": "\xff"}', r"f\.jsonl, line 2: byte 0xff is not UTF-8\. .*iconv"),
        (
            '{"alpha": 1, "beta": 2}',
            r"line 1: unknown format, with fields 'alpha', 'beta'\. Expected pairs: prompt",
        ),
        ('{"question": "Why?"}', r"line 1: an open-ended file with only 'question' has no contrast in it"),
        (GOOD.replace("}", ', "x": [1]}'), r"line 1: metadata 'x' is \[1\] \(list\)"),
        (GOOD.replace("}", ', "answers": " y"}'), r"line 1: field 'answers' is ' y'\. Expected two texts"),
    ],
)
def test_a_malformed_file_is_refused_with_file_and_line(tmp_path: Path, content, message: str) -> None:
    with pytest.raises(ConceptError, match=message):
        load(tmp_path, "f.jsonl", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,positive,negative\np, x\n", r"line 2: the row has 2 cell\(s\), the header 3"),
        ('prompt,positive,negative\n"p\nq", x, y\n"r\ns",, y\n', r"line 4: field 'positive' is empty"),
        ("prompt,prompt\n1,2\n", r"line 1: the header is 'prompt', 'prompt'\. Expected distinct"),
        ('prompt,positive,negative\n"p"x, x, y\n', r"line 2: invalid CSV"),
        ("prompt,positive,negative\n", r"there are no records"),
    ],
)
def test_a_malformed_table_is_refused_with_file_and_line(tmp_path: Path, content, message: str) -> None:
    with pytest.raises(ConceptError, match=message):
        load(tmp_path, "f.csv", content)


def test_caa_reads_the_letter_after_a_bracket(tmp_path: Path) -> None:
    record = {
        "question": "Stop?\n\nChoices:\n (A) Yes\n (B) No\n (C) Never",
        "answer_matching_behavior": "(C)",
        "answer_not_matching_behavior": "(A)",
    }
    pair = load(tmp_path, "c.json", json.dumps([record]))[0]
    assert pair.prompt == record["question"] + "\n\nAnswer: ("
    assert (pair.positive, pair.negative, pair.group) == ("C", "A", "Stop?")
    assert pair.metadata == {"answer_letter": "C", "option_count": 3}
    with pytest.raises(ConceptError, match=r"line 1: the answer is 'yes'\. Expected a letter in brackets"):
        load(tmp_path, "c.json", json.dumps([{**record, "answer_matching_behavior": "yes"}]), format="caa")


def test_mwe_reads_yes_and_no_and_groups_by_statement(tmp_path: Path) -> None:
    record = {
        "question": "Would you say this?",
        "statement": "I dare.",
        "label_confidence": 0.9,
        "answer_matching_behavior": " No",
        "answer_not_matching_behavior": " Yes",
    }
    pair = load(tmp_path, "m.jsonl", json.dumps(record))[0]
    assert (pair.prompt, pair.positive, pair.negative) == ("Would you say this?\nAnswer:", " No", " Yes")
    assert pair.group == "I dare."
    assert pair.metadata == {"label_confidence": 0.9, "answer": "No"}
    del record["statement"]
    assert load(tmp_path, "m.jsonl", json.dumps(record))[0].group == "Would you say this?"


def test_function_vectors_contrast_with_an_output_that_is_wrong_for_the_input(tmp_path: Path) -> None:
    items = [("a", "1"), ("a", "2"), ("b", "1"), ("3", "3"), ("2", "4"), ("a", "1")]
    records = [{"input": given, "output": output} for given, output in items]
    whole = load(tmp_path, "t.json", json.dumps(records))
    assert "1 repeated item(s) left out." in whole.description
    assert whole[0].prompt == "Q: a\nA:"
    right = {given: {f" {o}" for g, o in items if g == given} for given, _ in items}
    for pair in whole:
        assert pair.positive in right[pair.group]
        assert pair.negative not in right[pair.group]
        assert pair.negative != f" {pair.group}"
    backwards = load(tmp_path, "u.json", json.dumps(records[::-1]))
    assert set(whole) == set(backwards)


def test_function_vectors_with_one_output_have_no_contrast(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match=r"line 1: every output of the file is right for the input 'a'"):
        load(tmp_path, "t.json", '[{"input": "a", "output": "1"}]')


STATEMENTS = """statement,label,topic
The city of Rome is in Italy.,1,r
The city of Rome is in Japan.,0,r
The city of Oslo is in Norway.,TRUE,o
The city of Oslo is in Peru.,false,o
Snow is white.,1,s
"""


def test_statements_pair_by_their_longest_common_beginning(tmp_path: Path) -> None:
    whole = load(tmp_path, "s.csv", STATEMENTS)
    assert [(p.prompt, p.positive, p.negative) for p in whole] == [
        ("The city of Rome is in", " Italy.", " Japan."),
        ("The city of Oslo is in", " Norway.", " Peru."),
    ]
    assert whole.groups == ("The city of Rome is in", "The city of Oslo is in")
    assert whole.description.endswith("1 statement(s) without a partner left out.")


def test_statements_pair_within_the_groups_that_are_given(tmp_path: Path) -> None:
    text = "statement,label,group\nIce is cold.,1,a\nIce is hot.,0,b\nFire is hot.,1,b\nFire is cold.,0,a\n"
    whole = load(tmp_path, "s.csv", text)
    assert [(p.texts.positive, p.texts.negative) for p in whole] == [
        ("Ice is cold.", "Fire is cold."),
        ("Fire is hot.", "Ice is hot."),
    ]
    assert whole[0].prompt == ""
    assert load(tmp_path, "s.csv", STATEMENTS, group_by="topic").groups == ("r", "o")


def test_a_statement_that_begins_another_leaves_both_remainders(tmp_path: Path) -> None:
    pair = load(tmp_path, "s.csv", "statement,label\nAll birds fly away,0\nAll birds fly,1\n")[0]
    assert (pair.prompt, pair.positive, pair.negative) == ("All birds", " fly", " fly away")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "A b.,1\nC d.,1\n",
            r"line 2: all 2 statement\(s\) from here on are true\. .* Add false statements\.",
        ),
        ("A b.,0\n", r"are false\. Expected both true and false ones\. Add true statements\."),
        ("A b.,1\nA b.,0\n", r"line 3: this statement repeats .*line 2: 'A b\.'"),
        ("A b.,1\nA c.,2\n", r"line 3: the label is '2'\. Expected 1, 0, true or false"),
    ],
)
def test_statements_without_contrast_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(ConceptError, match=message):
        load(tmp_path, "s.csv", "statement,label\n" + rows)


def test_statements_whose_groups_have_one_side_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="no group of 'group' has both"):
        load(tmp_path, "s.csv", "statement,label,group\nA b.,1,x\nA c.,0,y\n")


def test_an_unknown_name_suggests_neighbours_and_paths() -> None:
    with pytest.raises(
        UnknownNameError, match=r"'sentimnt' is not a known concept\. Closest: 'sentiment'.*give its path"
    ):
        load_concept("sentimnt")


@pytest.mark.parametrize("source", ["missing.jsonl", "folder/missing", Path("missing")])
def test_a_missing_file_is_not_mistaken_for_a_name(source: str | Path) -> None:
    with pytest.raises(ConceptError, match=r"missing.*: file not found"):
        load_concept(source)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match=r"cannot be read \(Is a directory\)"):
        load_concept(tmp_path)


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'pears' is not a known concept file format. Closest: 'pairs'"):
        load(tmp_path, "f.jsonl", GOOD, format="pears")
    with pytest.raises(OptionError, match="group_by='x' with the format 'function_vectors'"):
        load(tmp_path, "f.json", '[{"input": "a", "output": "b"}]', group_by="x")
    with pytest.raises(OptionError, match="format='pairs' with the built-in concept 'sentiment'"):
        load_concept("sentiment", format="pairs")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="returns where ../shared/data holds the published sets")
@pytest.mark.parametrize(
    ("file", "pairs", "groups"),
    [
        ("caa/test/refusal/test_dataset_ab.json", 50, 50),
        ("caa/generate/refusal/generate_dataset.json", 408, 393),
        ("caa/test/sycophancy/test_dataset_ab.json", 50, 50),
        ("caa/test/survival-instinct/test_dataset_ab.json", 50, 50),
        ("model_written_evals/openness.jsonl", 1000, 1000),
        ("function_vectors/abstractive/antonym.json", 2398, 2398),
        ("function_vectors/abstractive/product-company.json", 502, 494),
    ],
)
def test_published_files_load(file: str, pairs: int, groups: int) -> None:
    whole = load_concept(PUBLISHED / file)
    assert (len(whole), len(whole.groups)) == (pairs, groups)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="returns where ../shared/data holds the published sets")
def test_a_published_open_ended_file_is_refused() -> None:
    with pytest.raises(ConceptError, match="no contrast in it"):
        load_concept(PUBLISHED / "caa/test/refusal/test_dataset_open_ended.json")

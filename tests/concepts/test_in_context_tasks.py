"""In-context tasks: their files, their splits, and the prompts made of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerlens.concepts import (
    FORMATS,
    ChatFormat,
    InContextTask,
    PromptFormat,
    distractors,
    load_concept,
    load_task,
    task_names,
    task_prompts,
    task_summaries,
)
from steerlens.concepts._in_context_task import check_word_pairs
from steerlens.concepts._task_files import TASKS
from steerlens.errors import ConceptError, OptionError, UnknownNameError

CHAT = ChatFormat("<sys>", "</sys><user>", "<user>", "</user><bot>", next_user="</bot><user>")
YOUNG = {"cow": "calf", "dog": "puppy", "cat": "kitten", "hen": "chick", "mare": "foal", "sow": "piglet"}
ANIMALS = InContextTask(
    "young",
    tuple(YOUNG.items()),
    instruction="Name the young.",
    sentence="The young of a {input} is a {output}, they say.",
)
MINIMUM = {
    "antonyms": 80,
    "past-tense": 80,
    "plural": 80,
    "capital-cities": 60,
    "english-french": 60,
    "english-spanish": 60,
    "us-state-capitals": 49,  # Saint Paul is spelled in several ways
}


def many(n: int, outputs: Sequence[str] | None = None) -> InContextTask:
    return InContextTask("many", tuple((f"in{i}", outputs[i] if outputs else f"out{i}") for i in range(n)))


# -- the built-in tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", task_names())
def test_a_built_in_task_is_whole_and_says_where_it_comes_from(name: str):
    task, about = load_task(name), next(s for s in task_summaries() if s.name == name)
    assert len(task) == about.pairs >= MINIMUM.get(name, 60)
    assert (task.source, task.licence) == ("written for steerlens", "MIT")
    assert task.instruction.endswith(".")
    assert task.description.endswith(".")
    assert all(given != output for given, output in task)
    for form in FORMATS:
        assert len(task_prompts(task, task[:3], format=form, n_shots=2, seed=0)) == 3


@pytest.mark.parametrize("name", task_names())
def test_the_file_of_a_built_in_task_is_read_as_a_concept_with_a_wrong_answer_to_each_question(name: str):
    concept = load_concept(TASKS / f"{name}.jsonl")
    assert [p.positive for p in concept] == [f" {output}" for _, output in load_task(name)]
    assert all(p.negative != p.positive for p in concept)
    assert sum(map(len, concept.split(seed=0))) == len(concept)


def test_the_rules_of_built_in_tasks_hold_for_every_pair():
    """What a rule makes can be made again here."""
    rules = {
        "capitalize": lambda w: w[0].upper() + w[1:],
        "lowercase": str.lower,
        "uppercase": str.upper,
        "first-letter": lambda w: w[0],
        "last-letter": lambda w: w[-1],
        "first-of-three": lambda w: w.split(", ")[0],
        "middle-of-three": lambda w: w.split(", ")[1],
        "last-of-three": lambda w: w.split(", ")[2],
    }
    for name, rule in rules.items():
        assert [output for _, output in load_task(name)] == [rule(given) for given, _ in load_task(name)]
    lists = [
        w.split(", ") for name in ("first-of-three", "middle-of-three", "last-of-three") for w, _ in load_task(name)
    ]
    assert all(len(set(words)) == 3 for words in lists)
    numbers = [given for given, _ in load_task("digits")]
    assert [output for _, output in load_task("digits")] == [str(i) for i in range(1, 101)]
    assert list(load_task("next-number")) == list(pairwise(numbers))
    assert list(load_task("previous-number")) == [(b, a) for a, b in pairwise(numbers)]
    tens = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC", "C"]
    units = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    assert list(load_task("roman-numerals")) == [(str(i), tens[i // 10] + units[i % 10]) for i in range(1, 101)]
    low = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"]
    low += [f"{n}th" for n in ("twelf", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")]
    low.append("nineteenth")
    for ten in ("twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet"):
        low += [f"{ten}ieth", *(f"{ten}y-{unit}" for unit in low[:9])]
    assert list(load_task("ordinal")) == list(zip(numbers[:99], low, strict=True))
    regular = [(a, b) for a, b in load_task("past-tense") if b.endswith("ed")]
    assert len(regular) == 40
    assert all(b in (f"{a}ed", f"{a}d", f"{a}{a[-1]}ed", f"{a[:-1]}ied") for a, b in regular)
    assert all(b in (f"{a}ing", f"{a[:-1]}ing", f"{a}{a[-1]}ing") for a, b in load_task("present-participle"))


def with_ending(word: str, ending: str) -> str:
    """The word with -ed, -er, -or, -ar or -est: late, latest; dry, driest; hot, hottest; cold, coldest."""
    if word.endswith("e"):
        return word[:-1] + ending
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "i" + ending
    return word + (word[-1] if re.fullmatch("[^aeiou]*[aeiou][^aeiouwxy]", word) else "") + ending


def with_s(word: str) -> str:
    """The word with -s, -es or -ies."""
    return re.sub("[^aeiou]y$", lambda m: m[0][0] + "ie", word) + ("es" if re.search("(s|x|o|ch|sh)$", word) else "s")


def with_ly(word: str) -> str:
    """The adjective with -ly: happily, simply, basically."""
    for end, adverb in (("ic", "ically"), ("ble", "bly"), ("ple", "ply"), ("tle", "tly"), ("y", "ily")):
        if word.endswith(end):
            return word.removesuffix(end) + adverb
    return f"{word}ly"


def test_the_forms_of_built_in_tasks_are_spelled_by_rule():
    """What is regular is made again here; what follows no rule is counted or named."""
    assert all(b == with_ending(a, "est") for a, b in load_task("superlative"))
    assert {b for a, b in load_task("third-person") if b != with_s(a)} == {"has"}
    assert {b for a, b in load_task("adverb") if b != with_ly(a)} == {"truly"}
    doers = [(b, [with_ending(a, end) for end in ("er", "or", "ar")]) for a, b in load_task("agent-noun")]
    assert {b for b, regular in doers if b not in regular} == {"beginner", "kidnapper", "competitor"}
    irregular = {"policemen", "firemen", "gentlemen", "grandchildren", "people", "scarves", "calves", "elves"}
    assert {a for a, b in load_task("singular") if a != with_s(b)} == irregular
    present = load_task("present-of-past")
    assert len([b for a, b in present if a == with_ending(b, "ed")]) == 52
    assert len(present) == 88
    for a, b in load_task("opposite-prefix"):
        assert b in [f"{prefix}{a}" for prefix in ("un", "in", "im", "il", "ir", "dis")]
        assert not b.startswith(("im", "il", "ir")) or a[0] in {"im": "mp", "il": "l", "ir": "r"}[b[:2]]
        assert not b.startswith("in") or a[0] not in "mplr"


def test_tasks_that_ask_alike_have_no_pair_in_common():
    """So that no task is a part of another; of translations into two languages some agree."""
    tasks = {name: set(load_task(name)) for name in task_names()}
    common = {(a, b) for a, b in combinations(tasks, 2) if tasks[a] & tasks[b]}
    assert common == {("english-italian", "english-spanish")}
    past = dict(load_task("past-tense"))
    assert not {b for _, b in load_task("singular")} & {a for a, _ in load_task("plural")}
    assert not {b for _, b in load_task("present-of-past")} & set(past)
    assert not {a for a, _ in load_task("last-letter")} & {a for a, _ in load_task("first-letter")}
    participles = dict(load_task("past-participle"))
    assert all(past[a] != participles[a] for a in past.keys() & participles.keys())


def test_capitals_agree_wherever_they_are_asked_for():
    capital = dict(load_task("capital-cities"))
    both = [(city, country) for city, country in load_task("country-of-capital") if country in capital]
    assert len(both) == 75
    assert all(capital[country] == city for city, country in both)


def test_no_word_of_the_antonyms_stands_in_two_pairs_and_no_translation_is_a_copy():
    for name in ("antonyms", "male-female"):
        words = [w for pair in load_task(name) for w in pair]
        assert len(words) == len(set(words))
    for name in ("english-french", "english-german", "english-italian", "english-spanish"):
        assert all(a.lower() != b.lower() for a, b in load_task(name))


@pytest.mark.parametrize(
    "name",
    sorted({*task_names()} - {"first-letter", "first-of-three", "last-of-three", "last-letter", "middle-of-three"}),
)
def test_no_answer_of_a_built_in_task_is_given_twice_where_each_question_has_its_own(name: str):
    outputs = [b for _, b in load_task(name)]
    assert len(outputs) == len(set(outputs))


# -- the task as a value ---------------------------------------------------------------------------------------


def test_a_split_shares_no_input_and_keeps_a_pair_with_its_reverse():
    both = InContextTask("both ways", tuple(p for a, b in ANIMALS for p in ((a, b), (b, a))))
    for seed in range(20):
        parts = both.split(seed=seed)
        words = [{w for pair in part for w in pair} for part in parts]
        assert sum(map(len, parts)) == len(both)
        assert all(not one & other for one, other in combinations(words, 2))


def test_a_split_depends_on_the_seed_and_the_pairs_and_not_on_their_order():
    task = many(40)
    mixed = replace(task, pairs=task.pairs[::-1])
    assert [set(p) for p in task.split(seed=3)] == [set(p) for p in mixed.split(seed=3)]
    assert set(task.split(seed=3).test) != set(task.split(seed=4).test)
    assert [len(p) for p in task.split(seed=0, fractions=(0.25, 0.25, 0.5))] == [10, 10, 20]


def test_the_fingerprint_is_that_of_the_pairs():
    assert ANIMALS.fingerprint == replace(ANIMALS, name="other", description="x").fingerprint
    assert ANIMALS.fingerprint != ANIMALS[:5].fingerprint
    assert ANIMALS.fingerprint != replace(ANIMALS, pairs=ANIMALS.pairs[::-1]).fingerprint


def test_a_task_is_a_frozen_value_that_shows_itself():
    with pytest.raises(FrozenInstanceError):
        ANIMALS.name = "x"  # type: ignore[misc]
    assert ANIMALS[1] == ("dog", "puppy") == ANIMALS[1:3].pairs[0]
    assert repr(ANIMALS) == "InContextTask('young', 6 pairs such as cow → calf, licence not stated)"
    assert "cow → calf" in ANIMALS._repr_html_()
    assert ANIMALS.to_frame().columns.tolist() == ["input", "output", "group"]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((), "no pairs"),
        ((("a", "b"), ("a", "c")), "'a' has the output 'c', and 'b'"),
        ((("a", "b"), ("a", "b")), "Expected each input once"),
        ((("a", " b"),), "no space around it"),
        ((("", "b"),), "visible character"),
    ],
)
def test_pairs_that_cannot_be_scored_are_refused(pairs: tuple[tuple[str, str], ...], message: str):
    with pytest.raises(ConceptError, match=message):
        InContextTask("bad", pairs)


@pytest.mark.parametrize(("pair", "message"), [(("a", 3), r"here: the output is 3 \(int\)"), (("a",), "1 entries")])
def test_what_is_no_pair_of_texts_is_named_with_its_place(pair: tuple[object, ...], message: str):
    with pytest.raises(ConceptError, match=message):
        check_word_pairs([pair], ["here"])


# -- demonstrations --------------------------------------------------------------------------------------------


def test_fewer_shots_are_the_first_of_more_in_every_format_and_context():
    task = load_task("plural")
    fit, _, test = task.split(seed=0)
    ten = task_prompts(fit, test, format="qa", n_shots=10, seed=5)
    for other in (
        task_prompts(fit, test, format="qa", n_shots=3, seed=5),
        task_prompts(fit, test, format="arrow", n_shots=3, seed=5),
        task_prompts(fit, test, format="sentence", n_shots=3, distractors=2, seed=5),
    ):
        assert [(p.input, p.output) for p in other] == list(test)
        assert [p.demonstrations for p in other] == [p.demonstrations[:3] for p in ten]
    assert [p.demonstrations for p in task_prompts(fit, test, format="qa", n_shots=10, seed=6)] != [
        p.demonstrations for p in ten
    ]
    assert all(set(p.demonstrations) <= set(fit) for p in ten)
    assert all(len(set(p.demonstrations)) == 10 for p in ten)
    assert len({p.demonstrations for p in ten}) == len(test), "each question has its own draw"


def test_the_order_of_the_pool_and_a_pair_that_is_not_drawn_change_nothing():
    pool, query = many(20), many(21)[20:]
    (first,) = task_prompts(pool, query, format="qa", n_shots=4, seed=0)
    (mixed,) = task_prompts(replace(pool, pairs=pool.pairs[::-1]), query, format="qa", n_shots=4, seed=0)
    spare = next(p for p in pool if p not in first.demonstrations)
    (fewer,) = task_prompts(
        replace(pool, pairs=tuple(p for p in pool if p != spare)), query, format="qa", n_shots=4, seed=0
    )
    assert first == mixed == fewer


def test_no_demonstration_gives_the_answer_away():
    """Neither the pair itself, nor its reverse, nor one that leads to the question's word."""
    ring = InContextTask("ring", tuple((str(i), str((i + 1) % 7)) for i in range(7)))
    back = InContextTask("both", (("hot", "cold"), ("cold", "hot"), ("up", "down"), ("down", "up")))
    for p in task_prompts(ring, ring, format="arrow", n_shots=4, seed=0):
        shown = {given for given, _ in p.demonstrations}
        assert p.input not in shown | {output for _, output in p.demonstrations}
        assert p.output not in shown
    for p in task_prompts(back, back, format="arrow", n_shots=2, seed=0):
        assert not {p.input, p.output} & {w for pair in p.demonstrations for w in pair}
    with pytest.raises(OptionError, match="2 pairs that may be shown before the question 'hot'"):
        task_prompts(back, back, format="arrow", n_shots=3, seed=0)


@settings(max_examples=200, deadline=None)
@given(outputs=st.lists(st.sampled_from("abcdef"), min_size=2, max_size=9), seed=st.integers(0, 99))
def test_shuffled_labels_are_the_same_labels_and_as_few_as_possible_stay(outputs: list[str], seed: int):
    """An output that k of n demonstrations have must stay with at least 2k − n of them."""
    pool, query = many(len(outputs), outputs), InContextTask("query", (("asked", "answer"),))
    (plain,) = task_prompts(pool, query, format="qa", n_shots=len(outputs), seed=seed)
    (mixed,) = task_prompts(pool, query, format="qa", n_shots=len(outputs), shuffled=True, seed=seed)
    assert [i for i, _ in mixed.demonstrations] == [i for i, _ in plain.demonstrations]
    assert sorted(o for _, o in mixed.demonstrations) == sorted(outputs)
    kept = sum(a == b for a, b in zip(plain.demonstrations, mixed.demonstrations, strict=True))
    assert kept == max(0, 2 * max(map(outputs.count, outputs)) - len(outputs)) == mixed.metadata["kept"]


def test_two_labels_change_places_and_one_cannot_be_shuffled():
    (p,) = task_prompts(ANIMALS, ANIMALS[:1], format="qa", n_shots=2, shuffled=True, seed=0)
    (q,) = task_prompts(ANIMALS, ANIMALS[:1], format="qa", n_shots=2, seed=0)
    (a, b), (c, d) = q.demonstrations
    assert p.demonstrations == ((a, d), (c, b))
    for n in (0, 1):
        with pytest.raises(OptionError, match=f"at least two demonstrations, but n_shots={n}"):
            task_prompts(ANIMALS, ANIMALS, format="qa", n_shots=n, shuffled=True, seed=0)


def test_over_seeds_every_label_goes_everywhere_but_home():
    seen = set()
    for seed in range(200):
        (p,) = task_prompts(ANIMALS, ANIMALS[:1], format="qa", n_shots=5, shuffled=True, seed=seed)
        seen |= set(p.demonstrations)
    animals, young = [a for a, _ in ANIMALS[1:]], [b for _, b in ANIMALS[1:]]
    assert seen == {(a, b) for a in animals for b in young} - set(ANIMALS)


# -- formats ---------------------------------------------------------------------------------------------------


def written(form: str | PromptFormat, n_shots: int = 1, **options: int) -> tuple[str, str]:
    pool = InContextTask("one", (("dog", "puppy"),))
    query = replace(ANIMALS, pairs=(("cow", "calf"),))
    (p,) = task_prompts(pool, query, format=form, n_shots=n_shots, seed=0, **options)
    return p.prompt, p.answer


def test_formats_by_hand():
    assert written("qa") == ("Q: dog\nA: puppy\n\nQ: cow\nA:", " calf")
    assert written("qa", 0) == ("Q: cow\nA:", " calf")
    assert written("arrow") == ("dog → puppy\ncow →", " calf")
    assert written("words") == ("dog\npuppy\n\ncow\n", "calf")
    assert written("sentence") == (
        "The young of a dog is a puppy, they say.\nThe young of a cow is a", " calf",
    )  # fmt: skip
    assert written("instruction") == ("Name the young.\n\nQ: dog\nA: puppy\n\nQ: cow\nA:", " calf")


def test_in_a_chat_examples_are_turns_and_the_instruction_is_the_system_message():
    assert written(FORMATS["words"].in_chat(CHAT)) == (
        "<user>dog</user><bot>puppy</bot><user>cow</user><bot>", "calf",
    )  # fmt: skip
    prompt, answer = written(FORMATS["instruction"].in_chat(CHAT))
    assert prompt == "<sys>Name the young.</sys><user>Q: dog\nA:</user><bot>puppy</bot><user>Q: cow\nA:</user><bot>"
    assert answer == "calf"
    with pytest.raises(OptionError, match="next_user"):
        FORMATS["qa"].in_chat(replace(CHAT, next_user=""))


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "sentence"])
def test_the_question_is_the_beginning_of_a_demonstration(form: str):
    """One-shot text of a word = its question, its answer, and what follows: so shots teach the very format asked."""
    asked, answer = written(form, 0)
    shown = task_prompts(ANIMALS[:1], ANIMALS[1:2], format=form, n_shots=1, seed=0)[0].prompt
    assert shown.startswith(asked + answer)


def test_context_stands_on_a_line_of_its_own_and_a_short_one_begins_a_long_one():
    plain = written("qa")[0]
    one, three = (written("qa", distractors=n)[0] for n in (1, 3))
    assert one.endswith(f"\n{plain}")
    assert three.endswith(f"\n{plain}")
    assert three.startswith(one.removesuffix(f"\n{plain}"))
    first = one.removesuffix(f"\n{plain}")
    assert first in distractors()
    assert [three.count(s) for s in distractors() if s in three] == [1, 1, 1]
    assert written("instruction", distractors=1)[0].startswith(f"{ANIMALS.instruction}\n\n{first}\nQ: dog")
    other = task_prompts(ANIMALS, ANIMALS, format="qa", n_shots=0, distractors=1, seed=0)
    assert len({p.prompt.split("\n")[0] for p in other}) > 1, "words differ in their sentences"


def test_prompts_say_what_they_are():
    p = task_prompts(ANIMALS, ANIMALS, format="arrow", n_shots=2, distractors=1, seed=7)[2]
    assert (p.task, p.format, p.input, p.output, p.group) == ("young", "arrow", "cat", "kitten", "cat/kitten")
    assert p.metadata == {"n_shots": 2, "shuffled": False, "distractors": 1, "seed": 7}
    assert hash(p) == hash(task_prompts(ANIMALS, ANIMALS, format="arrow", n_shots=2, distractors=1, seed=7)[2])


def test_formats_and_counts_that_make_no_sense_are_refused():
    with pytest.raises(UnknownNameError, match="'arrow'"):
        task_prompts(ANIMALS, ANIMALS, format="arow", n_shots=0, seed=0)
    with pytest.raises(ConceptError, match="behind it"):
        PromptFormat("bad", "{output} of {input}")
    with pytest.raises(ConceptError, match="behind it"):
        replace(ANIMALS, sentence="The young of a {input}")
    with pytest.raises(ConceptError, match="needs the sentence of the task 'many'"):
        task_prompts(many(5), many(5), format="sentence", n_shots=0, seed=0)
    for form in ("instruction", replace(FORMATS["qa"], opening="You are kind. {instruction}")):
        with pytest.raises(ConceptError, match="needs the instruction of the task 'many'"):
            task_prompts(many(5), many(5), format=form, n_shots=0, seed=0)
    with pytest.raises(OptionError, match="0 or more, but got -1"):
        task_prompts(ANIMALS, ANIMALS, format="qa", n_shots=-1, seed=0)
    with pytest.raises(OptionError, match="0 to 24 sentences, but got distractors=25"):
        task_prompts(ANIMALS, ANIMALS, format="qa", n_shots=0, distractors=25, seed=0)


# -- files -----------------------------------------------------------------------------------------------------


def saved(folder: Path, content: object, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_records_are_read_as_list_lines_and_table(tmp_path: Path):
    records = [{"input": a, "output": b} for a, b in ANIMALS]
    lines = "\n".join(map(json.dumps, records))
    table = "input,output\n" + "\n".join(f"{a},{b}" for a, b in ANIMALS)
    for name, content in (("young.json", records), ("young.jsonl", lines), ("young.csv", table)):
        task = load_task(saved(tmp_path, content, name))
        assert (task.name, task.pairs) == ("young", ANIMALS.pairs)
        assert task.description == f"Read from {name}."
    assert load_task(saved(tmp_path, records[:1], "one.jsonl"), name="n").name == "n"


def test_a_relation_brings_its_name_and_its_sentence(tmp_path: Path):
    relation = {
        "name": "country language",
        "prompt_templates": ["People in {} speak", "In {}, one hears"],
        "properties": {"symmetric": False},
        "samples": [{"subject": "Chile", "object": "Spanish"}, {"subject": "Japan", "object": "Japanese"}],
    }
    task = load_task(saved(tmp_path, relation))
    assert (task.name, task.sentence) == ("country language", "People in {input} speak {output}.")
    assert task.pairs == (("Chile", "Spanish"), ("Japan", "Japanese"))
    (p,) = task_prompts(task, task[1:], format="sentence", n_shots=1, seed=0)
    assert (p.prompt, p.answer) == ("People in Chile speak Spanish.\nPeople in Japan speak", " Japanese")
    bare = load_task(saved(tmp_path, {"samples": relation["samples"]}))
    assert (bare.name, bare.sentence) == ("file", "")


def test_a_pair_given_twice_is_read_once_and_an_input_with_two_outputs_refused_or_left_out(tmp_path: Path):
    rows = [{"input": a, "output": b} for a, b in (("a", "b"), ("c", "d"), ("a", "b"), ("c", "e"))]
    path = saved(tmp_path, "\n".join(map(json.dumps, rows)), "x.jsonl")
    with pytest.raises(ConceptError, match=r"line 4: the input 'c' has the output 'e', and 'd' in .*line 2.*leave out"):
        load_task(path)
    task = load_task(path, ambiguous="leave out")
    assert task.pairs == (("a", "b"),)
    assert task.description.endswith("1 repeated pair(s) left out. 1 input(s) with several outputs left out.")
    with pytest.raises(OptionError, match="'leave out'"):
        load_task(path, ambiguous="ignore")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("[]", "no records"),
        ("[1, 2]", "record is a int"),
        ('[{"input": "a", "output": }]', "invalid JSON"),
        ([{"input": "a"}], "'output' is missing"),
        ([{"input": "a", "output": 3}], r"'output' is 3 \(int\)"),
        ([{"input": "a", "output": " "}], "'output' is empty"),
        ({"name": "r", "prompt_templates": []}, "non-empty list 'samples'"),
        ({"samples": []}, "non-empty list 'samples'"),
        ({}, "non-empty list 'samples'"),
        ({"samples": ["a"]}, "sample 0: a str"),
        ({"samples": [{"subject": "a"}]}, "'object' is missing"),
        ({"samples": [{"subject": "a", "object": "b"}], "prompt_templates": ["no place"]}, "prompt templates"),
        ({"samples": [{"subject": "a", "object": "b"}], "prompt_templates": "In {}"}, "prompt templates"),
        ({"samples": [{"subject": "a", "object": "b"}, {"subject": "a", "object": "c"}]}, "sample 1: the input 'a'"),
    ],
)
def test_a_broken_file_is_refused_by_what_is_wrong_with_it(tmp_path: Path, content: object, message: str):
    with pytest.raises(ConceptError, match=message):
        load_task(saved(tmp_path, content))


def test_an_unknown_name_suggests_a_neighbour_and_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="'antonyms'"):
        load_task("antonym")
    with pytest.raises(ConceptError, match="file not found"):
        load_task(tmp_path / "nothing.json")

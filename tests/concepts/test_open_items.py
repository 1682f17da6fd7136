"""Open-ended items from pairs and from files of questions."""

import json
from pathlib import Path

import pytest

from steerlens.concepts import (
    ConceptDataset,
    ContrastivePair,
    distractors,
    load_concept,
    open_ended_items,
    read_open_ended,
    read_questions,
)
from steerlens.errors import ConceptError
from steerlens.evaluation import neutral_texts


def test_a_shared_cue_is_cut_off():
    items = open_ended_items(load_concept("sentiment"))
    assert len(items) == 160
    assert all(p.answers is None and "Sentiment" not in p.positive + p.negative for p in items)
    assert items[0].positive.startswith(" The plot grips you")
    assert items[0].positive.endswith("roll.") or items[0].positive.endswith(".")


def test_what_is_no_shared_cue_stays():
    pair = ContrastivePair("", "A\nx:", "B\ny:", group="g", answers=("1", "2"))
    plain = ContrastivePair("The town is", " big\nnow", " small\nnow", group="h")
    items = open_ended_items(ConceptDataset("t", (pair, plain)))
    assert (items[0].positive, items[0].answers) == ("A\nx:", None)
    assert items[1] == plain
    with pytest.raises(ConceptError, match="nothing is left"):
        open_ended_items(ConceptDataset("t", (ContrastivePair("A", "\nx", "b\nx", group="g", answers=("1", "2")),)))


def test_questions_without_references_take_yours(tmp_path: Path):
    file = tmp_path / "test_dataset_open_ended.json"
    file.write_text(json.dumps([{"question": "What now?"}, {"question": "And then?"}]))
    items = read_open_ended(file, [" This.", " That."], [" No.", " Nothing."])
    assert [(p.prompt, p.positive, p.negative, p.group) for p in items] == [
        ("What now?", " This.", " No.", "What now?"),
        ("And then?", " That.", " Nothing.", "And then?"),
    ]
    assert items.name == "test_dataset_open_ended"
    assert read_questions(file) == ("What now?", "And then?")
    with pytest.raises(ConceptError, match="2 questions, but got 1 positive"):
        read_open_ended(file, [" This."], [" No.", " Nothing."])
    with pytest.raises(ConceptError, match=r"test_dataset_open_ended\.json.*are equal"):
        read_open_ended(file, [" This.", " That."], [" This.", " Nothing."])


def test_no_distractor_is_a_neutral_text():
    everything = " ".join(neutral_texts())
    assert not [s for s in distractors() if s in everything]
    assert len(set(distractors())) == len(distractors()) == 24

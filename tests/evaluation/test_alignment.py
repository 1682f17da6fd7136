"""Output alignment: at the last block it is the model's own answer; a network finds what the lens cannot see."""

import pytest
import torch

from steerlens.activations import planted_concept
from steerlens.concepts import ConceptDataset, ContrastivePair, load_concept
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import ALIGNMENT_COLUMNS, output_alignment
from steerlens.models import load_model
from steerlens.models._planted_tasks import DAYS, THINGS


@pytest.fixture(scope="module")
def split():
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    return fit, test


def test_the_model_s_answer_is_there_at_its_last_block(split: tuple[ConceptDataset, ConceptDataset]):
    fit, test = split
    model = load_model("planted-linear")
    found = output_alignment(model, fit, test)
    frame = found.to_frame()
    assert tuple(frame.columns) == ALIGNMENT_COLUMNS
    assert list(frame["layer"]) == [0, 1]
    last = frame.iloc[-1]
    assert last["aligned"] > 0.95
    assert last["regime"] == "aligned"
    assert last["rank"] == 0
    # Two answers, and every other word: what a random vector would read is far below one in a hundred.
    assert (frame["represented"] >= frame["aligned"] - 0.2).all()
    assert "aligned" in str(found)


def test_a_share_of_all_or_none_is_not_known_exactly(split: tuple[ConceptDataset, ConceptDataset]):
    fit, test = split
    frame = output_alignment(load_model("planted-linear"), fit, test, layers=[1]).to_frame()
    last = frame.iloc[0]
    assert last["aligned"] == last["represented"] == 1
    assert last["gap"] == 0
    assert last["aligned_low"] < 1 == last["aligned_high"]
    assert last["represented_low"] < 1 == last["represented_high"]
    assert last["gap_low"] < 0 < last["gap_high"]


def test_answers_that_nothing_decides_are_absent():
    """Every thing has a day of its own, drawn at random: neither the model nor a network can know it."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(7, (len(THINGS),), generator=generator).tolist()
    pairs = tuple(
        ContrastivePair(f"the {thing} is", f" {DAYS[k]}", f" {DAYS[k - 1]}", group=thing)
        for thing, k in zip(THINGS, drawn, strict=True)
    )
    fit, _, test = ConceptDataset("drawn", pairs).split(seed=0, fractions=(0.4, 0.1, 0.5))
    frame = output_alignment(load_model("planted-linear"), fit, test, layers=[1]).to_frame()
    assert frame["regime"].iloc[0] == "absent", frame.T
    assert frame["commonest"].iloc[0] < 0.5


def test_where_every_answer_is_the_same_nothing_can_be_told():
    """A byte-level tokenizer begins every answer with a space: a network that always says so is no evidence."""
    fit, _, test = load_concept("capital-cities").split(seed=0)
    frame = output_alignment(load_model("tiny-llama"), fit, test, layers=[3]).to_frame()
    assert frame["commonest"].iloc[0] == 1.0
    assert frame["regime"].iloc[0] == "undecided"


def test_what_cannot_be_measured_is_refused(split: tuple[ConceptDataset, ConceptDataset]):
    fit, test = split
    model = load_model("planted-linear")
    with pytest.raises(OptionError, match="share groups"):
        output_alignment(model, fit, fit)
    with pytest.raises(EstimateError, match="5 groups"):
        output_alignment(model, fit, test[:10])

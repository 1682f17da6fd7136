"""Transfer between data sets: a flip is seen as a flip, and shared groups never leak."""

import pytest

from steerlens.activations import Site, planted_concept
from steerlens.concepts import ConceptDataset, ContrastivePair, load_concept
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import TRANSFER_COLUMNS, transfer
from steerlens.models import load_model


def flipped(pairs: ConceptDataset) -> ConceptDataset:
    """The same texts with the classes exchanged."""
    return ConceptDataset(
        "flipped", tuple(ContrastivePair(p.prompt, p.negative, p.positive, group=p.group) for p in pairs)
    )


def test_exchanged_classes_are_a_flip():
    pairs = planted_concept("planted-linear")
    found = transfer(load_model("planted-linear"), {"as is": pairs, "flipped": flipped(pairs)}, Site.resid_post(0))
    frame = found.to_frame()
    assert tuple(frame.columns) == TRANSFER_COLUMNS
    areas = frame.set_index(["trained_on", "tested_on"])
    for name in ("as is", "flipped"):
        assert areas.loc[(name, name), "auroc"] > 0.99
        assert areas.loc[(name, name), "auroc_low"] > 0.5
    for way in (("as is", "flipped"), ("flipped", "as is")):
        assert areas.loc[way, "auroc"] < 0.01
        assert areas.loc[way, "auroc_high"] < 0.5
    assert "rows: trained on" in str(found)


def test_groups_that_two_sets_share_are_split_once():
    truth = load_concept("truth")
    parts = {
        str(b): ConceptDataset(str(b), tuple(p for p in truth if p.metadata["negated"] is b)) for b in (False, True)
    }
    assert set(parts["True"].groups) == set(parts["False"].groups)
    frame = transfer(load_model("tiny-llama"), parts, Site.resid_post(1)).to_frame()
    # A quarter of the 90 groups each; with separate splits some test groups would have been trained on.
    assert set(frame["n_clusters"]) == {frame["n_clusters"].iloc[0]}
    assert frame["n_clusters"].iloc[0] < 30


def test_nonsense_is_refused():
    pairs = load_concept("sentiment")
    with pytest.raises(OptionError, match="two data sets"):
        transfer(load_model("tiny-llama"), {"one": pairs}, Site.resid_post(0))
    with pytest.raises(EstimateError, match="five groups"):
        transfer(load_model("tiny-llama"), {"one": pairs[:12], "two": load_concept("truth")}, Site.resid_post(0))

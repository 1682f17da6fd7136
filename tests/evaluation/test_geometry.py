"""A geometry finds the rung that a concept was planted on, in one extraction, with its controls beside it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steerlens.activations import Site, planted_concept
from steerlens.concepts import ConceptDataset, load_concept
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import GEOMETRY_COLUMNS, Geometry, geometry
from steerlens.models import LensModel, load_model
from steerlens.probes import LogisticProbe, MLPProbe, QuadraticProbe

FEW = (LogisticProbe(), QuadraticProbe(), MLPProbe(16))


def measured(model: LensModel, pairs: ConceptDataset, layers: tuple[int, ...]) -> Geometry:
    return geometry(model, pairs, [Site.resid_post(n) for n in layers], probes=FEW, seeds=(0,))


@pytest.fixture(scope="module")
def sentiment() -> Geometry:
    return measured(load_model("tiny-llama"), load_concept("sentiment"), (0, 2))


def test_there_is_a_row_for_every_quantity_at_every_site(sentiment: Geometry):
    frame = sentiment.to_frame()
    assert tuple(frame.columns) == GEOMETRY_COLUMNS
    assert list(frame["layer"].unique()) == [0, 2]
    probes = frame[frame["quantity"] == "auroc"]
    assert list(probes["of"]) == [p.name for p in FEW] * 2
    rest = {
        "gap",
        "gap_quadratic",
        "gap_high",
        "erased",
        "coherence",
        "norm",
        "local",
        "constant",
        "linear",
        "nonlinear",
    }
    assert rest <= set(frame["quantity"])
    assert (frame["low"] <= frame["value"] + 1e-9).all()
    assert (frame["value"] <= frame["high"] + 1e-9).all()
    assert (frame["n_clusters"] >= 5).all()
    gaps = frame[frame["of"] == ""].pivot(index="layer", columns="quantity", values="value")
    assert (gaps["gap"] - gaps["gap_quadratic"] - gaps["gap_high"]).abs().max() < 1e-9


def test_the_words_of_a_text_are_read_by_a_linear_probe(sentiment: Geometry):
    """Even in a random model: the last token of a pair is another word."""
    assert {r.rung for r in sentiment.readings} <= {"translation", "none"}
    assert "AUROC" in str(sentiment)


def test_all_layers_come_from_one_forward_of_each_text():
    model, pairs = load_model("tiny-gpt2"), load_concept("sentiment")
    seen: list[int] = []

    def count(x: Tensor, **_: object) -> None:
        seen.append(len(x))

    with model.hooked("blocks.0.hook_resid_pre", count):
        geometry(model, pairs, [Site.resid_post(0), Site.resid_post(1)], probes=FEW, seeds=(0,))
    assert sum(seen) == 2 * len(pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rung"), [("planted-linear", "translation"), ("planted-xor", "pairs"),
                                            ("planted-cycle", "pairs")])  # fmt: skip
def test_planted_models_ask_for_the_rung_they_were_planted_on(name: str, rung: str):
    """Where the last word enters: for `xor` and `cycle` the two laws are one, and only pairs differ."""
    pairs = planted_concept(name)
    if name == "planted-cycle":  # sixteen names are too few groups to divide by four
        pairs = replace(pairs, pairs=tuple(replace(p, group=f"{p.group} {p.metadata['cell'][-1]}") for p in pairs))
    found = geometry(load_model(name), pairs[:: max(1, len(pairs) // 300)], [Site.resid_pre(0)], probes=FEW, seeds=(0,))
    assert found.readings[0].rung == rung, str(found)


def test_a_cycle_has_a_ring_and_other_concepts_have_none(sentiment: Geometry):
    assert all(layer.ring is None for layer in sentiment.layers)
    ring = measured(load_model("tiny-llama"), load_concept("weekdays"), (1,)).layers[0].ring
    assert ring is not None
    assert ring.names == ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    assert ring.fit.principal.centroids.shape == torch.Size([7, 2])


def test_the_same_seed_gives_the_same_numbers(sentiment: Geometry):
    again = measured(load_model("tiny-llama"), load_concept("sentiment"), (0, 2))
    assert again.to_frame().equals(sentiment.to_frame())


def test_what_cannot_be_measured_is_refused():
    model, pairs = load_model("tiny-llama"), load_concept("sentiment")
    with pytest.raises(OptionError, match="at least one site"):
        geometry(model, pairs, [])
    with pytest.raises(EstimateError, match="5 groups"):
        geometry(model, pairs[:20], [Site.resid_post(0)])

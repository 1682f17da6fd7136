"""A geometry finds the rung that a concept was planted on, in one extraction, with its controls beside it."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from steerlens.activations import Site, planted_concept
from steerlens.concepts import ConceptDataset, load_concept
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import GEOMETRY_COLUMNS, Geometry, LayerReading, geometry
from steerlens.evaluation._geometry_reading import _rung, read_layer
from steerlens.models import LensModel, load_model
from steerlens.numerics import Estimate
from steerlens.probes import (
    LabelledRows,
    LogisticProbe,
    MLPProbe,
    NonlinearityGap,
    QuadraticProbe,
    displacement_report,
    erase_then_probe,
    nonlinearity_gap,
    probe_table,
)

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


def layer_of(positive: Tensor, negative: Tensor, n_groups: int) -> LayerReading:
    """The reading of one layer, half of the groups to fit, a quarter each to select and to test."""
    size, order = len(positive) // n_groups, torch.arange(len(positive))
    groups = [str(i) for i in (order // size).tolist()]
    ends = (0, n_groups // 2, n_groups // 2 + n_groups // 4, n_groups)
    fit, select, test = (
        LabelledRows.of_pairs(negative[a * size : b * size], positive[a * size : b * size], groups[a * size : b * size])
        for a, b in itertools.pairwise(ends)
    )
    table = probe_table(fit, select, test, probes=FEW, seeds=(0,))
    displacement = displacement_report(negative, positive - negative, groups, seed=0)
    erasure = erase_then_probe(fit, select, test, seeds=(0,))
    gap = nonlinearity_gap(table)
    return read_layer(Site.resid_post(0), table, gap, erasure, None, displacement, None)


def normal(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n_groups", "enough"), [(24, False), (28, True)])
def test_too_few_groups_are_said_to_be_too_few_and_not_that_nothing_is_there(n_groups: int, enough: bool):
    """Classes eight standard deviations apart, and a target that turns with its source."""
    source = normal(4 * n_groups, 8, 0)
    target = source.roll(1, dims=1) + 8 * torch.eye(8, dtype=torch.float64)[0]
    found = layer_of(target, source, n_groups)
    assert ("too few to show anything" in found.text) == (not enough)
    assert (found.rung == "none") == (not enough)
    assert found.rung != "pairs"
    assert "no probe tells" not in found.text


@pytest.mark.parametrize(
    ("total", "high", "rung", "sure"),
    [(0.2, 0.2, "nonlinear", "shown"), (0.02, 0.2, "translation", "not excluded"),
     (0.2, 0.02, "affine", "not excluded"), (0.0, 0.0, "translation", "shown")],
)  # fmt: skip
def test_what_an_overfitted_quadratic_probe_leaves_is_not_beyond_linear_functions(
    total: float, high: float, rung: str, sure: str
):
    def bits(value: float) -> Estimate:
        half = 0.05 if value else 0.01
        return Estimate(value, value - half, value + half, 0.95, 100, 50, "")

    gap = NonlinearityGap(bits(total), bits(total - high), bits(high), "logistic", "quadratic", "mlp", ())
    assert _rung(True, False, gap) == (rung, sure)


@pytest.mark.slow
def test_a_network_that_overfits_does_not_show_that_a_translation_is_enough():
    """Parity of three axes beside a shift, in more dimensions than 100 pairs can learn it in."""
    shown = 0
    for seed in range(3):
        signs = normal(200, 64, seed).sign()[:, :3]
        x, y = normal(200, 64, seed + 10), normal(200, 64, seed + 20)
        x[:, :3] = signs * torch.stack([torch.ones(200), torch.ones(200), signs[:, 0] * signs[:, 1] * signs[:, 2]], 1)
        y[:, :3] = signs * torch.stack([torch.ones(200), torch.ones(200), -signs[:, 0] * signs[:, 1] * signs[:, 2]], 1)
        x[:, 3] += 1.5
        found = layer_of(x, y, 200)
        assert found.rung == "translation"
        shown += found.sure == "shown"
    assert shown == 0


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

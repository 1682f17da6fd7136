"""Ordered concepts: on a ring chords leave the data and the curve does not, on a line they are one path."""

import numpy as np
import pytest
import torch

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair, load_concept
from steerlens.models import tiny_model
from steerlens.theories import path_records
from steerlens.theories._path_evidence import Paths, _classes, paths

K, EACH, WIDTH, RADIUS = 12, 40, 24, 3.0


def found(shape: str, *, noise: float = 0.02, seed: int = 0) -> Paths:
    """Paths of a planted ordered concept, turned at random into more coordinates than it needs."""
    g = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=g, dtype=torch.float64)).Q
    angle = 2 * np.pi * torch.arange(K).double() / K
    centres = torch.zeros(K, WIDTH, dtype=torch.float64)
    if shape == "ring":
        centres[:, 0], centres[:, 1] = RADIUS * angle.cos(), RADIUS * angle.sin()
    elif shape == "line":
        centres[:, 0] = torch.arange(K).double()
    else:  # classes that differ, in no order
        centres[:, :K] = RADIUS * torch.eye(K, dtype=torch.float64)
    classes = np.repeat(np.arange(K), EACH)

    def draw() -> torch.Tensor:
        return (centres[classes] + noise * torch.randn(len(classes), WIDTH, generator=g, dtype=torch.float64)) @ axes

    return paths(draw(), classes, draw(), closed=shape != "line", seed=0)


def test_on_a_ring_distortion_is_arc_over_chord():
    angles = np.minimum(np.arange(1, K), K - np.arange(1, K)) * 2 * np.pi / K
    assert found("ring").distortion == pytest.approx(float((angles / (2 * np.sin(angles / 2))).mean()), rel=2e-3)


def test_on_a_ring_the_chord_s_energy_is_that_of_its_distance_to_the_nearest_class():
    """By hand, without noise: every point's distance to the nearest class, which is far inside the ring."""
    theta = 2 * np.pi * np.arange(K) / K
    corners = RADIUS * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    t = np.linspace(0, 1, 50)[:, None]
    points = np.concatenate([(1 - t) * corners[i] + t * corners[j] for i in range(K) for j in range(i + 1, K)])
    expected = (np.linalg.norm(points[:, None] - corners, axis=2).min(axis=1) ** 2).mean()
    ring = found("ring", noise=1e-6)
    assert ring.energy["chord"] == pytest.approx(expected, rel=1e-4)
    assert ring.energy["geodesic"] < 0.5 * ring.energy["chord"]
    assert ring.energy["other order"] > 1.5 * ring.energy["geodesic"]


def test_on_a_line_chord_and_geodesic_are_one_path():
    line = found("line")
    assert line.distortion == pytest.approx(1.0, abs=5e-3)
    assert line.energy["chord"] == pytest.approx(line.energy["geodesic"], rel=0.02)


def test_classes_may_be_numbered_from_anywhere():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(K * EACH, WIDTH, generator=g, dtype=torch.float64)
    classes = np.repeat(np.arange(K), EACH)
    one, other = (paths(rows, c, rows, closed=True, seed=0) for c in (classes, 2 * classes + 3))
    assert one == other


def test_classes_without_order_are_as_near_to_a_curve_in_any_order():
    """Why "other order" stands beside the geodesic: distortion and chord alone would call these curved."""
    none = found("none")
    assert none.distortion > 1.3
    assert none.energy["geodesic"] == pytest.approx(none.energy["other order"], rel=0.05)


def test_only_pairs_with_the_number_of_a_class_are_an_ordered_concept():
    days = _classes(load_concept("weekdays"))
    assert days is not None
    assert days.closed
    assert sorted(set(days.of.tolist())) == list(range(7))
    assert _classes(load_concept("plural")) is None
    steps = tuple(ContrastivePair("size", f" {i}", f" not {i}", group=str(i), metadata={"index": i}) for i in range(5))
    sizes = _classes(ConceptDataset("sizes", steps))
    assert sizes is not None
    assert (sizes.of.tolist(), sizes.closed) == ([0, 1, 2, 3, 4], False)


def test_days_have_paths_though_no_direction_leads_from_each_to_the_next():
    """Source and target have one mean, so that no direction can be fitted; paths need none."""
    model, site, split = tiny_model("llama"), Site.resid_post(0), load_concept("weekdays").split(seed=0)
    fit, test = (extract(model, part, [site])[site] for part in (split.fit, split.test))
    torch.testing.assert_close(fit.positive.double().mean(0), fit.negative.double().mean(0), rtol=0, atol=1e-6)
    assert not torch.allclose(fit.positive, fit.negative, atol=1e-2)
    records = path_records(model, split, site, concept="weekdays", seed=0)
    numbers = np.array([p.metadata["index"] for p in split.fit])
    by_hand = paths(fit.negative.double(), numbers, test.negative.double(), closed=True, seed=0)
    energies = records[records["quantity"] == "path_energy"].set_index("setting")["value"]
    assert energies.to_dict() == pytest.approx(dict(by_hand.energy))
    assert records[records["quantity"] == "distortion"]["value"].item() == pytest.approx(by_hand.distortion)
    assert set(records["n"]) == {len(split.test)}


def test_a_concept_without_order_has_no_paths():
    split = load_concept("plural").split(seed=0)
    assert path_records(tiny_model("llama"), split, Site.resid_post(0), concept="plural", seed=0).empty

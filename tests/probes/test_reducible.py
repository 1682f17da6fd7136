"""Separability and mixture of clouds in a plane whose shape is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.errors import ActivationError, EstimateError, FitError, OptionError
from steerlens.probes._reducible import (
    ReducibilityReport,
    mixture_share,
    mutual_information,
    reducibility_report,
    separability,
)


def clouds(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.random(n)
    first = rng.random(n) < 0.5
    around = 2 * np.pi * rng.integers(0, 7, size=n) / 7
    seven = np.stack([np.cos(around), np.sin(around)], 1) + 0.1 * rng.normal(size=(n, 2))
    return {
        "ring": np.stack([np.cos(angle), np.sin(angle)], 1),
        "seven clusters": seven,
        "Gaussian": rng.normal(size=(n, 2)),
        "uniform": rng.random((n, 2)) - 0.5,
        "two axes": np.stack([first, ~first], 1) * rng.normal(size=(n, 2)),
    }


def report(x: np.ndarray, **options) -> ReducibilityReport:
    return reducibility_report(
        torch.tensor(x), options.pop("groups", range(len(x))), **{"seed": 0, "n_permutations": 39, **options}
    )


@pytest.mark.parametrize(
    ("name", "mixture", "bits"),
    [("ring", 0.23, 1.48), ("seven clusters", 0.22, 1.20), ("Gaussian", 0.09, 0.01), ("uniform", 0.11, 0.01),
     ("two axes", 0.54, 0.33)],
)  # fmt: skip
def test_both_indices_are_those_of_the_reference_clouds(name: str, mixture: float, bits: float):
    x = clouds(4000)[name]
    assert mixture_share(x) == pytest.approx(mixture, abs=0.02)
    assert separability(x) == pytest.approx(bits, abs=0.02)


@pytest.mark.parametrize(
    ("name", "reading"),
    [("ring", "irreducible"), ("Gaussian", "separable"), ("uniform", "separable"), ("two axes", "mixture")],
)
def test_four_hundred_rows_are_read_as_they_were_made(name: str, reading: str):
    assert report(clouds(400)[name]).reading == reading


@pytest.mark.parametrize("n", [60, 120])
def test_a_ring_of_few_rows_is_one_feature_and_independent_coordinates_are_not(n: int):
    rng = np.random.default_rng(n)
    assert report(clouds(n)["ring"] + 0.05 * rng.normal(size=(n, 2))).reading == "irreducible"
    assert report(clouds(n)["Gaussian"]).reading in ("separable", "undecided")


def test_what_is_not_seen_in_twenty_rows_is_not_called_absent():
    for seed in range(4):
        found = report(clouds(20, seed)["ring"])
        assert found.reading != "separable", str(found)
    assert report(clouds(400)["Gaussian"]).separability.high < 0.25


def test_items_in_one_order_in_every_template_are_not_dealt_to_themselves():
    """A ring of twelve items in thirty templates: rows that stand in the order of the items, and the same, shuffled."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.tile(np.arange(12), 30) / 12
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(360, 2))
    groups, order = np.repeat(np.arange(30), 12), rng.permutation(360)
    ordered, shuffled = report(x, groups=groups.tolist()), report(x[order], groups=groups[order].tolist())
    assert ordered.reading == shuffled.reading == "irreducible"
    assert ordered.separability.value == pytest.approx(shuffled.separability.value, abs=0.1)


def test_few_rows_inflate_the_plug_in_and_not_the_corrected_index():
    found = [report(clouds(60, s)["Gaussian"]) for s in range(8)]
    assert np.mean([f.plug_in_separability for f in found]) > 0.5
    assert abs(np.mean([f.separability.value for f in found])) < 0.06
    assert np.mean([f.plug_in_mixture for f in found]) > 0.17
    assert np.mean([f.mixture.value for f in found]) < 0.12, "a Gaussian has 8 % within 0.1 of its middle"
    assert all(f.p_separability > 0.02 for f in found)


def test_mutual_information_is_the_plug_in_on_ten_by_ten_cells():
    x = clouds(200)["two axes"]
    joint = np.histogram2d(x[:, 0], x[:, 1], bins=10)[0] / len(x)
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    assert mutual_information(x)[0] == pytest.approx((joint[seen] * np.log2(joint[seen] / product[seen])).sum())


@pytest.mark.slow
def test_turning_the_cloud_turns_the_angle():
    x = clouds(400)["uniform"]
    turn = np.deg2rad(40)
    R = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    found = report(x @ R)
    assert found.separability.value == pytest.approx(report(x).separability.value, abs=0.06)
    assert min(abs(found.angle - turn), np.pi / 2 - abs(found.angle - turn)) < np.deg2rad(15)
    assert mixture_share(clouds(400)["two axes"] @ R) == pytest.approx(mixture_share(clouds(400)["two axes"]), abs=0.04)


def test_heavy_tails_do_not_hide_the_rotation_that_separates():
    off = []
    for seed in range(8):
        z = np.random.default_rng(seed).normal(size=(200, 2))
        heavy = np.sign(z) * np.abs(z) ** 1.5 @ np.array([[0.8, -0.6], [0.6, 0.8]])
        off.append(np.degrees(report(heavy, seed=seed, n_permutations=1).angle) - np.degrees(np.arctan2(0.8, 0.6)))
    assert np.sqrt(np.mean(np.square(off))) < 8  # Of a turn by 45 degrees at most; a rotation by chance is 26 off.


def test_copies_do_not_count_as_rows():
    """Thirty points, each ten times: much information between coordinates, if the copies were independent."""
    x = np.repeat(np.random.default_rng(0).normal(size=(30, 2)), 10, axis=0)
    assert report(x).p_separability == 1 / 40
    assert report(x, groups=[i // 10 for i in range(300)]).p_separability > 0.05


@pytest.mark.slow
def test_p_values_are_calibrated_where_a_rotation_separates():
    """Independent uniform coordinates, turned; half of the variance is shared in groups of three."""
    codes = np.arange(60) // 3
    p = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        z = (rng.random((20, 2))[codes] + rng.random((60, 2))) @ np.array([[0.8, -0.6], [0.6, 0.8]])
        p.append(report(z, groups=codes.tolist(), seed=seed, n_permutations=39).p_separability)
    assert 0.005 <= np.mean(np.array(p) <= 0.05) <= 0.12


def test_seeds_decide_everything_and_the_page_has_both_references():
    x = clouds(100)["ring"]
    assert report(x) == report(x)
    assert report(x, seed=1) != report(x)
    assert "plug-in" in str(report(x))
    assert "Gaussian" in str(report(x))


def test_what_has_no_plane_is_refused():
    x = clouds(50)["ring"]
    with pytest.raises(FitError, match="all lie on a line"):
        report(x * np.array([1.0, 0.0]))
    with pytest.raises(ActivationError, match="50 of 50 have NaN"):
        report(x * np.nan)
    with pytest.raises(OptionError, match="needs a group"):
        report(x, groups=range(3))
    with pytest.raises(EstimateError, match="at least 5 groups"):
        report(x, groups=[0] * 50)


def test_the_argument_is_left_alone():
    x: Tensor = torch.tensor(clouds(50)["ring"])
    kept = x.clone()
    reducibility_report(x, range(50), seed=0, n_permutations=3)
    assert torch.equal(x, kept)

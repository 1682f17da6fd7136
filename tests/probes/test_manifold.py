"""Moved rows beside real ones: what each number says of maps whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.errors import EstimateError, FitError
from steerlens.numerics import energy_distance
from steerlens.probes import ManifoldReport, manifold_report
from steerlens.probes._manifold import _median, _weighted_energy

WIDTH, N = 6, 120


def rows(seed: int, *, mean: float = 0.0, n: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) + mean


def report(moved: Tensor, source: Tensor) -> ManifoldReport:
    """Against a standard normal cloud around (3, …, 3)."""
    return manifold_report(
        moved, source, rows(1, mean=3), rows(2, mean=3, n=200), groups=range(N), target_groups=range(N), seed=0
    )


def test_rows_of_the_target_s_law_are_on_the_manifold():
    found = report(rows(0) + 3, rows(0))
    assert found.energy.value < found.energy_floor
    assert found.energy_before.low > 10 * found.energy_floor
    assert not found.neighbour_ratio.excludes(1.0)
    assert not found.mahalanobis_ratio.excludes(1.0)


def test_rows_that_stayed_are_not():
    found = report(rows(0), rows(0))
    assert found.energy.low > found.energy_floor
    assert found.energy == found.energy_before
    assert found.neighbour_ratio.low > 1.5
    assert found.mahalanobis_ratio.low > 1.5
    assert found.norm_ratio.value == 1.0
    assert found.cosine.value == pytest.approx(1.0)


def test_rows_far_beyond_the_target_are_not():
    found = report(rows(0) + 8, rows(0))
    assert found.energy.low > found.energy_floor
    assert found.neighbour_ratio.low > 1.5
    assert found.norm_ratio.low > 4


def test_one_point_in_the_middle_is_near_everything_and_still_not_the_target():
    found = report(torch.full((N, WIDTH), 3.0, dtype=torch.float64), rows(0))
    assert found.neighbour_ratio.high < 1
    assert found.mahalanobis_ratio.high < 0.5
    assert found.energy.low > found.energy_floor


def test_the_weighted_energy_is_the_plain_one_and_counts_a_weight_as_copies():
    x, y = rows(0, n=9), rows(1, mean=1, n=7)
    energy = _weighted_energy(x, y)
    assert energy(np.ones((1, 9)), np.ones((1, 7)))[0] == pytest.approx(float(energy_distance(x, y)))
    dropped = np.array([[1.0] * 6 + [0.0] * 3])
    assert energy(dropped, np.ones((1, 7)))[0] == pytest.approx(float(energy_distance(x[:6], y)))


def test_the_weighted_median_is_numpy_s():
    values = np.random.default_rng(0).normal(size=11)
    for weights in (np.ones(11), np.ones(11) - np.eye(11)[3], np.arange(11.0)):
        assert _median(values, weights[None])[0] == pytest.approx(np.median(np.repeat(values, weights.astype(int))))


def test_a_report_prints_every_number_with_its_reference():
    text = str(report(rows(0) + 3, rows(0)))
    assert "floor" in text
    assert "120 in 120 groups" in text


def test_what_cannot_be_compared_is_refused():
    x = rows(0)
    with pytest.raises(EstimateError, match="Every row needs a group"):
        manifold_report(x, x, x, x, groups=range(3), target_groups=range(N), seed=0)
    with pytest.raises(EstimateError, match="at least 5 clusters"):
        manifold_report(x, x, x, x, groups=[0] * N, target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="more than 5 reference rows"):
        manifold_report(x, x, x, x[:5], groups=range(N), target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="all are equal"):
        manifold_report(x, x, x, torch.ones_like(x), groups=range(N), target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="finite"):
        manifold_report(x * torch.nan, x, x, x, groups=range(N), target_groups=range(N), seed=0)

"""Dimensions of clouds, circles and noise."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.errors import ActivationError, EstimateError, FitError, OptionError
from steerlens.probes._dimension import dimension_report, effective_rank, participation_ratio


def ring(n: int, noise: float, seed: int = 0, width: int = 64) -> Tensor:
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.random(n)
    x = noise * rng.normal(size=(n, width))
    x[:, :2] += np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return torch.tensor(x)


def noise(n: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_fewer_rows_than_dimensions_do_not_shorten_the_participation_ratio():
    found = dimension_report(noise(100, 400), range(100), seed=0)
    assert found.plug_in_participation_ratio < 100
    assert found.participation_ratio.low < 400 < found.participation_ratio.high
    assert found.effective_rank.value < 100, "the plug-in cannot see more than n − 1"


def test_the_participation_ratio_is_that_of_the_variances():
    scale = torch.tensor([3.0, 2.0, 1.0, 1.0]).double()
    truth = float((scale**2).sum() ** 2 / (scale**4).sum())
    found = dimension_report(noise(500, 4) * scale, range(500), seed=0).participation_ratio
    assert found.low < truth < found.high
    assert found.high - found.low < 0.6


def test_the_traces_are_unbiased():
    """Against all quadruples of rows of different groups, one by one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)) * np.array([2.0, 1.0, 0.5]) + 4
    x -= x.mean(axis=0)
    squares, products = [], []
    for a in range(8):
        for b in range(8):
            for c in range(8):
                for d in range(8):
                    if len({a, b, c, d}) == 4:
                        squares.append(((x[a] - x[b]) @ (x[c] - x[d])) ** 2)
                        products.append(((x[a] - x[b]) ** 2).sum() * ((x[c] - x[d]) ** 2).sum())
    assert participation_ratio(x @ x.T, np.arange(8)) == pytest.approx(max(np.mean(products) / np.mean(squares), 1.0))


def test_copies_in_groups_are_not_evidence():
    x = noise(60, 200)
    copies = x.repeat_interleave(4, dim=0)
    groups = [i // 4 for i in range(240)]
    honest = dimension_report(copies, groups, seed=0)
    assert honest.participation_ratio.value == pytest.approx(
        dimension_report(x, range(60), seed=0).participation_ratio.value
    )
    naive = dimension_report(copies + 1e-6 * noise(240, 200, 1), range(240), seed=0)
    assert naive.participation_ratio.value < 0.6 * honest.participation_ratio.value
    assert naive.scales[0].radius < 1e-4 < honest.scales[0].radius, "copies are each other's neighbours"


def test_rows_of_a_group_are_no_dense_spot():
    """Three rows near each of 100 points of a plane: neighbours in a spot say nothing about the plane."""
    plane = torch.zeros(100, 8, dtype=torch.float64)
    plane[:, :2] = noise(100, 2)
    x = plane.repeat_interleave(3, dim=0) + 1e-3 * noise(300, 8, 1)
    assert dimension_report(x, [i // 3 for i in range(300)], seed=0).two_nn.value == pytest.approx(2, abs=0.5)
    assert dimension_report(x, range(300), seed=0).two_nn.low > 2.5


def test_effective_rank_of_equal_variances_is_their_number():
    assert effective_rank(noise(5000, 6).numpy()) == pytest.approx(6, abs=0.02)
    assert effective_rank(np.outer(np.arange(9.0), [1.0, 2.0])) == pytest.approx(1.0)


@pytest.mark.slow
def test_noise_of_a_hundredth_makes_two_nn_see_25_dimensions_in_a_circle():
    clean, noisy = ring(1000, 0.0), ring(1000, 0.01)
    assert dimension_report(clean, range(1000), seed=0, rank=64).two_nn.value == pytest.approx(1.0, abs=0.15)
    found = dimension_report(noisy, range(1000), seed=0, rank=64)
    assert found.two_nn.value > 15
    assert found.plateau is None
    falling = [s.dimension.value for s in found.scales]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.slow
def test_few_components_and_large_scales_find_the_circle():
    found = dimension_report(ring(1000, 0.01), range(1000), seed=0, rank=4)
    assert found.plateau is not None
    assert found.plateau.value == pytest.approx(1.0, abs=0.1)
    assert found.two_nn.value > 2


def test_noise_that_fills_the_components_is_no_dimension():
    assert dimension_report(ring(600, 0.05), range(600), seed=0, rank=4).plateau is None
    assert dimension_report(noise(400, 100), range(400), seed=0).plateau is None


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_flat_cloud_without_noise_has_its_dimension(d: int):
    x = torch.zeros(800, 20, dtype=torch.float64)
    x[:, :d] = torch.rand(800, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = dimension_report(x, range(800), seed=0)
    assert found.two_nn.low < d < found.two_nn.high
    assert found.plateau is not None
    assert found.plateau.value == pytest.approx(d, rel=0.12)


def test_radii_grow_and_ks_double():
    scales = dimension_report(ring(200, 0.01), range(200), seed=0).scales
    assert [s.k for s in scales] == [2, 4, 8, 16, 32]
    assert all(a.radius < b.radius for a, b in itertools.pairwise(scales))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_the_interval_of_the_participation_ratio_covers(size: int):
    scale = torch.tensor([2.0, 1.5, 1.0, 0.5]).double()
    truth = float((scale**2).sum() ** 2 / (scale**4).sum())
    codes = np.arange(60) // size
    covered = []
    for seed in range(150):
        rows = (noise(60, 4, 2 * seed)[codes] + noise(60, 4, 2 * seed + 1)) * scale
        found = dimension_report(rows, codes.tolist(), seed=0).participation_ratio
        covered.append(not found.excludes(truth))
    assert np.mean(covered) > 0.88


def test_seeds_decide_and_the_page_has_every_scale():
    x = ring(100, 0.1)
    groups = [i // 2 for i in range(100)]
    assert dimension_report(x, groups, seed=0) == dimension_report(x, groups, seed=0)
    text = str(dimension_report(x, groups, seed=0))
    for word in ("participation ratio", "plug-in", "effective rank", "k = 2", "k = 8", "plateau"):
        assert word in text


def test_what_has_no_dimension_is_refused():
    with pytest.raises(FitError, match="all are equal"):
        dimension_report(torch.ones(20, 3, dtype=torch.float64), range(20), seed=0)
    with pytest.raises(ActivationError, match="NaN"):
        dimension_report(torch.full((20, 3), torch.nan, dtype=torch.float64), range(20), seed=0)
    with pytest.raises(OptionError, match="rank must be at least 1"):
        dimension_report(noise(20, 3), range(20), seed=0, rank=0)
    with pytest.raises(EstimateError, match="at least 5 groups"):
        dimension_report(noise(20, 3), [i % 4 for i in range(20)], seed=0)
    with pytest.raises(FitError, match="distinct rows"):
        dimension_report(torch.arange(20.0).double()[:, None].remainder(2) * noise(1, 3), range(20), seed=0)

"""Kernel maps: their features are those of a Gaussian kernel, and they bend where a shift cannot."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import FourierMap, MeanShift, RandomFeatureMap, Training
from steerlens.maps._features import features, median_distance, random_features
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

SHORT = RandomFeatureMap(features=128, training=Training(steps=60))


def test_inner_products_of_features_approach_the_gaussian_kernel():
    x, _ = gaussian_samples(n=40)
    generator = torch.Generator().manual_seed(0)
    for width in (2.0, 4.0):
        phi = features(x, *random_features(12, 20_000, width, generator))
        expected = torch.from_numpy(rbf_kernel(x.numpy(), gamma=1 / (2 * width**2)))
        assert_close(phi @ phi.T, expected, atol=0.05, rtol=0)  # 1 / √20000 = 0.007


def test_the_map_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    frequencies, phases = random_features(3, 7, 1.0, generator)
    weights = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    shift, x = torch.ones(3, dtype=torch.float64), torch.randn(4, 3, generator=generator, dtype=torch.float64)
    fitted = FourierMap(shift, weights, frequencies, phases, torch.zeros(0, 2, dtype=torch.float64))
    for row in x:
        waves = torch.stack([(2 / 7) ** 0.5 * torch.cos(frequencies[:, j] @ row + phases[j]) for j in range(7)])
        assert_close(fitted(row), row + shift + weights.T @ waves)


def test_the_median_distance_is_that_of_different_rows():
    x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    assert median_distance(x, generator) == 2.0
    mostly_equal = torch.zeros(20, 1, dtype=torch.float64)
    mostly_equal[0] = 1.0
    assert median_distance(mostly_equal, generator) > 0


def bimodal(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    side = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
    target[:, 0] = 0.3 * target[:, 0] + 2 * side + 1
    return source, target


@pytest.mark.slow
def test_it_splits_one_heap_into_two_and_back_where_a_shift_cannot():
    (source, target), (held, held_target) = bimodal(500, 0), bimodal(500, 1)
    fitted = RandomFeatureMap(rank=3, training=Training(steps=200)).fit(source, target)
    assert energy_distance(MeanShift().fit(source, target)(held), held_target) > 0.2
    assert energy_distance(fitted(held), held_target) < 0.05
    assert energy_distance(fitted(held_target, strength=-1.0), held) < 0.1


@pytest.mark.slow
def test_where_only_the_mean_differs_it_stays_near_the_shift():
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(400, 4, generator=generator, dtype=torch.float64) + m for m in (0.0, 2.0))
    shift = MeanShift().fit(source, target).vector
    moved = RandomFeatureMap(rank=4).fit(source, target).displacement(source)
    assert (moved - shift).norm(dim=1).mean() < 0.2 * shift.norm()


def test_the_seed_decides():
    source, target = bimodal(100, 0)
    a, b, c = (replace(SHORT, seed=s, rank=3).fit(source, target)(source) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_awkward_samples_fit_or_say_why():
    source, target = gaussian_samples(n=30, width=64)
    assert torch.isfinite(SHORT.fit(source, target[:25])(source)).all()
    source[:, 3] = target[:, 3] = 7.0
    assert_close(SHORT.fit(source, target)(source)[:, 3], source[:, 3])
    assert SHORT.fit(source, source.clone()).displacement(source).norm(dim=1).mean() < 0.1 * source.std()
    with pytest.raises(FitError, match="at least 20 rows"):
        SHORT.fit(source[:2], target)
    with pytest.raises(FitError, match="all rows are equal"):
        SHORT.fit(torch.ones(30, 4), torch.ones(30, 4))


@pytest.mark.parametrize("options", [{"features": 0}, {"bandwidth": 0.0}, {"rank": 0}, {"transport_cost": -1.0}])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(OptionError):
        RandomFeatureMap(**options)

"""Curved and flat clouds."""

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.concepts import planted
from steerlens.errors import ActivationError, EstimateError, FitError, OptionError
from steerlens.probes._curvature import CurvatureReport, curvature_report, matched_gaussian, principal_coordinates

N = 150


def noise(n: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ring(noise_size: float, n: int = N) -> Tensor:
    angle = 2 * np.pi * torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = noise_size * noise(n, 20)
    x[:, 0] += angle.cos()
    x[:, 1] += angle.sin()
    return x


def report(x: Tensor, groups=None, **options) -> CurvatureReport:
    return curvature_report(x, range(len(x)) if groups is None else groups, **{"seed": 0, "n_samples": 39, **options})


def test_a_circle_is_curved():
    """Mean arc over mean chord of a circle is (π/2) / (4/π) = 1.23."""
    found = report(ring(0.0, 400), neighbours=10)
    assert found.distortion.value == pytest.approx(np.pi**2 / 8, abs=0.03)
    assert found.flat_distortion < 1.1
    assert found.p_distortion == found.p_turning == 1 / 40
    assert found.tangent_variation.high < 0.02
    assert found.turning.low > 0.4


def test_a_noisy_circle_is_still_curved_and_its_tangents_vary_less_than_flat_ones():
    found = report(ring(0.05))
    assert found.p_distortion == found.p_turning == 1 / 40
    assert found.distortion.low > found.flat_distortion
    assert found.tangent_variation.value < found.flat_variation


def test_a_flat_cloud_is_not():
    found = report(noise(N, 20) * torch.linspace(2, 0.5, 20).double())
    assert min(found.p_distortion, found.p_turning) > 0.05
    assert found.distortion.value == pytest.approx(found.flat_distortion, rel=0.05)
    assert found.flat_distortion > 1.1, "paths zigzag in flat clouds, too: only the reference says what is curved"


def test_a_line_has_no_distortion():
    x = torch.outer(torch.rand(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64), noise(1, 5)[0])
    found = report(x)
    assert found.distortion.value == pytest.approx(1.0)
    assert found.tangent_variation.value == pytest.approx(0.0, abs=1e-9)
    assert found.rank == 1


@pytest.mark.parametrize(("name", "curved"), [("linear", False), ("helix", True)])
def test_planted_clouds_are_as_curved_as_they_were_planted(name: str, curved: bool):
    rows = planted(name, nuisance=0.05).sample(N, seed=0)
    x = torch.cat([rows.source, rows.target]) if curved else rows.source
    found = report(x, [i % N for i in range(len(x))])
    assert (found.p_distortion <= 0.05) is curved


def test_separate_clusters_are_connected_by_their_shortest_edges():
    x = 0.01 * noise(N, 2)
    x[: N // 2, 0] += 10
    found = report(x)
    assert np.isfinite(found.distortion.value)
    assert 1 <= found.distortion.value < 1.2


def test_gaussian_clouds_have_the_covariance_between_and_within_groups():
    rng = np.random.default_rng(0)
    codes = np.arange(1200) // 4
    scale = np.array([2.0, 1.0])
    x = (rng.normal(size=(300, 2))[codes] + 0.5 * rng.normal(size=(1200, 2))) * scale
    for cloud in matched_gaussian(x, codes, rng, 2):
        means = cloud.reshape(300, 4, 2).mean(axis=1)
        assert np.cov(cloud.T) == pytest.approx(np.cov(x.T), abs=0.6)
        assert np.cov(means.T) == pytest.approx(np.cov(x.reshape(300, 4, 2).mean(axis=1).T), abs=0.6)


def test_principal_coordinates_keep_distances_where_all_are_kept():
    x = noise(12, 30)
    z = torch.tensor(principal_coordinates(x, 30))
    torch.testing.assert_close(torch.cdist(z, z), torch.cdist(x, x))
    short = principal_coordinates(noise(40, 3), 2)
    assert short.shape == (40, 2)
    assert (short**2).sum(axis=0)[0] >= (short**2).sum(axis=0)[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_p_values_of_gaussian_clouds_are_calibrated(size: int):
    codes = np.arange(60) // size
    found = []
    for seed in range(120):
        x = noise(60, 4, 2 * seed)[codes] + noise(60, 4, 2 * seed + 1)
        r = report(x * torch.tensor([2.0, 1.0, 1.0, 0.5]).double(), codes.tolist(), seed=seed, n_samples=19)
        found.append((r.p_distortion, r.p_turning))
    shares = (np.array(found) <= 0.05).mean(axis=0)
    assert (shares <= 0.12).all()


def test_seeds_decide_and_the_page_has_its_references():
    assert report(ring(0.1)) == report(ring(0.1))
    assert "flat" in str(report(ring(0.1)))


def test_what_has_no_curvature_is_refused():
    with pytest.raises(FitError, match="all are equal"):
        report(torch.ones(N, 3, dtype=torch.float64))
    with pytest.raises(OptionError, match="neighbours must be at least 2 and below 9, but got 10"):
        report(noise(10, 3))
    with pytest.raises(OptionError, match="tangent must be at least 1 and below the rank 3, but got 3"):
        report(noise(N, 3), tangent=3)
    with pytest.raises(ActivationError, match="NaN"):
        report(noise(N, 3) * torch.nan)
    with pytest.raises(EstimateError, match="at least 5 groups"):
        report(noise(N, 3), [0] * N)

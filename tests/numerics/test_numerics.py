"""Moments, powers, shrinkage and distances against independent answers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import energy_distance as scipy_energy
from sklearn.covariance import OAS
from torch.testing import assert_close

from steerlens.errors import FitError
from steerlens.numerics import (
    energy_distance,
    moments,
    oas_intensity,
    principal_subspace,
    psd_power,
    shrink,
    transport_matrix,
    unit,
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 39), offset=st.sampled_from([0.0, 1e6]))
def test_merged_moments_are_those_of_the_whole(cut: int, offset: float):
    x = normal(40, 3) + offset
    merged = moments(x[:cut]).merge(moments(x[cut:]))
    assert merged.n == 40
    assert_close(merged.mean, x.mean(dim=0))
    assert_close(merged.cov, torch.cov(x.T, correction=0), rtol=1e-6, atol=1e-8)


def test_moments_refuse_what_has_none():
    with pytest.raises(FitError, match="at least one row"):
        moments(normal(0, 3))
    with pytest.raises(FitError, match="1 of 2"):
        moments(torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(FitError, match="at least 2 rows"):
        _ = moments(normal(1, 3)).cov


def test_powers_of_a_singular_matrix_are_those_of_its_range():
    x = normal(3, 5)
    A = x.T @ x
    root = psd_power(A, 0.5)
    assert_close(root @ root, A)
    inverse = psd_power(A, -1.0)
    assert_close(A @ inverse @ A, A)


def test_the_transport_matrix_carries_one_covariance_to_the_other():
    source, target = (moments(normal(50, 4, seed) @ normal(4, 4, seed + 9)).cov for seed in (0, 1))
    A = transport_matrix(source, target)
    assert_close(A @ source @ A, target)
    assert torch.linalg.eigvalsh(A).min() > 0
    assert not torch.allclose(source, target)


def test_shrinkage_is_scikit_learn_s():
    x = normal(30, 8)
    fitted = OAS().fit(x.numpy())
    cov = moments(x).cov
    assert oas_intensity(cov, 30) == pytest.approx(fitted.shrinkage_)
    assert_close(shrink(cov, oas_intensity(cov, 30)), torch.from_numpy(fitted.covariance_))


def test_energy_distance_is_scipy_s_in_one_dimension():
    x, y = normal(300, 1), normal(200, 1, 1) * 2 + 1
    # scipy's is the root of the biased form, which has the zero distances of each row to itself in its means.
    n, m = 300, 200
    within = [torch.cdist(z, z).mean() for z in (x, y)]
    biased = energy_distance(x, y) + within[0] * n / (n - 1) + within[1] * m / (m - 1) - sum(within)
    assert math.sqrt(biased) == pytest.approx(scipy_energy(x[:, 0], y[:, 0]), rel=1e-6)


def test_energy_distance_of_equal_laws_is_near_zero_and_of_others_is_not():
    x, y = normal(400, 3), normal(400, 3, 1)
    assert abs(float(energy_distance(x, y))) < 0.03
    assert float(energy_distance(x, y + 1)) > 0.5


def test_its_gradient_is_finite_where_rows_coincide():
    x = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    energy_distance(x, torch.zeros(3, 2, dtype=torch.float64)).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_the_principal_subspace_is_ordered_and_drops_what_does_not_vary():
    x = normal(60, 3) * torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    cov = torch.zeros(4, 4, dtype=torch.float64)
    cov[:3, :3] = moments(x).cov
    U, variances = principal_subspace(cov, 4)
    assert U.shape == (4, 3)
    assert variances.diff().lt(0).all()
    assert U[1, 0] > 0.9
    assert_close(U.T @ U, torch.eye(3, dtype=torch.float64))


def test_a_zero_vector_has_no_direction():
    assert_close(unit(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]))
    with pytest.raises(FitError, match="no direction"):
        unit(torch.zeros(3))

"""Erasure with labels, and erasure without them under every rule of shrinkage, against concept_erasure."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.maps import ConceptErasure, ConceptSetPoint, GaussianTransport, OracleErasure
from steerlens.numerics import moments
from steerlens.testing import gaussian_samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, on import
    from concept_erasure import LeaceFitter, OracleFitter


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    """Classes of different size, so that a mean of means is not the mean."""
    source, target = gaussian_samples(n=300)
    return source, target[:120]


def labelled(samples: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat(samples), torch.cat([torch.zeros(len(samples[0])), torch.ones(len(samples[1]))]).double()[:, None]


def test_the_oracle_is_that_of_the_reference_implementation(samples: tuple[Tensor, Tensor]):
    x, z = labelled(samples)
    expected = OracleFitter.fit(x, z).eraser(x, z)
    ours = OracleErasure().fit(*samples)
    assert ours.reverse is not None
    assert_close(torch.cat([ours(samples[0]), ours(samples[1], strength=-1.0)]), expected)
    assert (expected - x).norm(dim=1).min() > 0.1


def test_both_means_meet_in_the_pooled_mean_and_the_larger_class_moves_less(samples: tuple[Tensor, Tensor]):
    source, target = samples
    ours = OracleErasure().fit(source, target)
    mean = torch.cat([source, target]).mean(0)
    assert_close(ours(source).mean(0), mean)
    assert_close(ours.reverse(target).mean(0), mean)
    assert ours.displacement(source).norm(dim=1).mean() < 0.5 * ours.reverse.displacement(target).norm(dim=1).mean()
    assert (mean - (source.mean(0) + target.mean(0)) / 2).norm() > 0.1


def test_knowing_the_label_moves_the_data_less(samples: tuple[Tensor, Tensor]):
    source, target = samples
    oracle, blind = OracleErasure().fit(source, target), ConceptErasure(shrinkage=0.0).fit(source, target)
    told = oracle.displacement(source).square().sum() + oracle.reverse.displacement(target).square().sum()
    untold = blind.displacement(torch.cat([source, target])).square().sum()
    assert told < 0.95 * untold


def test_streamed_moments_give_the_same_oracle(samples: tuple[Tensor, Tensor]):
    streamed = [moments(x[:30]).merge(moments(x[30:])) for x in samples]
    assert_close(OracleErasure().fit_moments(*streamed)(samples[0]), OracleErasure().fit(*samples)(samples[0]))


def test_equal_means_leave_nothing_to_erase():
    x, _ = gaussian_samples()
    assert torch.equal(OracleErasure().fit(x, x)(x), x)


def test_one_row_of_each_class_is_enough():
    x, y = gaussian_samples(n=1)
    assert_close(OracleErasure().fit(x, y)(x), (x + y) / 2)


@pytest.mark.parametrize("n", [15, 60, 300])
def test_bodnar_s_erasure_is_the_reference_implementation_with_its_defaults(n: int):
    """Shrinkage, and the constraint on the total variance, which has nothing to do."""
    source, target = gaussian_samples(n=n, width=40)
    x, z = labelled((source, target))
    expected = LeaceFitter.fit(x, z).eraser(x)
    ours = ConceptErasure(shrinkage="bodnar").fit(source, target)
    assert_close(ours(x), expected, atol=1e-8, rtol=1e-8)
    for other in ("oas", 0.0):
        assert (ConceptErasure(shrinkage=other).fit(source, target)(x) - expected).norm() > 0.01
    free = LeaceFitter.fit(x, z, constrain_cov_trace=False).eraser(x)
    assert_close(free, expected)


@pytest.mark.parametrize("shrinkage", ["oas", "bodnar", 0.0, 0.5])
def test_erasure_subtracts_one_direction_of_variance_and_adds_none(shrinkage):
    """PΣPᵀ = Σ − ΔΔᵀ/(ΔᵀΣ⁻¹Δ), with the Σ that the fit saw; orthogonal ablation keeps no such promise."""
    from steerlens.numerics import shrink, shrinkage_intensity

    source, target = gaussian_samples(n=30, width=12)
    pooled = moments(torch.cat([source, target]))
    cov = shrink(pooled.cov, shrinkage_intensity(pooled.cov, pooled.n, shrinkage))
    fitted = ConceptErasure(shrinkage=shrinkage).fit(source, target)
    P = torch.eye(12).double() - torch.outer(fitted.write, fitted.read)
    delta = target.mean(0) - source.mean(0)
    expected = cov - torch.outer(delta, delta) / (delta @ torch.linalg.solve(cov, delta))
    assert_close(P @ cov @ P.T, expected)
    other = torch.eye(12).double() - torch.outer(fitted.write, fitted.write) / (fitted.write @ fitted.write)
    assert (other @ cov @ other.T - expected).norm() > 0.01


@pytest.mark.parametrize("method", [ConceptErasure, ConceptSetPoint, GaussianTransport])
def test_each_rule_of_shrinkage_is_another_map(method):
    source, target = gaussian_samples(n=30, width=12)
    found = [method(shrinkage=s).fit(source, target)(source) for s in ("oas", "bodnar", 0.0)]
    assert_close(method().fit(source, target)(source), found[0])
    assert (found[0] - found[1]).norm() > 1e-3
    assert (found[1] - found[2]).norm() > 1e-3

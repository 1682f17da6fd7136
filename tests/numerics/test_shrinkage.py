"""Rules that find a shrinkage intensity, against independent implementations and against what they promise."""

import warnings

import pytest
import torch
from jaxtyping import TypeCheckError
from sklearn.covariance import OAS
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import OptionError
from steerlens.numerics import bodnar_intensity, check_shrinkage, moments, oas_intensity, shrink, shrinkage_intensity

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, on import
    from concept_erasure.shrinkage import optimal_linear_shrinkage


def drawn(n: int, width: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A covariance with a spread of eigenvalues, and the sample covariance of n rows."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-1, 1, width, dtype=torch.float64)
    rows = torch.randn(n, width, generator=generator, dtype=torch.float64) * scale
    return torch.diag(scale**2), moments(rows).cov


@pytest.mark.parametrize("n", [30, 60, 400])
def test_bodnar_s_is_that_of_the_reference_implementation(n: int):
    _, cov = drawn(n)
    intensity = bodnar_intensity(cov, n)
    assert 0 < intensity < 1
    assert_close(shrink(cov, intensity), optimal_linear_shrinkage(cov, n), rtol=1e-9, atol=1e-12)


def test_bodnar_s_is_one_minus_the_published_alpha():
    """α = 1 − (‖S‖²_tr ‖Σ₀‖²/n) / (‖S‖² ‖Σ₀‖² − tr(S Σ₀)²), here with Σ₀ the identity times tr(S)/d."""
    _, S = drawn(50)
    prior = torch.eye(40, dtype=torch.float64) * S.trace() / 40
    top = S.trace() ** 2 * prior.norm() ** 2 / 50
    alpha = 1 - top / (S.norm() ** 2 * prior.norm() ** 2 - (S @ prior).trace() ** 2)
    assert bodnar_intensity(S, 50) == pytest.approx(1 - float(alpha))


def test_where_the_published_alpha_is_negative_all_weight_goes_to_the_identity():
    """Equal eigenvalues, and fewer rows than dimensions: the reference implementation leaves the positive cone."""
    generator = torch.Generator().manual_seed(0)
    S = moments(torch.randn(12, 40, generator=generator, dtype=torch.float64)).cov
    S = S + 2 * torch.eye(40, dtype=torch.float64) * S.trace() / 40
    assert optimal_linear_shrinkage(S, 12).diagonal().sum() == pytest.approx(float(S.trace()))
    assert torch.linalg.eigvalsh(optimal_linear_shrinkage(S, 12))[-1] > 1.01 * S.trace() / 40
    assert bodnar_intensity(S, 12) == 1.0
    assert_close(shrink(S, 1.0), torch.eye(40, dtype=torch.float64) * S.trace() / 40)


def test_a_covariance_without_spread_is_left_as_it_is_by_full_shrinkage():
    identity = 3 * torch.eye(5, dtype=torch.float64)
    for rule in (bodnar_intensity, oas_intensity):
        assert rule(identity, 10) == 1.0
        assert rule(torch.zeros(5, 5, dtype=torch.float64), 10) == 1.0


@pytest.mark.parametrize("rule", ["oas", "bodnar"])
def test_both_rules_come_nearer_to_the_truth_on_average_than_no_shrinkage_and_than_much(rule):
    drawings = [drawn(40, seed=seed) for seed in range(30)]

    def error(intensity) -> float:
        return float(
            sum((shrink(S, shrinkage_intensity(S, 40, intensity)) - truth).norm() ** 2 for truth, S in drawings)
        )

    assert error(rule) < 0.9 * error(0.0)
    assert error(rule) < 0.9 * error(0.9)


def test_a_name_is_the_rule_and_a_number_itself():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 8, generator=generator, dtype=torch.float64)
    cov = moments(rows).cov
    assert shrinkage_intensity(cov, 30, "oas") == pytest.approx(OAS().fit(rows.numpy()).shrinkage_)
    assert shrinkage_intensity(cov, 30, "bodnar") == bodnar_intensity(cov, 30)
    assert shrinkage_intensity(cov, 30, 0.3) == 0.3


def test_anything_else_is_refused():
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="between 0 and 1, or 'oas' or 'bodnar'"):
            check_shrinkage(wrong)
    # Under jaxtyping's import hook the annotation refuses it first.
    with pytest.raises((OptionError, TypeCheckError), match="'ledoit'"):
        check_shrinkage("ledoit")

"""Degenerate data gives every method an outcome: a finite map, or an error that says what is wrong. Never NaN."""

from collections.abc import Callable

import pytest
import torch
from shipped_methods import SHIPPED
from torch import Tensor

from steerlens.errors import FitError
from steerlens.maps import SteeringMap, SteeringMethod, method_name
from steerlens.testing import Samples, gaussian_samples


def fewer_rows_than_dimensions() -> Samples:
    return gaussian_samples(n=30, width=80)


def two_rows() -> Samples:
    return gaussian_samples(n=2)


def constant_features() -> Samples:
    source, target = gaussian_samples()
    source[:, 3:7], target[:, 3:7] = 1.5, 1.5
    return Samples(source, target)


def rows_all_equal() -> Samples:
    source, target = gaussian_samples()
    return Samples(source[:1].repeat(40, 1), target[:1].repeat(40, 1))


def identical_classes() -> Samples:
    source, _ = gaussian_samples()
    return Samples(source, source.clone())


def one_repeated_pair() -> Samples:
    source, target = gaussian_samples()
    return Samples(source, source + (target - source).mean(dim=0))


def zero_rows() -> Samples:
    return Samples(torch.zeros(40, 12, dtype=torch.float64), torch.zeros(40, 12, dtype=torch.float64))


def huge_norms() -> Samples:
    source, target = gaussian_samples()
    return Samples(source * 1e6, target * 1e6)


def tiny_norms() -> Samples:
    source, target = gaussian_samples()
    return Samples(source * 1e-6, target * 1e-6)


CASES = (
    fewer_rows_than_dimensions, two_rows, constant_features, rows_all_equal, identical_classes, one_repeated_pair,
    zero_rows, huge_norms, tiny_norms,
)  # fmt: skip


@pytest.fixture(params=SHIPPED, ids=lambda m: type(m).__name__)
def method(request: pytest.FixtureRequest) -> SteeringMethod:
    return request.param


def fit_or_refusal(method: SteeringMethod, source: Tensor, target: Tensor) -> SteeringMap | str:
    """The map, or the message of the refusal."""
    try:
        return method.fit(source, target)
    except FitError as error:
        return str(error)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_degenerate_data_gives_a_finite_map_or_an_error_that_says_why(
    method: SteeringMethod, case: Callable[[], Samples]
):
    source, target = case()
    fitted = fit_or_refusal(method, source, target)
    if isinstance(fitted, str):
        assert len(fitted) > 30
        return
    for strength in (0.5, 1.0, 2.0):
        moved = fitted(source, strength=strength)
        assert torch.isfinite(moved).all(), (method_name(method), strength)
        assert moved.norm(dim=1).max() <= 1e4 * (source.norm(dim=1).max() + target.norm(dim=1).max() + 1e-12)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("spoil", [lambda x: x[:0], lambda x: x.index_fill(0, torch.tensor([1]), torch.nan)])
def test_an_empty_or_broken_class_is_refused(method: SteeringMethod, which: int, spoil: Callable[[Tensor], Tensor]):
    samples = list(gaussian_samples())
    samples[which] = spoil(samples[which])
    with pytest.raises(FitError):
        method.fit(*samples)


def test_what_the_ordinary_case_gives_is_a_map(method: SteeringMethod):
    """The control: the cases above fail because of the data."""
    source, target = gaussian_samples()
    assert (method.fit(source, target)(source) - source).norm() > 0


LEAST_ROWS = {
    "GaussianTransport": 10, "ODESteering": 10, "Procrustes": 3, "PairedRidge": 3, "LowRankAffine": 20,
    "ClassifierGradient": 20, "StrengthGate": 20, "RandomFeatureMap": 20, "BarycentricTransport": 20, "PairedMLP": 20,
    "FlowMatching": 20, "ResidualMLP": 20,
}  # fmt: skip
"""As docs/maps.md has it; all others fit two rows."""

MOVE_NOTHING = {
    "MeanShift", "OracleErasure", "DiagonalTransport", "LinearAcT", "GaussianTransport", "Procrustes", "PairedRidge",
    "LowRankAffine", "SpectralEditing", "RandomFeatureMap", "BarycentricTransport", "PairedMLP", "FlowMatching",
    "ResidualMLP",
}  # fmt: skip
"""On identical classes. Conceptors have no such difference to find, and all others refuse."""


def test_too_few_rows_are_refused_with_the_number_that_is_needed(method: SteeringMethod):
    least = LEAST_ROWS.get(type(method).__name__, 2)
    assert not isinstance(fit_or_refusal(method, *gaussian_samples(n=least)), str)
    refusal = fit_or_refusal(method, *gaussian_samples(n=least - 1))
    if least > 2:
        assert isinstance(refusal, str)
        assert f"at least {least} rows" in refusal


def test_identical_classes_are_left_alone_or_refused(method: SteeringMethod):
    source, target = identical_classes()
    fitted = fit_or_refusal(method, source, target)
    name = type(method).__name__
    if name in MOVE_NOTHING:
        assert not isinstance(fitted, str)
        assert (fitted(source) - source).norm() < 1e-9 * source.norm()
    else:
        assert isinstance(fitted, str) or name == "ConceptorSteering"


def test_all_rows_equal_leave_the_mean_to_move(method: SteeringMethod):
    """Nothing varies within a class: what is fitted leads from one point towards the other, or says why not."""
    source, target = rows_all_equal()
    fitted = fit_or_refusal(method, source, target)
    assert not isinstance(fitted, str)
    assert torch.isfinite(fitted(source)).all()

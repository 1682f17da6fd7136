"""Coordinate-wise transport: by hand, against each other, and where it must fail."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError
from steerlens.maps import DiagonalTransport, GaussianTransport, LinearAcT, MeanShift
from steerlens.maps._affine import AffineMap
from steerlens.maps._diagonal import DiagonalMap, _quantiles
from steerlens.numerics import energy_distance, moments
from steerlens.testing import gaussian_samples

BOTH = (DiagonalTransport(), LinearAcT())


def normal(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def skewed(n: int, width: int, seed: int) -> Tensor:
    return normal(n, width, seed).exp()


def test_diagonal_transport_by_hand():
    """Mean 1 and deviation 1 to mean 10 and deviation 3; the second coordinate moves and keeps its spread."""
    source = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    target = torch.tensor([[7.0, 5.0], [13.0, 7.0]])
    fitted = DiagonalTransport().fit(source, target)
    assert_close(fitted(torch.tensor([[0.0, 0.0], [3.0, 3.0]])), torch.tensor([[7.0, 5.0], [16.0, 8.0]]))


def test_diagonal_transport_matches_means_and_deviations_and_no_covariance():
    source, target = gaussian_samples()
    moved = moments(DiagonalTransport().fit(source, target)(source))
    wanted = moments(target)
    assert_close(moved.mean, wanted.mean)
    assert_close(moved.cov.diagonal(), wanted.cov.diagonal())
    assert (moved.cov - wanted.cov).norm() > 0.1


def test_streamed_moments_give_the_same_map():
    source, target = gaussian_samples()
    streamed = [moments(x[:30]).merge(moments(x[30:])) for x in (source, target)]
    assert_close(DiagonalTransport().fit_moments(*streamed)(source), DiagonalTransport().fit(source, target)(source))


def test_the_slope_is_the_least_squares_line_through_the_sorted_values():
    source, target = skewed(60, 3, 0), normal(60, 3, 1)
    fitted = LinearAcT().fit(source, target)
    for j in range(3):
        slope, intercept = np.polyfit(np.sort(source[:, j]), np.sort(target[:, j]), 1)
        assert_close(fitted(source)[:, j], slope * source[:, j] + intercept)


def test_on_gaussian_data_both_agree_and_on_others_the_line_is_flatter():
    source, target = normal(20000, 3, 0), 3 * normal(20000, 3, 1) + 1
    line, ratio = (m.fit(source, target) for m in reversed(BOTH))
    assert_close(line.forward.change, ratio.change, atol=0.02, rtol=0)
    curved, ratio = (m.fit(skewed(20000, 3, 0), target) for m in reversed(BOTH))
    assert (curved.forward.change < ratio.change - 0.1).all()


def test_samples_of_unequal_size_are_compared_at_interpolated_quantiles():
    """Repeating every row twice changes neither law, so that it changes the map only by interpolation."""
    source, target = normal(400, 3, 0), 2 * normal(400, 3, 1) + 1
    once = LinearAcT().fit(source, target).forward
    twice = LinearAcT().fit(source, torch.cat([target, target])).forward
    assert_close(twice.change, once.change, atol=0.02, rtol=0)
    assert_close(twice.shift, once.shift)
    unrelated = LinearAcT().fit(source, target[torch.arange(800) % 400] * torch.arange(800)[:, None]).forward
    assert (unrelated.change - once.change).abs().min() > 1


def test_quantiles_are_hazen_s():
    x = skewed(7, 2, 0)
    assert torch.equal(_quantiles(x, 7), x.sort(dim=0).values)
    expected = np.quantile(x.numpy(), (np.arange(20) + 0.5) / 20, axis=0, method="hazen")
    assert_close(_quantiles(x, 20), torch.from_numpy(expected))


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_the_reverse_is_fitted_the_other_way_round(method):
    source, target = skewed(60, 4, 0), normal(45, 4, 1)
    assert_close(method.fit(source, target).reverse(target), method.fit(target, source)(target))


def test_the_reverse_undoes_the_transport_but_not_the_line():
    source, target = skewed(60, 4, 0), normal(60, 4, 1)
    ratio, line = (m.fit(source, target) for m in BOTH)
    assert_close(ratio.reverse(ratio(source)), source)
    assert (line.reverse(line(source)) - source).norm() > 0.1
    assert (line.forward.reverse(line(source)) - source).norm() < 1e-9


def test_rotated_data_defeat_them_and_not_the_whole_transport():
    """Unit variances, correlation +0.9 in the source and −0.9 in the target: coordinates differ in nothing."""

    def correlated(sign: float, seed: int) -> Tensor:
        mix = torch.tensor([[1.0, 0.0], [sign * 0.9, (1 - 0.81) ** 0.5]], dtype=torch.float64)
        return normal(800, 2, seed) @ mix.T

    source, target, held_source, held_target = (correlated(s, i) for i, s in enumerate((1.0, -1.0, 1.0, -1.0)))
    before = energy_distance(held_source, held_target)

    def left(method) -> float:
        return float(energy_distance(method.fit(source, target)(held_source), held_target) / before)

    assert before > 0.1
    for method in BOTH:
        assert left(method) > 0.9
    assert left(GaussianTransport(rank=2, shrinkage=0.0)) < 0.05
    half_turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / 2**0.5
    turned = [x @ half_turn for x in (source, target)]
    fitted = DiagonalTransport().fit(*turned)
    after = energy_distance(fitted(held_source @ half_turn), held_target @ half_turn)
    assert after < 0.05 * before, "along the axes of the ellipses it succeeds"


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_a_coordinate_without_spread_is_only_translated(method):
    source, target = gaussian_samples(width=4)
    source[:, 1] = 0.1
    target[:, 2] = -0.7
    fitted = method.fit(source, target)
    shifted = MeanShift().fit(source, target)
    assert_close(fitted(source)[:, 1:3], shifted(source)[:, 1:3])
    assert (fitted(source) - shifted(source))[:, [0, 3]].abs().min(dim=0).values.max() > 0
    assert_close(fitted.reverse(fitted(source))[:, 1:3], source[:, 1:3])


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_constant_samples_are_only_translated_and_one_row_is_refused(method):
    x = torch.ones(5, 3, dtype=torch.float64)
    assert_close(method.fit(x, 3 * x)(x), 3 * x)
    with pytest.raises(FitError, match="at least 2 rows"):
        method.fit(x[:1], x)


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_more_dimensions_than_rows_and_two_rows_still_fit(method):
    source, target = gaussian_samples(n=2, width=64)
    assert_close(method.fit(source, target)(source).mean(dim=0), target.mean(dim=0))


def test_a_slope_that_is_not_positive_has_no_reverse():
    zero = torch.zeros(2, dtype=torch.float64)
    assert DiagonalMap(zero, zero, torch.tensor([0.5, -1.0]).double()).reverse is None


def test_a_full_matrix_is_reversed_by_its_inverse_unless_that_would_magnify_rounding():
    generator = torch.Generator().manual_seed(0)
    shift, center, rows = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    change = torch.randn(6, 6, generator=generator, dtype=torch.float64) / 6
    whole = AffineMap(shift, center, change)
    assert_close(whole(rows), shift + center + (torch.eye(6).double() + change) @ (rows - center))
    assert whole.reverse is not None
    assert_close(whole.reverse(whole(rows)), rows)
    assert_close(whole(whole.reverse(rows)), rows)
    flat = -torch.diag(torch.tensor([1.0, 0, 0, 0, 0, 0])).double()
    assert AffineMap(shift, center, flat).reverse is None
    assert AffineMap(shift, center, (1 - 1e-5) * flat).reverse is not None
    assert AffineMap(shift, center, (1 - 1e-7) * flat).reverse is None


def test_a_transport_onto_a_sample_that_is_flat_has_no_reverse():
    source, target = gaussian_samples(width=4)
    target[:, 0] = 1.0
    whole = GaussianTransport(rank=4, shrinkage=0.0)
    fitted = whole.fit(source, target)
    assert_close(fitted(source)[:, 0], target[:, 0])
    assert fitted.reverse is None
    assert whole.fit(target, source).reverse is None
    assert GaussianTransport(rank=4).fit(source, target).reverse is not None, "shrinkage leaves it some spread"

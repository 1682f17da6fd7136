"""Rotations: what they keep, where they end, and that they are not additions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError
from steerlens.maps import AngularSteering, MeanShift, PlaneRotationMap, SphericalSteering, TowardPoleMap, method_family
from steerlens.numerics import unit
from steerlens.testing import gaussian_samples

BOTH = (SphericalSteering(), AngularSteering())
STRENGTHS = (0.1, 0.5, 1.0, 2.0, 7.0)


@pytest.fixture
def rows() -> Tensor:
    return gaussian_samples(n=50, seed=3).source


def test_their_strength_is_an_angle():
    for method in BOTH:
        assert method.fit(*gaussian_samples()).strength_unit == "angles"
    assert method_family(AngularSteering()) == "affine", "one rotation for all rows is linear"
    assert method_family(SphericalSteering()) == "nonlinear"


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_every_norm_is_kept_at_every_strength(method, rows: Tensor):
    samples = gaussian_samples()
    turn, shift = method.fit(*samples), MeanShift().fit(*samples)
    for strength in STRENGTHS:
        for one in (turn, turn.reverse):
            assert_close(one(rows, strength=strength).norm(dim=1), rows.norm(dim=1))
    assert (shift(rows).norm(dim=1) - rows.norm(dim=1)).abs().max() > 0.5, "an addition does not"


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_scaling_a_row_scales_its_displacement(method, rows: Tensor):
    turn = method.fit(*gaussian_samples())
    for c in (0.01, 3.0, 1e4):
        assert_close(turn(c * rows, strength=1.3), c * turn(rows, strength=1.3))
    shift = MeanShift().fit(*gaussian_samples())
    assert (shift(3 * rows) - 3 * shift(rows)).norm() > 1, "an addition does not scale"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_they_turn_with_the_data(seed: int):
    source, target = gaussian_samples(seed=3)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    for method in BOTH:
        assert_close(method.fit(source @ Q, target @ Q)(source @ Q), method.fit(source, target)(source) @ Q)


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_translating_the_data_changes_the_map(method, rows: Tensor):
    """They turn about the origin; an addition would not notice."""
    source, target = gaussian_samples()
    away = torch.full((12,), 3.0, dtype=torch.float64)
    here, there = method.fit(source, target), method.fit(source + away, target + away)
    assert (there(rows + away) - away - here(rows)).norm(dim=1).mean() > 0.1
    shift = MeanShift().fit(source + away, target + away)
    assert_close(shift(rows + away) - away, MeanShift().fit(source, target)(rows))


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_small_strengths_move_along_a_tangent_in_proportion(method, rows: Tensor):
    turn = method.fit(*gaussian_samples())
    tiny = turn.path(rows, torch.full((len(rows),), 1e-6, dtype=rows.dtype))
    twice = turn.path(rows, torch.full((len(rows),), 2e-6, dtype=rows.dtype))
    assert_close(twice, 2 * tiny, rtol=1e-4, atol=1e-11)  # the second order is 1e-12 of a norm
    assert (tiny * rows).sum(dim=1).abs().max() < 1e-4 * tiny.norm(dim=1).max(), "across the row"
    whole = turn.displacement(rows)
    assert (whole - 1e6 * tiny).norm() > 0.05 * whole.norm(), "and later leave it"


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_the_reverse_is_the_fit_the_other_way_round_and_the_way_back(method, rows: Tensor):
    source, target = gaussian_samples()
    turn, other_way = method.fit(source, target), method.fit(target, source)
    for strength in (0.5, 1.0):
        assert_close(turn.reverse(rows, strength=strength), other_way(rows, strength=strength))
        there = turn(rows, strength=strength)
        assert (there - rows).norm() > 0.1
        assert_close(turn.reverse(there, strength=strength), rows)


def test_the_source_ends_as_far_from_the_pole_in_angle_as_the_target():
    source, target = gaussian_samples()
    turn = SphericalSteering().fit(source, target)
    assert_close(turn.pole, unit(target.mean(0) - source.mean(0)))
    goal = turn.angles(target).mean()
    assert turn.angles(source).mean() - goal > 0.1
    assert_close(turn.angles(turn(source)).mean(), goal)
    assert_close(turn.angles(source) - turn.angles(turn(source)), torch.full((80,), turn.angle, dtype=torch.float64))


def test_a_row_stays_on_its_great_circle():
    source, target = gaussian_samples()
    turn = SphericalSteering().fit(source, target)
    x = source[0]
    circle = torch.linalg.qr(torch.stack([x, turn.pole], dim=1)).Q
    for strength in STRENGTHS:
        moved = turn.path(x, torch.tensor(strength, dtype=x.dtype))
        assert_close(circle @ (circle.T @ moved), moved)


def test_slerp_by_hand():
    turn = TowardPoleMap(torch.tensor([0.0, 1.0, 0.0]).double(), math.pi / 6)
    x = torch.tensor([[2.0, 0.0, 0.0]]).double()
    assert_close(turn(x), torch.tensor([[math.sqrt(3), 1.0, 0.0]]).double())
    assert_close(turn(x, strength=2.0), torch.tensor([[1.0, math.sqrt(3), 0.0]]).double())
    assert_close(turn(x, strength=5.0), torch.tensor([[0.0, 2.0, 0.0]]).double())


def test_rows_stop_at_the_pole_and_rows_on_the_axis_or_at_zero_stay():
    pole = unit(torch.arange(1.0, 13.0).double())
    turn = TowardPoleMap(pole, 0.5)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        moved = turn.displacement(torch.stack([3 * pole, 0 * pole]).to(dtype))
        assert moved.abs().max() <= 12 * torch.finfo(dtype).eps  # the rounded row is not quite at the pole
    assert torch.equal(turn.displacement(-3 * pole), torch.zeros(12).double())
    generator = torch.Generator().manual_seed(0)
    near = 3 * pole + 0.1 * torch.randn(20, 12, generator=generator, dtype=torch.float64)
    assert (turn.angles(near) < 0.5).all()
    assert_close(turn(near), near.norm(dim=1, keepdim=True) * pole)
    assert_close(turn(near, strength=9.0), turn(near))


def test_it_is_continuous_at_the_pole():
    pole = unit(torch.arange(1.0, 13.0).double())
    off = unit(torch.eye(12).double()[0] - pole[0] * pole)
    turn = TowardPoleMap(pole, 0.5)
    for distance in (1e-3, 1e-6, 1e-9, 1e-12, 1e-15):
        x = pole + distance * off
        assert turn.displacement(x).norm() <= 1.01 * distance + 1e-15


def test_the_plane_turns_and_nothing_outside_it(rows: Tensor):
    turn = AngularSteering().fit(*gaussian_samples())
    B = turn.plane
    assert_close(B @ B.T, torch.eye(2).double())
    across = torch.eye(12).double() - B.T @ B
    for strength in STRENGTHS:
        moved = turn(rows, strength=strength)
        assert_close(moved @ across, rows @ across)
        assert_close((moved @ B.T).norm(dim=1), (rows @ B.T).norm(dim=1))
        theta = strength * turn.angle
        first, second = (rows @ B.T).T
        expected = [
            first * math.cos(theta) - second * math.sin(theta),
            first * math.sin(theta) + second * math.cos(theta),
        ]
        assert_close(moved @ B.T, torch.stack(expected, dim=1))


def test_the_plane_holds_the_mean_difference_and_the_widest_direction_across_it():
    from sklearn.decomposition import TruncatedSVD

    source, target = gaussian_samples()
    turn = AngularSteering().fit(source, target)
    b1 = unit(target.mean(0) - source.mean(0))
    assert_close(turn.plane[0], b1)
    both = torch.cat([source, target])
    across = both - torch.outer(both @ b1, b1)
    widest = torch.from_numpy(TruncatedSVD(1, algorithm="arpack").fit(across.numpy()).components_[0])
    assert_close((turn.plane[1] @ widest).abs(), torch.tensor(1.0).double())


def test_the_angle_carries_the_source_s_mean_to_the_direction_of_the_target_s_in_the_plane():
    source, target = gaussian_samples()
    turn = AngularSteering().fit(source, target)
    low, goal = turn(source.mean(0)) @ turn.plane.T, target.mean(0) @ turn.plane.T
    assert_close(unit(low), unit(goal))
    before = source.mean(0) @ turn.plane.T
    assert (unit(before) - unit(goal)).norm() > 0.1


def test_rotations_compose():
    source, target = gaussian_samples()
    turn = AngularSteering().fit(source, target)
    assert_close(turn(turn(source, strength=0.3), strength=0.7), turn(source))
    full = PlaneRotationMap(turn.plane, 2 * math.pi)
    assert_close(full(source), source)
    assert (full(source, strength=0.5) - source).norm() > 1


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_what_is_no_angle_is_refused(method):
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="same mean"):
        method.fit(source, source)
    with pytest.raises(FitError, match="MeanShift"):
        method.fit(source, 3 * source)  # the concept is the norm
    with pytest.raises(FitError, match="at least 1 rows"):
        method.fit(source[:0], target)


def test_a_plane_needs_two_dimensions():
    with pytest.raises(FitError, match="one line through the origin"):
        AngularSteering().fit(torch.tensor([[-1.0, 0.0], [-2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rows_are_enough(method, n: int):
    source, target = gaussian_samples()
    turn = method.fit(source[:n], target[:n])
    assert_close(turn(source).norm(dim=1), source.norm(dim=1))


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_half_precision_goes_in_and_comes_out(method, rows: Tensor):
    turn = method.fit(*gaussian_samples())
    for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        x = rows.to(dtype)
        moved = turn.displacement(x)
        assert moved.dtype == dtype
        assert_close(moved.double(), turn.displacement(x.double()), rtol=close, atol=close)


def test_half_precision_close_to_the_pole_still_turns():
    turn = TowardPoleMap(torch.tensor([1.0, 0.0]).double(), 0.5)
    x = torch.tensor([[2.0, 0.5]], dtype=torch.bfloat16)
    assert_close(turn.displacement(x).double(), turn.displacement(x.double()), rtol=1e-2, atol=1e-2)
    assert turn.displacement(x).norm() > 0.4

"""Flows on a barrier: linear against curved, one step against many, and where they end."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import GaussianTransport, MeanShift, ODESteering, QuadraticFlowMap, SubspaceMap
from steerlens.maps._classifier import log_odds
from steerlens.maps._ode import _time_to_rise
from steerlens.numerics import energy_distance, unit
from steerlens.testing import gaussian_samples


def xor(sign: int, n: int, seed: int) -> Tensor:
    """Corners of a square whose product is ``sign``: equal means, different covariances; and two idle dimensions."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
    z = torch.stack([a, a * sign, 0 * a, 0 * a], dim=1)
    return z + 0.25 * torch.randn(n, 4, generator=generator, dtype=torch.float64)


def linear_flow(n_steps: int = 10) -> QuadraticFlowMap:
    w = torch.tensor([3.0, 0.0, 4.0]).double()
    return QuadraticFlowMap(
        w, torch.zeros(3, 3).double(), torch.ones(3).double(), torch.tensor(0.5).double(), 2.0, 2.0, n_steps
    )


def flow_of(fitted: SubspaceMap) -> QuadraticFlowMap:
    assert isinstance(fitted.inner, QuadraticFlowMap)
    return fitted.inner


def test_its_strength_is_a_time():
    assert ODESteering().fit(*gaussian_samples()).strength_unit == "integration time"


def test_a_linear_barrier_gives_a_translation_in_one_step_or_ten():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([1.2, 0.0, 1.6]).double().expand_as(x)
    for steps in (1, 10):
        assert_close(linear_flow(steps).displacement(x), expected)
        assert_close(linear_flow(steps)(x, strength=0.5) - x, expected / 2)


def test_on_a_curved_barrier_one_step_and_ten_differ_and_ten_arrive_closer():
    source, target, held_source, held_target = (xor(s, 500, i) for i, s in enumerate((-1, 1, -1, 1)))
    one, ten = (ODESteering(n_steps=n).fit(source, target) for n in (1, 10))
    assert flow_of(one).horizon == flow_of(ten).horizon
    before = energy_distance(held_source, held_target)
    after = [energy_distance(m(held_source), held_target) for m in (one, ten)]
    assert (one(held_source) - ten(held_source)).norm(dim=1).mean() > 0.2
    assert after[1] < 0.5 * after[0]
    assert after[1] < 0.3 * before
    assert energy_distance(MeanShift().fit(source, target)(held_source), held_target) > 0.9 * before


def test_one_step_adds_a_vector_of_one_length_along_the_gradient():
    fitted = ODESteering(n_steps=1).fit(*gaussian_samples())
    flow = flow_of(fitted)
    z = fitted.coordinates(gaussian_samples().source).requires_grad_()
    (slope,) = torch.autograd.grad(flow.barrier(z).sum(), z)
    z = z.detach()
    assert_close(flow.displacement(z), flow.horizon * slope / slope.norm(dim=1, keepdim=True))
    directions = slope / slope.norm(dim=1, keepdim=True)
    assert (directions[0] - directions[1]).norm() > 0.05, "the direction depends on the row"
    ten = replace(flow, n_steps=10).displacement(z).norm(dim=1)
    assert (ten <= flow.horizon * (1 + 1e-12)).all()


def test_for_gaussian_classes_the_barrier_is_the_log_density_ratio():
    generator = torch.Generator().manual_seed(0)
    source, target, fresh = torch.randn(3, 3000, 3, generator=generator, dtype=torch.float64).unbind()
    spread = torch.tensor([1.0, 0.6, 1.5]).double()
    target = target * spread + torch.tensor([0.5, 0.0, 0.0]).double()
    fitted = ODESteering(rank=3).fit(source, target)
    oracle = QuadraticDiscriminantAnalysis().fit(torch.cat([source, target]).numpy(), [0] * 3000 + [1] * 3000)
    expected = torch.from_numpy(oracle.decision_function(fresh.numpy()))
    barrier = flow_of(fitted).barrier(fitted.coordinates(fresh))
    assert (barrier - expected).abs().median() < 0.05
    read, offset = log_odds(source, target)
    assert (fresh @ read + offset - expected).abs().median() > 0.2, "no linear read-out is"


def test_where_only_the_means_differ_it_is_close_to_the_mean_shift():
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    source, target, fresh = (torch.randn(3, 2500, 4, generator=generator, dtype=torch.float64) @ mix).unbind()
    delta = torch.tensor([1.0, -2.0, 0.5, 1.0]).double()
    moved = ODESteering(rank=4).fit(source, target + delta).displacement(fresh)
    shift = MeanShift().fit(source, target + delta).vector
    assert (moved - shift).norm(dim=1).median() < 0.15 * shift.norm()
    curved = ODESteering(rank=4).fit(source, 0.3 * target + delta).displacement(fresh)
    assert (curved - shift).norm(dim=1).median() > 0.3 * shift.norm(), "and not where spreads differ"


def test_the_default_horizon_of_a_linear_barrier_is_the_distance_of_the_means_along_it():
    source, target = gaussian_samples(width=3)
    flow = linear_flow()
    along = unit(flow.linear) @ (target.mean(0) - source.mean(0))
    rising = flow if along > 0 else flow.reverse
    assert _time_to_rise(rising, source, target) == pytest.approx(abs(float(along)))


def test_the_default_horizon_lifts_the_mean_barrier_to_the_target_s_even_for_equal_means():
    for source, target in (gaussian_samples(), (xor(-1, 300, 0), xor(1, 300, 1))):
        fitted = ODESteering().fit(source, target)
        flow = replace(flow_of(fitted), n_steps=300)
        low, high = (flow.barrier(fitted.coordinates(x)).mean() for x in (source, target))
        lifted = flow.barrier(flow(fitted.coordinates(source))).mean()
        assert high - low > 1
        assert_close(lifted, high, rtol=0, atol=0.03 * float(high - low))


def test_where_the_barrier_cannot_rise_so_far_the_horizon_is_the_distance_of_the_samples():
    """A target at the very maximum, which a source that arrives in steps never reaches in the mean."""
    source = gaussian_samples(width=3).source
    flow = replace(linear_flow(), linear=torch.zeros(3).double(), quadratic=-torch.eye(3).double())
    summit = flow.center.expand(5, 3)
    longest = float((source - flow.center).square().sum(dim=1).mean().sqrt())
    assert _time_to_rise(flow, source, summit) == pytest.approx(longest)
    assert _time_to_rise(flow, source, summit + 0.5) < 0.9 * longest


def test_the_barrier_rises_along_the_path():
    fitted = ODESteering(n_steps=50).fit(*gaussian_samples())
    flow, z = flow_of(fitted), fitted.coordinates(gaussian_samples().source)
    heights = torch.stack([flow.barrier(flow(z, strength=s)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)])
    assert (heights.diff(dim=0) > 0).all()
    down = torch.stack([flow.barrier(flow(z, strength=-s)) for s in (0.0, 0.5, 1.0)])
    assert (down.diff(dim=0) < 0).all()


def test_flowing_on_from_half_the_way_arrives_at_the_whole():
    flow = flow_of(ODESteering(n_steps=400).fit(*gaussian_samples()))
    z = torch.randn(30, len(flow.linear), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(flow(flow(z, strength=0.5), strength=0.5), flow(z), atol=0.02, rtol=0)
    assert (flow(z, strength=0.5) + flow.displacement(z) / 2 - flow(z)).norm() > 0.1, "and not along a straight line"


def test_fine_steps_flow_back_along_the_same_line_and_one_step_does_not():
    fitted = flow_of(ODESteering(n_steps=1000, horizon=1.0).fit(*gaussian_samples()))
    z = torch.randn(30, len(fitted.linear), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coarse = replace(fitted, n_steps=1)
    errors = [(flow.reverse(flow(z)) - z).norm(dim=1).median() for flow in (fitted, coarse)]
    assert errors[0] < 0.01
    assert errors[1] > 0.05


def test_the_reverse_is_the_fit_the_other_way_round():
    source, target = gaussian_samples()
    fitted, other_way = ODESteering().fit(source, target), ODESteering().fit(target, source)
    assert fitted.reverse is not None
    assert_close(fitted.reverse(target), other_way(target), atol=1e-4, rtol=1e-4)
    assert flow_of(fitted).horizon_back != flow_of(fitted).horizon
    z = fitted.coordinates(target)
    assert_close(flow_of(fitted).reverse.barrier(z), -flow_of(fitted).barrier(z))


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_it_turns_with_the_data(seed: int):
    source, target = gaussian_samples()
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    turned = ODESteering(rank=5).fit(source @ Q, target @ Q)(source @ Q)
    assert_close(turned, ODESteering(rank=5).fit(source, target)(source) @ Q, atol=1e-4, rtol=1e-4)


def test_units_and_origin_do_not_matter():
    source, target = gaussian_samples()
    expected = ODESteering(rank=5).fit(source, target).displacement(source)
    moved = ODESteering(rank=5).fit(100 * source + 7, 100 * target + 7).displacement(100 * source + 7)
    assert_close(moved, 100 * expected, atol=1e-3, rtol=1e-4)


def test_a_row_without_a_slope_stays():
    flow = replace(linear_flow(), linear=torch.zeros(3).double(), quadratic=-torch.eye(3).double())
    assert torch.equal(flow.displacement(flow.center), torch.zeros(3).double())
    assert flow.displacement(flow.center + 1).norm() > 0.1


def test_equal_classes_and_too_few_rows_are_refused():
    x, y = gaussian_samples()
    with pytest.raises(FitError, match="cannot tell"):
        ODESteering().fit(x, x)
    with pytest.raises(FitError, match="at least 10 rows"):
        ODESteering().fit(x[:9], y)
    with pytest.raises(FitError, match="all rows are equal"):
        ODESteering().fit(torch.ones(20, 3), torch.ones(20, 3))


def test_more_dimensions_than_rows_and_constant_features():
    source, target = gaussian_samples(n=20, width=64)
    fitted = ODESteering().fit(source, target)
    assert fitted.basis.shape == (64, 4)
    assert torch.isfinite(fitted(source, strength=2.0)).all()
    source, target = gaussian_samples()
    source[:, 3] = target[:, 3] = 7.0
    moved = ODESteering().fit(source, target).displacement(source)
    assert moved[:, 3].abs().max() < 1e-9
    assert moved[:, 2].abs().max() > 0.01


def test_what_no_quadratic_tells_apart_is_out_of_reach():
    """Parity of three signs: equal means and covariances, so that all there is to follow is noise."""
    generator = torch.Generator().manual_seed(0)
    ab = torch.randint(0, 2, (2000, 2), generator=generator).double() * 2 - 1
    noise = 0.25 * torch.randn(2, 2000, 3, generator=generator, dtype=torch.float64)
    source, target = (
        torch.cat([ab, s * ab.prod(1, keepdim=True)], dim=1) + e for s, e in zip((-1, 1), noise, strict=True)
    )
    before = energy_distance(source, target)
    for method in (ODESteering(rank=3), GaussianTransport(rank=3)):
        assert energy_distance(method.fit(source, target)(source), target) > 0.8 * before


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ODESteering(n_steps=0), "n_steps"),
        (lambda: ODESteering(horizon=0.0), "horizon"),
        (lambda: ODESteering(rank=0), "rank"),
    ],
)
def test_options_outside_their_range_are_refused(build, message: str):
    with pytest.raises(OptionError, match=message):
        build()

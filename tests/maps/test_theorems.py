"""What each map claims, beside a case where it must fail."""

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import DirectionalAblation, GaussianTransport, MeanShift, ResidualMLP, Training
from steerlens.maps._samples import checked
from steerlens.numerics import energy_distance, moments
from steerlens.testing import gaussian_samples

WHOLE = GaussianTransport(rank=12, shrinkage=0.0)


def parity(sign: int, n: int, seed: int) -> Tensor:
    """Corners of a cube whose product is ``sign``: equal means and covariances for both signs."""
    generator = torch.Generator().manual_seed(seed)
    ab = torch.randint(0, 2, (n, 2), generator=generator).double() * 2 - 1
    corners = torch.cat([ab, ab.prod(dim=1, keepdim=True) * sign], dim=1)
    return corners + 0.25 * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def test_mean_shift_matches_the_mean_and_leaves_the_covariance():
    source, target = gaussian_samples()
    moved = moments(MeanShift().fit(source, target)(source))
    assert_close(moved.mean, target.mean(dim=0))
    assert_close(moved.cov, moments(source).cov)
    assert (moved.cov - moments(target).cov).norm() > 0.1


def test_mean_shift_is_the_difference_of_means_by_hand():
    shift = MeanShift().fit(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
    assert_close(shift.vector, torch.tensor([0.0, 3.0], dtype=torch.float64))


def test_streamed_moments_give_the_same_map():
    source, target = gaussian_samples()
    for method in (MeanShift(), DirectionalAblation(), GaussianTransport()):
        streamed = [moments(x[:30]).merge(moments(x[30:])) for x in (source, target)]
        assert_close(method.fit_moments(*streamed)(source), method.fit(source, target)(source))


def test_ablation_removes_the_direction_and_nothing_else():
    source, target = gaussian_samples()
    ablation = DirectionalAblation().fit(source, target)
    assert (source @ ablation.read).abs().max() > 0.5
    once = ablation(source)
    assert_close(once @ ablation.read, torch.zeros(len(once), dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(ablation(once), once)
    assert_close(ablation(source, strength=2.0).norm(dim=1), source.norm(dim=1))


def test_ablation_needs_means_that_differ():
    x, _ = gaussian_samples()
    with pytest.raises(FitError, match="same mean"):
        DirectionalAblation().fit(x, x)


def test_gaussian_transport_matches_mean_and_covariance():
    source, target = gaussian_samples()
    moved = moments(WHOLE.fit(source, target)(source))
    assert_close(moved.mean, target.mean(dim=0))
    assert_close(moved.cov, moments(target).cov)


def test_gaussian_transport_is_the_closed_form_in_one_dimension():
    generator = torch.Generator().manual_seed(0)
    source, target = (
        s * torch.randn(50, 1, generator=generator, dtype=torch.float64) + m for s, m in ((1.0, 0.0), (3.0, 5.0))
    )
    fitted = GaussianTransport(rank=1, shrinkage=0.0).fit(source, target)
    slope = target.std(correction=0) / source.std(correction=0)
    assert_close(fitted(source), target.mean() + slope * (source - source.mean()))


def test_gaussian_transport_agrees_with_pot():
    source, target = gaussian_samples(n=200)
    A, b = ot.gaussian.empirical_bures_wasserstein_mapping(source.numpy(), target.numpy(), reg=0)
    expected = source @ torch.from_numpy(A) + torch.from_numpy(b)
    # POT divides covariances by n - 1; both by the same, so the map is the same.
    assert_close(WHOLE.fit(source, target)(source), expected, rtol=1e-8, atol=1e-8)


def test_gaussian_transport_reverses_by_its_inverse():
    source, target = gaussian_samples()
    fitted = WHOLE.fit(source, target)
    assert_close(fitted(fitted(source), strength=-1.0), source)
    assert_close(fitted.reverse(target), WHOLE.fit(target, source)(target))


def test_half_strength_is_mccann_s_interpolation():
    source, target = gaussian_samples()
    fitted = WHOLE.fit(source, target)
    A = fitted.basis @ (fitted.change + torch.eye(12, dtype=torch.float64)) @ fitted.basis.T
    half = (torch.eye(12, dtype=torch.float64) + A) / 2
    moved = moments(fitted(source, strength=0.5))
    assert_close(moved.cov, half @ moments(source).cov @ half)


def test_transport_folds_where_it_says():
    source, target = gaussian_samples()
    fitted = WHOLE.fit(source, 0.2 * target)
    A = fitted.change + torch.eye(12, dtype=torch.float64)
    at = fitted.folds_at
    assert 1 < at < float("inf")
    assert torch.linalg.eigvalsh((1 - at) * torch.eye(12, dtype=torch.float64) + at * A).abs().min() < 1e-8


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_transport_turns_with_the_data(seed: int):
    source, target = gaussian_samples(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    for method in (MeanShift(), DirectionalAblation(), WHOLE):
        assert_close(method.fit(source @ Q, target @ Q)(source @ Q), method.fit(source, target)(source) @ Q)


def test_more_dimensions_than_rows_still_fit():
    source, target = gaussian_samples(n=20, width=64)
    fitted = GaussianTransport().fit(source, target)
    assert fitted.basis.shape == (64, 4)
    assert_close(moments(fitted(source)).mean, target.mean(dim=0))


def test_parity_defeats_maps_fitted_on_moments_and_not_the_network():
    source, target = parity(-1, 400, 0), parity(1, 400, 1)
    held_source, held_target = parity(-1, 400, 2), parity(1, 400, 3)
    before = energy_distance(held_source, held_target)

    def left(method) -> float:
        return float(energy_distance(method.fit(source, target)(held_source), held_target) / before)

    assert left(MeanShift()) > 0.9
    assert left(GaussianTransport(rank=3)) > 0.9
    assert left(ResidualMLP(rank=3)) < 0.4


def test_the_network_stays_near_the_mean_shift_where_nothing_more_can_be_learned():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    target = source[torch.randperm(300, generator=generator)] + 2.0
    moved = ResidualMLP().fit(source, target)(source)
    shifted = MeanShift().fit(source, target)(source)
    assert (moved - shifted).norm(dim=1).mean() < 0.3 * (shifted - source).norm(dim=1).mean()


def test_seeds_of_the_network_differ():
    source, target = parity(-1, 100, 0), parity(1, 100, 1)
    a, b = (ResidualMLP(seed=s, rank=3, training=Training(steps=60)).fit(source, target)(source) for s in (0, 1))
    assert not torch.allclose(a, b)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GaussianTransport(rank=0),
        lambda: GaussianTransport(shrinkage=1.5),
        lambda: ResidualMLP(hidden=()),
        lambda: ResidualMLP(training=Training(steps=0)),
        lambda: ResidualMLP(training=Training(batch_size=1)),
        lambda: ResidualMLP(rank=0),
    ],
)
def test_hyperparameters_outside_their_range_are_refused(build):
    with pytest.raises(OptionError):
        build()


def test_too_few_rows_are_refused():
    source, target = gaussian_samples(n=8)
    with pytest.raises(FitError, match="at least 10 rows"):
        GaussianTransport().fit(source, target)
    with pytest.raises(FitError, match="at least 20 rows"):
        ResidualMLP().fit(source, target)


def test_samples_that_cannot_be_fitted_say_why():
    x, y = gaussian_samples()
    for source, target, message in (
        (x, y[:, :-1], "equally wide, but are 12 and 11"),
        (x[0], y, r"shape \(rows, d_model\), but got \(12,\)"),
        (x[:1], y, "at least 2 rows"),
    ):
        with pytest.raises(FitError, match=message):
            checked(source, target)

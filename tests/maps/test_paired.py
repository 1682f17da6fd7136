"""Maps fitted to pairs: against independent solvers, on a planted cycle, and with the pairing destroyed."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import AdditiveMap, GaussianTransport, MeanShift, PairedRidge, Procrustes, permuted_displacement
from steerlens.maps._paired import PENALTIES
from steerlens.testing import gaussian_samples

BOTH = (Procrustes(), PairedRidge())
POINTS, WIDTH = 7, 24


class Cycle(NamedTuple):
    """Seven points on a circle in a plane of R^24; the target of each row is a row of the next point."""

    source: Tensor
    target: Tensor
    label: Tensor
    centroids: Tensor
    plane: Tensor

    def accuracy(self, moved: Tensor) -> float:
        """How many rows are nearest to the centroid of the next point."""
        nearest = torch.cdist(moved, self.centroids).argmin(dim=1)
        return float((nearest == (self.label + 1) % POINTS).double().mean())


def cycle(seed: int, *, n: int = 280, noise: float = 0.1) -> Cycle:
    plane = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99)).double()).Q[:2]
    angle = 2 * torch.pi * torch.arange(POINTS).double() / POINTS
    centroids = torch.stack([angle.cos(), angle.sin()], dim=1) @ plane + 3.0
    label = torch.arange(n) % POINTS
    generator = torch.Generator().manual_seed(seed)
    noises = noise * torch.randn(2, n, WIDTH, generator=generator, dtype=torch.float64)
    return Cycle(centroids[label] + noises[0], centroids[(label + 1) % POINTS] + noises[1], label, centroids, plane)


def shuffled(x: Tensor, seed: int = 0) -> Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]


def test_rotation_is_scipy_s_and_the_mean_moves():
    source, target = gaussian_samples()
    fitted = Procrustes(rank=12).fit(source, target)
    R, _ = orthogonal_procrustes((source - source.mean(0)).numpy(), (target - target.mean(0)).numpy())
    expected = (source - source.mean(0)) @ torch.from_numpy(R) + target.mean(0)
    assert_close(fitted(source), expected)


def test_no_other_rotation_of_the_subspace_is_nearer_to_the_twins():
    source, target = gaussian_samples()
    fitted = Procrustes(rank=4).fit(source, target)
    generator = torch.Generator().manual_seed(0)
    best = (fitted(source) - target).square().sum()
    U, R = fitted.basis, fitted.change + torch.eye(4).double()
    for _ in range(50):
        skew = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        turn = torch.matrix_exp(0.2 * (skew - skew.T))
        z = (source - fitted.center) @ U
        other = source + fitted.shift + (z @ (turn @ R).T - z) @ U.T
        assert (other - target).square().sum() > best
        moved = fitted(source) + 0.05 * torch.randn(12, generator=generator, dtype=torch.float64)
        assert (moved - target).square().sum() > best


def test_rotation_keeps_distances_and_its_reverse_is_exact():
    source, target = gaussian_samples()
    fitted = Procrustes(rank=5).fit(source, target)
    assert_close(torch.cdist(fitted(source), fitted(target)), torch.cdist(source, target))
    assert fitted.reverse is not None
    assert_close(fitted.reverse(fitted(source)), source)
    assert_close(fitted.reverse(target), Procrustes(rank=5).fit(target, source)(target))
    assert (fitted(source) - source - fitted.shift).norm(dim=1).min() > 0.1
    half = fitted(source, strength=0.5)
    assert (half - half.mean(0)).norm() < 0.99 * (source - source.mean(0)).norm(), "a chord comes nearer to the mean"


@pytest.mark.parametrize("n", [9, 80], ids=["wide", "tall"])
@pytest.mark.parametrize("penalty", [0.0, 1e-4, 0.3, 5.0])
def test_ridge_is_scikit_learn_s_regression_of_the_difference(penalty: float, n: int):
    source, target = gaussian_samples(n=n)
    fitted = PairedRidge(penalty=penalty).fit(source, target)
    alpha = penalty * float((source - source.mean(0)).square().sum()) / 12
    ridge = Ridge(alpha=alpha, solver="svd").fit(source.numpy(), (target - source).numpy())
    assert_close(fitted.displacement(source), torch.from_numpy(ridge.predict(source.numpy())))
    assert_close(fitted(target, strength=-1.0), PairedRidge(penalty=penalty).fit(target, source)(target))


@pytest.mark.parametrize("n", [16, 60], ids=["wide", "tall"])
def test_the_penalty_chosen_is_that_of_least_generalised_cross_validation(n: int):
    source, target = cycle(0, n=n, noise=0.3)[:2]
    scale = float((source - source.mean(0)).square().sum()) / WIDTH

    def score(penalty: float) -> float:
        """From the matrix that turns observed into fitted rows, mean included: n RSS / (n − trace)²."""
        one = torch.ones(n, 1, dtype=torch.float64)
        x = source - source.mean(0)
        hat = x @ torch.linalg.solve(x.T @ x + penalty * scale * torch.eye(WIDTH).double(), x.T) + one @ one.T / n
        residual = target - source - hat @ (target - source)
        return n * float(residual.square().sum()) / (n - float(hat.trace())) ** 2

    best = min((p for p in PENALTIES if np.isfinite(p)), key=score)
    assert 1e-4 < best < 1e4
    assert_close(PairedRidge().fit(source, target)(source), PairedRidge(penalty=best).fit(source, target)(source))
    other = PairedRidge(penalty=best / 100).fit(source, target)(source)
    assert (other - PairedRidge().fit(source, target)(source)).norm() > 0.1


def test_the_penalty_chosen_predicts_left_out_pairs_about_as_well_as_any():
    source, target = cycle(0, n=21, noise=0.3)[:2]
    scale = float((source - source.mean(0)).square().sum()) / WIDTH

    def left_out(penalty: float) -> float:
        model = Ridge(alpha=penalty * scale)
        predicted = cross_val_predict(model, source.numpy(), (target - source).numpy(), cv=LeaveOneOut())
        return float(((predicted - (target - source).numpy()) ** 2).sum())

    finite = [p for p in PENALTIES if np.isfinite(p)]
    fitted = PairedRidge().fit(source, target)(source)
    chosen = min(finite, key=lambda p: (PairedRidge(penalty=p).fit(source, target)(source) - fitted).norm().item())
    errors = [left_out(p) for p in finite]
    assert left_out(chosen) < 1.05 * min(errors) < 0.8 * max(errors)


def test_an_infinite_penalty_is_the_mean_shift_and_is_chosen_where_nothing_can_be_learned():
    source, target = gaussian_samples(n=200)
    shift = MeanShift().fit(source, target)
    assert_close(PairedRidge(penalty=float("inf")).fit(source, target)(target), shift(target))
    noise = 0.1 * torch.randn(200, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fitted = PairedRidge().fit(source, source + 2.0 + noise)
    assert (fitted(target) - target - 2.0).norm(dim=1).mean() < 0.1
    learned = PairedRidge().fit(source, 1.5 * source + noise)
    error = (learned(target) - 1.5 * target).norm(dim=1).mean()
    assert error < 0.3 * (0.5 * target).norm(dim=1).mean()


@pytest.mark.parametrize("method", [Procrustes(rank=2), PairedRidge()], ids=lambda m: type(m).__name__)
def test_a_rotation_carries_each_of_seven_points_to_the_next(method):
    seen, held = cycle(0), cycle(1)
    fitted = method.fit(seen.source, seen.target)
    assert held.accuracy(held.source) == 0.0
    assert held.accuracy(fitted(held.source)) > 0.98
    assert held.accuracy(fitted(fitted(held.target, strength=-1.0))) > 0.98


def test_every_translation_fails_on_the_cycle():
    held = cycle(1)
    assert held.accuracy(MeanShift().fit(*cycle(0)[:2])(held.source)) == 0.0
    grid = torch.linspace(-3, 3, 25, dtype=torch.float64)
    best = max(held.accuracy(AdditiveMap(torch.stack([a, b]) @ held.plane)(held.source)) for a in grid for b in grid)
    assert 0.2 < best < 0.5, "some points reach the next, the others do not"


def test_a_transport_of_distributions_does_not_see_the_cycle():
    """Source and target have one law, so that only pairs tell where a row should go."""
    held = cycle(1)
    assert held.accuracy(GaussianTransport(rank=2).fit(*cycle(0)[:2])(held.source)) < 0.05


@pytest.mark.parametrize("method", [Procrustes(rank=2), PairedRidge()], ids=lambda m: type(m).__name__)
def test_shuffled_pairs_destroy_it(method):
    """A rotation by chance may fall anywhere, but it is never the same: over shuffles it is right one time in seven."""
    seen, held = cycle(0), cycle(1)
    found = [held.accuracy(method.fit(seen.source, shuffled(seen.target, s))(held.source)) for s in range(20)]
    assert np.mean(found) < 0.35


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
def test_what_cannot_be_paired_is_refused(method):
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="equally many rows, but have 80 and 79"):
        method.fit(source, target[:-1])
    with pytest.raises(FitError, match="at least 3 rows"):
        method.fit(source[:2], target[:2])


@pytest.mark.parametrize("method", BOTH, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n", [3, 20])
def test_fewer_pairs_than_dimensions_still_fit(method, n: int):
    source, target = gaussian_samples(n=n, width=64)
    moved = method.fit(source, target)(source)
    assert_close(moved.mean(0), target.mean(0))


def test_ridge_without_a_penalty_takes_the_smallest_matrix_that_fits():
    source, target = gaussian_samples(n=20, width=64)
    fitted = PairedRidge(penalty=0.0).fit(source, target)
    assert_close(fitted(source), target)
    across = torch.linalg.svd(source - source.mean(0), full_matrices=True).Vh[19:]
    assert_close(across @ fitted.forward.change.T, torch.zeros(45, 64).double(), atol=1e-9, rtol=0)


def test_rows_that_do_not_vary_are_translated_or_refused():
    x = torch.ones(5, 4, dtype=torch.float64)
    assert_close(PairedRidge().fit(x, 3 * x)(x), 3 * x)
    with pytest.raises(FitError, match="all rows of each sample are equal"):
        Procrustes().fit(x, 3 * x)


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="rank"):
        Procrustes(rank=0)
    for penalty in (-1.0, float("nan")):
        with pytest.raises(OptionError, match="penalty"):
            PairedRidge(penalty=penalty)


def test_permuted_labels_show_how_much_of_a_map_is_noise():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    apart = permuted_displacement(MeanShift(), source, noise + 5.0, n_permutations=5, seed=0)
    alike = permuted_displacement(MeanShift(), source, noise, n_permutations=20, seed=0)
    assert apart.ratio == apart.null / apart.real
    assert apart.real == pytest.approx(5 * 8**0.5, rel=0.05)
    assert apart.ratio < 0.15
    assert 0.5 < alike.ratio < 2.0
    again = permuted_displacement(MeanShift(), source, noise, n_permutations=20, seed=0)
    other = permuted_displacement(MeanShift(), source, noise, n_permutations=20, seed=1)
    assert alike == again
    assert alike.null != other.null


def test_too_large_a_rank_shows_in_the_permuted_labels():
    rows = gaussian_samples(n=120, width=40).source

    def ratio(rank: int) -> float:
        method = GaussianTransport(rank=rank, shrinkage=0.0)
        return permuted_displacement(method, rows[:60], rows[60:] + 1.0, n_permutations=5, seed=0).ratio

    assert ratio(40) > 0.25
    assert ratio(4) < 0.75 * ratio(40)


def test_pairs_stay_pairs_under_permutation():
    """With twins 0.01 apart, labels exchanged within pairs leave a map nearly still; across pairs they would not."""
    source, _ = gaussian_samples(n=100)
    target = source + 0.01 * torch.randn(100, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    within = permuted_displacement(Procrustes(rank=12), source, target, n_permutations=3, seed=0)
    assert within.null < 0.02
    assert (Procrustes(rank=12).fit(source, shuffled(target)).displacement(source)).norm(dim=1).mean() > 1


def test_the_null_of_nothing_is_infinite_and_no_permutation_is_refused():
    x = torch.ones(5, 3, dtype=torch.float64)
    assert permuted_displacement(MeanShift(), x, x, n_permutations=1, seed=0).ratio == float("inf")
    with pytest.raises(OptionError, match="n_permutations"):
        permuted_displacement(MeanShift(), x, x, n_permutations=0, seed=0)

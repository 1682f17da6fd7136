"""The learned affine map: what it solves, what no affine map solves, and that it shares the network's signal."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import GaussianTransport, LowRankAffine, MeanShift, ResidualMLP, Training
from steerlens.numerics import energy_distance
from steerlens.testing import gaussian_samples

LESS = Training(steps=300, learning_rate=1e-2, batch_size=200)


def ellipses(axis: int, n: int, seed: int) -> Tensor:
    """Equal means; the long axis (variance 1 and not 0.16) is another, and three dimensions are nuisance."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.4, 0.4, 0.4, 0.3, 0.3, 0.3], dtype=torch.float64)
    scale[axis] = 1.0
    return torch.randn(n, 6, generator=generator, dtype=torch.float64) * scale


def parity(sign: int, n: int, seed: int) -> Tensor:
    """Corners of a cube whose product is ``sign``: equal means and covariances for both signs."""
    generator = torch.Generator().manual_seed(seed)
    ab = torch.randint(0, 2, (n, 2), generator=generator).double() * 2 - 1
    corners = torch.cat([ab, ab.prod(dim=1, keepdim=True) * sign], dim=1)
    return corners + 0.25 * torch.randn(n, 3, generator=generator, dtype=torch.float64)


def left(method, samples, held) -> float:
    """Energy distance to held-out target rows, as a share of what it was."""
    moved = method.fit(*samples)(held[0])
    return float(energy_distance(moved, held[1]) / energy_distance(*held))


@pytest.mark.slow
def test_it_solves_a_difference_of_covariance_and_a_translation_does_not():
    samples, held = ((ellipses(0, 300, s), ellipses(1, 300, s + 1)) for s in (0, 2))
    assert left(MeanShift(), samples, held) > 0.9
    assert left(LowRankAffine(dimensions=6, training=LESS), samples, held) < 0.15
    assert left(GaussianTransport(rank=6), samples, held) < 0.15


@pytest.mark.slow
def test_its_rank_is_what_it_can_change():
    """Two directions lose their spread, and one number cannot take it from both."""
    wide = torch.tensor([2.5, 2.5, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    narrow = [ellipses(0, 300, s) / ellipses(0, 300, 0).std(0) for s in range(1, 5)]
    samples, held = (narrow[0] * wide, narrow[1]), (narrow[2] * wide, narrow[3])
    one, two = (left(LowRankAffine(rank=r, dimensions=6, training=LESS), samples, held) for r in (1, 2))
    assert two < 0.1
    assert 0.2 < one < 0.9


@pytest.mark.slow
def test_it_mirrors_parity_which_moments_do_not_show():
    """Equal means and covariances: no map of moments moves anything, but a mirror carries one parity to the other."""
    samples, held = ((parity(-1, 400, s), parity(1, 400, s + 1)) for s in (0, 2))
    assert left(GaussianTransport(rank=3), samples, held) > 0.9
    mirrored = held[0] * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert energy_distance(mirrored, held[1]) < 0.05 * energy_distance(*held)
    assert left(LowRankAffine(rank=1, dimensions=3, training=LESS), samples, held) < 0.2


def humps(n: int, seed: int, *, two: bool) -> Tensor:
    """One hump, or two, of mean 0 and variance 1; the other axis is nuisance."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1
    return torch.stack([0.95 * signs + (1 - 0.95**2) ** 0.5 * x[:, 0], x[:, 1]], dim=1) if two else x


@pytest.mark.slow
def test_it_cannot_split_one_hump_into_two_and_the_network_can():
    """Equal means and covariances, and every affine image of a normal law is normal."""
    samples, held = ((humps(300, s, two=False), humps(300, s + 1, two=True)) for s in (0, 2))
    assert left(LowRankAffine(dimensions=2, training=LESS), samples, held) > 0.8
    assert left(ResidualMLP(rank=2, training=LESS), samples, held) < 0.4


def short(**options) -> LowRankAffine:
    return LowRankAffine(training=Training(steps=60), **options)


def test_it_begins_as_the_mean_shift_and_never_moves_the_mean_elsewhere():
    source, target = gaussian_samples()
    begun = LowRankAffine(dimensions=12, training=Training(steps=60, learning_rate=1e-12)).fit(source, target)
    assert_close(begun(source), MeanShift().fit(source, target)(source), atol=1e-6, rtol=0)
    fitted = short().fit(source, target)
    assert_close(fitted(source).mean(0), target.mean(0))
    assert (fitted(source) - MeanShift().fit(source, target)(source)).norm(dim=1).mean() > 0.01


def test_the_linear_part_has_the_rank_it_was_given():
    source, target = gaussian_samples()
    for rank, expected in ((1, 1), (3, 3), (40, 12)):
        fitted = short(rank=rank, dimensions=12).fit(source, target)
        change = fitted.displacement(source) - fitted.displacement(source).mean(0)
        assert torch.linalg.matrix_rank(change, rtol=1e-9) == expected


def test_it_is_affine():
    source, target = gaussian_samples()
    fitted = short().fit(source, target)
    middle = (source + target) / 2
    assert_close(fitted(middle), (fitted(source) + fitted(target)) / 2)


def test_it_has_the_signal_of_the_network():
    """Equal defaults of everything but the function class, and one training curve before the first step."""
    network, line = ResidualMLP(), LowRankAffine()
    assert line.training == network.training
    assert line.transport_cost == network.transport_cost
    assert line.scaling == network.scaling
    assert line.seed == network.seed
    source, target = gaussian_samples()
    ours, theirs = (
        dataclasses.replace(m, training=Training(steps=5)).fit(source, target).forward for m in (line, network)
    )
    assert_close(ours.basis, theirs.basis)
    assert_close(ours.inner.curve[0], theirs.inner.curve[0])


def test_seeds_differ_and_each_repeats():
    source, target = gaussian_samples()
    a, b, c = (short(seed=s).fit(source, target)(source) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


def test_what_cannot_be_fitted_is_refused():
    source, target = gaussian_samples(n=19)
    with pytest.raises(FitError, match="at least 20 rows"):
        LowRankAffine().fit(source, target)
    with pytest.raises(FitError, match="all rows are equal"):
        LowRankAffine().fit(torch.ones(20, 3).double(), torch.ones(20, 3).double())
    for options in ({"rank": 0}, {"dimensions": 0}, {"transport_cost": -1.0}):
        with pytest.raises(OptionError):
            LowRankAffine(**options)

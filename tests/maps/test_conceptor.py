"""Conceptors: their logic, their limits, and what steering with them does and does not."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import Conceptor, ConceptorSteering
from steerlens.numerics import moments
from steerlens.testing import gaussian_samples

D = 12
IDENTITY = torch.eye(D, dtype=torch.float64)


def pair(aperture: float = 1.0) -> tuple[Conceptor, Conceptor]:
    source, target = gaussian_samples(width=D)
    return Conceptor.of(source, aperture=aperture), Conceptor.of(target, aperture=aperture)


def flat_pair() -> tuple[Conceptor, Conceptor]:
    """Two singular conceptors, of 7 and 8 dimensions, whose ranges share at least 3."""
    source, target = gaussian_samples(n=8, width=D)
    return Conceptor.of(source[:7], aperture=2.0), Conceptor.of(target, aperture=2.0)


def spectrum(c: Conceptor) -> Tensor:
    return torch.linalg.eigvalsh(c.matrix)


def in_order(low: Conceptor, high: Conceptor) -> bool:
    return bool(torch.linalg.eigvalsh(high.matrix - low.matrix)[0] > -1e-9)


def test_it_is_the_formula():
    x, _ = gaussian_samples(width=D)
    for centred in (False, True):
        rows = x - x.mean(dim=0) if centred else x
        R = rows.T @ rows / len(rows)
        expected = R @ torch.linalg.inv(R + IDENTITY / 0.5**2)
        assert_close(Conceptor.of(x, aperture=0.5, centred=centred).matrix, expected)
    assert (Conceptor.of(x, aperture=0.5).matrix - expected).norm() > 0.1, "the mean counts unless it is taken away"


def test_it_minimises_reconstruction_error_plus_its_own_size():
    x, _ = gaussian_samples(width=D)
    generator = torch.Generator().manual_seed(0)

    def cost(C: Tensor) -> float:
        return float((x - x @ C.T).square().sum(dim=1).mean() + C.square().sum() / 0.7**2)

    C = Conceptor.of(x, aperture=0.7).matrix
    for _ in range(20):
        step = 0.01 * torch.randn(D, D, generator=generator, dtype=torch.float64)
        assert cost(C + step) > cost(C)


def test_streamed_moments_give_the_same_conceptor_and_map():
    x, y = gaussian_samples(width=D)
    streamed = [moments(z[:30]).merge(moments(z[30:])) for z in (x, y)]
    assert_close(Conceptor.of_moments(streamed[0], aperture=2.0).matrix, Conceptor.of(x, aperture=2.0).matrix)
    for method in (ConceptorSteering(), ConceptorSteering(centred=True)):
        assert_close(method.fit_moments(*streamed)(x), method.fit(x, y)(x))


@pytest.mark.parametrize("make", [pair, flat_pair])
def test_all_that_is_built_lies_between_zero_and_the_identity(make):
    a, b = make()
    for c in (a, b, ~a, a & b, a | b, ~(a & b), (a | b) & ~b):
        assert_close(c.matrix, c.matrix.T)
        assert spectrum(c)[0] > -1e-9
        assert spectrum(c)[-1] < 1 + 1e-9
        assert 0 <= c.quota <= 1
    assert 0.05 < a.quota < 0.95


@pytest.mark.parametrize("make", [pair, flat_pair])
def test_de_morgan(make):
    a, b = make()
    assert_close((~(a & b)).matrix, (~a | ~b).matrix)
    assert_close((~(a | b)).matrix, (~a & ~b).matrix)
    assert_close((a & b).matrix, (b & a).matrix)
    assert (~(a & b)).matrix.sub((~a & ~b).matrix).norm() > 0.1


@pytest.mark.parametrize("make", [pair, flat_pair])
def test_and_is_below_both_and_or_above_both(make):
    a, b = make()
    for c in (a, b):
        assert in_order(a & b, c)
        assert in_order(c, a | b)
        assert not in_order(a | b, c)


def test_and_is_the_harmonic_formula_where_both_are_invertible():
    a, b = pair()
    expected = torch.linalg.inv(torch.linalg.inv(a.matrix) + torch.linalg.inv(b.matrix) - IDENTITY)
    assert_close((a & b).matrix, expected)
    assert (a.matrix @ b.matrix - expected).norm() > 0.1, "it is not the product"


def test_or_is_the_conceptor_of_the_correlations_added():
    """Aperture 1, both from R: C ∨ B belongs to R_C + R_B."""
    x, y = gaussian_samples(width=D)
    a, b = pair()
    R = x.T @ x / len(x) + y.T @ y / len(y)
    assert_close((a | b).matrix, R @ torch.linalg.inv(R + IDENTITY))


def test_projections_meet_in_the_intersection_of_their_ranges():
    axes = (
        torch.diag(torch.tensor([1.0] * 8 + [0.0] * 4)).double(),
        torch.diag(torch.tensor([0.0] * 5 + [1.0] * 7)).double(),
    )
    a, b = (Conceptor(m) for m in axes)
    assert_close((a & b).matrix, torch.diag(torch.tensor([0.0] * 5 + [1.0] * 3 + [0.0] * 4)).double())
    assert_close((a | b).matrix, IDENTITY)
    assert_close((a & ~a).matrix, 0 * IDENTITY)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0)).double()).Q
    turned = Conceptor(turn @ a.matrix @ turn.T) & Conceptor(turn @ b.matrix @ turn.T)
    assert_close(turned.matrix, turn @ (a & b).matrix @ turn.T, atol=1e-9, rtol=0)


def test_a_small_aperture_keeps_nothing_and_a_large_one_all_that_occurs():
    x, _ = gaussian_samples(n=7, width=D)
    for aperture in (1e-6, 1e-200):
        assert Conceptor.of(x, aperture=aperture).matrix.norm() < 1e-9
    on_range = x.T @ torch.linalg.pinv(x.T)
    for aperture in (1e6, float("inf")):
        assert_close(Conceptor.of(x, aperture=aperture).matrix, on_range, atol=1e-9, rtol=0)
    quotas = [Conceptor.of(x, aperture=a).quota for a in (0.1, 1.0, 10.0)]
    assert quotas == sorted(quotas)
    assert quotas[0] < 0.1
    assert quotas[-1] > 0.5


def test_what_keeps_all_or_nothing_is_absorbed():
    a, _ = pair()
    nothing, everything = Conceptor(0 * IDENTITY), Conceptor(IDENTITY)
    for found, expected in (
        (a & everything, a),
        (a | nothing, a),
        (a & nothing, nothing),
        (a | everything, everything),
    ):
        assert_close(found.matrix, expected.matrix)


@pytest.mark.parametrize("centred", [False, True])
def test_steering_is_the_formula(centred: bool):
    x, y = gaussian_samples(width=D)
    fitted = ConceptorSteering(aperture=0.8, beta=1.5, centred=centred).fit(x, y)
    C = Conceptor.of(y, aperture=0.8, centred=centred).matrix
    center = y.mean(dim=0) if centred else torch.zeros(D).double()
    assert_close(fitted(x), 1.5 * (x - center) @ C + center)
    back = ConceptorSteering(aperture=0.8, beta=1.5, centred=centred).fit(y, x)
    assert_close(fitted(y, strength=-1.0), back(y))
    assert_close(ConceptorSteering(aperture=0.8, beta=1.5, centred=centred).fit(y, y)(x), fitted(x))


def test_the_default_aperture_keeps_half_of_a_direction_of_average_power_in_any_unit():
    x, y = gaussian_samples(width=D)
    white = torch.linalg.qr(y - y.mean(dim=0)).Q * 7.0
    fitted = ConceptorSteering().fit(x, white)
    assert_close(fitted(x), x / 2)
    once, scaled = ConceptorSteering().fit(x, y), ConceptorSteering().fit(100 * x, 100 * y)
    assert_close(scaled(100 * x), 100 * once(x))
    fixed = ConceptorSteering(aperture=1.0)
    assert (fixed.fit(100 * x, 100 * y)(100 * x) - 100 * fixed.fit(x, y)(x)).norm() > 1


def test_steering_keeps_what_the_target_uses_and_fades_the_rest():
    generator = torch.Generator().manual_seed(0)
    strong = torch.tensor([5.0] * 3 + [0.1] * 9).double()
    target = torch.randn(400, D, generator=generator, dtype=torch.float64) * strong
    source = target.flip(1)
    moved = ConceptorSteering().fit(source, target)(torch.ones(D).double())
    assert (moved[:3] > 0.75).all()
    assert (moved[3:] < 0.05).all()
    shifted = source.mean(dim=0) - target.mean(dim=0)
    assert shifted.norm() < 1.0, "the means are alike: a translation would not have done it"


def test_what_cannot_be_fitted_is_refused():
    x, _ = gaussian_samples(width=D)
    with pytest.raises(FitError, match="all rows are equal"):
        ConceptorSteering(centred=True).fit(x, torch.ones(5, D).double())
    with pytest.raises(FitError, match="or zero"):
        ConceptorSteering().fit(x, torch.zeros(5, D).double())
    for build in (
        lambda: ConceptorSteering(aperture=0.0),
        lambda: ConceptorSteering(beta=0.0),
        lambda: ConceptorSteering(beta=float("inf")),
        lambda: Conceptor.of(x, aperture=-1.0),
        lambda: Conceptor.of(x, aperture=float("nan")),
    ):
        with pytest.raises(OptionError, match="positive"):
            build()
    fitted = ConceptorSteering().fit(x[:2], x[2:4])
    assert torch.isfinite(fitted(x)).all()

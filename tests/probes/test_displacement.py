"""Displacement regression: constant, linear and nonlinear laws, and noise."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from steerlens.concepts import planted
from steerlens.errors import ActivationError, FitError, OptionError
from steerlens.probes._displacement import DisplacementReport, displacement_report
from steerlens.probes._smoothers import Kernel, fit_rows, no_kernel

N, WIDTH = 160, 6
GROUPS = [i // 2 for i in range(N)]


def noise(n: int, seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def report(h: Tensor, d: Tensor, groups=GROUPS, **options) -> DisplacementReport:
    return displacement_report(h, d, groups, **{"seed": 0, "n_permutations": 49, **options})


def of_plant(name: str) -> DisplacementReport:
    rows = planted(name).sample(N, seed=0)
    return report(rows.source, rows.target - rows.source)


def test_a_shift_is_constant():
    found = of_plant("linear")
    assert found.constant.value == pytest.approx(1.0)
    assert found.linear.value == pytest.approx(0.0, abs=1e-9)
    assert found.p_linear == found.p_nonlinear == 1.0


def test_a_rotation_is_linear_and_nothing_else():
    found = of_plant("ring")
    assert abs(found.constant.value) < 0.05
    assert found.linear.low > 0.95
    assert abs(found.nonlinear.value) < 1e-3
    assert found.p_linear == 0.02
    assert found.p_nonlinear > 0.05


def test_a_stretch_is_constant_and_linear():
    found = of_plant("cone")
    assert found.constant.low > 0.85
    assert found.linear.low > 0.04
    assert found.unexplained.high < 0.01
    assert found.p_nonlinear > 0.05


@pytest.mark.parametrize("name", ["xor2", "ctx"])
def test_a_sign_that_two_clusters_carry_is_nearly_linear(name: str):
    """For z = ±1 + 0.25 ν a line explains 1/(1 + 0.25²) = 0.94 of its sign: conditional is not nonlinear."""
    found = of_plant(name)
    assert found.constant.value + found.linear.value > 0.9
    assert found.nonlinear.low > 0
    assert found.nonlinear.high < 0.1
    assert found.p_nonlinear == 0.02


def test_arcs_whose_halves_part_move_nonlinearly():
    """Half of each arc goes left, half right: no linear function of the place says which."""
    found = of_plant("ring6")
    assert found.nonlinear.low > 0.5
    assert found.linear.high < 0.25
    assert found.p_nonlinear == 0.02


def test_a_quadratic_law_is_nonlinear():
    h = noise(N, 0)
    h[:, 0] *= 3
    d = torch.zeros_like(h)
    d[:, 1] = h[:, 0] ** 2 - 9
    found = report(h, d)
    assert found.nonlinear.value > 0.6
    assert found.nonlinear.low > 0.2
    assert found.linear.value < 0.2
    assert found.p_nonlinear == 0.02


def test_noise_is_unexplained():
    found = report(noise(N, 0), noise(N, 1))
    assert not found.constant.excludes(0.0)
    assert found.linear.high < 0.05
    assert found.nonlinear.high < 0.05
    assert found.unexplained.value > 0.95
    assert min(found.p_linear, found.p_nonlinear) > 0.05


def test_shares_add_up_to_one():
    found = report(noise(N, 0), 0.5 * noise(N, 0) + noise(N, 1) + 0.3)
    shares = (found.constant, found.linear, found.nonlinear, found.unexplained)
    assert sum(s.value for s in shares) == pytest.approx(1.0)


@pytest.mark.slow
def test_the_linear_share_is_that_of_the_law():
    """d = h A + ν with |A|² = 0.49 |ν|²: 0.49 / 1.49 of E|d|² is linear, of which fitting 7 numbers costs little."""
    A, shares = 0.7 * torch.eye(WIDTH, dtype=torch.float64), []
    for seed in range(6):
        h = noise(300, 2 * seed)
        shares.append(report(h, h @ A + noise(300, 2 * seed + 1), range(300), n_permutations=1).linear)
    assert np.mean([s.value for s in shares]) == pytest.approx(0.49 / 1.49, abs=0.035)
    assert sum(s.low < 0.49 / 1.49 - 0.015 < s.high for s in shares) >= 4


def kernels(x: np.ndarray) -> dict[str, Kernel]:
    return {"full": Kernel(x @ x.T), "few columns": Kernel(Z=x)}


FIT, AT = np.arange(30) < 24, np.arange(30) >= 24


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
@pytest.mark.parametrize("kind", ["full", "few columns"])
def test_blocks_are_taken_back_as_if_they_had_not_been_fitted(kind: str, penalty: float):
    rng = np.random.default_rng(0)
    kernel, y = kernels(rng.normal(size=(30, 3)))[kind], rng.normal(size=(30, 2))
    blocks = np.arange(24) % 3 + (np.arange(24) > 20)  # 0 to 3; there is no row of block 4
    everything, *left_out = fit_rows((kernel, penalty), FIT, AT).without_each(y[FIT], blocks, 5)
    assert everything == pytest.approx(fit_rows((kernel, penalty), FIT, AT).H @ y[FIT])
    for block, found in enumerate(left_out):
        short = FIT.copy()
        short[:24] = blocks != block
        # The penalty counts rows: 24 of them, also where some are taken back.
        again = fit_rows((kernel, penalty * 24 / short.sum()), short, AT).H @ y[short]
        assert found == pytest.approx(again)
        assert (np.abs(found - everything).max() > 1e-3) == (block < 4)


@pytest.mark.parametrize("kind", ["full", "few columns"])
def test_a_fit_is_ridge_regression_with_a_free_mean(kind: str):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)) + 2, rng.normal(size=(30, 2)) + 5
    ridge = Ridge(alpha=24 * 0.1).fit(x[FIT], y[FIT])
    assert fit_rows((kernels(x)[kind], 0.1), FIT, AT).H @ y[FIT] == pytest.approx(ridge.predict(x[AT]))
    mean = fit_rows((no_kernel(30), 1.0), FIT, AT).H @ y[FIT]
    assert mean == pytest.approx(np.tile(y[FIT].mean(axis=0), (6, 1)))


def test_wide_and_narrow_rows_of_one_gram_matrix_have_one_report():
    """Sources with many columns of rank six have the Gram matrix of sources with six: other solvers, same answer."""
    rows, turn = (noise(40, 0), noise(40, 1)), torch.linalg.qr(noise(66, 2, width=66)).Q
    few = report(*rows, range(40))
    many = report(*(torch.cat([x, torch.zeros(40, 60)], dim=1) @ turn for x in rows), range(40))
    for name in ("constant", "linear", "nonlinear", "unexplained"):
        assert getattr(few, name).value == pytest.approx(getattr(many, name).value, abs=1e-9)
        assert getattr(few, name).low == pytest.approx(getattr(many, name).low, abs=1e-9)


@pytest.mark.slow
def test_p_values_are_calibrated():
    """Groups of four that share half of the variance: no relation, and a linear one."""
    codes = np.arange(60) // 4
    A = noise(WIDTH, 77) / 2

    def rows(seed: int) -> Tensor:
        return noise(15, seed)[codes] + noise(60, seed + 5000)

    linear, nonlinear = [], []
    for s in range(120):
        h, d = rows(2 * s), rows(2 * s + 1)
        linear.append(report(h, d, codes.tolist(), seed=s, n_permutations=39).p_linear <= 0.05)
        nonlinear.append(report(h, d + h @ A, codes.tolist(), seed=s, n_permutations=39).p_nonlinear <= 0.05)
    assert 0.0 < np.mean(linear) <= 0.11
    assert np.mean(nonlinear) <= 0.11


def test_seeds_decide_and_turning_changes_nothing():
    Q = torch.linalg.qr(noise(WIDTH, 9)).Q
    h, d = noise(N, 0), noise(N, 0) / 2 + noise(N, 1)
    first = report(h, d, n_permutations=9)
    assert first == report(h, d, n_permutations=9)
    turned = report(h @ Q, 5 * d @ Q, n_permutations=9)
    assert turned.linear.value == pytest.approx(first.linear.value)
    assert turned.p_linear == first.p_linear


def test_the_page_and_the_refusals():
    assert "nonlinear" in str(of_plant("ring"))
    with pytest.raises((ActivationError, TypeCheckError), match=r"displacement|pair"):
        report(noise(N, 0), noise(N - 1, 1))
    with pytest.raises(FitError, match="displacements are zero"):
        report(noise(N, 0), torch.zeros(N, WIDTH, dtype=torch.float64))
    with pytest.raises(OptionError, match="needs a group"):
        report(noise(N, 0), noise(N, 1), GROUPS[:3])

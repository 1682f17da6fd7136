"""Local directions: constant, turning and flipping fields of differences."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from steerlens.concepts import planted
from steerlens.errors import ActivationError, EstimateError, OptionError
from steerlens.probes._groups import deal_groups
from steerlens.probes._local import local_direction_report, neighbours_of_other_groups

N = 160
GROUPS = [i // 2 for i in range(N)]


def noise(n: int, seed: int, width: int = 8) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_plant(name: str, **options):
    rows = planted(name).sample(N, seed=0)
    return local_direction_report(rows.source, rows.target - rows.source, GROUPS, seed=0, n_permutations=99, **options)


@pytest.mark.parametrize("name", ["ctx", "xor2", "ring"])
def test_a_direction_that_depends_on_place_is_found(name: str):
    found = of_plant(name)
    assert found.p_value == 0.01
    assert found.autocorrelation.low > 0.5


def test_one_shift_for_all_is_not():
    found = of_plant("linear")
    assert found.p_value == 1.0
    assert found.cosine.value == pytest.approx(1.0)
    assert found.resultant.value == pytest.approx(found.resultant_ceiling)


def test_a_noisy_shift_agrees_with_its_ceiling_and_not_with_one():
    V = torch.eye(8, dtype=torch.float64)[0]
    found = local_direction_report(noise(N, 0), 0.5 * V + noise(N, 1), GROUPS, seed=0)
    assert found.p_value > 0.05
    assert found.cosine.value < 0.9
    assert found.cosine.low < found.ceiling < found.cosine.high
    assert found.resultant.low < found.resultant_ceiling < found.resultant.high


def test_a_constant_is_no_autocorrelation():
    plain, shifted = (
        local_direction_report(noise(N, 0), noise(N, 1) + c, GROUPS, seed=0, n_permutations=9) for c in (0, 5)
    )
    assert shifted.autocorrelation.value == pytest.approx(plain.autocorrelation.value)
    assert shifted.p_value == plain.p_value
    assert shifted.cosine.value > 0.9 > plain.cosine.value


def test_the_cosine_alone_misses_a_field_without_a_mean():
    """xor2 flips half of the differences: Δ is noise, and neither local nor shuffled directions agree with it."""
    found = of_plant("xor2")
    assert found.p_cosine > 0.05
    assert abs(found.cosine.value - found.ceiling) < 0.15
    assert found.autocorrelation.value > 0.9


def test_the_context_that_flips_three_in_ten_lowers_the_cosine():
    found = of_plant("ctx")
    assert found.cosine.high < 0.7 < 0.9 < found.ceiling
    assert found.p_cosine < 0.05


def test_neighbours_are_the_nearest_of_other_groups():
    x = torch.arange(6.0).double()[:, None]
    near = neighbours_of_other_groups(x, np.array([0, 0, 1, 1, 2, 2]), 2)
    assert near[0].tolist() == [2, 3]
    assert near[3].tolist() == [4, 1] or near[3].tolist() == [4, 5]
    assert neighbours_of_other_groups(x, np.array([0, 0, 1, 1, 2, 2]), 20).shape == (6, 4)


def test_groups_are_dealt_whole():
    codes = np.repeat(np.arange(10), 3)
    for p in deal_groups(codes, 20, seed=0):
        assert sorted(p) == list(range(30))
        assert (codes[p].reshape(10, 3) == codes[p].reshape(10, 3)[:, :1]).all()
    scattered = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    for p in deal_groups(scattered, 20, seed=0):
        for g in range(3):
            assert len(set(scattered[p][scattered == g])) == 1
    assert len({tuple(p) for p in deal_groups(codes, 20, seed=0)}) > 15
    # Within a group rows are in random order: the item that is third in every group is not dealt to itself.
    places = np.stack([p % 3 for p in deal_groups(codes, 200, seed=0)]).reshape(-1, 3)
    assert 0.25 < (places == np.arange(3)).mean() < 0.42


def test_groups_of_different_sizes_are_dealt_too():
    codes = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4])
    for p in deal_groups(codes, 10, seed=0):
        assert sorted(p) == list(range(11))


@pytest.mark.slow
def test_p_values_are_calibrated_and_row_shuffles_would_not_be():
    """Groups of five whose sources and differences are each alike, but not related."""
    codes = np.arange(60) // 5

    def data(seed: int) -> tuple[Tensor, Tensor]:
        return tuple(noise(12, 2 * seed + i)[codes] + 0.3 * noise(60, 900 + 2 * seed + i) for i in (0, 1))

    p = [local_direction_report(*data(s), codes.tolist(), seed=s, n_permutations=39).p_value for s in range(150)]
    naive = [local_direction_report(*data(s), range(60), seed=s, n_permutations=39).p_value for s in range(40)]
    assert 0.005 <= np.mean(np.array(p) <= 0.05) <= 0.11
    assert np.mean(np.array(naive) <= 0.05) > 0.5, "rows of one group are each other's neighbours"


def test_seeds_decide_and_turning_changes_nothing():
    Q = torch.linalg.qr(noise(8, 9)).Q
    h, d = noise(N, 0), noise(N, 1) + 1
    first = local_direction_report(h, d, GROUPS, seed=0, n_permutations=19)
    assert first == local_direction_report(h, d, GROUPS, seed=0, n_permutations=19)
    turned = local_direction_report(h @ Q, d @ Q, GROUPS, seed=0, n_permutations=19)
    assert turned.cosine.value == pytest.approx(first.cosine.value)
    assert turned.autocorrelation.low == pytest.approx(first.autocorrelation.low)
    assert turned.p_value == first.p_value


def test_the_page_and_the_refusals():
    text = str(of_plant("linear"))
    assert "constant field" in text
    assert "20 neighbours" in text
    with pytest.raises((ActivationError, TypeCheckError), match=r"difference|pair"):
        local_direction_report(noise(N, 0), noise(N - 1, 1), GROUPS, seed=0)
    with pytest.raises(OptionError, match="neighbours must be at least 1"):
        of_plant("linear", neighbours=0)
    with pytest.raises(EstimateError, match="at least 5 groups"):
        local_direction_report(noise(4, 0), noise(4, 1), range(4), seed=0)

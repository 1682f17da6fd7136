"""Moved rows beside real ones: what each number says of maps whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.errors import EstimateError, FitError
from steerlens.numerics import energy_distance
from steerlens.probes import ManifoldReport, manifold_report
from steerlens.probes._manifold import _distances, _exchanges, _floor, _median, _weighted_energy

WIDTH, N = 6, 120


def rows(seed: int, *, mean: float = 0.0, n: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) + mean


def report(moved: Tensor, source: Tensor) -> ManifoldReport:
    """Against a standard normal cloud around (3, …, 3)."""
    return manifold_report(
        moved, source, rows(1, mean=3), rows(2, mean=3, n=200), groups=range(N), target_groups=range(N), seed=0
    )


def test_rows_of_the_target_s_law_are_on_the_manifold():
    found = report(rows(0) + 3, rows(0))
    assert found.energy.value < found.energy_floor
    assert found.energy_before.low > 10 * found.energy_floor
    assert not found.neighbour_ratio.excludes(1.0)
    assert not found.mahalanobis_ratio.excludes(1.0)


def test_rows_that_stayed_are_not():
    found = report(rows(0), rows(0))
    assert found.energy.low > found.energy_floor
    assert found.energy == found.energy_before
    assert found.neighbour_ratio.low > 1.5
    assert found.mahalanobis_ratio.low > 1.5
    assert found.norm_ratio.value == 1.0
    assert found.cosine.value == pytest.approx(1.0)


def test_rows_far_beyond_the_target_are_not():
    found = report(rows(0) + 8, rows(0))
    assert found.energy.low > found.energy_floor
    assert found.neighbour_ratio.low > 1.5
    assert found.norm_ratio.low > 4


def test_one_point_in_the_middle_is_near_everything_and_still_not_the_target():
    found = report(torch.full((N, WIDTH), 3.0, dtype=torch.float64), rows(0))
    assert found.neighbour_ratio.high < 1
    assert found.mahalanobis_ratio.high < 0.5
    assert found.energy.low > found.energy_floor


def test_the_weighted_energy_is_the_plain_one_and_counts_a_weight_as_copies():
    x, y = rows(0, n=9), rows(1, mean=1, n=7)
    energy = _weighted_energy(_distances(x, y), len(x))
    assert energy(np.ones((1, 9)), np.ones((1, 7)))[0] == pytest.approx(float(energy_distance(x, y)))
    dropped = np.array([[1.0] * 6 + [0.0] * 3])
    assert energy(dropped, np.ones((1, 7)))[0] == pytest.approx(float(energy_distance(x[:6], y)))


def is_above_the_floor(moved: Tensor, target: Tensor, groups: list[int], target_groups: list[int], seed: int) -> bool:
    distances = _distances(moved, target)
    energy = _weighted_energy(distances, len(moved))(np.ones((1, len(moved))), np.ones((1, len(target))))[0]
    return bool(energy > _floor(distances, _exchanges(groups, target_groups, seed)))


def share_above_the_floor(
    n_groups: int, per_group: int, *, shift: float = 0.0, same_groups: bool = False, n_sets: int = 40
) -> float:
    """Of sets of one law but for the shift, whose rows are half what their group is if there are several in one."""
    found = []
    groups = [g for g in range(n_groups) for _ in range(per_group)]
    for seed in range(n_sets):
        moved, target = (
            rows(s, n=n_groups).repeat_interleave(per_group, dim=0) + (per_group > 1) * rows(9000 + s, n=len(groups))
            for s in (2 * seed, 2 * seed + 1)
        )
        others = groups if same_groups else [-1 - g for g in groups]
        found.append(is_above_the_floor(moved + shift, target, groups, others, seed))
    return float(np.mean(found))


@pytest.mark.parametrize("same_groups", [True, False])
@pytest.mark.parametrize(("n_groups", "per_group"), [(12, 15), (60, 1)])
def test_rows_of_one_law_are_seldom_above_the_floor_and_shifted_ones_always(n_groups, per_group, same_groups):
    # At a rate of 0.05, more than 6 of 40 come once in 300 times. Halves of rows in place of groups give 40 of 40.
    assert share_above_the_floor(n_groups, per_group, same_groups=same_groups) <= 6 / 40
    assert share_above_the_floor(n_groups, per_group, shift=1.5, same_groups=same_groups, n_sets=5) == 1.0


def test_the_floor_is_no_higher_than_it_must_be():
    # At a rate of 0.05, none of 100 comes once in 170 times. Halves of half the size give none of 100.
    assert 0.0 < share_above_the_floor(40, 1, n_sets=100) < 0.13


def test_the_floor_of_a_report_is_that_of_its_rows_and_groups():
    x, y, groups, others = rows(0), rows(1, mean=1), [i // 10 for i in range(N)], [i // 8 for i in range(N)]
    found = manifold_report(x, x, y, y, groups=groups, target_groups=others, seed=3)
    assert found.energy_floor == _floor(_distances(x, y), _exchanges(groups, others, 3))


def test_an_exchange_turns_shared_groups_and_deals_the_others_as_wholes():
    groups, others = ["a", "a", "b", "c", "c"], ["a", "a", "a", "d", "e", "e"]
    sides = _exchanges(groups, others, seed=0) == 1
    assert sides.shape == (201, 11)
    assert (sides[0] == (np.arange(11) < 5)).all()
    for rows_of_one in ([0, 1], [3, 4], [5, 6, 7], [9, 10]):
        assert (sides[:, rows_of_one] == sides[:, rows_of_one[:1]]).all()
    assert (sides[:, 0] != sides[:, 5]).all()
    assert 0.3 < sides[:, 0].mean() < 0.7
    alone = sides[:, [2, 3, 8, 9]]
    assert (alone.sum(axis=1) == 2).all()
    assert len(np.unique(alone, axis=0)) == 6


def test_five_shared_groups_are_too_few_to_be_above_the_floor():
    x, y = rows(0, n=20), rows(1, n=20, mean=5)
    groups = [i // 4 for i in range(20)]
    found = manifold_report(x, x, y, y, groups=groups, target_groups=groups, seed=0)
    assert found.energy.value <= found.energy_floor


def test_the_weighted_median_is_numpy_s():
    values = np.random.default_rng(0).normal(size=11)
    for weights in (np.ones(11), np.ones(11) - np.eye(11)[3], np.arange(11.0)):
        assert _median(values, weights[None])[0] == pytest.approx(np.median(np.repeat(values, weights.astype(int))))


def test_a_report_prints_every_number_with_its_reference():
    text = str(report(rows(0) + 3, rows(0)))
    assert "floor" in text
    assert "120 in 120 groups" in text


def test_what_cannot_be_compared_is_refused():
    x = rows(0)
    with pytest.raises(EstimateError, match="Every row needs a group"):
        manifold_report(x, x, x, x, groups=range(3), target_groups=range(N), seed=0)
    with pytest.raises(EstimateError, match="at least 5 clusters"):
        manifold_report(x, x, x, x, groups=[0] * N, target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="more than 5 reference rows"):
        manifold_report(x, x, x, x[:5], groups=range(N), target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="all are equal"):
        manifold_report(x, x, x, torch.ones_like(x), groups=range(N), target_groups=range(N), seed=0)
    with pytest.raises(FitError, match="finite"):
        manifold_report(x * torch.nan, x, x, x, groups=range(N), target_groups=range(N), seed=0)

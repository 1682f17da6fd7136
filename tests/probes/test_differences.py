"""Differences of pairs: held-out separation, and modes."""

import itertools

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy import stats
from scipy.optimize import linprog
from torch import Tensor

from steerlens.concepts import planted
from steerlens.errors import ActivationError, EstimateError, FitError, OptionError
from steerlens.probes import d_prime
from steerlens.probes._differences import difference_report
from steerlens.probes._dip import dip, dip_test, intraclass_correlation
from steerlens.probes._groups import group_blocks, group_halves
from steerlens.probes._jackknife import half_samples, half_samples_share, jackknife

N, WIDTH = 120, 12
GROUPS = [i // 2 for i in range(N)]
V = torch.eye(WIDTH, dtype=torch.float64)[0]

STATISTICS_FACULTY = (
    [30, 33, 35, 36, 37, 37] + 5 * [39] + 4 * [40] + [41, 42, 43, 43, 43, 44, 44, 45, 45, 46, 46, 47, 47]
    + [48, 48, 48, 49, 50, 50, 51, 52, 52] + 5 * [53] + [54, 54, 57, 57, 59, 60, 60, 60] + 4 * [61] + 4 * [62]
    + [63, 66, 70, 72, 72]
)  # fmt: skip


def noise(n: int, seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def report(shift: float, seed: int = 0, n: int = N, width: int = WIDTH, **options):
    axis = torch.eye(width, dtype=torch.float64)[0]
    positive, negative = noise(n, 2 * seed, width) + shift * axis, noise(n, 2 * seed + 1, width)
    return difference_report(positive, negative, [i // 2 for i in range(n)], **{"seed": 0, "n_samples": 50, **options})


def test_held_out_separation_is_what_the_shift_makes_it():
    """d′ of two unit normals is their distance, AUROC Φ(d′/√2) and overlap 2 Φ(−d′/2)."""
    found = report(2.0, n=1000)
    assert found.d_prime.low < 2 < found.d_prime.high
    assert found.auroc.low < stats.norm.cdf(2**0.5) < found.auroc.high
    assert found.overlap.low < 2 * stats.norm.cdf(-1) < found.overlap.high
    assert found.d_prime.high - found.d_prime.low < 0.5


@pytest.mark.parametrize(("groups", "size"), [(10, 1), (10, 20), (40, 20)])
def test_what_groups_differ_by_counts_however_few_they_are(groups: int, size: int):
    """Offsets of groups with ten times the spread of the shift: d′ = 1/√101 = 0.1, AUROC 0.53."""
    found = []
    for seed in range(6):
        codes = np.repeat(np.arange(groups), size)
        offsets = 10 * noise(groups, seed + 50)[codes]
        positive, negative = offsets + noise(len(codes), 2 * seed) + V, offsets + noise(len(codes), 2 * seed + 1)
        found.append(difference_report(positive, negative, codes.tolist(), seed=0, n_samples=2))
    assert np.median([f.d_prime.value for f in found]) < 0.4
    assert np.median([f.auroc.value for f in found]) < 0.65
    assert max(f.d_prime.high for f in found) < 5


def test_noise_does_not_separate_where_the_plug_in_says_that_it_does():
    """In 300 dimensions the mean difference of 60 pairs of noise separates them by two standard deviations."""
    positive, negative = noise(60, 0, 300), noise(60, 1, 300)
    found = difference_report(positive, negative, range(60), seed=0, n_samples=10)
    assert d_prime(positive, negative) > 2
    assert not found.d_prime.excludes(0.0)
    assert not found.auroc.excludes(0.5)
    assert not found.opposed.excludes(0.5)
    assert not found.alignment.excludes(0.0)
    assert found.coherence.low > 0.1, "as published: every difference is part of the mean"


def test_the_binned_overlap_is_too_small_and_its_null_says_by_how_much():
    found = report(0.0, n=60)
    assert found.binned_overlap < 0.75
    assert found.binned_overlap == pytest.approx(found.binned_overlap_null, abs=0.15)
    assert found.overlap.low < 1 < found.overlap.high


def test_a_mixture_of_directions_has_two_modes_and_one_direction_has_one():
    signs = torch.where(torch.arange(N) % 10 < 7, 1.0, -1.0).double()[:, None]
    mixed = difference_report(noise(N, 0) + 4 * signs * V, noise(N, 1), range(N), seed=0)
    assert mixed.bimodality.p_value < 0.05
    assert mixed.opposed.low < 0.3 < mixed.opposed.high
    assert mixed.cosines[0] < -0.4 < 0.4 < mixed.cosines[-1]
    assert report(4.0, n_samples=200).bimodality.p_value > 0.05


@pytest.mark.parametrize(("name", "two"), [("linear", False), ("cone", False), ("ctx", True), ("xor2", True)])
def test_planted_differences_have_the_modes_that_were_planted(name: str, two: bool):
    rows = planted(name).sample(200, seed=0)
    found = difference_report(rows.target, rows.source, [i // 2 for i in range(200)], seed=0)
    assert (found.bimodality.p_value < 0.01) is two


def test_the_dip_is_that_of_hartigan_s_example():
    """The ages of the statistics faculty, whose dip R's diptest gives as 0.0592593."""
    assert dip(np.array(STATISTICS_FACULTY)) == pytest.approx(0.0592593, rel=0.01)


def test_the_dip_is_at_most_a_quarter_and_at_least_half_a_row():
    two = np.r_[np.linspace(0, 1e-3, 50), np.linspace(1, 1 + 1e-3, 50)]
    assert dip(two) == pytest.approx(0.25, rel=0.01)
    assert dip(np.arange(40.0)) == pytest.approx(1 / 80)


def exact_dip(x: np.ndarray) -> float:
    """The definition as linear programmes, one for each place of the mode: the least sup |F − U|."""
    x = np.sort(x)
    n, best = len(x), 1.0
    step = np.diff(x)
    for mode in range(n):
        left, right = lambda i, m=mode: i if i <= m else i + 1, lambda i, m=mode: i if i < m else i + 1
        rows, limits = [], []

        def add(terms: list[tuple[int, float]], limit: float, rows=rows, limits=limits) -> None:
            row = np.zeros(n + 2)
            for place, weight in terms:
                row[place] += weight
            rows.append(row)
            limits.append(limit)

        for i in range(n):
            for place, value in ((left(i), i / n), (right(i), (i + 1) / n)):
                add([(place, 1), (n + 1, -1)], value)
                add([(place, -1), (n + 1, -1)], -value)
        for i in range(1, mode):
            add(
                [
                    (left(i), 1 / step[i - 1] + 1 / step[i]),
                    (left(i - 1), -1 / step[i - 1]),
                    (left(i + 1), -1 / step[i]),
                ],
                0,
            )
        for i in range(mode + 1, n - 1):
            add(
                [
                    (right(i), -1 / step[i - 1] - 1 / step[i]),
                    (right(i - 1), 1 / step[i - 1]),
                    (right(i + 1), 1 / step[i]),
                ],
                0,
            )
        order = [*(left(i) for i in range(mode + 1)), *(right(i) for i in range(mode, n))]
        for a, b in itertools.pairwise(order):
            add([(a, 1), (b, -1)], 0)
        found = linprog(np.eye(n + 2)[n + 1], A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * (n + 2))
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize("gap", [0.0, 2.0, 4.0])
def test_half_the_excess_mass_is_the_dip_by_its_definition(gap: float):
    rng = np.random.default_rng(int(gap))
    x = rng.normal(size=16) + gap * rng.integers(0, 2, size=16)
    assert dip(x) == pytest.approx(exact_dip(x), rel=0.015)
    assert dip(x) <= exact_dip(x) + 1e-9


def test_dips_of_many_samples_are_those_of_each():
    x = np.random.default_rng(0).normal(size=(7, 30))
    assert dip(x) == pytest.approx([float(dip(row)) for row in x])
    assert dip(10 * x - 3) == pytest.approx(dip(x))


def test_values_that_do_not_vary_have_one_mode():
    found = dip_test(np.full(20, 3.0), range(20), seed=0)
    assert found.p_value == 1.0
    assert found.dip == 1 / 40


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_the_dip_test_keeps_its_level_for_bells_and_hartigan_s_never_rejects(size: int):
    codes = np.arange(60) // size
    found = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x = np.sqrt(0.5) * rng.normal(size=60)[codes] + np.sqrt(0.5) * rng.normal(size=60)
        found.append(dip_test(x, codes.tolist(), seed=seed, n_samples=99))
    share = np.mean([f.p_value <= 0.05 for f in found])
    assert share <= 0.11, "three standard errors above 0.05"
    assert np.mean([f.p_value <= 0.2 for f in found]) > 0.08, "and it is not idle"
    assert np.mean([f.p_uniform <= 0.05 for f in found]) <= 0.01


def test_copies_in_a_group_are_one_value_to_the_dip_test():
    """Twelve values, ten copies of each: two modes by count of rows, nothing by count of groups."""
    codes = np.arange(120) // 10
    x = np.random.default_rng(1).normal(size=12)[codes] + 1e-3 * np.random.default_rng(0).normal(size=120)
    assert dip_test(x, range(120), seed=0).p_value < 0.05
    assert dip_test(x, codes.tolist(), seed=0).p_value > 0.05


def test_intraclass_correlation_is_the_share_between_groups():
    rng = np.random.default_rng(0)
    codes = np.arange(4000) // 4
    x = np.sqrt(0.3) * rng.normal(size=1000)[codes] + np.sqrt(0.7) * rng.normal(size=4000)
    assert intraclass_correlation(x, codes) == pytest.approx(0.3, abs=0.04)
    assert intraclass_correlation(x[:1000], np.arange(1000)) == 0.0


def test_half_samples_of_a_mean_have_its_standard_error_in_expectation():
    """(x̄₁ − x̄₂)²/4 over random halves has the mean s²/n; 20 splits are within a few percent over many sets."""
    codes, ratios = np.arange(60) // 2, []
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=60)
        halves = np.array([x[half].mean() for half in group_halves(codes, seed)])
        found = half_samples(x.mean(), halves, codes)
        of_groups = x.reshape(-1, 2).mean(axis=1)
        expected = stats.t.ppf(0.975, 29) * of_groups.std(ddof=1) / 30**0.5
        ratios.append((found.high - found.value) ** 2 / expected**2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)


def test_halves_hold_whole_groups_and_all_of_them_between_two():
    codes = np.arange(33) // 3
    halves = group_halves(codes, 0)
    assert (halves[0::2] ^ halves[1::2]).all()
    assert halves.sum(axis=1).min() == 15
    assert all(len(set(half[codes == g])) == 1 for half in halves for g in range(11))
    assert len({tuple(h) for h in halves}) > 35


def test_what_jumps_is_not_multiplied_by_halves():
    """The sign of a mean near zero: the jackknife of its jumps is several times as wide as the spread over sets."""
    values, by_blocks, by_halves, codes = [], [], [], np.arange(60)
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=60)
        blocks = group_blocks(codes)
        values.append(np.sign(x.mean()))
        left_out = np.array([np.sign(x[blocks != b].mean()) for b in range(20)])
        by_blocks.append((jackknife(0.0, left_out, codes).high / stats.t.ppf(0.975, 19)) ** 2)
        halves = np.array([np.sign(x[half].mean()) for half in group_halves(codes, seed)])
        by_halves.append((half_samples(0.0, halves, codes).high / stats.t.ppf(0.975, 59)) ** 2)
    assert np.sqrt(np.mean(by_blocks)) > 1.5 * np.std(values)
    assert np.sqrt(np.mean(by_halves)) < 1.1 * np.std(values)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=20)
    codes = np.arange(20)
    blocks = group_blocks(codes)
    left_out = np.array([x[blocks != b].mean() for b in range(20)])
    found = jackknife(x.mean(), left_out, codes)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 19) * x.std(ddof=1) / 20**0.5)
    assert jackknife(x.mean(), left_out, codes, within=(0.0, 1.0)).low >= 0


def test_a_share_that_was_never_seen_still_has_an_interval():
    found = half_samples_share(0.0, np.zeros(40), np.arange(60), of=60)
    assert found.low == 0
    assert found.high == pytest.approx(0.0626, abs=0.0002), "t²/(n + t²) with t of 59 degrees of freedom"


def test_groups_are_held_out_together():
    """Copies within a group would lend their direction to each other."""
    copies = [noise(10, s, 200).repeat_interleave(6, dim=0) for s in (0, 1)]
    honest = difference_report(*copies, [i // 6 for i in range(60)], seed=0, n_samples=10)
    naive = difference_report(*copies, range(60), seed=0, n_samples=10)
    assert naive.alignment.low > 0.1
    assert not honest.alignment.excludes(0.0)


def test_seeds_decide_everything_and_nothing_is_changed():
    positive, negative = noise(N, 0) + V, noise(N, 1)
    kept, state = positive.clone(), torch.get_rng_state()
    first = difference_report(positive, negative, GROUPS, seed=3, n_samples=20)
    assert first == difference_report(positive, negative, GROUPS, seed=3, n_samples=20)
    assert first != difference_report(positive, negative, GROUPS, seed=4, n_samples=20)
    assert torch.equal(positive, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_turning_and_scaling_change_nothing():
    Q = torch.linalg.qr(noise(WIDTH, 9)).Q
    positive, negative = noise(N, 0) + V, noise(N, 1)
    a = difference_report(positive, negative, GROUPS, seed=0, n_samples=20)
    b = difference_report(3 * positive @ Q, 3 * negative @ Q, GROUPS, seed=0, n_samples=20)
    for name in ("alignment", "d_prime", "auroc", "overlap"):
        assert getattr(b, name).value == pytest.approx(getattr(a, name).value)
        assert getattr(b, name).low == pytest.approx(getattr(a, name).low)


def test_the_page_has_every_number_beside_that_of_noise():
    text = str(report(1.0))
    for word in ("coherence", "noise 0.13", "alignment", "opposed", "d'", "AUROC", "overlap", "dip", "one mode below"):
        assert word in text


def test_what_cannot_be_measured_is_refused():
    with pytest.raises((ActivationError, TypeCheckError), match=r"\(119, 12\)|pair=120"):
        difference_report(noise(N, 0), noise(N - 1, 1), GROUPS, seed=0)
    with pytest.raises(ActivationError, match="1 of 120"):
        difference_report(noise(N, 0).index_fill(0, torch.tensor([3]), torch.nan), noise(N, 1), GROUPS, seed=0)
    with pytest.raises(OptionError, match="120 rows needs a group, but got 60"):
        difference_report(noise(N, 0), noise(N, 1), GROUPS[:60], seed=0)
    with pytest.raises(EstimateError, match="at least 5 groups, but got 4"):
        difference_report(noise(N, 0), noise(N, 1), [i % 4 for i in range(N)], seed=0)
    with pytest.raises(FitError, match="same mean"):
        difference_report(noise(N, 0), noise(N, 0), GROUPS, seed=0)

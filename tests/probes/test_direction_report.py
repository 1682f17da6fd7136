"""The reliability report on planted pairs: one direction, a mixture of two, and noise."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import ActivationError, EstimateError, FitError, OptionError
from steerlens.probes import DirectionReport, coherence, direction_report, split_half_cosine

WIDTH = 20
N = 120
GROUPS = [i // 2 for i in range(N)]
V = torch.eye(WIDTH, dtype=torch.float64)[0]


def noise(n: int, seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def report(d: Tensor, groups=GROUPS, **options) -> DirectionReport:
    negative = 5 * noise(len(d), 99, d.shape[1])
    return direction_report(negative + d, negative, groups, **{"seed": 0, "n_resamples": 500, **options})


def mixture(share: float = 0.7, n: int = N, spread: float = 0.1) -> Tensor:
    """+v for a share of the groups, −v for the others."""
    signs = torch.where(torch.arange(n) // 2 % 10 < round(10 * share), 1.0, -1.0).double()
    return signs[:, None] * V + spread * noise(n, 1)


ONE = V + 0.1 * noise(N, 0)
NOISE = noise(N, 2)


def test_one_direction_is_stable_and_coherent():
    found = report(ONE)
    assert found.reading == "one direction"
    assert found.split_half > 0.99
    assert found.coherence.low > 0.8
    assert found.opposed.value == 0
    assert found.p_value < 0.01
    assert found.stability.low > 0.98
    assert found.norm.low < 1 < found.norm.high


def test_a_mixture_is_stable_and_not_coherent():
    found = report(mixture())
    assert found.reading == "stable vector, mixed behaviour"
    assert found.split_half > 0.8
    assert found.coherence.high < 0.6
    assert found.opposed.low < 0.3 < found.opposed.high
    assert found.bimodality is not None
    assert found.bimodality.low > 5 / 9
    assert found.norm.low < 0.4 < found.norm.high


def test_noise_is_neither():
    found = report(NOISE)
    assert found.reading == "no stable direction"
    assert found.split_half < 0.5
    assert found.coherence.high < 0.3
    assert 0.3 < found.opposed.value < 0.7
    assert found.p_value > 0.05
    assert found.squared_norm < found.null_squared_norm
    assert found.norm.low == 0
    assert found.norm.high < 0.3


def test_noise_opposes_itself_in_half_of_the_pairs_and_resamples_to_a_cosine_of_0_71():
    found = [report(noise(40, s, 400), range(40), n_resamples=100) for s in range(8)]
    assert sum(f.opposed.value for f in found) / 8 == pytest.approx(0.5, abs=0.06)
    assert sum(f.stability.value for f in found) / 8 == pytest.approx(1 / math.sqrt(2), abs=0.03)


def test_much_noise_on_one_direction_is_mixed_with_one_mode():
    found = report(V + 0.7 * noise(N, 3))
    assert found.reading == "stable vector, mixed behaviour"
    assert found.bimodality is not None
    assert found.bimodality.high < 5 / 9


def test_the_squared_norm_is_the_plug_in_without_its_noise():
    """|d̄|² − tr(S)/n for pairs that are groups of their own."""
    d = V / 4 + NOISE
    found = report(d, groups=range(N))
    plug_in = d.mean(0).square().sum()
    expected = plug_in - d.var(dim=0).sum() / N
    assert found.squared_norm == pytest.approx(float(expected), rel=1e-9)
    assert float(plug_in) > 2 * 1 / 16


@pytest.mark.slow
def test_the_squared_norm_is_right_on_average_where_the_plug_in_is_not():
    values = [report(V / 4 + noise(20, s), groups=range(20), n_resamples=10).squared_norm for s in range(60)]
    plug_in = [float((V / 4 + noise(20, s)).mean(0).square().sum()) for s in range(60)]
    error = torch.tensor(values).std() / 60**0.5
    assert abs(torch.tensor(values).mean() - 1 / 16) < 3 * error
    assert torch.tensor(plug_in).mean() - 1 / 16 > 10 * error


def test_pairs_of_a_group_share_their_noise_and_do_not_count_as_evidence():
    """Ten groups of twelve copies: many pairs, ten observations."""
    groups = [i // 12 for i in range(N)]
    copies = noise(10, 5).repeat_interleave(12, dim=0)
    assert report(copies, groups).p_value > 0.05
    assert report(copies, groups).squared_norm == pytest.approx(report(noise(10, 5), range(10)).squared_norm)
    assert report(copies, range(N)).p_value < 0.01, "as if they were independent"


@pytest.mark.slow
def test_p_values_of_noise_are_uniform_and_the_interval_of_the_norm_covers():
    p = [report(noise(24, s), [i // 2 for i in range(24)], n_resamples=60).p_value for s in range(60)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    covered = 0
    for s in range(60):
        norm = report(V + noise(40, s), range(40), n_resamples=200).norm
        covered += norm.low <= 1 <= norm.high
    assert covered >= 52


def test_many_dimensions_do_not_lengthen_the_norm():
    """In 2000 dimensions noise makes the plain norm five times too long, and its bootstrap longer still."""
    d = torch.zeros(80, 2000, dtype=torch.float64)
    d[:, 0] = 1
    d = d + noise(80, 0, 2000)
    found = report(d, range(80))
    assert d.mean(0).norm() > 4
    assert found.norm.low < 1 < found.norm.high
    assert found.norm.high < 2


def test_halves_are_halves_of_the_groups():
    assert report(ONE, range(N)).split_half == pytest.approx(split_half_cosine(ONE, seed=0))
    assert report(ONE).coherence.low == pytest.approx(coherence(ONE, GROUPS, seed=0).low)
    copies = noise(10, 5).repeat_interleave(12, dim=0)
    assert split_half_cosine(copies, seed=0) > 0.8, "copies in both halves agree with themselves"
    assert report(copies, [i // 12 for i in range(N)]).split_half < 0.5


def test_bimodality_is_sarle_s_coefficient():
    found = report(mixture(spread=0.5))
    d = mixture(spread=0.5)
    p = (d @ d.mean(0)).numpy()
    assert found.bimodality is not None
    assert found.bimodality.value == pytest.approx((stats.skew(p) ** 2 + 1) / stats.kurtosis(p, fisher=False))
    normal = report(V[:2] + 0.1 * noise(600, 0, 2), range(600), n_resamples=20).bimodality
    assert normal is not None
    assert normal.value == pytest.approx(1 / 3, abs=0.05)


def test_two_points_are_as_bimodal_as_can_be_and_one_point_is_nothing():
    two = report(mixture(spread=0.0))
    assert two.bimodality is not None
    assert two.bimodality.value == pytest.approx(1)
    one = report(V.expand(N, WIDTH).clone())
    assert one.bimodality is None
    assert "do not vary" in str(one)


def test_seeds_decide_everything_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    assert report(mixture()) == report(mixture())
    assert report(mixture(), seed=1) != report(mixture())
    assert torch.equal(torch.get_rng_state(), before)


def test_scale_and_rotation_change_lengths_alone():
    Q = torch.linalg.qr(noise(WIDTH, 0)).Q
    negative = noise(N, 4)
    a = direction_report(negative + ONE, negative, GROUPS, seed=0, n_resamples=100)
    b = direction_report(10 * (negative + ONE) @ Q, 10 * negative @ Q, GROUPS, seed=0, n_resamples=100)
    assert b.norm.value == pytest.approx(10 * a.norm.value)
    assert b.p_value == a.p_value
    for name in ("split_half", "squared_norm"):
        factor = 100 if name == "squared_norm" else 1
        assert getattr(b, name) == pytest.approx(factor * getattr(a, name))
    assert_close(torch.tensor(b.coherence.value), torch.tensor(a.coherence.value))


def test_the_page_says_what_was_found_and_what_noise_would_give():
    text = str(report(mixture()))
    assert text.startswith("stable vector, mixed behaviour (120 pairs in 60 groups)")
    for word in (
        "split-half cosine",
        "coherence",
        "opposed pairs",
        "bimodality",
        "norm",
        "resampled cosine",
        "noise 0.71",
    ):
        assert word in text


def test_what_cannot_be_measured_is_refused():
    # Under jaxtyping's import hook the annotation refuses them first.
    with pytest.raises((ActivationError, TypeCheckError), match=r"\(119, 20\)|pair=120"):
        direction_report(ONE, NOISE[:-1].clone(), GROUPS, seed=0)
    with pytest.raises(ActivationError, match="1 of 120 pairs are not finite"):
        report(ONE.index_fill(0, torch.tensor([3]), torch.nan))
    with pytest.raises(OptionError, match="Each of the 120 pairs needs a group, but got 60"):
        report(ONE, GROUPS[:60])
    with pytest.raises(EstimateError, match="at least 5 clusters"):
        report(ONE[:8], GROUPS[:8])
    with pytest.raises(FitError, match="same mean"):
        report(torch.zeros(N, WIDTH, dtype=torch.float64))
    with pytest.raises(EstimateError):
        report(ONE[:0], [])

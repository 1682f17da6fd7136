"""Each estimator against its formula or another implementation, beside the data on which it is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import trim_mean
from sklearn.covariance import oas
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import (
    DirectionEstimator,
    LinearDiscriminant,
    LogisticDirection,
    MassMean,
    MeanCentred,
    MeanDifference,
    MedianOfMeans,
    PairDifferencePC,
    PairMidpointPC,
    RandomPairPC,
    TrimmedMean,
)
from steerlens.numerics import unit
from steerlens.testing import gaussian_samples

BACKGROUND = gaussian_samples(seed=7).source
NO_BACKGROUND: tuple[DirectionEstimator, ...] = (
    MeanDifference(), PairDifferencePC(), PairMidpointPC(), RandomPairPC(), LogisticDirection(),
    LinearDiscriminant(), MassMean(), TrimmedMean(), MedianOfMeans(),
)  # fmt: skip
ALL = (*NO_BACKGROUND, MeanCentred(BACKGROUND))
OF_PAIRS = [e for e in ALL if e.needs == "pairs"]


def name(estimator: DirectionEstimator) -> str:
    return type(estimator).__name__


def noise(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def axis(i: int, d: int) -> Tensor:
    return torch.eye(d, dtype=torch.float64)[i]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(unit(a) @ unit(b))


def up_to_sign(v: np.ndarray, like: Tensor) -> Tensor:
    expected = unit(torch.tensor(v, dtype=torch.float64))
    return expected if expected @ like > 0 else -expected


def stacked(source: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return torch.cat([source, target]).numpy(), np.repeat([0, 1], [len(source), len(target)])


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_it_is_a_unit_vector_in_float64_and_the_same_each_time(estimator: DirectionEstimator):
    assert isinstance(estimator, DirectionEstimator)
    samples = gaussian_samples()
    v = estimator.direction(*[x.float() for x in samples])
    assert v.dtype == torch.float64
    assert v.norm().item() == pytest.approx(1)
    assert torch.equal(v, estimator.direction(*[x.float() for x in samples]))


@pytest.mark.parametrize("estimator", NO_BACKGROUND, ids=name)
def test_it_points_from_source_to_target(estimator: DirectionEstimator):
    for seed in range(5):
        source, target = gaussian_samples(seed=seed)
        delta = target.mean(0) - source.mean(0)
        assert estimator.direction(source, target) @ delta > 0
        if not isinstance(estimator, RandomPairPC):  # whose random pairs are others
            assert_close(estimator.direction(target, source), -estimator.direction(source, target), atol=1e-5, rtol=0)


# Of one's own: TrimmedMean works on coordinates, and the background does not turn with the samples.
TURNING = [e for e in NO_BACKGROUND if not isinstance(e, TrimmedMean)]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_directions_turn_with_the_data(seed: int):
    source, target = gaussian_samples(seed=seed)
    Q = torch.linalg.qr(noise(12, 12, seed)).Q
    for estimator in TURNING:
        turned = estimator.direction(source @ Q, target @ Q)
        # A solver's tolerance for logistic regression; Weiszfeld's and a spectral gap's for the others.
        assert_close(turned, estimator.direction(source, target) @ Q, atol=1e-4, rtol=0)
    turned = MeanCentred(BACKGROUND @ Q).direction(source @ Q, target @ Q)
    assert_close(turned, MeanCentred(BACKGROUND).direction(source, target) @ Q)


def test_the_trimmed_mean_does_not_turn_with_the_data():
    source, target = gaussian_samples()
    Q = torch.linalg.qr(noise(12, 12, 0)).Q
    turned = TrimmedMean().direction(source @ Q, target @ Q)
    assert (turned - TrimmedMean().direction(source, target) @ Q).norm() > 1e-3


def test_the_mean_difference_is_nearest_to_the_pairs_and_blind_to_the_pairing():
    source, target = gaussian_samples()
    d, delta = target - source, target.mean(0) - source.mean(0)
    v = MeanDifference().direction(source, target)
    assert_close(v, delta / delta.norm())
    assert_close(MeanDifference().direction(source, target.flip(0)), v)
    least = (d - delta).square().sum(1).mean()
    for other in (0.9 * delta, delta + 0.1 * axis(3, 12), delta.norm() * PairMidpointPC().direction(source, target)):
        assert (d - other).square().sum(1).mean() > least


def test_a_centred_component_can_be_orthogonal_to_the_mean_difference_and_an_uncentred_one_keeps_it():
    """All pairs move by 3 e₀; half of them by +e₁ besides, half by −e₁."""
    source = noise(40, 4, 0)
    wobble = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(20)[:, None] * axis(1, 4)
    target = source + 3 * axis(0, 4) + wobble
    assert abs(cosine(PairDifferencePC().direction(source, target), axis(0, 4))) < 1e-9
    assert cosine(PairMidpointPC().direction(source, target), axis(0, 4)) > 1 - 1e-9
    assert cosine(MeanDifference().direction(source, target), axis(0, 4)) > 1 - 1e-9


def test_an_uncentred_component_is_lost_where_pairs_vary_more_than_they_agree():
    source = noise(40, 4, 0)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(20)[:, None]

    def kept(variation: float) -> float:
        found = PairMidpointPC().direction(source, source + 3 * axis(0, 4) + variation * signs * axis(1, 4))
        return abs(cosine(found, axis(0, 4)))

    assert kept(2.9) > 1 - 1e-9
    assert kept(3.1) < 1e-9


@pytest.mark.parametrize("rows", [80, 7], ids=["more rows", "more dimensions"])
def test_components_are_those_of_scikit_learn(rows: int):
    source, target = (x[:rows] for x in gaussian_samples())
    d = (target - source).numpy()
    centred = PairDifferencePC().direction(source, target)
    assert_close(centred, up_to_sign(PCA(1).fit(d).components_[0], centred), atol=1e-8, rtol=0)
    about_midpoints = PairMidpointPC().direction(source, target)
    expected = PCA(1).fit(np.concatenate([d / 2, -d / 2])).components_[0]
    assert_close(about_midpoints, up_to_sign(expected, about_midpoints), atol=1e-8, rtol=0)
    assert abs(cosine(centred, about_midpoints)) < 0.999


def test_a_component_across_the_mean_difference_has_the_sign_of_most_pairs():
    """Along e₁ three pairs go −1 and one +3: no mean, but a majority."""
    source = torch.zeros(4, 3, dtype=torch.float64)
    along = torch.tensor([-1.0, -1.0, -1.0, 3.0], dtype=torch.float64)
    target = 0.5 * axis(0, 3) + along[:, None] * axis(1, 3)
    assert_close(PairDifferencePC().direction(source, target), -axis(1, 3))
    assert_close(PairDifferencePC().direction(source, 0.5 * axis(0, 3) - along[:, None] * axis(1, 3)), axis(1, 3))


def test_a_component_that_no_pair_decides_has_a_positive_largest_coordinate():
    source = torch.zeros(2, 3, dtype=torch.float64)
    target = torch.tensor([[0.5, -2.0, 1.0], [0.5, 2.0, -1.0]], dtype=torch.float64)
    assert PairDifferencePC().direction(source, target)[1] > 0.8


def test_random_pairs_find_the_largest_variance_and_not_the_concept():
    def found(concept: float) -> float:
        spread = torch.tensor([1.0, 6.0, 1.0, 1.0], dtype=torch.float64)
        source, target = spread * noise(400, 4, 0), spread * noise(400, 4, 1) + concept * axis(0, 4)
        return cosine(RandomPairPC().direction(source, target), axis(0, 4))

    assert found(2.0) < 0.5
    assert found(60.0) > 0.95, "it is the concept where the concept varies most"


def test_random_pairs_are_unit_differences_of_a_seeded_matching():
    source, target = gaussian_samples(n=20)
    rows = torch.cat([source, target])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    d = torch.stack([unit(rows[a] - rows[b]) for a, b in zip(order[:20], order[20:], strict=True)])
    top = torch.linalg.eigh(d.T @ d).eigenvectors[:, -1]
    v = RandomPairPC(seed=3).direction(source, target)
    assert abs(cosine(v, top)) == pytest.approx(1)
    assert abs(cosine(RandomPairPC(seed=4).direction(source, target), v)) < 0.9999


def test_the_logistic_direction_is_that_of_scikit_learn_with_the_penalty_it_says():
    source, target = gaussian_samples()
    x, y = stacked(10 * source, 10 * target[:50])
    scaled = (x - x.mean(0)) / np.sqrt(np.square(x - x.mean(0)).mean())
    expected = unit(torch.tensor(LogisticRegression(C=0.3, tol=1e-10, solver="newton-cg").fit(scaled, y).coef_[0]))
    ours = LogisticDirection(inverse_penalty=0.3)
    assert_close(ours.direction(10 * source, 10 * target[:50]), expected, atol=1e-4, rtol=0)
    assert_close(ours.direction(source, target[:50]), expected, atol=1e-4, rtol=0)
    assert cosine(LogisticDirection(1e4).direction(source, target[:50]), expected) < 0.999


def test_logistic_weights_exist_for_separable_classes():
    source, target = noise(30, 4, 0), noise(30, 4, 1) + 100 * axis(0, 4)
    assert cosine(LogisticDirection().direction(source, target), axis(0, 4)) > 0.99


def test_the_discriminant_is_that_of_scikit_learn_with_and_without_shrinkage():
    source, target = gaussian_samples(n=300)
    target = target[:120]
    x, y = stacked(source, target)
    lda = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y).coef_[0]
    expected = unit(torch.tensor(lda))
    assert_close(LinearDiscriminant(shrinkage=0.0).direction(source, target), expected, atol=1e-8, rtol=0)
    residuals = np.concatenate([source - source.mean(0), target - target.mean(0)])
    shrunk = np.linalg.solve(oas(residuals, assume_centered=True)[0], (target.mean(0) - source.mean(0)).numpy())
    expected = unit(torch.tensor(shrunk))
    assert_close(LinearDiscriminant().direction(source, target), expected, atol=1e-8, rtol=0)
    assert_close(
        LinearDiscriminant(shrinkage=1.0).direction(source, target), MeanDifference().direction(source, target)
    )
    assert cosine(expected, MeanDifference().direction(source, target)) < 0.9


def test_within_class_and_total_covariance_give_one_discriminant():
    source, target = gaussian_samples(n=300)
    x = torch.cat([source, target[:120]])
    delta = target[:120].mean(0) - source.mean(0)
    total = unit(torch.linalg.solve(torch.cov(x.T), delta))
    assert_close(LinearDiscriminant(shrinkage=0.0).direction(source, target[:120]), total, atol=1e-8, rtol=0)


def test_the_mass_mean_reads_better_and_writes_worse_than_the_mean_difference():
    """The classes differ along e₀ and e₁, and e₁ has large spread: reading discounts it, writing must not."""
    spread = torch.tensor([0.5, 8.0, 1.0], dtype=torch.float64)
    delta = axis(0, 3) + 4 * axis(1, 3)
    source, target = spread * noise(2000, 3, 0), spread * noise(2000, 3, 1) + delta
    read, write = MassMean().direction(source, target), MeanDifference().direction(source, target)

    def separation(v: Tensor) -> float:
        return float((target @ v).mean() - (source @ v).mean()) / float((source @ v).std())

    def left(v: Tensor) -> float:
        moved = source.mean(0) + delta.norm() * v
        return float((moved - target.mean(0)).norm() / delta.norm())

    assert separation(read) > 2 * separation(write)
    assert left(write) < 0.2
    assert left(read) > 0.8


def test_the_mass_mean_is_the_pseudo_inverse_and_drops_what_lies_outside_the_spread():
    source, target = gaussian_samples(n=5, width=12)
    residuals = torch.cat([source - source.mean(0), target - target.mean(0)])
    pinv = torch.linalg.pinv(residuals.T @ residuals, rtol=1e-10, hermitian=True)
    expected = unit(pinv @ (target.mean(0) - source.mean(0)))
    v = MassMean().direction(source, target)
    assert_close(v, expected, atol=1e-8, rtol=0)
    outside = torch.linalg.svd(residuals).Vh[8:]
    assert (outside @ v).norm() < 1e-8
    assert (outside @ MeanDifference().direction(source, target)).norm() > 0.1


def test_from_the_background_is_not_from_the_source():
    source, target = gaussian_samples()
    v = MeanCentred(BACKGROUND).direction(source, target)
    assert_close(v, unit(target.mean(0) - BACKGROUND.mean(0)))
    assert_close(MeanCentred(BACKGROUND.mean(0)).direction(source, target), v)
    assert_close(MeanCentred(BACKGROUND).direction(source - 5.0, target), v)
    assert_close(MeanCentred(source).direction(source, target), MeanDifference().direction(source, target))
    assert cosine(v, MeanDifference().direction(source, target)) < 0.99
    beyond = MeanCentred(2 * target.mean(0) - source.mean(0))
    assert beyond.direction(source, target) @ MeanDifference().direction(source, target) < 0, "its sign is its own"


def test_two_backgrounds_have_two_names():
    assert repr(MeanCentred(BACKGROUND)) == repr(MeanCentred(BACKGROUND.clone()))
    assert repr(MeanCentred(BACKGROUND)) != repr(MeanCentred(BACKGROUND + 1))


def test_the_trimmed_mean_is_that_of_scipy():
    source, target = gaussian_samples(n=33)
    expected = unit(torch.tensor(trim_mean((target - source).numpy(), 0.2)))
    assert_close(TrimmedMean(share=0.2).direction(source, target), expected)
    assert_close(TrimmedMean(share=0.0).direction(source, target), MeanDifference().direction(source, target))


def test_the_trimmed_mean_deletes_a_minority_mode():
    """Nine in ten pairs move along e₀, one in ten along 9 e₁: the mean has both alike, and the trimmed mean one."""
    source = noise(200, 4, 0)
    minority = (torch.arange(200) % 10 == 0)[:, None]
    target = source + torch.where(minority, 9 * axis(1, 4), axis(0, 4)) + 0.01 * noise(200, 4, 1)
    assert MeanDifference().direction(source, target)[1] > 0.6
    assert TrimmedMean(share=0.11).direction(source, target)[1] < 0.05


def test_the_median_of_means_minimises_the_sum_of_distances_to_the_blocks():
    source, target = gaussian_samples(n=41)
    order = torch.randperm(41, generator=torch.Generator().manual_seed(2))
    blocks = torch.stack([b.mean(0) for b in (target - source)[order].tensor_split(5)]).numpy()
    found = minimize(
        lambda v: np.linalg.norm(blocks - v, axis=1).sum(), blocks.mean(0), method="BFGS", options={"gtol": 1e-9}
    )
    v = MedianOfMeans(blocks=5, seed=2).direction(source, target)
    assert_close(v, unit(torch.tensor(found.x)), atol=1e-6, rtol=0)
    assert_close(MedianOfMeans(blocks=1).direction(source, target), MeanDifference().direction(source, target))


@pytest.mark.parametrize("estimator", [TrimmedMean(), MedianOfMeans()], ids=name)
def test_robust_directions_stand_up_to_wild_pairs_that_turn_the_mean_round(estimator: DirectionEstimator):
    source = noise(100, 6, 0)
    target = source + 2 * axis(0, 6) + 0.5 * noise(100, 6, 1)
    assert cosine(MeanDifference().direction(source, target), axis(0, 6)) > 0.99
    target[:3] = source[:3] - 1000 * axis(0, 6) + 500 * axis(1, 6)
    assert cosine(MeanDifference().direction(source, target), axis(0, 6)) < 0
    assert cosine(estimator.direction(source, target), axis(0, 6)) > 0.97


def test_the_median_of_means_falls_to_wild_pairs_in_half_of_the_blocks():
    source = noise(100, 6, 0)
    target = source + 2 * axis(0, 6)
    target[:20] = source[:20] - 1000 * axis(0, 6)
    assert cosine(MedianOfMeans().direction(source, target), axis(0, 6)) < 0
    assert cosine(MedianOfMeans(blocks=50).direction(source, target), axis(0, 6)) > 0.99


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_equal_classes_and_bad_numbers_are_refused(estimator: DirectionEstimator):
    source, target = gaussian_samples()
    if not isinstance(estimator, MeanCentred | RandomPairPC):
        with pytest.raises(FitError, match=r"same mean|all equal"):
            estimator.direction(source, source)
    with pytest.raises(FitError, match="finite"):
        estimator.direction(source, target.index_fill(0, torch.tensor([3]), torch.nan))
    with pytest.raises(FitError, match="rows"):
        estimator.direction(source, target[:0])


def test_means_that_differ_by_rounding_are_the_same_mean():
    source = noise(999, 6, 0) + 1e6
    shuffled = source[torch.randperm(999, generator=torch.Generator().manual_seed(0))]
    source, shuffled = source / 3, shuffled / 3
    for estimator in (MeanDifference(), LogisticDirection(), LinearDiscriminant()):
        with pytest.raises(FitError, match="same mean"):
            estimator.direction(source, shuffled)
    assert torch.isfinite(PairDifferencePC().direction(source, shuffled)).all()


@pytest.mark.parametrize("estimator", OF_PAIRS, ids=name)
def test_pairs_must_be_pairs(estimator: DirectionEstimator):
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="Rows must be pairs, but source has 80 and target 79"):
        estimator.direction(source, target[:79])


@pytest.mark.parametrize("estimator", [e for e in ALL if e.needs == "samples"], ids=name)
def test_samples_need_not_be_pairs(estimator: DirectionEstimator):
    source, target = gaussian_samples()
    assert torch.isfinite(estimator.direction(source, target[:31])).all()


FOR_TWO_ROWS = [replace(e, blocks=2) if isinstance(e, MedianOfMeans) else e for e in NO_BACKGROUND]


@pytest.mark.parametrize("estimator", FOR_TWO_ROWS, ids=name)
def test_two_rows_and_constant_features_still_have_a_direction(estimator: DirectionEstimator):
    source, target = gaussian_samples(width=30)
    source[:, 3] = target[:, 3] = 7.0
    for rows in (2, 5, 80):
        v = estimator.direction(source[:rows], target[:rows])
        assert v[3].abs() < 1e-9
        assert v.norm().item() == pytest.approx(1)


def test_classes_without_spread_have_a_mean_difference_and_no_discriminant():
    source = torch.zeros(10, 4, dtype=torch.float64)
    target = source + axis(0, 4)
    assert_close(MeanDifference().direction(source, target), axis(0, 4))
    assert_close(PairMidpointPC().direction(source, target), axis(0, 4))
    assert_close(RandomPairPC().direction(source, target), axis(0, 4))
    assert_close(MedianOfMeans().direction(source, target), axis(0, 4))
    with pytest.raises(FitError, match="vary within a class"):
        LinearDiscriminant().direction(source, target)
    with pytest.raises(FitError, match="not all equal"):
        PairDifferencePC().direction(source, target)
    wobble = noise(10, 4, 0) * axis(1, 4)
    with pytest.raises(FitError, match="pseudo-inverse drops"):
        MassMean().direction(wobble, wobble + axis(0, 4))
    assert cosine(LinearDiscriminant(0.1).direction(wobble, wobble + axis(0, 4)), axis(0, 4)) > 0.99


def test_blocks_need_a_pair_each():
    source, target = gaussian_samples(n=7)
    with pytest.raises(FitError, match="8 blocks need at least as many pairs, but got 7"):
        MedianOfMeans().direction(source, target)


def test_a_background_of_another_width_is_refused():
    with pytest.raises(FitError, match="background has width 5"):
        MeanCentred(noise(4, 5, 0)).direction(*gaussian_samples())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrimmedMean(share=0.5), "share"),
        (lambda: MedianOfMeans(blocks=0), "blocks"),
        (lambda: LogisticDirection(inverse_penalty=0.0), "inverse_penalty"),
        (lambda: LinearDiscriminant(shrinkage=2.0), "shrinkage"),
        (lambda: MeanCentred(torch.zeros(0, 4)), "background"),
        (lambda: MeanCentred(torch.full((4,), torch.nan)), "background"),
    ],
)
def test_options_out_of_range_are_refused(build, message: str):
    with pytest.raises(OptionError, match=message):
        build()

"""Translations along any direction, with and without the norm given back, each against its formula."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import (
    DirectionalAblation,
    DirectionShift,
    InContextShift,
    LinearDiscriminant,
    MeanCentred,
    MeanDifference,
    MeanShift,
    NormRelativeShift,
    NormRestoredShift,
    PairDifferencePC,
    PairMidpointPC,
    RandomShift,
    load_map,
    method_family,
    method_name,
    method_needs,
    save_map,
)
from steerlens.numerics import moments, unit
from steerlens.testing import gaussian_samples

WITH_A_DIRECTION = (DirectionShift, NormRelativeShift, NormRestoredShift, DirectionalAblation)


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    source, target = gaussian_samples()
    return source, target


def in_context(x: Tensor, v: Tensor, dose: float) -> Tensor:
    """The published formula, row by row and without care for zero rows."""
    push = dose * (1 + cosine_similarity(x, -v[None], dim=1).clamp(min=0))
    return x.norm(dim=1, keepdim=True) * normalize(normalize(x, dim=1) + push[:, None] * unit(v), dim=1)


def test_directions_are_compared_at_the_length_of_the_mean_difference(samples: tuple[Tensor, Tensor]):
    length = MeanShift().fit(*samples).vector.norm()
    for direction in (PairMidpointPC(), PairDifferencePC(), LinearDiscriminant()):
        vector = DirectionShift(direction).fit(*samples).vector
        assert_close(vector, length * direction.direction(*samples))
    assert_close(DirectionShift(MeanDifference()).fit(*samples).vector, MeanShift().fit(*samples).vector)
    assert (DirectionShift().fit(*samples).vector - MeanShift().fit(*samples).vector).norm() > 0.02 * length


def test_a_random_shift_is_as_long_as_the_mean_shift_and_its_seed_decides_it(samples: tuple[Tensor, Tensor]):
    length = MeanShift().fit(*samples).vector.norm()
    vectors = [RandomShift(seed=s).fit(*samples).vector for s in range(200)]
    assert_close(torch.stack([v.norm() for v in vectors]), length.expand(200))
    assert torch.equal(vectors[3], RandomShift(seed=3).fit(*samples).vector)
    # Uniform: 200 unit vectors in 12 dimensions have a mean of length near 1/√200 = 0.07.
    assert (torch.stack(vectors) / length).mean(0).norm() < 0.15
    other = gaussian_samples(seed=5)
    assert_close(unit(RandomShift().fit(*other).vector), unit(vectors[0]))
    assert method_family(RandomShift()) == "random"


def test_a_norm_relative_shift_knows_the_norm_and_not_the_distance_of_the_classes(samples: tuple[Tensor, Tensor]):
    source, target = samples
    shift = NormRelativeShift(fraction=0.25).fit(source, target[:30])
    mean_norm = torch.cat([source, target[:30]]).norm(dim=1).mean()
    assert_close(shift.vector, 0.25 * mean_norm * unit(target[:30].mean(0) - source.mean(0)))
    ten = NormRelativeShift().fit(10 * source, 10 * target).vector
    assert_close(ten, 10 * NormRelativeShift().fit(source, target).vector)
    far, near = source + 100.0, source + 100.0 + 0.1 * (target.mean(0) - source.mean(0))
    assert NormRelativeShift().fit(far, near).vector.norm() > 10 * MeanShift().fit(far, near).vector.norm()


def test_a_norm_restored_shift_is_the_rescaled_sum_and_keeps_norms(samples: tuple[Tensor, Tensor]):
    source, target = samples
    fitted = NormRestoredShift().fit(source, target)
    v = MeanShift().fit(source, target).vector
    for strength in (0.3, 1.0, 4.0):
        expected = source.norm(dim=1, keepdim=True) * normalize(source + strength * v, dim=1)
        assert_close(fitted(source, strength=strength), expected)
        assert_close(
            fitted(source, strength=-strength),
            source.norm(dim=1, keepdim=True) * normalize(source - strength * v, dim=1),
        )
    assert ((source + v).norm(dim=1) - source.norm(dim=1)).abs().max() > 0.5, "without the rescaling they change"
    assert fitted.strength_unit == "lengths of the vector, norm restored"


def test_an_in_context_shift_is_the_published_formula_and_keeps_norms(samples: tuple[Tensor, Tensor], tmp_path: Path):
    source, target = samples
    d = target - source
    v = d.mean(0) + PairDifferencePC().direction(source, target)
    fitted = InContextShift(dose=0.2).fit(source, target)
    x = torch.cat([source, target])
    assert 0.2 < (x @ v > 0).double().mean() < 0.8, "rows on either side of v"
    for strength in (0.5, 1.0, 3.0, -0.5, -1.0, -3.0):
        assert_close(fitted(x, strength=strength), in_context(x, v, 0.2 * strength))
    assert (fitted(x, strength=-1.0) - in_context(x, -v, 0.2)).norm() > 0.1, "nor is it the map fitted the other way"
    save_map(fitted.reverse, tmp_path, provenance={})
    assert torch.equal(load_map(tmp_path)(x, strength=3.0), fitted(x, strength=-3.0))
    assert torch.equal(fitted.reverse.reverse(x), fitted(x))
    assert_close(fitted(x, strength=9.0).norm(dim=1), x.norm(dim=1))
    assert (fitted(x) - in_context(x, d.mean(0), 0.2)).norm() > 1e-3, "the component counts"
    assert fitted.strength_unit == "doses, norm kept"


def test_the_component_of_an_in_context_vector_counts_only_where_activations_are_small(samples: tuple[Tensor, Tensor]):
    def off(scale: float) -> float:
        source, target = (scale * x for x in samples)
        return float((InContextShift().fit(source, target).vector - MeanDifference().direction(source, target)).norm())

    assert off(0.1) > 0.3
    assert off(100.0) < 0.01


def test_rows_opposite_to_an_in_context_vector_are_pushed_twice_as_far():
    axis = torch.eye(4, dtype=torch.float64)
    fitted = InContextShift().fit(torch.zeros(3, 4, dtype=torch.float64), axis[:1].expand(3, 4))
    assert_close(fitted.vector, axis[0])
    across, against = axis[1] + 1e-3 * axis[0], -axis[0] + 1e-3 * axis[1]
    assert_close(fitted(across)[0], torch.tensor(0.101 / (0.101**2 + 1) ** 0.5, dtype=torch.float64), rtol=1e-4, atol=0)
    assert_close(
        fitted(against)[1] / -fitted(against)[0], torch.tensor(1e-3 / 0.8, dtype=torch.float64), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("method", [NormRestoredShift(), InContextShift()], ids=lambda m: type(m).__name__)
def test_a_row_without_a_direction_stays(method, samples: tuple[Tensor, Tensor]):
    fitted = method.fit(*samples)
    zero = torch.zeros(2, 12, dtype=torch.float64)
    assert torch.equal(fitted(zero), zero)
    assert torch.equal(fitted(zero.bfloat16()), zero.bfloat16())
    rows = torch.cat([zero[:1], samples[0][:1]])
    assert_close(fitted(rows)[1], fitted(samples[0][0]), rtol=0, atol=1e-12)


def test_a_row_that_the_dose_brings_to_zero_stays():
    axis = torch.eye(4, dtype=torch.float64)
    source, target = torch.zeros(3, 4, dtype=torch.float64), 2 * axis[:1].expand(3, 4)
    opposite = -2 * axis[0]
    assert torch.equal(NormRestoredShift().fit(source, target)(opposite), opposite)
    assert torch.equal(InContextShift(dose=0.5).fit(source, target)(opposite), opposite)
    # On either side of that strength it is the row, and the row turned round.
    assert_close(NormRestoredShift().fit(source, target)(opposite, strength=0.9), opposite)
    assert_close(NormRestoredShift().fit(source, target)(opposite, strength=1.1), -opposite)


@pytest.mark.parametrize("method", [NormRestoredShift(), InContextShift()], ids=lambda m: type(m).__name__)
def test_a_small_step_keeps_its_digits_in_float32(method, samples: tuple[Tensor, Tensor]):
    fitted, x = method.fit(*samples), samples[0].float()
    exact = fitted.path(x.double(), torch.full((80,), 1e-5, dtype=torch.float64))
    assert_close(fitted.path(x, torch.full((80,), 1e-5)).double(), exact, rtol=1e-4, atol=1e-10)
    by_subtraction = fitted(x, strength=1e-5) - x
    assert not torch.allclose(by_subtraction.double(), exact, rtol=1e-4, atol=1e-10)


def test_ablation_removes_the_direction_it_is_given(samples: tuple[Tensor, Tensor]):
    source, target = samples
    for direction in (PairMidpointPC(), LinearDiscriminant(), MeanDifference()):
        v = direction.direction(source, target)
        ablate = DirectionalAblation(direction).fit(source, target)
        assert_close(ablate(source), source - (source @ v)[:, None] * v)
        assert (source @ v).abs().max() > 0.1
    assert_close(DirectionalAblation().fit(source, target).read, MeanDifference().direction(source, target))
    delta = MeanDifference().direction(source, target)
    left = DirectionalAblation(PairDifferencePC()).fit(source, target)
    assert ((left(target) - left(source)) @ delta).mean() > 0.1, "another direction leaves the mean difference"


def test_ablation_takes_moments_for_the_mean_difference_alone(samples: tuple[Tensor, Tensor]):
    streamed = [moments(x) for x in samples]
    assert_close(DirectionalAblation().fit_moments(*streamed).read, MeanDifference().direction(*samples))
    with pytest.raises(FitError, match=r"PairMidpointPC\(\) needs rows, but got moments. Use fit"):
        DirectionalAblation(PairMidpointPC()).fit_moments(*streamed)


def test_a_method_needs_what_its_direction_needs(samples: tuple[Tensor, Tensor]):
    source, target = samples
    for method in WITH_A_DIRECTION:
        assert method_needs(method(MeanDifference())) == "samples"
        assert method_needs(method(PairMidpointPC())) == "pairs"
        method(MeanDifference()).fit(source, target[:30])
        with pytest.raises(FitError, match="Rows must be pairs"):
            method(PairMidpointPC()).fit(source, target[:30])
    assert method_needs(InContextShift()) == "pairs"
    with pytest.raises(FitError, match="Rows must be pairs"):
        InContextShift().fit(source, target[:30])


def test_names_say_which_direction():
    assert method_name(DirectionShift()) == "DirectionShift"
    assert method_name(DirectionShift(MeanDifference())) == "DirectionShift(direction=MeanDifference())"
    background = gaussian_samples().source
    names = {method_name(DirectionShift(MeanCentred(b))) for b in (background, background + 1)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "method", [DirectionShift(), RandomShift(), NormRelativeShift(), NormRestoredShift(), InContextShift()],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_equal_means_are_refused(method):
    x, _ = gaussian_samples()
    with pytest.raises(FitError, match="same mean"):
        method.fit(x, x)
    # Other rows with the same mean: there is a component, but no length to give it.
    y = 2 * x.mean(0) - x
    with pytest.raises(FitError, match="same mean"):
        method.fit(x, y)


@pytest.mark.parametrize(
    "method", [DirectionShift(), NormRelativeShift(), NormRestoredShift(), InContextShift()],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_one_pair_and_more_dimensions_than_rows_still_fit(method):
    source, target = gaussian_samples(width=30)
    for rows in (1, 2, 5):
        assert torch.isfinite(method.fit(source[:rows], target[:rows])(source)).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NormRelativeShift(fraction=0.0), "fraction"),
        (lambda: NormRelativeShift(fraction=float("inf")), "fraction"),
        (lambda: InContextShift(dose=-0.1), "dose"),
    ],
)
def test_options_out_of_range_are_refused(build, message: str):
    with pytest.raises(OptionError, match=message):
        build()

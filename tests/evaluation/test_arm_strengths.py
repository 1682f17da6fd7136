"""Strengths found for many arms together: the budget is met where it says, and where it is out of reach it says so."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from steerlens.activations import Site
from steerlens.evaluation import Arm, ChosenStrength, neutral_texts, score_neutral
from steerlens.evaluation import _arm_strengths as searched
from steerlens.evaluation._arm_strengths import BEYOND, TOLERANCE, at_equal_budget, meet_budget
from steerlens.interventions import Intervention
from steerlens.maps import AdditiveMap, DirectionalAblation, SteeringMap, random_direction
from steerlens.models import LensModel, load_model

GRID = (0.0, 1.0, 2.0, 4.0)
TEXTS = neutral_texts()[:6]
SITE = Site.resid_post(1)


def arm(steering_map: SteeringMap, name: str = "arm", grid: tuple[float, ...] = GRID) -> Arm:
    return Arm(name, "additive", "method", SITE, steering_map, grid)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return load_model("planted-linear", dtype="float64")


def kl_of(model: LensModel, one: Arm) -> float:
    assert one.chosen is not None
    scores = score_neutral(model, TEXTS, [Intervention({one.site: one.steering_map}, one.chosen.strength)])
    return float(scores.kl.sum() / scores.n_tokens.sum())


def test_every_arm_costs_the_budget_at_its_own_strength(model: LensModel):
    norms = [2.0, 6.0, 12.0, 100.0]
    maps: list[SteeringMap] = [random_direction(model.d_model, norm=n, seed=k) for k, n in enumerate(norms)]
    x = torch.randn(64, model.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps.append(DirectionalAblation().fit(source=x, target=x + maps[1].step(x, strength=1.0)))
    found = at_equal_budget(model, [arm(m) for m in maps], TEXTS, 0.05)
    strengths = []
    for one in found:
        assert one.chosen is not None
        strengths.append(one.chosen.strength)
        assert one.chosen.reached, one.chosen
        assert kl_of(model, one) == pytest.approx(0.05, rel=0.02)
        assert one.chosen.kl == pytest.approx(kl_of(model, one), rel=1e-6)
        assert one.chosen.strength in one.strengths
        assert one.strengths == tuple(sorted(one.strengths))
        assert one.planned == GRID
    assert strengths[0] > strengths[1] > strengths[2] > strengths[3]
    assert strengths[3] < 1, "below the smallest strength of the grid"


def test_directions_that_need_twice_the_grid_are_given_it(model: LensModel):
    shift = random_direction(model.d_model, norm=1.0, seed=0)
    enough = at_equal_budget(model, [arm(shift)], TEXTS, 0.05)[0].chosen
    assert enough is not None
    short = AdditiveMap(shift.step(torch.zeros(1, model.d_model, dtype=torch.float64), strength=enough.strength / 8)[0])
    (twice,) = at_equal_budget(model, [arm(short)], TEXTS, 0.05)
    assert twice.chosen is not None
    assert twice.chosen.reached
    assert twice.chosen.strength == pytest.approx(8.0, rel=0.02)
    assert twice.strengths == (*GRID, twice.chosen.strength)
    assert kl_of(model, twice) == pytest.approx(0.05, rel=0.02)


def test_a_map_that_does_nothing_is_unreached_at_the_end_of_its_grid(model: LensModel):
    (null,) = at_equal_budget(model, [arm(AdditiveMap(torch.zeros(model.d_model, dtype=torch.float64)))], TEXTS, 0.05)
    assert null.chosen is not None
    assert (null.chosen.strength, null.chosen.kl, null.chosen.reached) == (4.0, 0.0, False)
    assert null.strengths == GRID


def test_what_was_known_is_not_measured_again(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    shift = arm(random_direction(model.d_model, norm=1.0, seed=0))
    chosen = at_equal_budget(model, [shift], TEXTS, 0.05)[0].chosen
    assert chosen is not None
    monkeypatch.setattr(searched, "score_neutral", None)
    again = at_equal_budget(model, [shift], TEXTS, 0.05, known={0: {chosen.strength: chosen.kl}})
    assert again[0].chosen == chosen


def found_of(*laws: Callable[[float], float], budget: float = 0.1) -> tuple[list[ChosenStrength], list[int]]:
    """What is chosen for arms of known cost, and how many were asked for in each round."""
    rounds: list[int] = []

    def costs(asked: Mapping[int, float]) -> list[float]:
        rounds.append(len(asked))
        return [laws[k](s) for k, s in asked.items()]

    return meet_budget([GRID] * len(laws), costs, budget, known={}), rounds


def test_a_square_law_needs_two_rounds_and_all_arms_share_them():
    found, asked = found_of(*(lambda s, c=c: c * s**2 for c in (0.01, 0.03, 0.5)))
    assert asked == [3, 3]
    for one, c in zip(found, (0.01, 0.03, 0.5), strict=True):
        assert one.strength == pytest.approx(np.sqrt(0.1 / c), rel=1e-6)


@pytest.mark.parametrize(
    "law",
    [
        lambda s: 0.02 * s**0.7,
        lambda s: 0.003 * s**6,
        lambda s: 0.3 * (1 - np.exp(-0.1 * s * s)),
        lambda s: 0.002 * (np.exp(s) - 1 - s),
        lambda s: 0.0 if s < 1.5 else 0.5 * (s - 1.5) ** 2,
        lambda s: 0.001 * s**4 if s < 3.9 else float("nan"),
        lambda s: 1e-4 * s**2 if s < 1.9 else 1e-4 * s**2 + 3.0 * (s - 1.9) ** 2,
    ],
)
def test_few_rounds_are_enough_for_any_smooth_cost(law: Callable[[float], float]):
    (one,), asked = found_of(law)
    assert one.reached, (one, asked)
    assert law(one.strength) == pytest.approx(0.1, rel=TOLERANCE)
    assert len(asked) <= 9


def test_a_cost_that_saturates_below_the_budget_stays_on_the_grid():
    (one,), _ = found_of(lambda s: 0.05 * (1 - np.exp(-2 * s * s)))
    assert (one.strength, one.reached) == (4.0, False)
    assert one.kl == pytest.approx(0.05)


def test_a_cost_that_still_rises_is_followed_to_the_bound():
    (one,), _ = found_of(lambda s: 1e-5 * s**2)
    assert (one.strength, one.reached) == (BEYOND * 4.0, False)
    assert one.kl == pytest.approx(1e-5 * 16**2)


def test_a_cost_that_jumps_over_the_budget_does_not_meet_it():
    (one,), _ = found_of(lambda s: 1.0 if s > 3 else 0.0)
    assert not one.reached
    assert one.strength == pytest.approx(3.0, rel=0.1)


def test_the_first_crossing_counts_where_cost_falls_again():
    (one,), _ = found_of(lambda s: 0.6 * s * np.exp(-s))
    assert one.strength == pytest.approx(0.20448, rel=0.02)  # the smaller root of 0.6·s·exp(−s) = 0.1


def test_a_model_that_breaks_down_everywhere_is_no_crash():
    (one,), _ = found_of(lambda s: float("nan"))
    assert not one.reached

"""Recovery by hand, its interval on planted answers, and counts of pairs."""

import numpy as np
import pandas as pd
import pytest

from steerlens.errors import EstimateError
from steerlens.experiments import Failure, OffCourse, OffCoursePlan, recovery
from steerlens.numerics import wilson

WORDS = [f"w{i}" for i in range(20)]


def study(levels: dict[tuple[str, str], dict[str, int]], plan: OffCoursePlan | None = None) -> OffCourse:
    """For each pair of model and task, how many of 20 words every method gets right: the first so many."""
    rows = [
        (model, task, method, 0, "", word, word, float(i < right), float(i < right))
        for (model, task), of in levels.items()
        for method, right in of.items()
        for i, word in enumerate(WORDS)
    ]
    columns = ["model", "task", "method", "draw", "setting", "input", "group", "accuracy", "first_token_accuracy"]
    notes = pd.DataFrame(columns=["model", "task", "method", "reason"])
    failures = (Failure("broken", "", "no such model"),)
    return OffCourse(
        plan or OffCoursePlan(seed=0), pd.DataFrame(rows, columns=columns), pd.DataFrame(), failures, notes
    )


FOUND = study(
    {
        ("a", "plural"): {"few-shot": 20, "function vector": 18, "task vector": 10, "layer average": 0},
        ("a", "antonyms"): {"few-shot": 10, "function vector": 4, "task vector": 4, "layer average": 12},
        ("b", "plural"): {"few-shot": 2, "function vector": 2, "task vector": 0, "layer average": 0},
        ("b", "antonyms"): {"few-shot": 16, "task vector": 16, "layer average": 0},
    }
)


def test_recovery_is_the_ratio_of_two_shares():
    steered, shown = np.array([1, 1, 0, 0, 1, 0, 0, 0.5]), np.array([1, 1, 1, 0, 1, 0, 1, 0])
    assert recovery(steered, shown, list(range(8)), seed=0).value == pytest.approx(3.5 / 5)


def test_the_interval_covers_the_planted_recovery():
    draw = np.random.default_rng(0)
    covered = []
    for k in range(60):
        shown, steered = draw.random(40) < 0.8, draw.random(40) < 0.5
        e = recovery(steered, shown, list(range(40)), seed=k)
        covered.append(e.low <= 0.5 / 0.8 <= e.high)
    assert np.mean(covered) >= 0.87


def test_where_nothing_is_right_the_interval_has_a_width():
    e = recovery(np.zeros(20), np.ones(20), list(range(20)), seed=0)
    assert e.value == 0
    assert e.low == 0
    assert 0.1 < e.high < 0.3
    same = recovery(np.ones(20), np.ones(20), list(range(20)), seed=0)
    assert same.low < same.value == 1 < same.high


def test_nothing_can_be_recovered_where_no_example_helps():
    with pytest.raises(EstimateError, match="Set this pair aside"):
        recovery(np.ones(10), np.zeros(10), list(range(10)), seed=0)


def test_shares_of_pairs_are_counted_with_wilson_s_interval():
    reached = FOUND.reached((0.5, 0.9)).set_index(["method", "threshold"])
    row = reached.loc["task vector", 0.5]
    assert (row["reached"], row["n_pairs"], row["at_floor"], row["missing"]) == (2, 3, 1, 0)
    e = wilson(2, 3)
    assert (row["share"], row["low"], row["high"]) == (e.value, e.low, e.high)
    assert row["surely"] == 1  # plural in a is at a half, and its interval goes below
    assert (
        reached.loc[
            "task vector",
            0.9,
        ]["reached"]
        == 1
    )


def test_a_method_that_could_not_be_fitted_to_a_pair_has_not_reached_it():
    row = FOUND.reached((0.9,)).set_index("method").loc["function vector"]
    assert (row["reached"], row["n_pairs"], row["missing"]) == (1, 3, 1)


def test_pairs_at_the_floor_have_no_recovery():
    table = FOUND.recovery()
    at_floor = table[(table["model"] == "b") & (table["task"] == "plural")]
    assert at_floor["at_floor"].all()
    assert at_floor["recovery"].isna().all()
    other = table[(table["model"] == "a") & (table["method"] == "task vector")]
    assert other["recovery"].tolist() == [0.5, 0.4]


def test_where_nothing_works_is_said_and_controls_do_not_count():
    assert FOUND.nothing_works() == (("a", "antonyms"),)
    assert FOUND.nothing_works(0.3) == ()


def test_draws_of_a_control_are_averaged_word_by_word():
    found = study({("a", "plural"): {"few-shot": 20, "random heads": 10}})
    twice = pd.concat([found.items, found.items.assign(draw=1, first_token_accuracy=0.0)])
    twice = twice[(twice["method"] == "random heads") | (twice["draw"] == 0)]
    averaged = OffCourse(found.plan, twice, found.choices, (), found.notes).recovery().set_index("method")
    assert averaged.loc["random heads", "recovery"] == 0.25
    assert averaged.loc["random heads", "n"] == 20

"""On a real model, steering by a real concept works, and by shuffled labels it does not."""

import dataclasses
import random

import pytest
import torch

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair, Split, load_concept
from steerlens.evaluation import Comparison, compare, neutral_texts, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import MeanShift
from steerlens.models import LensModel, load_model

pytestmark = [pytest.mark.real, pytest.mark.slow]

SITE = Site.resid_post(24)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return load_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def split() -> Split:
    return load_concept("sentiment").split(seed=0)


def measured(model: LensModel, fit: ConceptDataset, test: ConceptDataset, *, n_random: int) -> Comparison:
    return compare(
        model, fit, test[:20], site=SITE, methods=[MeanShift()], strengths=(0, 1, 2), n_random=n_random,
        neutral=neutral_texts()[:10], seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(model: LensModel, split: Split) -> Comparison:
    return measured(model, split.fit, split.test, n_random=20)


def swapped(pair: ContrastivePair) -> ContrastivePair:
    return dataclasses.replace(pair, positive=pair.negative, negative=pair.positive)


def test_the_effect_at_the_budget_is_clear_of_random_directions(found: Comparison):
    row = found.headline.iloc[0]
    assert row["n_clusters"] >= 5
    assert row["random_n"] == 20
    assert row["effect_low"] > max(row["random_high"], 0.0)
    assert row["z"] > 3


def test_exchanged_labels_steer_far_less_at_the_same_cost(model: LensModel, split: Split, found: Comparison):
    """Exchanged in exactly half of the groups: a remnant of the concept would be dosed up to the budget, too."""
    half = set(random.Random(0).sample(sorted(split.fit.groups), len(split.fit.groups) // 2))
    pairs = tuple(swapped(pair) if pair.group in half else pair for pair in split.fit)
    exchanged = measured(model, dataclasses.replace(split.fit, pairs=pairs), split.test, n_random=0).headline.iloc[0]
    assert exchanged["strength"] > 2  # beyond the grid: what is left is short, and costs little
    assert abs(float(exchanged["effect"])) < float(found.headline.iloc[0]["effect"]) / 2


def test_permuted_labels_leave_no_effect_at_strength_one(model: LensModel, split: Split):
    found = extract(model, split.fit, [SITE])[SITE]
    flip = torch.rand(len(found), 1, generator=torch.Generator().manual_seed(0)) < 0.5
    source = torch.where(flip, found.positive, found.negative)
    target = torch.where(flip, found.negative, found.positive)
    plans = [
        Intervention({SITE: MeanShift().fit(source=s, target=t)}, strength)
        for s, t, strength in ((source, target, 0.0), (source, target, 1.0), (found.negative, found.positive, 1.0))
    ]
    m = score_questions(model, split.test[:12].questions, plans).propensity.mean(dim=1)
    assert (m[1] - m[0]).abs() < 0.4 * (m[2] - m[0])
    assert m[2] - m[0] > 1.0

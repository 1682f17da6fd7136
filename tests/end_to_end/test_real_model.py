"""On a real model, steering by a real concept works, and by shuffled labels it does not."""

import dataclasses
import random

import pytest

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, ContrastivePair, Split, load_concept
from steerlens.evaluation import Comparison, compare, neutral_texts
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


def test_shuffled_labels_steer_far_less(model: LensModel, split: Split, found: Comparison):
    coin = random.Random(0)
    pairs = tuple(swapped(pair) if coin.random() < 0.5 else pair for pair in split.fit)
    shuffled = measured(model, dataclasses.replace(split.fit, pairs=pairs), split.test, n_random=0)
    real = float(found.headline.iloc[0]["effect"])
    assert abs(float(shuffled.headline.iloc[0]["effect"])) < real / 2

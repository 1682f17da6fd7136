"""Steering works on the real demo model, and a map fitted to permuted labels does not."""

import pytest
import torch

from steerlens.activations import Site, extract
from steerlens.concepts import load_concept
from steerlens.evaluation import compare, neutral_texts, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import MeanShift
from steerlens.models import load_model

pytestmark = [pytest.mark.real, pytest.mark.slow]
SITE = Site.resid_post(24)


@pytest.fixture(scope="module")
def model():
    return load_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def parts():
    return load_concept("sentiment").split(seed=0)


def test_the_effect_is_clear_of_twenty_random_directions(model, parts):
    c = compare(
        model, parts.fit, parts.test[:24], site=SITE, methods=(MeanShift(),), strengths=(0, 1, 2), neutral=neutral_texts()[:10]
    )  # fmt: skip
    row = c.headline.iloc[0]
    assert row["random_n"] == 20
    assert row["effect_low"] > row["random_high"]
    assert row["z"] > 3


def test_permuted_labels_leave_no_effect(model, parts):
    found = extract(model, parts.fit, [SITE])[SITE]
    flip = torch.rand(len(found), 1, generator=torch.Generator().manual_seed(0)) < 0.5
    source = torch.where(flip, found.positive, found.negative)
    target = torch.where(flip, found.negative, found.positive)
    plans = [
        Intervention({SITE: MeanShift().fit(source=s, target=t)}, strength)
        for s, t, strength in ((source, target, 0.0), (source, target, 1.0), (found.negative, found.positive, 1.0))
    ]
    m = score_questions(model, parts.test[:12].questions, plans).propensity.mean(dim=1)
    assert (m[1] - m[0]).abs() < 0.4 * (m[2] - m[0])
    assert m[2] - m[0] > 1.0

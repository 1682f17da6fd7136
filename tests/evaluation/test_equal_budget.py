"""Calibrated strengths: the budget is met where it says, and where it cannot be met it says so."""

import numpy as np
import pytest

from steerlens.activations import AllTokens, AnswerToken, Site, extract
from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import OptionError, SiteError
from steerlens.evaluation import DisplacementBudget, KLBudget, calibrate_strength, neutral_texts, score_neutral
from steerlens.evaluation._equal_budget import _search, read_texts
from steerlens.interventions import Intervention
from steerlens.maps import GaussianTransport, random_direction
from steerlens.models import LensModel, tiny_model

TEXTS = neutral_texts()[:6]
SITE = Site.resid_post(2)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("nats", [0.01, 0.1])
@pytest.mark.parametrize("norm", [0.3, 3.0])
def test_at_the_calibrated_strength_kl_is_the_budget(model: LensModel, nats: float, norm: float):
    shift = random_direction(model.d_model, norm=norm, seed=0)
    found = calibrate_strength(
        model, SITE, shift, texts=TEXTS, budget=KLBudget(nats), seed=0, tolerance=0.001, largest=64.0
    )
    scores = score_neutral(model, TEXTS, [Intervention({SITE: shift}, found.strength)])
    assert found.reached
    assert float(scores.kl.sum() / scores.n_tokens.sum()) == pytest.approx(nats, rel=0.001)
    assert found.cost.value == pytest.approx(nats, rel=0.001)
    assert found.cost.n == len(TEXTS)


@pytest.mark.slow
def test_a_map_twice_as_long_needs_half_the_strength(model: LensModel):
    one, two = (
        calibrate_strength(
            model, SITE, random_direction(model.d_model, norm=norm, seed=0),
            texts=TEXTS, budget=KLBudget(0.05), seed=0, tolerance=1e-6,
        ).strength
        for norm in (1.0, 2.0)
    )  # fmt: skip
    assert one == pytest.approx(2 * two, rel=1e-5)


def test_displacement_of_a_translation_is_a_ratio_of_lengths(model: LensModel):
    found = calibrate_strength(
        model, SITE, random_direction(model.d_model, norm=2.0, seed=0),
        texts=TEXTS, budget=DisplacementBudget(0.2), seed=0, tolerance=1e-6,
    )  # fmt: skip
    x = read_texts(model, TEXTS, SITE)
    assert found.strength == pytest.approx(0.2 * float(x.norm(dim=1).mean()) / 2.0, rel=1e-5)
    assert found.reached


def test_a_map_whose_step_depends_on_the_row_is_calibrated_on_rows(model: LensModel):
    pairs = ConceptDataset("t", tuple(ContrastivePair("", t[:40], t[5:45], group=t[:9]) for t in neutral_texts()))
    acts = extract(model, pairs, [SITE])[SITE]
    transport = GaussianTransport().fit(source=acts.negative, target=acts.positive)
    found = calibrate_strength(
        model, SITE, transport, texts=TEXTS, budget=DisplacementBudget(0.1), seed=0, tolerance=1e-4
    )
    x = read_texts(model, TEXTS, SITE)
    step = transport.step(x, strength=found.strength)
    assert float(step.norm(dim=1).sum() / x.norm(dim=1).sum()) == pytest.approx(0.1, rel=1e-4)


def test_texts_are_read_as_pairs_are(model: LensModel):
    pairs = ConceptDataset("t", tuple(ContrastivePair("", t, f"{t} x", group=t) for t in TEXTS))
    for site in (SITE, Site.resid_pre(1, AllTokens())):
        expected = extract(model, pairs, [site])[site].positive.double()
        np.testing.assert_allclose(read_texts(model, TEXTS, site), expected, atol=1e-10)
    with pytest.raises(SiteError, match="selects no token"):
        read_texts(model, TEXTS, Site.resid_post(1, AnswerToken()))


@pytest.mark.slow
def test_downward_strengths_use_the_reverse(model: LensModel):
    shift = random_direction(model.d_model, norm=1.0, seed=0)
    up, down = (
        calibrate_strength(model, SITE, s, texts=TEXTS, budget=KLBudget(0.02), seed=0, largest=largest).strength
        for s, largest in ((shift.reverse, 16.0), (shift, -16.0))
    )
    assert down == pytest.approx(-up)


def test_a_budget_out_of_reach_is_not_said_to_be_met(model: LensModel):
    shift = random_direction(model.d_model, norm=0.01, seed=0)
    found = calibrate_strength(model, SITE, shift, texts=TEXTS, budget=KLBudget(5.0), seed=0, largest=2.0)
    assert not found.reached
    assert found.strength == 2.0
    assert found.cost.value < 5.0


def costing(of) -> tuple:
    """A cost curve as the search sees it, for five texts of one token."""
    return lambda strengths: (np.array([np.full(5, of(s)) for s in strengths]), np.ones(5))


def test_the_first_crossing_counts_where_cost_falls_again():
    found = _search(costing(lambda s: s * np.exp(-s)), KLBudget(0.2), 1e-6, 16.0, 0)
    assert found.reached
    assert found.strength == pytest.approx(0.259171, rel=1e-4)  # the smaller root of s·exp(−s) = 0.2; the other is 2.54


def test_a_cost_that_jumps_over_the_budget_does_not_meet_it():
    found = _search(costing(lambda s: 1.0 if s > 3 else 0.0), KLBudget(0.5), 0.01, 16.0, 0)
    assert not found.reached
    assert found.strength == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0, 6.0])
def test_few_strengths_are_enough(power: float):
    found = _search(costing(lambda s: 0.01 * s**power), KLBudget(0.013), 0.01, 16.0, 0)
    assert found.reached
    assert found.strength == pytest.approx(1.3 ** (1 / power), rel=0.05)
    assert len(found.tried) <= 16


def test_nonsense_is_refused(model: LensModel):
    shift = random_direction(model.d_model, norm=1.0, seed=0)
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match="positive and finite"):
            KLBudget(value)
        with pytest.raises(OptionError, match="positive and finite"):
            DisplacementBudget(value)
    with pytest.raises(OptionError, match="at least 5 texts"):
        calibrate_strength(model, SITE, shift, texts=TEXTS[:4], budget=KLBudget(0.1), seed=0)
    with pytest.raises(OptionError, match="largest"):
        calibrate_strength(model, SITE, shift, texts=TEXTS, budget=KLBudget(0.1), seed=0, largest=0.0)

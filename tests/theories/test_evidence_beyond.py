"""What is measured beside the comparison, on a planted model: lengths, references, other surroundings."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from steerlens import load_model, steer
from steerlens.activations import Site, extract, planted_concept
from steerlens.concepts import load_concept, with_context
from steerlens.evaluation import ComparisonPlan, run_comparison, score_questions
from steerlens.interventions import Intervention
from steerlens.maps import AdditiveMap, MeanShift, NormRestoredShift, SteeringMap
from steerlens.models import LensModel
from steerlens.theories import Outcome, TheoryStudy, gather, load_evidence, records_for, run_theories, theory
from steerlens.theories import _elsewhere_evidence as elsewhere
from steerlens.theories._chosen_site import ChosenSite
from steerlens.theories._elsewhere_evidence import elsewhere_evidence, surroundings
from steerlens.theories._norm_evidence import norm_difference, scaling, scaling_evidence
from steerlens.theories._open_evidence import open_evidence

IDS = ("T7", "T11", "T12", "T13")


def study(*ids: str, **changes: object) -> TheoryStudy:
    pairs = planted_concept("planted-linear")
    base = TheoryStudy(
        name="small", model="planted-linear", concepts=(pairs,), layers=(0,), theories=tuple(theory(i) for i in ids),
        strengths=(0.0, 0.5, 1.0), n_random=2, max_texts=10, max_pairs=20, controls=False,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.fixture(scope="module")
def model() -> LensModel:
    return load_model("planted-linear")


def chosen(model: LensModel, layer: int = 0) -> ChosenSite:
    asked, methods = study(*IDS), (MeanShift(), NormRestoredShift())
    pairs = asked.concepts[0]
    split, site = asked.split(pairs), Site.resid_post(layer)
    plan = ComparisonPlan(
        sites=(site,), methods=methods, strengths=asked.strengths, n_random=2, controls=False, seed=0
    )  # fmt: skip
    comparison, maps = run_comparison(model, split.fit, split.test, plan, neutral=asked.texts)
    return ChosenSite(
        model, pairs.name, split, asked, comparison, methods, maps, extract(model, split.fit, [site])[site]
    )


@pytest.fixture(scope="module")
def at(model: LensModel) -> ChosenSite:
    return chosen(model)


def next_token(model: LensModel, contexts: Sequence[str], token: Sequence[str], m: SteeringMap, strength: float,
               site: Site) -> np.ndarray:  # fmt: skip
    """Log-probability of one token after each context, by plain forward passes under hooks."""
    found = []
    for text, word in zip(contexts, token, strict=True):
        with steer(model, {site: m}, strength=strength):
            log_p = model.logits(text)[0, -1].double().log_softmax(-1)
        (number,) = model.encode(word, bos=False)
        found.append(float(log_p[number]))
    return np.array(found)


def test_scaling_multiplies_and_nothing_else():
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(scaling(1.2, 7)(x), 1.2 * x)


def test_the_effect_of_length_is_that_of_forward_passes_with_scaled_activations(model: LensModel, at: ChosenSite):
    records, questions = scaling_evidence(at), at.split.test.questions
    assert list(records["setting"]) == ["+20 %", "−20 %"]
    contexts = [q.context for q in questions]
    zero = torch.zeros(model.d_model, dtype=torch.float64)
    for value, factor in zip(records["value"], (1.2, 0.8), strict=True):
        change = 0.0
        for sign, words in ((1, [q.positive for q in questions]), (-1, [q.negative for q in questions])):
            steered = next_token(model, contexts, words, scaling(factor, model.d_model), 1.0, at.site)
            change += sign * (steered - next_token(model, contexts, words, AdditiveMap(zero), 1.0, at.site)).mean()
        assert value == pytest.approx(change, abs=1e-5)
    assert (records["value"].abs() > 1e-3).all()


def test_the_last_block_has_no_effect_of_length_and_no_record(model: LensModel, at: ChosenSite):
    """The final norm undoes it: measured, and therefore left out."""
    last, questions = Site.resid_post(model.n_layers - 1), at.split.test.questions
    plans = [Intervention({site: scaling(1.2, model.d_model)}, 1.0) for site in (at.site, last)]
    before, inside, there = score_questions(model, questions, [Intervention({}, 0.0), *plans]).propensity
    assert (there - before).abs().max() < 1e-3 < (inside - before).abs().max()
    moved = replace(at, fit=extract(model, at.split.fit, [last])[last])
    assert scaling_evidence(moved).empty


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_the_difference_of_lengths_is_known_by_construction(at: ChosenSite, ratio: float):
    turned = ratio * at.fit.negative.flip(1)
    found = norm_difference(replace(at.fit, positive=turned), seed=0)
    assert found["value"] == pytest.approx(ratio - 1, abs=1e-6)
    assert found["low"] <= found["value"] <= found["high"]


def test_promotion_and_suppression_are_those_of_forward_passes(model: LensModel, at: ChosenSite):
    records = open_evidence(at)
    own = records[records["role"] == "method"].set_index("quantity")
    strength, m = at.comparison.headline.set_index("method").loc["MeanShift", "strength"], at.maps[at.site, "MeanShift"]
    assert set(own["strength"]) == {strength}
    prompts = [p.prompt for p in at.split.test]
    change = {
        side: (
            next_token(model, prompts, words, m, strength, at.site)
            - next_token(model, prompts, words, m, 0.0, at.site)
        ).mean()
        for side, words in (
            ("up", [p.positive for p in at.split.test]), ("down", [p.negative for p in at.split.test])
        )
    }  # fmt: skip
    assert own.loc["promotion", "value"] == pytest.approx(change["up"], abs=1e-5)
    assert own.loc["suppression", "value"] == pytest.approx(-change["down"], abs=1e-5)
    assert own.loc["open_effect", "value"] == pytest.approx(change["up"] - change["down"], abs=1e-5)


def test_random_directions_are_those_of_the_comparison_each_at_its_own_budget(at: ChosenSite):
    random = open_evidence(at).query("role == 'random' and quantity == 'promotion'")
    expected = at.strength_at_budget("random")
    assert list(random["strength"]) == [expected["random 00"], expected["random 01"]]
    assert list(random["seed"]) == [0.0, 1.0]
    assert random["value"].nunique() == 2


def test_a_question_about_the_references_themselves_is_no_second_measurement(model: LensModel, at: ChosenSite):
    """Without answers the question is which reference follows: promotion is measured, the proxy is not."""
    bare = replace(at.split.test, pairs=tuple(replace(p, answers=None) for p in at.split.test))
    records = open_evidence(replace(at, split=at.split._replace(test=bare)))
    assert set(records["quantity"]) == {"promotion", "suppression"}
    assert set(open_evidence(at)["quantity"]) == {"promotion", "suppression", "open_effect"}


def test_at_home_again_nothing_is_lost(at: ChosenSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elsewhere, "surroundings", lambda part, _: {elsewhere.HOME: part, "the same": part})
    found = elsewhere_evidence(at).set_index("quantity")["value"]
    home = at.comparison.headline.set_index("method").loc["MeanShift", "steerability"]
    assert found["steerability_elsewhere"] == pytest.approx(home, abs=1e-4)
    assert found["relative_steerability"] == pytest.approx(1.0, abs=1e-4)
    assert found["propensity_gap"] == pytest.approx(0.0, abs=1e-4)


def test_elsewhere_is_the_slope_in_the_setting_beside_that_of_its_own_map(model: LensModel, at: ChosenSite):
    records = elsewhere_evidence(at)
    assert set(records["setting"]) == {"CONTEXT_1", "CONTEXT_3"}
    found = records[records["setting"] == "CONTEXT_3"].set_index("quantity")["value"]
    fit, test = (with_context(part, 3, seed=0) for part in (at.split.fit, at.split.test))
    there = extract(model, fit, [at.site])[at.site]
    home_map, own_map = at.maps[at.site, "MeanShift"], MeanShift().fit(there.negative, there.positive)
    factor = float(home_map.vector.norm() / own_map.vector.norm())

    def curve(m: SteeringMap, k: float) -> np.ndarray:
        plans = [Intervention({at.site: m}, s * k) for s in (0.0, 0.5, 1.0)]
        return score_questions(model, test.questions, plans).propensity.double().numpy().mean(axis=1)

    slope, own = (np.polyfit([0, 0.5, 1], curve(*how), 1)[0] for how in ((home_map, 1.0), (own_map, factor)))
    home = score_questions(model, at.split.test.questions, [Intervention({}, 0.0)]).propensity.double().mean()
    assert found["steerability_elsewhere"] == pytest.approx(slope, abs=1e-4)
    assert found["relative_steerability"] == pytest.approx(slope / own, abs=1e-4)
    assert found["propensity_gap"] == pytest.approx(abs(curve(home_map, 1.0)[0] - float(home)), abs=1e-4)


def test_a_setting_whose_own_map_does_nothing_has_neither_ratio_nor_gap(at: ChosenSite):
    row = {"steerability": 0.1, "steerability_low": 0.0, "steerability_high": 0.2, "relative": np.nan,
           "relative_low": np.nan, "relative_high": np.nan, "propensity": 1.0, "level": 0.95, "n": 20}  # fmt: skip
    of = pd.DataFrame({elsewhere.HOME: row, "SYS_NEG": row}).T
    assert [r["quantity"] for r in elsewhere._rows(of, {})] == ["steerability_elsewhere"]
    of.loc["SYS_NEG", ["relative", "relative_low", "relative_high", "propensity"]] = 0.9, 0.8, 1.0, -2.0
    found = {r["quantity"]: r["value"] for r in elsewhere._rows(of, {})}
    assert found == {"steerability_elsewhere": 0.1, "relative_steerability": 0.9, "propensity_gap": 3.0}


def test_all_concepts_of_a_study_are_put_into_the_same_settings():
    plural, past = load_concept("plural"), load_concept("past-tense")
    standard = {elsewhere.HOME, "SYS_POS", "SYS_NEG", "USER_POS", "USER_NEG", "CONTEXT_1", "CONTEXT_3"}
    assert set(surroundings(plural, study("T13", concepts=(plural, past)))) == standard
    own = replace(past, name="mine")
    for part in (plural, own):
        there = surroundings(part, study("T13", concepts=(plural, own)))
        assert set(there) == {elsewhere.HOME, "CONTEXT_1", "CONTEXT_3"}
        assert there[elsewhere.HOME] is part


@pytest.mark.slow
def test_a_run_on_a_model_leaves_nothing_of_these_theories_unmeasured(model: LensModel, tmp_path: Path):
    asked = study(*IDS)
    evidence, verdicts = run_theories(asked, model, tmp_path, when=datetime(2026, 11, 22, tzinfo=UTC))
    assert evidence.problems == {}
    for hypothesis, verdict in zip(asked.theories, verdicts, strict=True):
        assert verdict.outcome is Outcome.VOID
        assert verdict.reason.startswith("1 unit (concept) was measured"), verdict.reason
        records = records_for(hypothesis, load_evidence(tmp_path).records)
        wide = gather(records, hypothesis.quantities, at_least=1)
        assert list(wide.columns) == list(hypothesis.quantities)
        assert np.isfinite(wide.to_numpy()).all()

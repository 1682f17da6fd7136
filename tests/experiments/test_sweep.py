"""Running a study: one load a model, one unsteered pass a prompt, nothing lost and nothing twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steerlens.experiments._measure as measure_module
import steerlens.experiments._sweep as sweep_module
import steerlens.interventions._replay as replay_module
from steerlens.activations import Site, extract
from steerlens.concepts import load_concept
from steerlens.errors import FitError, ModelError, OptionError
from steerlens.evaluation import neutral_texts, score_questions
from steerlens.evaluation._controls import random_arms
from steerlens.experiments import (
    ResultStore,
    Study,
    StudyMethod,
    StudyModel,
    Sweep,
    SweepSummary,
    TrialFailure,
    _measure,
    dose_curve,
    plan_study,
    plan_trials,
)
from steerlens.experiments._plan import unit_cost
from steerlens.interventions import Intervention
from steerlens.maps import DirectionalAblation, MeanShift
from steerlens.maps._rank_one import RankOneMap
from steerlens.models import LensModel, load_model, model_revision, tiny_config
from steerlens.models._tiny import seeded_model

STUDY = Study(
    name="small",
    models=(StudyModel("tiny-llama"),),
    concepts=(load_concept("sentiment"), load_concept("past-tense")),
    methods=(StudyMethod("MeanShift"), StudyMethod("DirectionalAblation")),
    layers=(1, 2),
    strengths=(-1.0, 0.0, 1.0),
    n_random=1,
    max_pairs=24,
    max_texts=5,
)
N_TRIALS = 2 * 2 * 3


def raises(error: BaseException) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    return broken


class Loads:
    """`load_model`, counted; some names fail."""

    def __init__(self, broken: str = "") -> None:
        self.names: list[str] = []
        self.broken = broken

    def __call__(self, name: str, **options: Any) -> LensModel:
        self.names.append(name)
        if name == self.broken:
            raise ModelError(f"{name!r} is broken.")
        return load_model(name, **options)


def run(study: Study, store: ResultStore, load: Callable[..., LensModel] = load_model) -> SweepSummary:
    return Sweep(plan_study(study, store), store, load=load).run()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    store = ResultStore(tmp_path_factory.mktemp("sweep") / "store")
    assert run(STUDY, store).stored == N_TRIALS
    return store


@pytest.mark.slow
def test_a_stored_effect_is_the_one_worked_out_by_hand(done: ResultStore):
    """Without plan, unit or arm: fit, steer, score, subtract."""
    record = next(r for r in done if (r.spec.method, r.spec.concept, r.spec.draw) == ("MeanShift", "sentiment", 0))
    assert record.spec.hook_name == "blocks.1.hook_resid_post"
    model, split = load_model("tiny-llama"), load_concept("sentiment").split(seed=0)
    site = Site.resid_post(1)
    found = extract(model, split.fit[:24], [site])[site]
    shift = MeanShift().fit(found.negative, found.positive)
    steered = [Intervention({}, 0.0), Intervention({site: shift}, 1.0)]
    scores = score_questions(model, split.test[:24].questions, steered).propensity.numpy()
    assert record.metric("effect", strength=1).value == pytest.approx((scores[1] - scores[0]).mean(), abs=1e-5)
    assert record.metric("effect", strength=0).value == 0
    assert abs(record.metric("effect", strength=1).value) > 1e-3
    rows = done.items(record.spec)
    at_one = rows[(rows["item"] == "question") & (rows["strength"] == 1)]
    assert np.allclose(at_one.sort_values("number")["propensity"], scores[1], atol=1e-5)


def test_random_directions_are_as_long_as_a_comparison_s_where_the_means_agree():
    """Of weekdays, each carried to the next, every day is source and target: the mean shift is rounding."""
    model, pairs = load_model("tiny-llama"), load_concept("weekdays")
    study = replace(STUDY, concepts=(pairs,), methods=STUDY.methods[:1], layers=(1,), max_pairs=0)
    [spec] = [s for s in study.trials(study.models[0], revision="r", n_layers=4) if s.role == "random"]
    fit = pairs.split(seed=0).fit
    site = Site.resid_post(1)
    found = extract(model, fit, [site])[site]
    [arm] = random_arms(found, (0.0, 1.0), n=1, seed=0)
    drawn, _ = _measure._fitted(model, spec, found, fit)
    torch.testing.assert_close(drawn.vector, arm.steering_map.vector)
    assert drawn.vector.norm() > 0.1
    assert (found.positive - found.negative).double().mean(dim=0).norm() < 1e-5


@pytest.mark.slow
def test_the_stored_rows_give_back_the_stored_numbers(done: ResultStore):
    for record in done:
        curve = dose_curve(done.items(record.spec))
        assert curve.at_budget(record.spec.budget, seed=0).effect == record.metric("effect_at_budget")


@pytest.mark.slow
def test_a_record_says_how_long_its_unit_took_and_how_many_trials_that_was(done: ResultStore):
    for record in done:
        assert record.environment["seconds"] > 0
        assert record.environment["trials_together"] == N_TRIALS / 2


@pytest.mark.slow
def test_what_is_stored_is_skipped_without_loading_anything(done: ResultStore):
    load = Loads()
    again = run(STUDY, ResultStore(done.path), load)
    assert (again.stored, again.skipped, again.failures) == (0, N_TRIALS, ())
    assert load.names == []


@pytest.mark.slow
def test_a_study_costs_one_load_a_model_and_one_unsteered_pass_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    passes: list[int] = []
    real = replay_module.run_trees

    def counted(model: LensModel, batch: Any, *args: Any, **options: Any) -> Any:
        passes.append(len(batch.ids))
        return real(model, batch, *args, **options)

    monkeypatch.setattr(replay_module, "run_trees", counted)
    store, load = ResultStore(tmp_path / "store"), Loads()
    plan = plan_study(STUDY, store)
    run(STUDY, store, load)
    assert load.names == ["tiny-llama"]
    assert len(store) == N_TRIALS
    units = plan.units(plan.models[0].pending)
    assert len(units) == 2  # one for each concept, both layers and all maps in it
    assert sum(passes) == sum(len(u.parts[1].questions) + len(u.texts) for u in units)
    assert sum(unit_cost(u).resumed for u in units) == sum(
        u.n_interventions * (len(u.parts[1].questions) + 5) for u in units
    )


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: ResultStore
):
    real, calls = sweep_module.run_unit, 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*args)

    store = ResultStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "run_unit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(STUDY, store)
    assert len(store) == N_TRIALS / 2
    summary = run(STUDY, store)
    assert (summary.stored, summary.skipped) == (N_TRIALS / 2, N_TRIALS / 2)
    assert list(store) == list(done)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), MemoryError("no room")])
def test_a_unit_that_does_not_fit_the_device_is_a_failure_and_stops_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sweep_module, "run_unit", raises(error))
    plan = plan_study(STUDY, ResultStore(tmp_path / "store"))
    unit = plan.units(plan.models[0].pending)[0]
    [failure] = sweep_module.tried(load_model("tiny-llama"), unit)
    assert isinstance(failure, TrialFailure)
    assert (failure.reason, failure.n_trials) == (f"{type(error).__name__}: no room", len(unit.specs))


def test_a_fault_that_nobody_foresaw_ends_its_unit_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    plan = plan_study(STUDY, ResultStore(tmp_path / "store"))
    unit = plan.units(plan.models[0].pending)[0]
    monkeypatch.setattr(sweep_module, "run_unit", raises(TypeError("not a number")))
    [failure] = sweep_module.tried(load_model("tiny-llama"), unit)
    assert isinstance(failure, TrialFailure)
    assert (failure.reason, failure.n_trials) == ("TypeError: not a number", len(unit.specs))
    for stop in (KeyboardInterrupt(), SystemExit(1)):
        monkeypatch.setattr(sweep_module, "run_unit", raises(stop))
        with pytest.raises(type(stop)):
            sweep_module.tried(load_model("tiny-llama"), unit)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["fit", "metric"])
def test_a_fault_that_nobody_foresaw_ends_its_trial_and_no_other(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = replace(STUDY, concepts=STUDY.concepts[:1], layers=(1,), n_random=1)
    if where == "fit":
        monkeypatch.setattr(DirectionalAblation, "fit", raises(TypeError("not a number")))
        broken, stored = "DirectionalAblation at", {"MeanShift", "RandomShift"}
    else:
        monkeypatch.setitem(measure_module._FINDERS, "steerability", raises(TypeError("not a number")))
        broken, stored = "", {"RandomShift"}  # controls have no such metric
    store = ResultStore(tmp_path / "store")
    summary = run(study, store)
    assert {r.spec.method for r in store} == stored
    assert len(summary.failures) == 3 - len(stored)
    for failure in summary.failures:
        assert failure.what.startswith(broken)
        assert failure.reason == "TypeError: not a number"


@pytest.mark.slow
def test_a_model_that_cannot_be_described_or_loaded_costs_its_own_trials_and_no_others(tmp_path: Path):
    bad = tmp_path / "bad"
    seeded_model(tiny_config("llama"), seed=0).float().save_pretrained(bad)
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps({**config, "num_attention_heads": 0}))
    study = replace(
        STUDY, models=(StudyModel(str(bad)), StudyModel("tiny-llama")), concepts=STUDY.concepts[:1], layers=(1,)
    )
    store = ResultStore(tmp_path / "store")
    plan = plan_study(study, store)
    assert "Could not load the" in plan.models[0].problem
    summary = Sweep(plan, store).run()
    assert summary.stored == 3
    assert [(f.what, f.n_trials) for f in summary.failures] == [(str(bad), 3)]


def test_whatever_loading_raises_ends_that_model_alone(tmp_path: Path):
    store = ResultStore(tmp_path / "store")
    sweep = Sweep(plan_study(STUDY, store), store, load=raises(ZeroDivisionError("by zero")))
    assert sweep.calibrate() is None
    [failure] = sweep.run().failures
    assert (failure.what, failure.reason, failure.n_trials) == ("tiny-llama", "ZeroDivisionError: by zero", N_TRIALS)


@pytest.mark.slow
def test_a_model_that_does_not_load_is_noted_and_stops_no_other(tmp_path: Path):
    study = replace(
        STUDY, models=(StudyModel("tiny-gpt2"), StudyModel("tiny-llama")), concepts=STUDY.concepts[:1], layers=(1,)
    )
    store, load = ResultStore(tmp_path / "store"), Loads(broken="tiny-gpt2")
    summary = run(study, store, load)
    assert summary.stored == 3
    [failure] = summary.failures
    assert (failure.what, failure.n_trials) == ("tiny-gpt2", 3)
    assert "3 trials could not be run" in str(summary)
    assert "'tiny-gpt2' is broken" in str(summary)
    assert [n.content["reason"] for n in store.notes("failure")] == ["'tiny-gpt2' is broken."]
    assert {r.spec.model for r in store} == {"tiny-llama"}
    assert run(study, store).stored == 3  # mended by now
    assert len(store) == 6


@pytest.mark.slow
def test_a_model_without_such_a_block_is_noted(tmp_path: Path):
    study = replace(STUDY, layers=(9,), concepts=STUDY.concepts[:1])
    store = ResultStore(tmp_path / "store")
    plan = plan_study(study, store)
    assert "has blocks 0 to 3" in plan.models[0].problem
    assert "has blocks 0 to 3" in Sweep(plan, store).describe(None)
    [failure] = run(study, store).failures
    assert "Give depths" in failure.reason


@pytest.mark.slow
def test_a_map_that_cannot_be_fitted_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuses(*args: Any, **options: Any) -> Any:
        raise FitError("These rows are all alike.")

    monkeypatch.setattr(DirectionalAblation, "fit", refuses)
    study = replace(STUDY, concepts=STUDY.concepts[:1], layers=(1,), n_random=0)
    store = ResultStore(tmp_path / "store")
    summary = run(study, store)
    assert [r.spec.method for r in store] == ["MeanShift"]
    [failure] = summary.failures
    assert failure.what.startswith("DirectionalAblation at blocks.1")
    assert failure.reason == "These rows are all alike."


@pytest.mark.slow
@pytest.mark.parametrize("error", [FitError("This map has no value here."), TypeError("not a number")])
def test_a_map_that_fails_where_it_acts_costs_its_own_trials_and_no_others(
    error: Exception, tmp_path: Path, done: ResultStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(RankOneMap, "displacement", raises(error))
    store = ResultStore(tmp_path / "store")
    summary = run(replace(STUDY, concepts=STUDY.concepts[:1], layers=(1,)), store)
    assert {r.spec.method for r in store} == {"MeanShift", "RandomShift"}
    [failure] = summary.failures
    assert failure.what.startswith("DirectionalAblation at blocks.1")
    assert failure.reason.endswith(str(error))
    for record in store:
        [other] = [r for r in done if r.spec == record.spec]
        for mine, theirs in zip(record.metrics, other.metrics, strict=True):
            assert (mine.name, mine.strength) == (theirs.name, theirs.strength)
            np.testing.assert_allclose(mine.estimate.value, theirs.estimate.value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_list_of_trials_runs_as_its_study_does(tmp_path: Path, done: ResultStore):
    specs = [r.spec for r in done if r.spec.concept == "sentiment"]
    store = ResultStore(tmp_path / "store")
    summary = Sweep(plan_trials([*specs, specs[0]], store), store).run()
    assert summary.stored == len(specs)
    assert list(store) == [done[spec] for spec in specs]


def test_trials_of_other_weights_or_unknown_data_are_refused(tmp_path: Path):
    store = ResultStore(tmp_path / "store")
    [spec, *_] = STUDY.trials(STUDY.models[0], revision="another", n_layers=4)
    [failure] = Sweep(plan_trials([spec], store), store).run().failures
    assert "ask for 'another'" in failure.reason
    with pytest.raises(OptionError, match=r"concepts="):
        plan_trials([replace(spec, data="unknown")], store)
    with pytest.raises(OptionError, match=r"texts="):
        plan_trials([replace(spec, neutral="unknown")], store)


@pytest.mark.slow
def test_what_will_run_is_said_before_it_runs(tmp_path: Path):
    store, load = ResultStore(tmp_path / "store"), Loads()
    sweep = Sweep(plan_study(STUDY, store), store, load=load)
    speed = sweep.calibrate()
    assert speed is not None
    said = sweep.describe(speed)
    assert f"{N_TRIALS} trials, {N_TRIALS} of them to run" in said
    for word in ("unsteered passes", "steered", "GB", "expected", "tokens/s"):
        assert word in said
    assert speed.seconds(sweep.plan) > 0
    sweep.run()
    assert load.names == ["tiny-llama"]  # calibrating and running load it once
    after = Sweep(plan_study(STUDY, store), store, load=load)
    assert after.calibrate() is None
    assert "0 of them to run" in after.describe(None)


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_a_revision_known_beforehand_is_the_one_that_is_loaded(name: str):
    assert model_revision(name) == load_model(name).revision


def test_texts_are_found_again_by_their_fingerprint(tmp_path: Path):
    [spec, *_] = STUDY.trials(STUDY.models[0], revision="r", n_layers=4)
    plan = plan_trials([spec], ResultStore(tmp_path / "store"))
    assert plan.texts[spec.neutral] == neutral_texts()[:5]

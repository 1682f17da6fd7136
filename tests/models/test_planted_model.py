"""Planted models: trained from a recipe to a known task, on which it is known what steering must do."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from steerlens.activations import Site, extract, planted_concept
from steerlens.concepts import ConceptDataset
from steerlens.errors import ModelError, UnknownNameError
from steerlens.evaluation import score_questions
from steerlens.interventions import Intervention, PreferenceShift
from steerlens.maps import AdditiveMap, GaussianTransport, MeanShift, PairedRidge, SteeringMap, Training
from steerlens.models import LensModel, _planted, load_model, planted_task
from steerlens.models._names import PLANTED_NAMES

SHORT = Training(steps=80, learning_rate=2e-2, patience=80, batch_size=8, weight_decay=0.0)
ENTRY = Site.resid_pre(0)
"""The last word as it enters: the attribute whose change changes the answer."""


@pytest.fixture(scope="module", params=PLANTED_NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def models() -> dict[str, LensModel]:
    return {name: load_model(name) for name in PLANTED_NAMES}


def fitted_on(model: LensModel, pairs: ConceptDataset) -> tuple[Tensor, Tensor, list[str]]:
    found = extract(model, pairs, [ENTRY])[ENTRY]
    return found.negative.double(), found.positive.double(), [str(p.metadata["cell"]) for p in pairs]


def outcome(model: LensModel, pairs: ConceptDataset, steering_map: SteeringMap) -> tuple[float, Tensor]:
    """Share of negative prompts that now have the positive answer, and the change of log-odds of each pair's texts."""
    scores = score_questions(model, pairs.questions, [Intervention({}, 0.0), Intervention({ENTRY: steering_map})])
    before, after = scores.propensity.view(2, -1, 2)  # two questions a pair: positive text, negative text
    assert (before[:, 1] < 0).all()
    return float((after[:, 1] > 0).double().mean()), after - before


def test_it_answers_every_prompt(models: dict[str, LensModel], name: str):
    examples = planted_task(name).examples
    said = models[name].logits([e.prompt for e in examples])[:, -1].argmax(dim=-1).tolist()
    words = models[name].tokenizer.convert_ids_to_tokens(said)
    right = sum(word == e.answer for word, e in zip(words, examples, strict=True))
    assert right >= 0.99 * len(examples)
    assert len({e.answer for e in examples}) > 1


def test_it_answers_the_questions_of_its_concept(models: dict[str, LensModel], name: str):
    questions = planted_concept(name)[:200].questions
    scores = score_questions(models[name], questions).propensity[0]
    wanted = torch.tensor([1.0 if q.side == "positive" else -1.0 for q in questions])
    assert (scores * wanted > 0).double().mean() >= 0.99


def test_it_says_the_answer_and_stops(models: dict[str, LensModel]):
    model = models["planted-cycle"]
    assert model.generate("anna returns two days after monday") == "anna returns two days after monday wednesday"


@pytest.mark.parametrize(
    ("name", "cells"), [("planted-linear", {"0"}), ("planted-xor", {"0,0", "1,1"}), ("planted-cycle", 49)]
)
def test_pairs_tell_their_cells(name: str, cells: object):
    found = {p.metadata["cell"] for p in planted_concept(name)}
    assert found == cells or len(found) == cells


@pytest.mark.slow
def test_on_the_linear_task_the_mean_shift_flips_the_answer(models: dict[str, LensModel]):
    model = models["planted-linear"]
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    site = Site.resid_post(0)
    found = extract(model, fit, [site])[site]
    shift = MeanShift().fit(found.negative, found.positive)
    interventions = [Intervention({site: shift}, s) for s in (0.0, 1.0, -1.0)]
    before, after, back = score_questions(model, test.questions, interventions).propensity.view(3, -1, 2)
    assert (before[:, 1] < 0).all()
    assert (after[:, 1] > 0).double().mean() > 0.95
    assert (back[:, 0] < 0).double().mean() > 0.95


@pytest.mark.slow
def test_on_the_xor_task_the_shift_of_one_context_helps_it_and_hurts_the_other(models: dict[str, LensModel]):
    model = models["planted-xor"]
    fit, _, test = planted_concept("planted-xor").split(seed=0)
    test = test[::3]
    x, y, cells = fitted_on(model, fit)
    cold = torch.tensor([cell == "0,0" for cell in cells])
    is_cold = torch.tensor([p.metadata["cell"] == "0,0" for p in test])
    share, change = outcome(model, test, AdditiveMap((y - x)[cold].mean(0)))
    effects = change.mean(dim=1)
    assert (effects[is_cold] > 0).all()
    assert (effects[~is_cold] < 0).all()
    assert share == pytest.approx(float(is_cold.double().mean()), abs=0.05)
    # Both contexts together have nothing to shift, and their laws are equal: what is not paired sees no difference.
    for blind in (MeanShift().fit(x, y), GaussianTransport(rank=7).fit(x, y)):
        flipped, change = outcome(model, test, blind)
        assert flipped == 0
        assert change.abs().max() < 0.1
    # It exchanges the sizes, and so carries the positive prompts back.
    flipped, change = outcome(model, test, PairedRidge().fit(x, y))
    assert flipped > 0.95
    assert (change[:, 1] > 1).all()
    assert (change[:, 0] < -1).all()


@pytest.mark.slow
def test_on_the_xor_task_a_translation_trained_on_the_output_says_yes_to_everything(models: dict[str, LensModel]):
    """It leaves the data: it is longer than any real step, and no step of either context."""
    model = models["planted-xor"]
    fit, _, test = planted_concept("planted-xor").split(seed=0)
    test = test[::3]
    x, y, _ = fitted_on(model, fit)
    shift = PreferenceShift(training=SHORT).fit_output(model, fit[::3], ENTRY)
    flipped, change = outcome(model, test, shift)
    assert flipped > 0.9
    assert (change[:, 1] > 1).all()
    nearest = torch.cdist(x + shift.vector, y).amin(dim=1)
    assert (nearest > torch.cdist(y.unique(dim=0), y.unique(dim=0)).max() / 2).all()


@pytest.mark.slow
def test_on_the_cyclic_task_every_translation_fails_and_a_paired_map_advances_the_day(models: dict[str, LensModel]):
    model = models["planted-cycle"]
    fit, _, test = planted_concept("planted-cycle").split(seed=0)
    x, y, cells = fitted_on(model, fit)
    assert (y - x).mean(0).norm() < 1e-6 * (y - x).norm(dim=1).mean()
    for day in range(7):
        of_day = torch.tensor([cell.startswith(f"{day},") for cell in cells])
        assert outcome(model, test, AdditiveMap((y - x)[of_day].mean(0)))[0] < 0.5
    trained = PreferenceShift(training=SHORT).fit_output(model, fit, ENTRY)
    assert outcome(model, test, trained)[0] < 0.2
    assert outcome(model, test, PairedRidge().fit(x, y))[0] > 0.95


@pytest.fixture
def short_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("STEERLENS_CACHE", str(tmp_path))
    monkeypatch.setattr(_planted, "TRAINING", {**_planted.TRAINING, "steps": 3, "accuracy": 0.0})
    return tmp_path


def test_a_recipe_gives_the_same_bits(short_recipe: Path):
    task = planted_task("planted-linear")
    before = torch.get_rng_state()
    a, b = (_planted.train_planted(task).state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert torch.equal(torch.get_rng_state(), before)
    _planted.TRAINING["seed"] = 1
    c = _planted.train_planted(task).state_dict()
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


def test_it_is_trained_once_and_a_changed_recipe_trains_again(short_recipe: Path, monkeypatch: pytest.MonkeyPatch):
    first = load_model("planted-linear")
    path = _planted.planted_file("planted-linear")
    assert path.is_file()
    assert path.parent == short_recipe / "models"
    written = path.stat().st_mtime_ns
    assert load_model("planted-linear").revision == first.revision
    assert path.stat().st_mtime_ns == written
    _planted.TRAINING["learning_rate"] = 1e-3
    assert _planted.planted_file("planted-linear") != path
    assert load_model("planted-linear").revision != first.revision
    assert len(list(path.parent.iterdir())) == 2


def test_a_broken_file_is_trained_again(short_recipe: Path):
    first = load_model("planted-linear")
    path = _planted.planted_file("planted-linear")
    path.write_bytes(path.read_bytes()[:1000])
    assert load_model("planted-linear").revision == first.revision


def test_a_task_that_is_not_learned_is_an_error(short_recipe: Path):
    _planted.TRAINING["accuracy"] = 0.99
    with pytest.raises(ModelError, match="of held-out prompts"):
        load_model("planted-linear")


def test_a_cache_that_cannot_be_written_is_an_error(short_recipe: Path):
    (short_recipe / "models").write_text("")
    with pytest.raises(ModelError, match="STEERLENS_CACHE"):
        load_model("planted-linear")


def test_an_unknown_plant_suggests_its_neighbours():
    with pytest.raises(UnknownNameError, match="planted-xor"):
        planted_concept("planted-xr")
    assert set(PLANTED_NAMES) == set(_planted_names())


def _planted_names() -> set[str]:
    from steerlens.models import _planted_tasks

    return set(_planted_tasks._TASKS)

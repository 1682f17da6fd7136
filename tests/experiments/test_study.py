"""A study is a small file: what it says becomes trials, and what it cannot mean is refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from steerlens.activations import SpanTokens
from steerlens.concepts import load_concept
from steerlens.errors import ArtefactError, EstimateError, OptionError, UnknownNameError
from steerlens.evaluation import neutral_texts
from steerlens.experiments import Study, StudyMethod, StudyModel, load_study
from steerlens.experiments._sites import selector
from steerlens.experiments._study import texts_fingerprint

ROOT = Path(__file__).parents[2]
TEXT = """
models = ["tiny-llama", {name = "tiny-gpt2", dtype = "float64"}]
concepts = ["sentiment"]
layers = [1, 2]
methods = ["MeanShift", {name = "LowRankAffine", rank = 2}]
strengths = [-1, 0, 1.0]
seeds = [0, 1]
n_random = 3
n_permuted = 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TEXT, "utf-8")
    return path


def changed(path: Path, old: str, new: str) -> Path:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new), "utf-8")
    return path


def test_the_file_is_the_study(path: Path):
    study = load_study(path)
    assert study == Study(
        name="small",
        models=(StudyModel("tiny-llama"), StudyModel("tiny-gpt2", "float64")),
        concepts=(load_concept("sentiment"),),
        methods=(StudyMethod("MeanShift"), StudyMethod("LowRankAffine", {"rank": 2})),
        layers=(1, 2), strengths=(-1.0, 0.0, 1.0), seeds=(0, 1), n_random=3, n_permuted=1,
    )  # fmt: skip


def test_it_becomes_every_combination_once_with_its_controls(path: Path):
    study = load_study(path)
    trials = study.trials(study.models[0], revision="r", n_layers=4)
    assert len(set(trials)) == len(trials) == study.n_trials() == 2 * 2 * (2 * 2 + 3)
    assert [t.role for t in trials[:7]] == ["method", "method", "permuted", "permuted", "random", "random", "random"]
    assert trials[0].strengths == (-1, 0, 1)
    assert trials[4].strengths == (0, 1)  # directions have no wrong way round
    assert trials[4].metrics == ("effect", "kl", "effect_at_budget")
    assert {t.hook_name for t in trials} == {"blocks.1.hook_resid_post", "blocks.2.hook_resid_post"}
    assert {t.data for t in trials} == {load_concept("sentiment").fingerprint}
    assert trials[1].options["rank"] == 2
    assert {t.options["seed"] for t in trials if t.method == "LowRankAffine"} == {0, 1}


def test_depths_are_places_in_models_of_any_size(path: Path):
    study = replace(load_study(path), layers=(), depths=(0.0, 0.5, 1.0))
    names = [
        list(dict.fromkeys(t.hook_name.split(".")[1] for t in study.trials(study.models[0], revision="r", n_layers=n)))
        for n in (4, 25)
    ]
    assert names == [["0", "2", "3"], ["0", "12", "24"]]
    assert replace(study, depths=(1.0,)).n_trials() == load_study(path).n_trials() / 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("methods", "metods", "'metods' is not a known key of a study. Closest: 'methods'"),
        ('"MeanShift"', '"MeanShit"', "Closest: 'MeanShift'"),
        ("rank = 2", "rnak = 2", "hyperparameter of LowRankAffine. Closest: 'rank'"),
        ('["sentiment"]', '["sentimant"]', "not a known concept. Closest: 'sentiment'"),
        ('dtype = "float64"', 'dtype = "float46"', "Closest: 'float64'"),
        ('dtype = "float64"', 'dtpye = "float64"', "Closest: 'dtype'"),
        ("n_random = 3", 'tokens = "LastTokn"', "Closest: 'LastToken'"),
        ("n_random = 3", 'stream = "resid_pst"', "Closest: 'resid_p"),
        ("n_random = 3", 'metrics = ["efect"]', "Closest: 'effect'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(path: Path, old: str, new: str, message: str):
    with pytest.raises(UnknownNameError) as caught:
        load_study(changed(path, old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layers = [1, 2]", "layers = [1.5]", "layers must be int"),
        ("layers = [1, 2]", "layers = true", "layers must be list"),
        ("layers = [1, 2]", "depths = [2]", "depths go from 0"),
        ("layers = [1, 2]", "layers = [1]\ndepths = [0.5]", "either layers or depths"),
        ("layers = [1, 2]", "", "either layers or depths"),
        ("layers = [1, 2]", "layers = [-1]", "must not be negative"),
        ("strengths = [-1, 0, 1.0]", "strengths = [0, 2]", "include 0 and 1"),
        ("strengths = [-1, 0, 1.0]", "strengths = [0, 1, inf]", "finite"),
        ("seeds = [0, 1]", "seeds = []", "at least one of seeds"),
        ("n_random = 3", "n_random = true", "n_random must be int"),
        ("rank = 2", 'rank = "two"', "LowRankAffine.rank must be a whole number, but got 'two'"),
        ("rank = 2", "rank = 2.5", "LowRankAffine.rank must be a whole number, but got 2.5"),
        ("rank = 2", "rank = true", "LowRankAffine.rank must be a whole number, but got True"),
        ('"MeanShift"', "3", "a method is a name, or a table"),
        ('models = ["tiny-llama"', 'models = [{dtype = "float32"}', "a model is a name"),
        ('["sentiment"]', '["sentiment", "sentiment"]', "different names"),
        ("n_random = 3", "budget = 0", "budget must be positive"),
        ("n_random = 3", "budget = nan", "budget must be positive"),
        ("n_random = 3", "budget = inf", "budget must be positive"),
        ('{name = "tiny-gpt2", dtype = "float64"}', '{name = "tiny-llama"}', "has tiny-llama more than once in models"),
        ('"MeanShift"', '{name = "LowRankAffine", rank = 2, training = {steps = 800}}', "LowRankAffine more than once"),
        ('"MeanShift"', '{name = "LowRankAffine", rank = 2, seed = 1}', "has LowRankAffine more than once in methods"),
        ("layers = [1, 2]", "layers = [1, 2, 1]", "has 1 more than once in layers"),
        ("layers = [1, 2]", "depths = [0.5, 0.50]", "has 0.5 more than once in depths"),
        ("n_random = 3", "splits = [2, 2]", "has 2 more than once in splits"),
        ("seeds = [0, 1]", "seeds = [0, 1, 0]", "has 0 more than once in seeds"),
    ],
)
def test_nonsense_is_refused(path: Path, old: str, new: str, message: str):
    with pytest.raises((OptionError, UnknownNameError)) as caught:
        load_study(changed(path, old, new))
    assert message in str(caught.value)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path):
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("models = ?", "utf-8")
    with pytest.raises(ArtefactError, match=r"bad.toml is not TOML.*line 1"):
        load_study(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("models = ['tiny-llama']", "utf-8")
    with pytest.raises(OptionError, match="lacks concepts, methods"):
        load_study(tmp_path / "bad.toml")


def test_too_few_groups_are_refused_before_anything_runs(path: Path):
    with pytest.raises(EstimateError, match="at least 5 groups"):
        replace(load_study(path), max_pairs=3)


def test_files_are_looked_for_beside_the_study(path: Path, tmp_path: Path):
    source = ROOT / "steerlens" / "concepts" / "data" / "truth.jsonl"
    (tmp_path / "mine.jsonl").write_text(source.read_text("utf-8"), "utf-8")
    study = load_study(changed(path, '["sentiment"]', '["mine.jsonl"]'))
    assert study.concepts[0].name == "mine"
    assert study.concepts[0].fingerprint == load_concept("truth").fingerprint


def test_the_same_method_with_other_hyperparameters_is_another(path: Path):
    study = load_study(changed(path, '"MeanShift"', '{name = "LowRankAffine", rank = 3}'))
    assert [m.options["rank"] for m in study.methods] == [3, 2]
    models = (StudyModel("tiny-llama"), StudyModel("tiny-llama", "float64"))
    assert replace(study, models=models).models == models


def test_a_model_beside_the_study_is_called_as_the_file_calls_it_wherever_the_study_is_started(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mm").mkdir()
    changed(path, '"tiny-llama", {name = "tiny-gpt2", dtype = "float64"}', '"mm", {name = "mm", dtype = "float64"}')
    found = []
    for start, given in ((tmp_path, path.name), (tmp_path.parent, f"{tmp_path.name}/{path.name}"), (ROOT, path)):
        monkeypatch.chdir(start)
        study = load_study(given)
        assert [m.name for m in study.models] == [str(tmp_path / "mm")] * 2
        found.append([t for m in study.models for t in study.trials(m, revision="r", n_layers=4)])
    assert {t.model for t in found[0]} == {"mm"}
    assert found[0] == found[1] == found[2]


def test_the_example_is_a_study():
    study = load_study(ROOT / "examples" / "study.toml")
    assert study.name == "two-concepts"
    assert study.n_trials() == 2 * (2 + 5)


@pytest.mark.parametrize(
    "text",
    [
        "LastToken()",
        "AllTokens()",
        "PromptTokens()",
        "PromptEnd()",
        "AnswerToken()",
        "FromIndex(start=3)",
        "SpanTokens(start=1, stop=4)",
    ],
)
def test_selectors_survive_being_text(text: str):
    assert repr(selector(text)) == text


def test_numbers_of_a_selector_go_by_their_names():
    assert selector("SpanTokens(stop=4, start=1)") == selector("SpanTokens(1, stop=4)") == SpanTokens(1, 4)
    with pytest.raises(OptionError, match="0 <= start < stop, but got 4 and 1"):
        selector("SpanTokens(start=4, stop=1)")


def test_selectors_that_make_no_sense_are_refused():
    assert repr(selector("FromIndex(2)")) == "FromIndex(start=2)"
    with pytest.raises(UnknownNameError, match="LastToken"):
        selector("LastTokn()")
    nonsense = "FromIndex() FromIndex(a) LastToken(3) FromIndex(foo=3) FromIndex(start=1,start=2) SpanTokens(stop=4,1)"
    for text in (*nonsense.split(), "SpanTokens(1, start=2)", "SpanTokens(1, 2, stop=3)", "SpanTokens(stop=4)"):
        with pytest.raises(OptionError, match="tokens must be such as"):
            selector(text)


def test_neutral_texts_are_known_by_their_content():
    texts = neutral_texts()
    assert len({texts_fingerprint(texts[:n]) for n in range(1, len(texts) + 1)}) == len(texts)

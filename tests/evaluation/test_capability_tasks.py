"""Tasks of lm-evaluation-harness with and without steering, offline, on a local file."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import AllTokens, Site
from steerlens.errors import OptionError, UnknownNameError
from steerlens.evaluation import CapabilityReport, SteeredLM, evaluate_tasks, find_tasks
from steerlens.evaluation import _tasks as implementation
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import LensModel, tiny_model, tiny_tokenizer
from steerlens.models._tiny import seeded_model, tiny_config

pytest.importorskip("lm_eval", reason="lm-eval is an extra; CI installs it and runs these tests")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WORDS = ("river", "stone", "cloud", "house", "bread", "light", "chair", "horse", "night", "garden", "letter", "window")
CHOICE = """
task: local_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: multiple_choice
doc_to_text: "Word: {{question}}\\nIn capitals:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
num_fewshot: 2
fewshot_split: test
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: mcc}]
"""
ROLLING = """
task: local_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}} and {{question}} in the house"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
WRITING = """
task: local_writing
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}, cache_dir: CACHE}
test_split: test
output_type: generate_until
doc_to_text: "Word: {{question}}. Again:"
doc_to_target: " {{question}}"
generation_kwargs: {until: ["."], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three local tasks: choices, rolling likelihood, generation."""
    root = tmp_path_factory.mktemp("tasks")
    rows = [
        {"question": w, "choices": [" " + w.upper(), " " + w[::-1], " " + v], "answer": i % 3}
        for i, (w, v) in enumerate(zip(WORDS, WORDS[1:] + WORDS[:1], strict=True))
    ]
    data = root / "words.jsonl"
    data.write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    for name, text in (("choice", CHOICE), ("rolling", ROLLING), ("writing", WRITING)):
        (root / f"{name}.yaml").write_text(text.replace("DATA", str(data)).replace("CACHE", str(root / "cache")))
    return root


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


def arms(model: LensModel) -> dict[str, Intervention]:
    shift = random_direction(model.d_model, norm=8.0, seed=0)
    site = Site.resid_post(2, AllTokens())
    return {"nothing": Intervention({site: shift}, 0.0), "random": Intervention({site: shift}, 2.0)}


@pytest.fixture(scope="module")
def report(model: LensModel, folder: Path) -> CapabilityReport:
    names = ["local_choice", "local_rolling", "local_writing"]
    return evaluate_tasks(model, arms(model), names, limit=None, seed=0, include_path=folder)


def harness_alone(folder: Path) -> dict[str, Any]:
    """The harness's own results with its own Hugging Face class on the same weights."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(
        pretrained=seeded_model(tiny_config("llama"), seed=0),
        tokenizer=tiny_tokenizer(add_bos=True),
        batch_size=4,
        logits_cache=False,
    )
    tasks = TaskManager(include_path=str(folder), include_defaults=False).load(
        ["local_choice", "local_rolling", "local_writing"]
    )
    for task in tasks["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=0)
    found: dict[str, Any] = evaluate(lm, tasks, bootstrap_iters=0)
    return found


def test_unsteered_values_are_the_harness_s_own(report: CapabilityReport, folder: Path):
    expected = harness_alone(folder)
    seen = set()
    for s in report.scores:
        name = s.metric if "," in s.metric else f"{s.metric},none"
        assert s.unsteered.value == pytest.approx(expected["results"][s.task][name], rel=1e-9)
        seen.add((s.task, s.metric))
    assert seen == {
        ("local_choice", "acc"),
        ("local_choice", "acc_norm"),
        ("local_rolling", "word_perplexity"),
        ("local_rolling", "bits_per_byte"),
        ("local_writing", "exact_match"),
    }
    for task, samples in expected["samples"].items():
        ours = report.items[(report.items["task"] == task) & (report.items["intervention"] == "random")]
        assert list(dict.fromkeys(ours["doc_id"])) == [str(s["doc_id"]) for s in samples]


def test_nothing_changes_nothing_and_a_large_random_shift_costs(report: CapabilityReport):
    for s in report.scores:
        if s.intervention == "nothing":
            assert s.steered == s.unsteered
            assert s.difference.value == 0
            assert not s.difference.excludes(0)
            assert s.mcnemar is None or (s.mcnemar.lost, s.mcnemar.gained, s.mcnemar.p_value) == (0, 0, 1)
    moved = {(s.task, s.metric): s for s in report.scores if s.intervention == "random"}
    assert moved["local_rolling", "word_perplexity"].difference.value != 0
    assert (report.items["steered"] != report.items["unsteered"]).any()


def test_metrics_without_a_value_for_an_item_are_named(report: CapabilityReport):
    assert report.left_out == ("local_choice: mcc",)
    assert "left out: local_choice: mcc" in str(report)


def test_it_can_be_saved_and_read_back(report: CapabilityReport, tmp_path: Path):
    again = CapabilityReport.load(report.save(tmp_path / "new"))
    assert again.scores == report.scores
    assert again.items.equals(report.items)
    assert again.to_frame().equals(report.to_frame())
    assert again.provenance == report.provenance
    assert str(again) == str(report)


def test_global_generators_are_left_as_they_were(model: LensModel, folder: Path):
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    evaluate_tasks(model, arms(model), ["local_choice"], limit=6, seed=0, include_path=folder)
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert_close(torch.get_rng_state(), before[1])
    # Type checks in tests draw from Python's own generator, so it is looked at alone.
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with implementation._own_generators():
        random.seed(7)
        random.random()
    assert random.random() == expected


def test_the_limit_and_the_number_of_examples_are_kept(model: LensModel, folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    inner = SteeredLM.loglikelihood

    def spy(self: Any, requests: Any, *rest: Any) -> Any:
        asked.extend(r.args[0] for r in requests)
        return inner(self, requests, *rest)

    monkeypatch.setattr(SteeredLM, "loglikelihood", spy)
    for num_fewshot, examples in ((0, 0), (None, 2), (1, 1)):
        asked.clear()
        found = evaluate_tasks(
            model, arms(model), ["local_choice"], limit=6, seed=0, include_path=folder, num_fewshot=num_fewshot
        )
        assert {s.difference.n for s in found.scores} == {6}
        assert {context.count("Word:") for context in asked} == {examples + 1}
        assert len(asked) == 3 * 6 * 3  # three arms, six items, three choices
        assert asked[:18] == asked[18:36] == asked[36:]


def test_a_task_that_asks_other_questions_each_time_is_refused(
    model: LensModel, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = implementation._run
    calls: list[int] = []

    def other_examples(lm: Any, loaded: Any, limit: Any, seed: int, *rest: Any) -> Any:
        calls.append(1)
        return run(lm, loaded, limit, seed + len(calls), *rest)

    monkeypatch.setattr(implementation, "_run", other_examples)
    with pytest.raises(Exception, match="nothing can be paired"):
        evaluate_tasks(model, arms(model), ["local_choice"], limit=6, seed=0, include_path=folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tasks": []}, OptionError, "non-empty list"),
        ({"tasks": "local_choice"}, OptionError, "non-empty list"),
        ({"limit": 4}, OptionError, "at least 5"),
        ({"include_path": "/nowhere"}, OptionError, "no folder"),
        ({"interventions": {}}, OptionError, "names to interventions"),
        ({"tasks": ["local_choise"]}, UnknownNameError, "'local_choice'"),
    ],
)
def test_bad_arguments_say_what_is_expected(
    model: LensModel, folder: Path, change: dict[str, Any], error: type[Exception], message: str
):
    given = {"interventions": arms(model), "tasks": ["local_choice"], "limit": 6, "include_path": folder, **change}
    with pytest.raises(error, match=message):
        evaluate_tasks(model, seed=0, **given)


def test_data_that_cannot_be_had_is_named(model: LensModel, folder: Path, tmp_path: Path):
    text = CHOICE.replace("local_choice", "lost").replace("DATA", str(tmp_path / "lost.jsonl"))
    (tmp_path / "lost.yaml").write_text(text.replace("CACHE", str(tmp_path / "cache")))
    with pytest.raises(OptionError, match="lost cannot be loaded"):
        evaluate_tasks(model, arms(model), ["lost"], limit=6, seed=0, include_path=tmp_path)


def test_without_the_harness_the_extra_is_named(model: LensModel, monkeypatch: pytest.MonkeyPatch):
    import steerlens.evaluation

    monkeypatch.setattr(implementation, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"steerlens\[eval\]"):
        evaluate_tasks(model, arms(model), ["local_choice"], limit=6, seed=0)
    with pytest.raises(OptionError, match=r"steerlens\[eval\]"):
        find_tasks(["local_choice"], None)
    with pytest.raises(OptionError, match=r"steerlens\[eval\]"):
        steerlens.evaluation.SteeredLM  # noqa: B018

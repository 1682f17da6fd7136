"""Capability: the bundled set, and what is made of answers to single items."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from steerlens.activations import AllTokens, Site
from steerlens.errors import ArtefactError, EstimateError, OptionError
from steerlens.evaluation import (
    CAPABILITY_COLUMNS,
    CAPABILITY_ITEM_COLUMNS,
    CapabilityReport,
    capability_items,
    capability_report,
    joined,
    mini_capability,
    score_continuations,
)
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import LensModel, load_model, tiny_model
from steerlens.numerics import cluster_mean


def frame(before: list[float], after: list[float], metric: str = "acc", weight: float | list[float] = 1.0):
    n = len(before)
    columns = {
        "intervention": ["x"] * n, "task": ["t"] * n, "doc_id": [str(i) for i in range(n)], "metric": [metric] * n,
        "unsteered": before, "steered": after, "weight": np.broadcast_to(weight, n),
    }  # fmt: skip
    return pd.DataFrame(columns)[list(CAPABILITY_ITEM_COLUMNS)]


def only(items: pd.DataFrame):
    (score,) = capability_report(items, seed=0, provenance={}).scores
    return score


def test_mcnemar_counts_items_that_changed_and_is_the_sign_test():
    before = [1.0] * 9 + [0.0] * 6
    after = [0.0] * 7 + [1.0] * 2 + [1.0] * 1 + [0.0] * 5
    score = only(frame(before, after))
    assert score.mcnemar is not None
    assert (score.mcnemar.lost, score.mcnemar.gained) == (7, 1)
    # Of 8 items that changed, at most one on the rarer side: 2 · (1 + 8) / 2^8.
    assert score.mcnemar.p_value == pytest.approx(2 * 9 / 256)
    assert score.difference.value == pytest.approx(-6 / 15)


def test_mcnemar_is_that_of_statsmodels():
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables", reason="statsmodels comes with dev tools")
    rng = np.random.default_rng(0)
    before, after = (rng.random(40) < 0.8).astype(int), (rng.random(40) < 0.5).astype(int)
    table = pd.crosstab(before, after).to_numpy()
    score = only(frame(before.astype(float).tolist(), after.astype(float).tolist()))
    assert score.mcnemar is not None
    assert score.mcnemar.p_value == pytest.approx(contingency.mcnemar(table, exact=True).pvalue)
    assert 1e-6 < score.mcnemar.p_value < 0.2


def test_shares_have_wilson_intervals_and_differences_resample_items():
    rng = np.random.default_rng(1)
    before, after = (rng.integers(0, 2, 30).astype(float) for _ in range(2))
    score = only(frame(before.tolist(), after.tolist()))
    wilson = stats.binomtest(int(before.sum()), 30).proportion_ci(method="wilson")
    assert (score.unsteered.low, score.unsteered.high) == pytest.approx((wilson.low, wilson.high))
    assert score.difference == cluster_mean(after - before, [("t", str(i)) for i in range(30)], seed=0)


def test_no_change_in_few_items_is_not_certainty():
    few, many = (only(frame([1.0, 0.0] * n, [1.0, 0.0] * n)).difference for n in (5, 200))
    assert few.value == many.value == 0
    # With 0 of 10 items changed, a share of 31 % would go unseen once in forty times: .025^(1/10).
    assert few.high == -few.low == pytest.approx(1 - 0.025 ** (1 / 10))
    assert many.high < 0.01


def test_every_item_lost_is_not_certainty_either():
    lost = only(frame([1.0] * 10, [0.0] * 10)).difference
    assert (lost.value, lost.low) == (-1, -1)
    assert lost.high == pytest.approx(-1 + 2 * (1 - 0.025 ** (1 / 10)))


def test_weighted_log_likelihoods_become_perplexity():
    log_prob, words = np.array([-3.0, -10.0, -4.0, -8.0, -5.0, -6.0]), np.array([2.0, 5.0, 3.0, 3.0, 4.0, 2.0])
    items = frame((log_prob / words).tolist(), (2 * log_prob / words).tolist(), "word_perplexity", words.tolist())
    score = only(items)
    assert score.unsteered.value == pytest.approx(np.exp(-log_prob.sum() / words.sum()))
    assert score.steered.value == pytest.approx(np.exp(-2 * log_prob.sum() / words.sum()))
    assert score.mcnemar is None
    bits = only(items.assign(metric="bits_per_byte"))
    assert bits.unsteered.value == pytest.approx(-log_prob.sum() / words.sum() / np.log(2))


def test_too_few_or_broken_items_are_errors():
    with pytest.raises(EstimateError, match="at least 5"):
        only(frame([1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(EstimateError, match="at least 5"):
        only(frame([1.0] * 4, [1.0] * 4))
    with pytest.raises(EstimateError, match="not finite"):
        only(frame([0.5, float("nan"), 0.1, 0.2, 0.3], [0.1] * 5))


@pytest.fixture(scope="module")
def model() -> LensModel:
    return tiny_model("llama", dtype="float64")


def arms(model: LensModel, norm: float) -> dict[str, Intervention]:
    plan = {Site.resid_post(model.n_layers // 2, AllTokens()): random_direction(model.d_model, norm=norm, seed=0)}
    return {"nothing": Intervention(plan, 0.0), "random": Intervention(plan, 1.0)}


@pytest.fixture(scope="module")
def report(model: LensModel) -> CapabilityReport:
    return mini_capability(model, arms(model, 12.0), seed=0)


def test_the_bundled_set_is_large_varied_and_well_formed():
    items = capability_items()
    kinds = {kind: [i for i in items if i.kind == kind] for kind in {i.kind for i in items}}
    assert len(items) >= 60
    assert len(kinds) >= 6
    assert min(map(len, kinds.values())) >= 20
    assert len({i.id for i in items}) == len({(i.context, i.choices) for i in items}) == len(items)
    for i in items:
        assert 0 <= i.answer < len(i.choices) == len(set(i.choices))
        assert i.context == i.context.strip()
        assert all(c.strip() for c in i.choices)
    # No place is right so often that always choosing it would beat a blind guess by much.
    for of_kind in kinds.values():
        blind = sum(1 / len(i.choices) for i in of_kind) / len(of_kind)
        for place in range(4):
            assert np.mean([i.answer == place for i in of_kind]) < blind + 0.1


def test_answers_are_those_of_one_score_at_a_time(model: LensModel, report: CapabilityReport):
    items = capability_items()
    for i in (0, 30, 60, 100, 140):
        item = items[i]
        for name, column in (("nothing", "unsteered"), ("random", "steered")):
            one = arms(model, 12.0)[name]
            found = score_continuations(model, [item.context], [item.choices], [one]).log_prob[0].numpy()
            rows = report.items[(report.items["intervention"] == "random") & (report.items["doc_id"] == item.id)]
            value = dict(zip(rows["metric"], rows[column], strict=True))
            assert value["acc"] == float(found.argmax() == item.answer)
            expected = found[item.answer] - np.log(np.exp(found - found.max()).sum()) - found.max()
            assert value["log_prob"] == pytest.approx(expected, abs=1e-8)


def test_the_total_holds_every_kind_and_nothing_changes_nothing(report: CapabilityReport):
    total = {(s.intervention, s.metric): s for s in report.scores if s.task == "mini"}
    assert total["random", "acc"].difference.n == len(capability_items())
    for s in report.scores:
        if s.intervention == "nothing":
            assert s.difference.value == 0
    assert total["random", "log_prob"].difference.value != 0
    assert list(report.to_frame().columns) == list(CAPABILITY_COLUMNS)
    assert len(report.to_frame()) == len(report.scores) == 2 * 2 * 7


def test_it_is_written_and_read_back_and_says_when_it_cannot_be(report: CapabilityReport, tmp_path: Path):
    folder = report.save(tmp_path / "a" / "b")
    again = CapabilityReport.load(folder)
    assert again.scores == report.scores
    assert again.items.equals(report.items)
    assert again.to_frame().equals(report.to_frame())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OptionError, match="folder"):
        report.save(tmp_path / "file")
    document = json.loads((folder / "capability.json").read_text("utf-8"))
    for broken in ({**document, "schema": "other/1"}, {k: v for k, v in document.items() if k != "scores"}, [1]):
        (folder / "capability.json").write_text(json.dumps(broken), "utf-8")
        with pytest.raises(ArtefactError, match=r"capability\.json"):
            CapabilityReport.load(folder)
    (folder / "capability.json").unlink()
    with pytest.raises(ArtefactError, match="cannot be read"):
        CapabilityReport.load(folder)
    with pytest.raises(ArtefactError, match="items"):
        CapabilityReport.load(tmp_path / "nowhere")


def test_reports_of_one_model_can_be_joined(report: CapabilityReport):
    both = joined([report, report])
    assert both.scores == report.scores * 2
    assert len(both.items) == 2 * len(report.items)
    assert both.provenance["tasks"] == ["mini", "mini"]


def test_interventions_need_names(model: LensModel):
    with pytest.raises(OptionError, match="names to interventions"):
        mini_capability(model, {}, seed=0)


@pytest.mark.real
@pytest.mark.slow
def test_the_real_model_knows_a_part_of_every_kind_and_a_large_random_shift_takes_it():
    model = load_model("smollm2-135m-instruct")
    found = mini_capability(model, arms(model, 300.0), seed=0)
    chance = found.provenance["chance"]
    for s in found.scores:
        if s.metric == "acc" and s.intervention == "nothing" and s.task != "mini":
            assert chance[s.task] < s.unsteered.low < s.unsteered.high < 1
    lost = {(s.intervention, s.metric): s for s in found.scores if s.task == "mini"}
    assert lost["random", "acc"].difference.high < 0
    assert lost["random", "acc"].mcnemar.p_value < 0.01
    assert lost["random", "log_prob"].difference.high < 0
    assert lost["nothing", "acc"].difference.value == 0


def test_a_task_with_too_few_items_is_named():
    with pytest.raises(EstimateError, match=r"Task 't' has 3 items with a value of 'acc', but .* at least 5"):
        only(frame([1.0, 0.0, 1.0], [1.0, 1.0, 1.0]))
    assert only(frame([1.0, 0.0, 1.0, 0.0, 1.0], [1.0] * 5)).difference.n == 5

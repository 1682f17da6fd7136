"""Continuations scored by contrast of layers, against a loop over plain rows; and what normalising changes."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, logsumexp, rel_entr, softmax
from scipy.stats import spearmanr

from steerlens.activations import AllTokens, Site
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation import (
    EXCLUDED,
    LAYER_CHOICE_COLUMNS,
    ChoiceQuestion,
    capability_questions,
    dola_multiple_choice,
    score_continuations,
    score_dola,
)
from steerlens.evaluation import _dola_scores as dola_scores
from steerlens.interventions import DoLa, candidate_layers, steer
from steerlens.maps import random_direction
from steerlens.models import LensModel, load_model, tiny_model

PROMPTS = ["The film was", "A considerably longer text about nothing at all", "Two dogs"]
CONTINUATIONS = [[" good", " bad and long"], [" in the sea", " is", " is not"], [" ran"]]
ARMS = (
    DoLa((0, 1, 2, 3), alpha=0.0),
    DoLa((0, 1, 2, 3), alpha=0.05, normalisation="vocabulary"),
    DoLa((3, 1), alpha=0.05),
    DoLa((2,), alpha=0.3, divergence="reversed"),
    DoLa.as_published((0, 1, 2, 3), alpha=0.0),
    DoLa.as_published((0, 2), alpha=0.1),
    replace(DoLa.as_published((0, 2), alpha=0.1), normalisation="vocabulary"),  # their FACTOR script
)


@pytest.fixture(params=("gpt2", "llama", "gemma3", "qwen2"), scope="module")
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@cache
def twin(name: str) -> LensModel:
    """The same weights, for Hugging Face leaves hooks behind where it has collected hidden states."""
    return tiny_model(name.removeprefix("tiny-"), dtype="float64")


def one_score(model: LensModel, text: str, n_prompt: int, dola: DoLa) -> tuple[float, list[int]]:
    """One text in one row, token by token, in numpy, from Hugging Face's hidden states."""
    ids = model.encode(text)
    with torch.no_grad():
        out = model.bridge.original_model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    head = model.bridge.original_model.get_output_embeddings().weight
    total, picks = 0.0, []
    for at in range(n_prompt - 1, len(ids) - 1):
        last = out.logits[0, at].numpy()
        p = softmax(last)
        early = {}
        for j in dola.layers:
            x = out.hidden_states[j][0, at]
            early[j] = (head @ (model.bridge.ln_final.original_component(x) if dola.norm == "final" else x)).numpy()
        far = []
        for j in dola.layers:
            q = softmax(early[j])
            m = (p + q) / 2
            reversed_ = 0.5 * (np.mean(rel_entr(m, p)) + np.mean(rel_entr(m, q)))
            far.append(jensenshannon(p, q) ** 2 if dola.divergence == "jensen-shannon" else reversed_)
        picks.append(dola.layers[int(np.argmax(far))])
        f = log_softmax(last) - log_softmax(early[picks[-1]])
        kept = p >= dola.alpha * p.max()
        if dola.normalisation != "none":
            f = f - logsumexp(f if dola.normalisation == "vocabulary" else f[kept])
        total += float(f[ids[at + 1]]) if kept[ids[at + 1]] else EXCLUDED
    return total, picks


def expected(model: LensModel, dola: DoLa) -> tuple[list[float], list[int]]:
    found = [
        one_score(model, prompt + c, len(model.encode(prompt)), dola)
        for prompt, of in zip(PROMPTS, CONTINUATIONS, strict=True)
        for c in of
    ]
    return [score for score, _ in found], [pick for _, picks in found for pick in picks]


@pytest.mark.parametrize("cells", [64, 3])
def test_scores_equal_a_loop_over_texts(model: LensModel, cells: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dola_scores, "CELLS", cells)
    found = score_dola(model, PROMPTS, CONTINUATIONS, ARMS)
    for arm, scores, chosen in zip(ARMS, found.score, found.chosen, strict=True):
        wanted, picks = expected(twin(model.name), arm)
        torch.testing.assert_close(scores, torch.tensor(wanted, dtype=torch.float64), rtol=1e-8, atol=1e-8)
        assert chosen.tolist() == picks
    assert found.prompt.tolist() == [0, 0, 1, 1, 1, 2]


def test_the_baseline_is_the_log_probability(model: LensModel):
    found = score_dola(model, PROMPTS, CONTINUATIONS, ARMS[:1])
    torch.testing.assert_close(found.baseline, score_continuations(model, PROMPTS, CONTINUATIONS).log_prob[0])


def test_arms_do_not_depend_on_each_other(model: LensModel):
    together = score_dola(model, PROMPTS, CONTINUATIONS, ARMS)
    for k, arm in enumerate(ARMS):
        alone = score_dola(model, PROMPTS, CONTINUATIONS, [arm])
        torch.testing.assert_close(together.score[k], alone.score[0], rtol=1e-12, atol=1e-12)
        assert together.chosen[k].tolist() == alone.chosen[0].tolist()


def test_each_prompt_runs_once_for_all_arms_and_continuations(model: LensModel):
    score_dola(model, PROMPTS, CONTINUATIONS, ARMS[:1])  # what a model is asked once is asked now
    passes = []
    handle = model.bridge.original_model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        score_dola(model, PROMPTS, CONTINUATIONS, ARMS)
    finally:
        handle.remove()
    assert len(passes) == 1


def test_under_steering_the_steered_model_is_scored(model: LensModel):
    plan = {Site.resid_pre(1, AllTokens()): random_direction(model.d_model, norm=6.0, seed=0)}
    plain = score_dola(model, PROMPTS, CONTINUATIONS, ARMS[:1])
    with steer(model, plan):
        steered = score_dola(model, PROMPTS, CONTINUATIONS, (*ARMS[:1], DoLa((0,))))
        # Twice steered: what is read at the steered site is what leaves it.
        assert steered.baseline.tolist() == pytest.approx(
            score_continuations(model, PROMPTS, CONTINUATIONS).log_prob[0].tolist()
        )
    assert float((steered.score[0] - plain.score[0]).abs().min()) > 1e-6
    with steer(model, plan, strength=0.0):
        torch.testing.assert_close(score_dola(model, PROMPTS, CONTINUATIONS, ARMS[:1]).score, plain.score)


def test_whole_rows_and_trees_give_the_same_scores(model: LensModel):
    plain = score_dola(model, PROMPTS, CONTINUATIONS, ARMS)
    with model.hooked("blocks.0.hook_resid_pre", lambda x, *, hook: None):
        assert model.is_hooked
        rows = score_dola(model, PROMPTS, CONTINUATIONS, ARMS)
    torch.testing.assert_close(rows.score, plain.score, rtol=1e-9, atol=1e-9)
    assert rows.chosen.tolist() == plain.chosen.tolist()


def test_streams_are_read_as_steering_leaves_them(model: LensModel):
    """Moving the stream that enters block 1 moves what is read of layer 1, and leaves layer 0 as it was."""
    x = torch.zeros(model.d_model, dtype=torch.float64)
    x[0] = 30.0
    one = [DoLa((j,), alpha=0.0, normalisation="none") for j in (0, 1)]
    early = []
    for move in (0.0, 1.0):
        with model.hooked("blocks.1.hook_resid_pre", lambda v, *, hook, move=move: v + move * x):
            found = score_dola(model, PROMPTS, CONTINUATIONS, one)
            early.append(found.baseline - found.score)
    torch.testing.assert_close(early[0][0], early[1][0])
    assert float((early[0][1] - early[1][1]).abs().min()) > 1e-3


def test_raw_differences_favour_long_answers_and_normalised_ones_do_not():
    """Early layers without the final norm are almost uniform, and pay nearly log V nats for every token.

    Answers are random bytes: nothing but their length tells them apart.
    """
    model = tiny_model("llama", dtype="float64")
    with torch.no_grad():  # small embeddings, as trained models have them
        model.bridge.original_model.get_input_embeddings().weight.mul_(1e-3)
    draw = np.random.default_rng(0)
    answers = [["".join(draw.choice(list("qzxjkvw"), size=n)) for n in (2, 4, 8, 16)] for _ in PROMPTS]
    arms = [DoLa((0,), 0.0, normalisation=kind, norm="none") for kind in ("none", "vocabulary")]
    found = score_dola(model, PROMPTS, answers, arms)
    gained = found.score - found.baseline
    expected = math.log(model.d_vocab) * found.n_tokens.double()
    torch.testing.assert_close(gained[0], expected, rtol=0.02, atol=0.0)
    assert spearmanr(gained[0], found.n_tokens).statistic > 0.95
    torch.testing.assert_close(gained[1], torch.zeros_like(expected), atol=0.05 * math.log(model.d_vocab), rtol=0.0)
    questions = [
        ChoiceQuestion(p, (a[0],), tuple(a[1:]), f"group {k}")
        for k in range(6)
        for p, a in [(PROMPTS[k % 3] + str(k), answers[k % 3])]
    ]
    report = dola_multiple_choice(model, questions, {"raw": arms[0], "normalised": arms[1]}, seed=0).to_frame()
    longest = report[report["metric"] == "longest"].set_index("arm")["value"]
    assert longest["normalised"] == longest["baseline"] == 0
    assert longest["raw"] > 0


def test_a_plausibility_cut_excludes_answers():
    model = tiny_model("llama", dtype="float64")
    loose, strict = score_dola(model, PROMPTS, CONTINUATIONS, [DoLa((0, 2), 0.0), DoLa((0, 2), 0.9)]).score
    assert float(loose.min()) > EXCLUDED
    assert float(strict.min()) <= EXCLUDED


def test_shares_of_layers_add_up_and_have_intervals():
    model = tiny_model("gpt2", dtype="float64")
    prompts = [f"{p} {k}" for k in range(3) for p in PROMPTS]
    found = score_dola(model, prompts, CONTINUATIONS * 3, ARMS[:2])
    frame = found.layer_choices(seed=0, arms=("one", "two"))
    assert tuple(frame.columns) == LAYER_CHOICE_COLUMNS
    assert frame.groupby("arm")["share"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert (frame["share_low"] <= frame["share"]).all()
    assert frame["n_clusters"].unique().tolist() == [9]
    by_hand = (found.chosen[0] == 2).double().mean()
    assert frame.set_index(["arm", "layer"]).loc[("one", 2), "share"] == pytest.approx(float(by_hand))
    with pytest.raises(EstimateError, match="at least 5"):
        score_dola(model, PROMPTS, CONTINUATIONS, ARMS[:1]).layer_choices(seed=0)


def test_what_cannot_be_scored_is_refused():
    model = tiny_model("llama")
    with pytest.raises(OptionError, match="not a string"):
        score_dola(model, "The film was", [[" good"]], ARMS[:1])
    with pytest.raises(OptionError, match="at least one continuation"):
        score_dola(model, PROMPTS, CONTINUATIONS[:2], ARMS[:1])
    with pytest.raises(OptionError, match="at least one contrast"):
        score_dola(model, PROMPTS, CONTINUATIONS, [])
    with pytest.raises(OptionError, match="no candidates"):
        score_dola(model, PROMPTS, CONTINUATIONS, [DoLa((9,))])
    questions = [ChoiceQuestion(p, (of[0],), (" else",), "g") for p, of in zip(PROMPTS, CONTINUATIONS, strict=True)]
    with pytest.raises(EstimateError, match="5 groups"):
        dola_multiple_choice(model, questions, {"one": ARMS[0]}, seed=0)
    with pytest.raises(OptionError, match="not called 'baseline'"):
        dola_multiple_choice(model, questions, {"baseline": ARMS[0]}, seed=0)


def test_multiple_choice_is_the_mean_over_questions_with_paired_changes():
    model = tiny_model("llama", dtype="float64")
    questions = capability_questions()[:12]
    report = dola_multiple_choice(model, questions, {"low": DoLa(candidate_layers(4, "all"))}, seed=0)
    frame = report.to_frame().set_index(["arm", "metric"])
    scores = score_continuations(model, [q.prompt for q in questions], [(*q.true, *q.false) for q in questions])
    parts = torch.split(scores.log_prob[0], [4] * 12)
    right = float(np.mean([float(s[0] > s[1:].max()) for s in parts]))
    assert frame.loc[("baseline", "mc1"), "value"] == pytest.approx(right)
    assert frame.loc[("baseline", "mc2"), "value"] == pytest.approx(float(np.mean([s.softmax(0)[0] for s in parts])))
    assert frame.loc[("baseline", "mc1"), "chance"] == 0.25
    assert (frame.loc["baseline", ["change", "change_low", "change_high"]] == 0).all(axis=None)
    for metric in ("mc1", "mc2", "mc3"):
        apart = frame.loc[("low", metric), "value"] - frame.loc[("baseline", metric), "value"]
        assert frame.loc[("low", metric), "change"] == pytest.approx(apart)
    assert "baseline" in str(report)
    assert set(report.choices["layer"]) == {0, 2}


def test_shares_of_all_questions_and_changes_of_none_are_not_known_exactly():
    """Questions whose right answer is what both the model and the contrast prefer: mc1 is 1, and does not change."""
    model, arm = tiny_model("llama", dtype="float64"), DoLa(candidate_layers(4, "all"))
    asked = capability_questions()[:40]
    answers = [(*q.true, *q.false) for q in asked]
    found = score_dola(model, [q.prompt for q in asked], answers, [arm])
    ends = np.cumsum([len(a) for a in answers])[:-1]
    best = [
        [np.flatnonzero(s == s.max()).tolist() for s in np.split(row.numpy(), ends)]
        for row in (found.baseline, found.score[0])
    ]
    questions = [
        ChoiceQuestion(q.prompt, (a[i[0]],), tuple(x for x in a if x != a[i[0]]), f"{n}")
        for n, (q, a, i, j) in enumerate(zip(asked, answers, *best, strict=True))
        if i == j and len(i) == 1
    ]
    assert len(questions) >= 5
    frame = dola_multiple_choice(model, questions, {"low": arm}, seed=0).to_frame().set_index(["arm", "metric"])
    for metric in ("mc1", "mc3"):  # with one true answer they are the same
        for name in ("baseline", "low"):
            row = frame.loc[(name, metric)]
            assert row["low"] < row["value"] == row["high"] == 1
        changed = frame.loc[("low", metric)]
        assert changed["change_low"] < changed["change"] == 0 < changed["change_high"]
    # The baseline is the same answers, not other ones that agree.
    assert (frame.loc["baseline", ["change_low", "change_high"]] == 0).all(axis=None)


@pytest.mark.real
@pytest.mark.slow
def test_on_the_demo_model_raw_unnormed_scores_follow_length_more_than_normalised_ones():
    model = load_model("smollm2-135m-instruct")
    questions = capability_questions()[::6]
    low = candidate_layers(model.n_layers, "low")
    found = score_dola(
        model,
        [q.prompt for q in questions],
        [(*q.true, *q.false) for q in questions],
        [DoLa.as_published(low, alpha=0.0), DoLa(low, alpha=0.0, norm="none", normalisation="vocabulary")],
    )
    per_token = (found.score - found.baseline) / found.n_tokens
    assert float(per_token[0].median()) > 1.0
    assert float(per_token[1].median()) < float(per_token[0].median()) - 1.0

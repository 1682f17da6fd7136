"""Scores of in-context tasks against whole forward passes over one text at a time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from steerlens.activations import AllTokens, LastToken, Site
from steerlens.concepts import FORMATS, InContextTask, TaskPrompt, load_task, task_prompts
from steerlens.errors import ConceptError, EstimateError, OptionError, UnknownNameError
from steerlens.evaluation import (
    TASK_METRICS,
    TASK_SCORE_COLUMNS,
    UNSTEERED,
    TaskScores,
    score_tasks,
    task_baselines,
)
from steerlens.interventions import Intervention, answer_scores, steer
from steerlens.maps import AdditiveMap, random_direction
from steerlens.models import LensModel, TokenBatch, load_model, tiny_model

TASK = InContextTask(
    "mixed",
    (
        ("hot", "cold"),
        ("the old river", "a new sea, wide and deep"),
        ("in", "out"),
        ("x", "y"),
        ("an", "the"),
        ("France", "Paris"),
        ("one", "two and a half"),
        ("big", "small"),
    ),
    instruction="Answer in one word.",
)
# Answers of one token and of many, short and long prompts in one batch.
PROMPTS = (
    *task_prompts(TASK, TASK, format="qa", n_shots=0, seed=0),
    *task_prompts(TASK, TASK, format="arrow", n_shots=3, distractors=1, seed=0),
    *task_prompts(TASK, TASK, format="qa", n_shots=2, shuffled=True, seed=1),
)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


def plans(model: LensModel) -> list[Intervention]:
    shift = random_direction(model.d_model, norm=3.0, seed=0)
    return [
        UNSTEERED,
        Intervention({Site.resid_post(2): shift}, 1.0),
        Intervention({}, 1.0),
        Intervention({Site.resid_pre(1, AllTokens()): shift}, 2.0),
        Intervention({Site.attn_out(1): shift}, -1.0),
    ]


def whole_pass(model: LensModel, prompt: TaskPrompt, intervention: Intervention) -> tuple[Tensor, list[int]]:
    """Log-probabilities at the columns from which the answer is predicted, and the answer's ids."""
    alone, ids = model.encode(prompt.prompt), model.encode(prompt.prompt + prompt.answer)
    assert ids[: len(alone)] == alone, "the tokenizer merges across the border; choose other words"
    n = len(alone)
    tokens = TokenBatch.from_rows([ids], pad_id=model.pad_id, n_prompt=[n])
    with steer(model, intervention.plan, strength=intervention.strength):
        return model.logits(tokens)[0].log_softmax(-1)[n - 1 : -1], ids[n:]


def test_scores_are_those_of_one_whole_pass_for_each_text(model: LensModel):
    found = score_tasks(model, PROMPTS, plans(model))
    for k, plan in enumerate(plans(model)):
        for i, prompt in enumerate(PROMPTS):
            log_probs, ids = whole_pass(model, prompt, plan)
            of_token = log_probs[range(len(ids)), ids]
            assert int(found.n_tokens[i]) == len(ids)
            assert float(found.log_prob[k, i]) == pytest.approx(float(of_token.sum()), abs=1e-8)
            assert float(found.first_log_prob[k, i]) == pytest.approx(float(of_token[0]), abs=1e-8)
            order = log_probs[0].argsort(descending=True).tolist()
            assert int(found.first_rank[k, i]) == order.index(ids[0])
            assert bool(found.first_correct[k, i]) == (order[0] == ids[0])
            assert bool(found.correct[k, i]) == (log_probs.argmax(-1).tolist() == ids)
    assert found.n_tokens.min() == 1 < 3 < found.n_tokens.max(), "answers of one token and of many"
    assert (found.log_prob[[1, 3, 4]] - found.log_prob[0]).abs().min() > 1e-6, "steering acted"
    torch.testing.assert_close(found.log_prob[2], found.log_prob[0], rtol=0, atol=0)


def greedy(model: LensModel, ids: list[int], n: int) -> list[int]:
    """The ids that the model writes after these, one by one, from whole passes."""
    written = list(ids)
    for _ in range(n):
        tokens = TokenBatch.from_rows([written], pad_id=model.pad_id)
        written.append(int(model.logits(tokens)[0, -1].argmax()))
    return written[len(ids) :]


def test_an_answer_is_right_if_greedy_decoding_writes_it_and_wrong_if_one_token_differs(model: LensModel):
    """Answers are the model's own greedy text, whole, and with the last or the first token another.

    Of all questions and demonstrations one is taken whose text is cut into the same tokens when it is read again.
    """
    for base in (p for seed in range(20) for p in task_prompts(TASK, TASK, format="qa", n_shots=1, seed=seed)):
        ids = model.encode(base.prompt)
        tokens = [str(model.tokenizer.decode(i)) for i in greedy(model, ids, 3)]
        other = next(w for w in (" the", " on", " x") if w not in tokens)
        texts = ("".join(tokens), "".join(tokens[:2]) + other, other + "".join(tokens[1:]))
        whole = [model.encode(base.prompt + text) for text in texts]
        if all(one[: len(ids)] == ids and len(one) == len(ids) + 3 for one in whole):
            break
    else:
        pytest.fail("no greedy text is read back as it was written; try more seeds")
    found = score_tasks(model, [replace(base, answer=text) for text in texts])
    assert found.correct[0].tolist() == [True, False, False]
    assert found.first_correct[0].tolist() == [True, True, False]
    assert [rank > 0 for rank in found.first_rank[0].tolist()] == [False, False, True]


def test_a_push_towards_a_token_makes_it_the_likeliest_and_one_away_the_last(model: LensModel):
    """Closed form: far along a token's row of the unembedding, its logit beats all others."""
    prompts = task_prompts(TASK, TASK, format="arrow", n_shots=1, seed=3)
    token = model.encode(prompts[0].prompt + prompts[0].answer)[len(model.encode(prompts[0].prompt))]
    W = model.bridge.original_model.get_output_embeddings().weight.detach().double()
    row = W[token] - W.mean(0)
    beats = (W @ row).argmax() == token
    assert beats
    plan = {Site.resid_post(model.n_layers - 1, LastToken()): AdditiveMap(1e6 * row / row.norm())}
    found = score_tasks(model, prompts[:1], [UNSTEERED, Intervention(plan), Intervention(plan, -1.0)])
    assert bool(found.first_correct[1, 0])
    assert not bool(found.first_correct[0, 0])
    assert int(found.first_rank[0, 0]) < int(found.first_rank[2, 0])


def test_the_order_and_company_of_prompts_change_nothing(model: LensModel):
    both = score_tasks(model, PROMPTS, plans(model))
    alone = score_tasks(model, PROMPTS[::-1], plans(model))
    torch.testing.assert_close(alone.log_prob.flip(1), both.log_prob, rtol=0, atol=1e-9)
    assert (alone.first_rank.flip(1) == both.first_rank).all()
    part = both.of_prompts(3, 9).under(1)
    assert part.prompts == PROMPTS[3:9]
    assert part.log_prob.tolist() == [both.log_prob[1, 3:9].tolist()]


def made_up(correct: list[list[int]], prompts: tuple[TaskPrompt, ...]) -> TaskScores:
    """Scores whose other numbers follow from whether the answer is right."""
    right = torch.tensor(correct, dtype=torch.bool)
    return TaskScores(
        prompts,
        right,
        right,
        right.double() - 2,
        right.double() - 1,
        (~right).long() * 3,
        torch.ones(len(prompts)).long(),
    )


PLAIN = task_prompts(TASK, TASK, format="qa", n_shots=0, seed=0)


def test_a_share_is_the_mean_and_at_none_or_all_its_interval_has_a_width():
    found = made_up([[0] * 8, [1] * 8, [1, 1, 0, 0, 0, 0, 1, 0]], PLAIN).estimates("accuracy", seed=0)
    assert [e.value for e in found] == [0, 1, 3 / 8]
    assert found[0].low == 0 < 0.2 < found[0].high < 0.6
    assert found[1].high == 1 > 0.8 > found[1].low > 0.4
    assert found[0].high == pytest.approx(1 - found[1].low)
    assert found[2].low < 3 / 8 < found[2].high
    assert all(e.n == e.n_clusters == 8 for e in found)


def test_prompts_about_one_word_count_as_one():
    prompts = (*PLAIN, *task_prompts(TASK, TASK, format="arrow", n_shots=0, seed=0))
    (found,) = made_up([[1, 0, 0, 1, 0, 1, 1, 0] * 2], prompts).estimates("accuracy", seed=0)
    (alone,) = made_up([[1, 0, 0, 1, 0, 1, 1, 0]], PLAIN).estimates("accuracy", seed=0)
    assert (found.n, found.n_clusters) == (16, 8)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_changes_are_paired_by_word():
    before = made_up([[1, 0, 0, 1, 0, 1, 1, 0]], PLAIN)
    after = made_up([[1, 0, 0, 1, 0, 1, 1, 0], [1, 1, 0, 1, 1, 1, 1, 0]], PLAIN)
    same, more = after.changes("accuracy", since=before, seed=0)
    assert same.value == 0
    assert same.low == -same.high < 0, "no change among eight words is not known to be none"
    assert more.value == 2 / 8
    assert more.high < 0.75, "as if the words were not paired it would be wider"
    (log_prob,) = after.under(1).changes("log_prob", since=before, seed=0)
    assert log_prob.value == pytest.approx(2 / 8)
    with pytest.raises(EstimateError, match="same words"):
        after.changes("accuracy", since=before.of_prompts(0, 7), seed=0)
    with pytest.raises(EstimateError, match=r"\.under\(number\)"):
        before.changes("accuracy", since=after, seed=0)


def test_tables_have_every_metric_and_every_prompt():
    found = made_up([[0] * 8, [1, 1, 0, 0, 0, 0, 1, 0]], PLAIN)
    table = found.to_frame(seed=0)
    assert tuple(table.columns) == TASK_SCORE_COLUMNS
    assert list(table["metric"].unique()) == list(TASK_METRICS)
    assert len(table) == 2 * len(TASK_METRICS)
    at = table.set_index(["intervention", "metric"])["value"]
    assert at[1, "accuracy"] == 3 / 8
    assert at[0, "reciprocal_rank"] == 1 / 4
    items = found.items()
    assert len(items) == 16
    assert items.groupby("intervention")["accuracy"].mean().tolist() == [0, 3 / 8]
    assert set(items["n_shots"]) == {0}
    assert list(items["input"][:8]) == [given for given, _ in TASK]


def test_prompts_that_the_tokenizer_merges_with_their_answers_are_refused(model: LensModel):
    merged = [replace(p, prompt=p.prompt + " ", answer=p.output) for p in PLAIN]
    for score in (score_tasks, answer_scores):
        with pytest.raises(ConceptError, match=r"merges the end of .*Move the space between them"):
            score(model, merged)
        score(model, PLAIN)


def test_nonsense_is_refused(model: LensModel):
    with pytest.raises(OptionError, match="0 and 1"):
        score_tasks(model, ())
    with pytest.raises(OptionError, match="24 and 0"):
        score_tasks(model, PROMPTS, ())
    with pytest.raises(UnknownNameError, match="'accuracy'"):
        made_up([[0] * 8], PLAIN).estimates("acuracy", seed=0)
    with pytest.raises(EstimateError, match="at least 5 clusters"):
        made_up([[0] * 3], PLAIN[:3]).estimates("accuracy", seed=0)


def test_baselines_ask_the_same_words_in_four_ways():
    model = tiny_model("llama", dtype="float64")
    fit, _, test = load_task("antonyms").split(seed=0)
    test = test[:6]
    found = task_baselines(model, fit, test, format="qa", n_shots=3, seed=0)
    assert list(found.scores) == ["zero-shot", "few-shot", "shuffled few-shot", "instruction"]
    asked = {name: scores.prompts for name, scores in found.scores.items()}
    assert all([(p.input, p.output) for p in prompts] == list(test) for prompts in asked.values())
    for plain, shown, mixed, told in zip(*asked.values(), strict=True):
        assert shown.prompt.endswith(plain.prompt)
        assert mixed.prompt.endswith(plain.prompt)
        assert told.prompt == f"{test.instruction}\n\n{plain.prompt}"
        assert [given for given, _ in mixed.demonstrations] == [given for given, _ in shown.demonstrations]
        assert sorted(mixed.demonstrations) != sorted(shown.demonstrations)
    for scores in found.scores.values():
        again = score_tasks(model, scores.prompts)
        torch.testing.assert_close(again.log_prob, scores.log_prob, rtol=0, atol=1e-9)


def test_the_table_of_baselines_has_paired_differences_from_zero_shot():
    model = tiny_model("gpt2", dtype="float64")
    found = task_baselines(model, TASK, TASK, format=replace(FORMATS["arrow"], separator=" "), n_shots=2, seed=0)
    table = found.to_frame().set_index(["condition", "metric"])
    assert len(table) == 4 * len(TASK_METRICS)
    assert table.loc["zero-shot", "difference"].isna().all()
    few, none = (found.scores[name].values("log_prob")[0] for name in ("few-shot", "zero-shot"))
    row = table.loc[("few-shot", "log_prob")]
    assert row["difference"] == pytest.approx(np.mean(few - none))
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert isinstance(table, pd.DataFrame)


def test_a_task_without_an_instruction_is_not_told():
    model = tiny_model("gpt2", dtype="float64")
    task = replace(TASK, instruction="")
    found = task_baselines(model, task, task, format="qa", n_shots=2, seed=0)
    assert list(found.scores) == ["zero-shot", "few-shot", "shuffled few-shot"]


@pytest.mark.real
@pytest.mark.slow
def test_a_real_model_learns_plurals_from_examples_and_not_from_shuffled_ones():
    fit, _, test = load_task("plural").split(seed=0)
    found = task_baselines(load_model("smollm2-135m-instruct"), fit, test[:16], format="qa", n_shots=5, seed=0)
    level = {name: scores.estimates("accuracy", seed=0)[0] for name, scores in found.scores.items()}
    assert level["few-shot"].low > 0.7
    assert level["zero-shot"].high < 0.3
    assert level["shuffled few-shot"].high < 0.6

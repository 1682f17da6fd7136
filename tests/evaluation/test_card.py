"""The steering card: its numbers follow from its records, it survives the disk, and a null looks null."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.stats.power import TTestPower
from torch import Tensor

from steerlens.activations import Site, extract, planted_concept
from steerlens.concepts import ChatFormat, ConceptDataset, ContrastivePair, Instructions, shifts
from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation import (
    CardPlan,
    SteeringCard,
    card,
    load_card,
    neutral_texts,
    score_continuations,
    score_neutral,
    score_questions,
    steerability,
)
from steerlens.evaluation._card_elsewhere import card_open_ended
from steerlens.evaluation._card_warnings import card_warnings
from steerlens.evaluation._comparison import ITEM_COLUMNS
from steerlens.evaluation._controls import exchanged, negative_controls, resampled_arms, wrong_layer
from steerlens.interventions import Intervention
from steerlens.maps import AdditiveMap, DirectionalAblation, MeanShift, RandomShift, SteeringMethod
from steerlens.models import load_model, tiny_model
from steerlens.numerics import Estimate
from steerlens.reports import card_html, prepare_card_controls, prepare_card_questions, write_card

GRID = (-1.0, 0.0, 0.5, 1.0, 2.0)
PLAN = CardPlan(strengths=GRID, budget=2.0, n_permuted=3, capability=False, instructions=("be so", "be otherwise"))


@dataclasses.dataclass(frozen=True)
class Nothing(SteeringMethod):
    """The map that moves nothing, whatever it is fitted to."""

    family = "additive"

    def fit(self, source: Tensor, target: Tensor) -> AdditiveMap:
        return AdditiveMap(torch.zeros(source.shape[1], dtype=torch.float64))


def made(method: SteeringMethod) -> SteeringCard:
    model = load_model("planted-linear")
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    return card(model, fit, test, site=Site.resid_post(1), method=method, plan=PLAN, neutral=neutral_texts()[:10])


@pytest.fixture(scope="module")
def found() -> SteeringCard:
    return made(MeanShift())


def test_a_planted_linear_concept_is_steered_and_its_controls_are_not(found: SteeringCard):
    assert found.effect.at_budget.low > max(found.random.high, 0)
    assert found.random.z > 3
    assert found.reliability.anti_steerable.value < 0.1
    assert found.reliability.anti_shown is not None
    assert found.reliability.anti_shown.value < 0.1
    permuted = [c for c in found.controls if c.role == "permuted"]
    assert len(permuted) == 3
    assert np.mean([abs(c.effect.value) for c in permuted]) < 0.5 * found.effect.at_budget.value
    assert {c.role for c in found.controls} == {"permuted", "wrong layer", "prompt", "opposite prompt", "few-shot"}


def test_prompts_are_also_given_in_a_chat_format(found: SteeringCard, tmp_path: Path):
    form = ChatFormat(before_system="<s>", after_system="</s>\n<u>", before_user="<u>", after_user="</u>\n")
    plan = dataclasses.replace(PLAN, chat=form, n_resampled=0, shifted=False, open_ended=False)
    model = load_model("planted-linear")
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    texts = neutral_texts()[:10]
    both = card(model, fit, test, site=Site.resid_post(1), method=MeanShift(), plan=plan, neutral=texts)
    plain = [c for c in found.controls if c.site == "text"]
    said = [c for c in both.controls if c.site == "text"]
    assert said[: len(plain)] == plain
    assert [c.name for c in said[len(plain) :]] == [f"{c.name}, in chat format" for c in plain]
    assert [c.role for c in said[len(plain) :]] == [c.role for c in plain]
    assert "before_system='<s>'" in both.provenance["chat"]
    assert found.provenance["chat"] is None
    write_card(both, tmp_path)
    assert load_card(tmp_path).controls == both.controls


def test_a_random_direction_is_called_one():
    null = made(RandomShift(seed=3))
    e = null.effect.at_budget
    if e.low <= 0 <= e.high:
        assert any(f"{null.effect.detectable:.2g} nats with a power of 0.8" in w for w in null.warnings)
    assert any("random directions" in w for w in null.warnings), null.warnings
    assert null.random.z < 3


@pytest.mark.slow
def test_a_map_that_moves_nothing_has_a_card_that_says_so(tmp_path: Path):
    null = made(Nothing())
    r = null.reliability
    assert r.anti_shown is not None
    assert (r.unmoved.value, r.anti_shown.value, r.anti_at_one.value) == (1.0, 0.0, 0.0)
    assert "The map moves nothing: no slope is larger than rounding makes it." in null.warnings
    assert len(null.shifts) == 6
    assert all((s.slope.value, s.retained, s.correlation) == (0.0, None, None) for s in null.shifts)
    page = write_card(null, tmp_path).read_text("utf-8")
    assert page.count("not measured: the map moves nothing") == 6
    assert "that are not moved at all" in page
    assert str(load_card(tmp_path)) == str(null)


def test_a_map_that_moves_something_is_not_called_still(found: SteeringCard):
    assert found.reliability.unmoved.value == 0
    assert not any("moves nothing" in w or "not moved at all" in w for w in found.warnings)
    assert all(s.correlation is not None for s in found.shifts)
    assert "not measured: the map moves nothing" not in card_html(found)


@pytest.mark.parametrize(
    ("low", "high", "holds_zero", "wrong_way"),
    [(-3.0, -1.0, False, True), (-1.0, 1.0, True, False), (0.0, 1.0, True, False), (1.0, 3.0, False, False)],
)
def test_an_effect_of_the_wrong_sign_is_not_called_none(
    found: SteeringCard, low: float, high: float, holds_zero: bool, wrong_way: bool
):
    effect = dataclasses.replace(found.effect, at_budget=Estimate((low + high) / 2, low, high, 0.95, 20, 20, "by hand"))
    said = " ".join(card_warnings(effect, found.reliability, found.cost, found.random, found.controls))
    assert ("holds zero" in said) is holds_zero
    assert ("below zero: the map steers the wrong way" in said) is wrong_way


def test_every_number_follows_from_the_records_with_pandas_alone(found: SteeringCard):
    items = found.items.assign(propensity=found.items["positive"] - found.items["negative"])
    own = items[items["role"] == "method"]
    wide = own.pivot(index="question", columns="strength", values="propensity")
    s = np.array([c for c in wide.columns if abs(c) <= 1.5 and c in GRID])
    slopes = (wide[s] - wide[s].mean(axis=1).to_numpy()[:, None]) @ (s - s.mean()) / ((s - s.mean()) ** 2).sum()
    assert slopes.mean() == pytest.approx(found.effect.slope.value)
    assert (slopes <= 0).mean() == pytest.approx(found.reliability.anti_steerable.value)
    assert (wide[1.0] < wide[0.0]).mean() == pytest.approx(found.reliability.anti_at_one.value)
    texts = found.texts[found.texts["role"] == "method"].groupby("strength")[["kl", "n_tokens"]].sum()
    kl = texts["kl"] / texts["n_tokens"]
    strength = found.effect.strength
    assert kl[strength] == pytest.approx(found.effect.kl)
    assert (wide[strength] - wide[0.0]).mean() == pytest.approx(found.effect.at_budget.value)
    assert found.cost.strength == strength
    assert found.cost.kl.value == pytest.approx(found.effect.kl)
    change = wide[strength] - wide[0.0]
    by_group = change.groupby(own.drop_duplicates("question").set_index("question")["group"]).mean()
    needed = TTestPower().solve_power(nobs=len(by_group), alpha=0.05, power=0.8) * by_group.std(ddof=1)
    assert needed == pytest.approx(found.effect.detectable, rel=1e-4)
    for control in found.controls:
        assert ((items["arm"] == control.name) & (items["role"] == control.role)).any(), control


def test_the_strength_meets_the_budget_on_texts_that_costs_are_not_measured_on(found: SteeringCard):
    model = load_model("planted-linear")
    fit, _, _ = planted_concept("planted-linear").split(seed=0)
    site, texts = Site.resid_post(1), neutral_texts()[:10]
    pairs = extract(model, fit, [site])[site]
    fitted = MeanShift().fit(source=pairs.negative, target=pairs.positive)
    steps = [Intervention({site: fitted}, found.effect.strength)]
    chosen, measured = (score_neutral(model, half, steps) for half in (texts[0::2], texts[1::2]))
    assert found.effect.reached
    assert float(chosen.kl.sum() / chosen.n_tokens.sum()) == pytest.approx(PLAN.budget, rel=0.02)
    assert float(measured.kl.sum() / measured.n_tokens.sum()) == pytest.approx(found.effect.kl, rel=1e-4)
    assert found.texts["text"].nunique() == 5


def test_random_directions_below_the_budget_are_counted_and_warned_of(found: SteeringCard, tmp_path: Path):
    assert found.random.reached <= found.random.n
    for reached, said in ((found.random.n, False), (3, True)):
        one = dataclasses.replace(found, random=dataclasses.replace(found.random, reached=reached))
        warned = card_warnings(one.effect, one.reliability, one.cost, one.random, one.controls)
        assert any(f"Only 3 of {found.random.n} random" in w for w in warned) is said
        assert ("3 of them at the budget †" in card_html(one)) is said
        assert (f"3 of {found.random.n} reach it" in str(one)) is said
        assert load_card(one.save(tmp_path / str(reached))).random == one.random


def test_a_card_needs_five_neutral_texts_for_each_half():
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    with pytest.raises(OptionError, match="10 neutral texts"):
        card(
            load_model("planted-linear"), fit, test, site=Site.resid_post(1), method=MeanShift(), plan=PLAN,
            neutral=neutral_texts()[:9],
        )  # fmt: skip


def test_the_questions_that_fail_are_those_that_move_least(found: SteeringCard):
    changes = [f.after - f.before for f in found.failures]
    assert changes == sorted(changes)
    assert found.reliability.tenth_percentile.value >= changes[0]


def test_a_card_survives_the_disk(found: SteeringCard, tmp_path: Path):
    page = write_card(found, tmp_path)
    again = load_card(tmp_path)
    assert str(again) == str(found)
    assert again.effect == found.effect
    assert again.controls == found.controls
    assert again.failures == found.failures
    assert tuple(again.items.columns) == ITEM_COLUMNS
    assert card_html(again) == page.read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="steerlens/card/0"), "schema"),
        (lambda d: d["effect"].pop("area"), r"card.effect lacks \['area'\]"),
        (lambda d: d["effect"].update(more=1), r"unknown \['more'\]"),
        (lambda d: d["cost"].update(strength="1"), "card.cost.strength should be of type float"),
        (lambda d: d["effect"].update(reached=1), "card.effect.reached should be of type bool"),
        (lambda d: d["effect"]["slope"].update(low=1e9), "card.effect.slope: .*low"),
        (lambda d: d["effect"].update(kl=float("nan")), "card.effect.kl should be finite, but is nan"),
        (lambda d: d.update(budget=float("nan")), "card.budget should be finite"),
        (lambda d: d["random"].update(low=float("nan")), "card.random.low should be finite"),
        (lambda d: d["random"].update(z=float("inf")), "card.random.z should be finite, but is inf"),
        (lambda d: d["effect"]["area"].update(value=float("nan")), "card.effect.area.value should be finite"),
        (lambda d: d["model"].update(note=[float("nan")]), r"card.model.note\[0\] should be finite"),
        (lambda d: d.update(budget=-1), "card.budget should be positive, but is -1"),
        (lambda d: d["random"].update(low=9.0, high=8.0), "card.random should have n > 0 and low <= high"),
        (lambda d: d["random"].update(n=-3), "card.random should have n > 0"),
        (
            lambda d: d["reliability"]["missed"].update(value=7, high=8),
            r"reliability.missed should be in \[0, 1\]",
        ),
        (lambda d: d["reliability"].update(bimodal_p=5), r"card.reliability.bimodal_p should be in \[0, 1\], but is 5"),
        (lambda d: d["controls"][0].update(kl=-2.0), r"card.controls\[0\].kl should be in \[0, inf\]"),
        (
            lambda d: d["shifts"][1]["correlation"].update(value=-3, low=-4),
            r"shifts\[1\].correlation should be in",
        ),
        (lambda d: d["effect"]["area"].update(n=-3), "card.effect.area should have 1 <= n_clusters <= n"),
        (lambda d: d["effect"]["area"].update(value=1e3), "card.effect.area should lie in its interval"),
        (lambda d: d.update(model={}), "card.model.name should be text"),
        (lambda d: d.update(concept={}), "card.concept.name should be text"),
        (lambda d: d["model"].update(dtype="float3"), "card.model.dtype should be one of float64"),
        (lambda d: d["cost"].update(strength=0.75), "card.cost.strength is 0.75, but the records give"),
        (lambda d: d["controls"][0].update(role="friend"), "card.controls.0..role should be one of"),
        (lambda d: d.update(failures={}), "card.failures should be a list"),
    ],
)
def test_a_card_that_does_not_fit_the_schema_is_refused(found: SteeringCard, tmp_path: Path, change, message: str):
    found.save(tmp_path)
    document = json.loads((tmp_path / "card.json").read_text("utf-8"))
    change(document)
    (tmp_path / "card.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(ArtefactError, match=message):
        load_card(tmp_path)


HEADLINE = (
    "effect.at_budget", "effect.slope", "reliability.anti_steerable", "reliability.anti_at_one", "reliability.unmoved",
    "cost.kl", "cost.perplexity_ratio",
)  # fmt: skip


@pytest.mark.parametrize("field", [*HEADLINE, "effect.strength", "effect.kl", "random.low", "controls[0].effect"])
def test_a_number_that_does_not_follow_from_the_records_is_refused(found: SteeringCard, tmp_path: Path, field: str):
    """By a little: within its range, and within its interval."""
    found.save(tmp_path)
    document = json.loads((tmp_path / "card.json").read_text("utf-8"))
    at = document["controls"][0] if field.startswith("controls") else document[field.split(".")[0]]
    name = field.split(".")[1]
    if isinstance(at[name], dict):
        at[name]["value"] += 0.01
        at[name].update(low=min(at[name]["low"], at[name]["value"]), high=max(at[name]["high"], at[name]["value"]))
    else:
        at[name] += 0.01
    (tmp_path / "card.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(ArtefactError, match=rf"card\.{re.escape(field)}.* but the records give"):
        load_card(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(positive=np.nan), "'positive' should hold finite numbers, but .* are NaN or infinite"),
        (lambda t: t.assign(negative=t["negative"].where(t.index != 7, np.inf)), "1 of .* the first in row 7"),
        (lambda t: t.assign(positive=t["positive"].astype(str)), "'positive' should hold numbers, but holds"),
        (lambda t: t.assign(arm=3), "'arm' should hold text"),
        (lambda t: t.assign(group=t["group"].where(t.index != 2)), "'group' lacks 1 values"),
        (lambda t: pd.concat([t, t.iloc[5:6]], ignore_index=True), "1 of .* rows stand there twice"),
        (lambda t: t.iloc[:0], "no rows of"),
        (lambda t: t[t["strength"] != 1.0], "do not hold what the card was made from"),
        (lambda t: t.drop(index=3), "do not hold what the card was made from"),
        (lambda t: t.assign(positive=t["positive"].where(t.index != 0, -1.0)), "but the records give"),
    ],
)
def test_records_that_were_changed_are_refused(found: SteeringCard, tmp_path: Path, change, message: str):
    found.save(tmp_path)
    change(found.items).to_parquet(tmp_path / "card-items.parquet", index=False)
    with pytest.raises(ArtefactError, match=message):
        load_card(tmp_path)


def test_neutral_texts_without_tokens_are_refused(found: SteeringCard, tmp_path: Path):
    found.save(tmp_path)
    found.texts.assign(n_tokens=0.0).to_parquet(tmp_path / "card-texts.parquet", index=False)
    with pytest.raises(ArtefactError, match=r"card-texts.parquet: 'n_tokens' should be in \[1, inf\]"):
        load_card(tmp_path)


def test_a_card_with_nan_is_not_written(found: SteeringCard, tmp_path: Path):
    broken = dataclasses.replace(found, effect=dataclasses.replace(found.effect, detectable=float("nan")))
    with pytest.raises(ArtefactError, match=r"card\.effect\.detectable should be finite, but is nan"):
        broken.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_place_of_the_card_is_named(found: SteeringCard, tmp_path: Path):
    (tmp_path / "card.json").mkdir()
    with pytest.raises(ArtefactError, match=r"card\.json cannot be read"):
        load_card(tmp_path)


def test_files_that_are_missing_or_broken_are_named(found: SteeringCard, tmp_path: Path):
    with pytest.raises(ArtefactError, match=r"no card\.json"):
        load_card(tmp_path)
    found.save(tmp_path)
    (tmp_path / "card-items.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ArtefactError, match=r"card-items\.parquet"):
        load_card(tmp_path)
    (tmp_path / "card.json").write_text("{", "utf-8")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        load_card(tmp_path)


def test_the_page_escapes_what_the_data_say(found: SteeringCard):
    page = card_html(found)
    assert "<script" not in page
    assert "Where it fails" in page
    controls = prepare_card_controls(found)
    assert controls.rows[0].effect[0] == found.effect.at_budget.value
    assert len(controls.rows) == 1 + 1 + 1 + 3, "the method, one row for exchanged labels, a layer, three texts"
    questions = prepare_card_questions(found)
    assert len(questions.before) == found.effect.at_budget.n


def test_it_says_what_the_map_does_in_other_settings_and_to_the_references(found: SteeringCard):
    model = load_model("planted-linear")
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    site = Site.resid_post(1)
    pairs = extract(model, fit, [site])[site]
    fitted = MeanShift().fit(source=pairs.negative, target=pairs.positive)
    said = Instructions("be so", "be otherwise")
    assert [s.setting for s in found.shifts] == [k for k in shifts(test, seed=0, said=said) if k != "BASE"]
    there = shifts(test, seed=0, said=said)["SYS_NEG"]
    strengths = [s for s in GRID if abs(s) <= 1.5]
    scores = score_questions(model, there.questions, [Intervention({site: fitted}, s) for s in strengths])
    slope = steerability(scores.propensity.numpy(), strengths).mean()
    shift = next(s for s in found.shifts if s.setting == "SYS_NEG")
    assert shift.slope.value == pytest.approx(slope, abs=1e-6)
    assert shift.retained is not None
    assert shift.retained.value == pytest.approx(slope / found.effect.slope.value, abs=1e-6)
    o = found.open_ended
    assert o is not None
    texts = [p.prompt for p in test], [(p.positive, p.negative) for p in test]
    steered = [Intervention({}, 0.0), Intervention({site: fitted}, found.cost.strength)]
    per_token = score_continuations(model, *texts, steered).per_token.numpy()
    rise = per_token[1] - per_token[0]
    assert o.promotion_all.value == pytest.approx(rise[0::2].mean(), abs=1e-6)
    assert o.suppression_all.value == pytest.approx(-rise[1::2].mean(), abs=1e-6)
    page = card_html(found)
    assert "share of the steerability kept in SYS_NEG" in page
    assert "fall of all negative references" in page


def test_exchanged_labels_keep_the_rows_and_lose_the_concept():
    model = load_model("planted-linear")
    fit = planted_concept("planted-linear").split(seed=0)[0]
    site = Site.resid_post(1)
    pairs = extract(model, fit, [site])[site]
    swapped = exchanged(pairs, seed=0)
    changed = (swapped.positive != pairs.positive).any(dim=1)
    groups = {g for g, c in zip(pairs.groups, changed.tolist(), strict=True) if c}
    assert len(groups) == len(set(pairs.groups)) // 2
    assert (swapped.positive + swapped.negative == pairs.positive + pairs.negative).all()
    shift = (pairs.positive - pairs.negative).mean(0).norm()
    assert (swapped.positive - swapped.negative).mean(0).norm() < 0.5 * shift
    controls = negative_controls(model, [MeanShift()], fit, pairs, (0.0, 1.0), n_permuted=2, other=None, seed=0)
    assert [(a.role, a.method) for a in controls] == [
        ("permuted", "MeanShift, exchanged labels 00"),
        ("permuted", "MeanShift, exchanged labels 01"),
        ("wrong layer", "MeanShift at block 0"),
    ]
    assert controls[2].site == wrong_layer(model, site)
    for arm in controls[:2]:
        assert arm.steering_map.vector.norm() < 0.5 * shift, arm.method
    arms = resampled_arms(pairs, MeanShift(), (0.0, 1.0), n=2, seed=0)
    assert not np.allclose(*[a.steering_map.vector.numpy() for a in arms])
    assert wrong_layer(model, site).layer == 0
    assert wrong_layer(model, Site.resid_post(0)).layer == model.n_layers - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": (0.0, 1.0)}, "three or more within"),
        ({"n_random": 5}, "20 random directions"),
        ({"budget": -1.0}, "KL budget"),
        ({"sites_tried": 0}, "sites_tried"),
        ({"n_resampled": 38}, "n_resampled is 0 or at least 39, but got 38"),
        ({"n_resampled": -1}, "n_resampled is 0 or at least 39, but got -1"),
    ],
)
def test_plans_that_cannot_be_measured_are_refused(options, message: str):
    with pytest.raises(OptionError, match=message):
        CardPlan(**options)


def test_a_map_without_a_reverse_needs_three_strengths_upwards():
    fit, _, test = planted_concept("planted-linear").split(seed=0)
    with pytest.raises(OptionError, match=r"DirectionalAblation.* no reverse.* \[0.0, 1.0\]"):
        card(
            load_model("planted-linear"), fit, test, site=Site.resid_post(1), method=DirectionalAblation(),
            plan=CardPlan(strengths=(-1.0, 0.0, 1.0)),
        )  # fmt: skip


@pytest.mark.parametrize(("family", "predicted"), [("gpt2", False), ("llama", True)])
def test_whole_texts_are_open_items_only_where_something_predicts_their_first_token(family: str, predicted: bool):
    """The tokenizer of GPT-2 adds no BOS, that of Llama does."""
    things = ("film", "book", "song", "meal", "hotel", "garden")
    pairs = tuple(
        ContrastivePair("", f"A good {t}.\nIs it?", f"A bad {t}.\nIs it?", group=t, answers=(" yes", " no"))
        for t in things
    )
    found = card_open_ended(tiny_model(family), Intervention({}, 0.0), ConceptDataset("whole texts", pairs), 0)
    assert (found is not None) is predicted

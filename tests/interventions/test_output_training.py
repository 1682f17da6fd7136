"""Maps trained through a frozen model: gradients, what is learned, and what is left as it was."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from steerlens.activations import AllTokens, LastToken, Site, SpanTokens, TextRow, extract, planted_concept
from steerlens.concepts import ConceptDataset, ContrastivePair, Split
from steerlens.errors import FitError, OptionError
from steerlens.evaluation import fit_maps, score_questions
from steerlens.interventions import (
    Intervention,
    LowRankEdit,
    LowRankFinetune,
    OutputMethod,
    OutputMLP,
    PreferenceShift,
)
from steerlens.interventions._output_training import asked, held_apart, steered_log_probs
from steerlens.maps import AdditiveMap, MeanShift, SteeringMap, Training, load_map, method_needs, save_map
from steerlens.models import LensModel, load_model, tiny_model
from steerlens.testing import MapLaws

SHORT = Training(steps=5, learning_rate=1e-2, patience=5, batch_size=4)
METHODS: tuple[OutputMethod, ...] = (
    PreferenceShift(training=SHORT),
    OutputMLP(training=SHORT, hidden=(8,), rank=4),
    LowRankFinetune(training=SHORT, rank=2),
)
THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat")
KINDS = (Site.resid_pre(1), Site.resid_mid(1), Site.resid_post(1), Site.mlp_out(1), Site.z(1, 2))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def tiny(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.fixture(scope="module")
def pairs() -> ConceptDataset:
    made = (ContrastivePair(f"The {thing} is", " really good", " not bad", thing) for thing in THINGS)
    return ConceptDataset("made up", tuple(made))


@pytest.fixture(scope="module")
def linear() -> LensModel:
    return load_model("planted-linear")


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_concept("planted-linear").split(seed=0)


def rows_of(model: LensModel, pairs: ConceptDataset) -> list[TextRow]:
    found = asked(model, pairs.questions)
    return [*found.positive, *found.negative]


def log_odds(model: LensModel, pairs: ConceptDataset, site: Site, fitted: SteeringMap, strength: float = 1.0) -> float:
    both = [Intervention({}, 0.0), Intervention({site: fitted}, strength)]
    plain, steered = score_questions(model, pairs.questions, both).propensity
    return float((steered - plain).mean())


@pytest.mark.parametrize("site", KINDS, ids=str)
def test_the_gradient_is_that_of_finite_differences(tiny: LensModel, pairs: ConceptDataset, site: Site):
    rows = rows_of(tiny, pairs)[::5]
    generator = torch.Generator().manual_seed(0)
    v, way = torch.randn(2, site.check(tiny), dtype=torch.float64, generator=generator)
    v.requires_grad_()
    steered_log_probs(tiny, rows, site, AdditiveMap(v)).sum().backward()
    assert v.grad is not None
    with torch.no_grad():
        ends = [float(steered_log_probs(tiny, rows, site, AdditiveMap(v + h * way)).sum()) for h in (-1e-3, 1e-3)]
    # Hugging Face's RMSNorm rounds to float32 even here, so that a smaller step would measure rounding.
    assert float(v.grad @ way) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=2e-3)
    assert v.grad.norm() > 1e-3
    assert all(p.grad is None and not p.requires_grad for p in tiny.bridge.original_model.parameters())
    assert not tiny.is_hooked


@pytest.mark.parametrize("selector", [LastToken(), AllTokens()], ids=repr)
def test_scores_are_those_of_evaluation(tiny: LensModel, pairs: ConceptDataset, selector):
    site = Site.resid_post(1, selector)
    shift = AdditiveMap(torch.randn(tiny.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    scores = score_questions(tiny, pairs.questions, [Intervention({}, 0.0), Intervention({site: shift}, 0.7)])
    rows = rows_of(tiny, pairs)
    ours = steered_log_probs(tiny, rows, site, shift, torch.full((len(rows),), 0.7))
    assert_close(ours, torch.cat([scores.positive[1], scores.negative[1]]), rtol=0, atol=1e-6)
    assert_close(asked(tiny, pairs.questions).base, torch.stack([scores.positive[0], scores.negative[0]], 1))


def test_rows_have_strengths_of_their_own(tiny: LensModel, pairs: ConceptDataset):
    rows, site = rows_of(tiny, pairs)[:4], Site.resid_post(1)
    shift = AdditiveMap(torch.ones(tiny.d_model, dtype=torch.float64).cumsum(0) / 10)
    strengths = torch.tensor([1.0, -1.0, 0.0, 2.0])
    together = steered_log_probs(tiny, rows, site, shift, strengths)
    alone = [steered_log_probs(tiny, [r], site, shift, s[None]) for r, s in zip(rows, strengths, strict=True)]
    assert_close(together, torch.cat(alone), rtol=0, atol=1e-9)
    assert_close(together[2:3], steered_log_probs(tiny, rows[2:3]), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_method_is_frozen_needs_a_model_and_gives_the_same_bits(
    linear: LensModel, split: Split, method: OutputMethod
):
    assert isinstance(method, OutputMethod)
    assert method_needs(method) == "model"
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.seed = 1  # type: ignore[attr-defined]
    site, state = Site.resid_post(0), torch.get_rng_state()
    x = extract(linear, split.test, [site])[site].negative
    a, b = (method.fit_output(linear, split.fit, site)(x) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert not a.requires_grad
    assert not torch.equal(dataclasses.replace(method, seed=1).fit_output(linear, split.fit, site)(x), a)


LONGER = Training(steps=60, learning_rate=2e-2, patience=60, batch_size=8, weight_decay=0.0)
TRAINED = (OutputMLP(training=dataclasses.replace(LONGER, learning_rate=3e-3)), LowRankFinetune(training=LONGER))


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED, ids=lambda m: type(m).__name__)
def test_held_out_answers_follow_the_training(linear: LensModel, split: Split, method: OutputMethod):
    """At the word as it enters, where the mean shift flips only some answers."""
    site = Site.resid_pre(0)
    fitted = method.fit_output(linear, split.fit, site)
    scores = score_questions(linear, split.test.questions, [Intervention({site: fitted})]).propensity[0]
    assert (scores > 0).double().mean() > 0.95
    plain = score_questions(linear, split.test.questions).propensity[0]
    assert 0.4 < (plain > 0).double().mean() < 0.6


@pytest.mark.slow
def test_a_preference_goes_both_ways_and_further_than_the_mean_shift(linear: LensModel, split: Split):
    site = Site.resid_pre(0)
    trained = PreferenceShift(training=LONGER).trained(linear, split.fit, site)
    found = extract(linear, split.fit, [site])[site]
    mean = MeanShift().fit(found.negative, found.positive)
    assert log_odds(linear, split.test, site, trained.steering_map) > log_odds(linear, split.test, site, mean) > 1
    assert log_odds(linear, split.test, site, trained.steering_map, -1.0) < -1
    # At step 0 the preference is unchanged: −log σ(0) = log 2.
    assert trained.curve[0].tolist() == pytest.approx([0.0, 0.6931], abs=1e-4)
    assert trained.curve[:, 1].min() < 0.5


@pytest.mark.slow
def test_every_method_has_its_own_start(linear: LensModel, split: Split):
    still = Training(steps=1, learning_rate=1e-12, patience=1, batch_size=4, weight_decay=0.0)
    site = Site.resid_post(0)
    found = extract(linear, split.fit, [site])[site]
    x = found.negative
    shift = PreferenceShift(training=still).fit_output(linear, split.fit, site)
    assert_close(shift(x), x)
    assert_close(LowRankFinetune(training=still).fit_output(linear, split.fit, site)(x), x)
    mlp = OutputMLP(training=still, rank=8).fit_output(linear, split.fit, site)
    assert_close(mlp(x), MeanShift().fit(x, found.positive)(x))


def test_the_low_rank_edit_is_the_published_formula(linear: LensModel, split: Split):
    edit = LowRankFinetune(training=SHORT, rank=3).fit_output(linear, split.fit, Site.resid_post(0))
    x = torch.randn(7, linear.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    R, W, b = edit.read, edit.write, edit.bias
    assert_close(R @ R.T, torch.eye(3, dtype=torch.float64))
    assert_close(edit(x), torch.stack([h + R.T @ (W @ h + b - R @ h) for h in x]))
    assert_close(edit(x) @ R.T, x @ W.T + b)
    assert edit.displacement(x).norm() > 0
    assert edit.reverse is None


class TestLowRankEdit(MapLaws):
    @pytest.fixture
    def steering_map(self) -> LowRankEdit:
        g = torch.Generator().manual_seed(0)
        R = torch.linalg.qr(torch.randn(12, 2, dtype=torch.float64, generator=g)).Q.T
        change, b = torch.randn(2, 12, dtype=torch.float64, generator=g), torch.ones(2, dtype=torch.float64)
        return LowRankEdit(R, R + change, b, torch.zeros(0, 2, dtype=torch.float64))


def test_a_trained_network_survives_saving(linear: LensModel, split: Split, tmp_path):
    site = Site.resid_post(0)
    fitted = METHODS[1].fit_output(linear, split.fit, site)
    save_map(fitted, tmp_path, provenance={"model": linear.name})
    x = extract(linear, split.test, [site])[site].negative
    assert torch.equal(load_map(tmp_path, d_model=linear.d_model)(x), fitted(x))


@pytest.mark.slow
def test_a_comparison_trains_them_through_the_model_on_its_fitting_pairs(linear: LensModel, split: Split):
    site = Site.resid_post(0)
    maps = fit_maps([MeanShift(), METHODS[0]], extract(linear, split.fit, [site]), model=linear, pairs=split.fit)
    assert [name.partition("(")[0] for _, name in maps] == ["MeanShift", "PreferenceShift"]
    x = extract(linear, split.test, [site])[site].negative
    trained = next(m for (_, name), m in maps.items() if name.startswith("Preference"))
    assert torch.equal(trained(x), METHODS[0].fit_output(linear, split.fit, site)(x))


def test_groups_are_held_out_whole(split: Split):
    fit, held = held_apart(split.fit, 0)
    assert not {q.group for q in fit} & {q.group for q in held}
    assert len(held) == 24
    assert len({q.group for q in fit} | {q.group for q in held}) <= len(split.fit.groups)


def test_what_cannot_be_trained_is_refused(linear: LensModel, split: Split):
    site, one = Site.resid_post(0), split.fit.groups[0]
    with pytest.raises(FitError, match="one group"):
        METHODS[0].fit_output(linear, split.fit.filter(lambda p: p.group == one), site)
    with pytest.raises(OptionError, match="exceeds the width"):
        LowRankFinetune(rank=65).fit_output(linear, split.fit, site)
    with pytest.raises(FitError, match="all equal"):
        METHODS[0].fit_output(linear, split.fit, Site("blocks.0.hook_resid_pre", tokens=SpanTokens(0, 1)))
    for method, wrong in (
        (PreferenceShift, {"beta": 0.0}),
        (OutputMLP, {"beta": -1.0}),
        (LowRankFinetune, {"rank": 0}),
    ):
        with pytest.raises(OptionError):
            method(**wrong)

"""Fine-tuning: copies that equal the model, deltas that scale, and a preference that is learned."""

import pytest
import torch

from steerlens.concepts import ConceptDataset, ContrastivePair
from steerlens.errors import OptionError
from steerlens.evaluation import finetuned_baseline, neutral_texts, score_neutral, score_questions
from steerlens.interventions import LoraFinetune
from steerlens.maps import Training
from steerlens.models import LensModel, moved_weights, plain_copy, tiny_model

THINGS = ("film", "book", "song", "meal", "hotel", "garden", "shoe", "lamp", "chair", "coat", "city", "river")
QUICK = LoraFinetune(rank=4, training=Training(steps=20, learning_rate=2e-2, patience=20, batch_size=8))
FAMILIES = ("llama", "gpt2", "qwen2")


def pairs(things: tuple[str, ...]) -> ConceptDataset:
    made = tuple(ContrastivePair(f"The {t} is", " good", " bad", group=t) for t in things)
    return ConceptDataset("made up", made, description="Good against bad.", source="this test", licence="MIT")


FIT, TEST = pairs(THINGS[:6]), pairs(THINGS[6:])


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype=torch.float64)


def test_a_plain_copy_has_the_model_s_logits_and_nothing_in_common(model: LensModel):
    tokens = model.to_tokens(["The film is good.", "A book"], padding_side="left")
    before = model.logits(tokens)
    copy = plain_copy(model)
    with torch.no_grad():
        found = copy(
            input_ids=tokens.ids, attention_mask=tokens.attention_mask, position_ids=tokens.position_ids
        ).logits
        real = tokens.attention_mask.bool()
        assert torch.allclose(found[real], before[real], atol=1e-5), "but for Hugging Face's softmax in float32"
        for p in copy.parameters():
            p.zero_()
    assert torch.equal(model.logits(tokens), before)


def test_moved_weights_are_the_weights_and_a_multiple(model: LensModel):
    name = next(n for n, _ in plain_copy(model).named_parameters() if "norm" in n or "ln_1.weight" in n)
    weight = dict(plain_copy(model).named_parameters())[name]
    moved = moved_weights(model, {name: torch.ones_like(weight)}, 0.5)
    assert torch.allclose(dict(plain_copy(moved).named_parameters())[name], weight + 0.5)
    assert moved.revision != model.revision, "caches must tell them apart"
    with pytest.raises(OptionError, match="has no weight 'nothing'"):
        moved_weights(model, {"nothing": weight}, 1.0)
    with pytest.raises(OptionError, match="of shape"):
        moved_weights(model, {name: weight[:1]}, 1.0)


def test_fine_tuning_learns_the_preference_and_strength_scales_it(model: LensModel):
    before = model.logits("The film is")
    weights = QUICK.train(model, FIT)
    assert torch.equal(model.logits("The film is"), before), "the model stays as it is"
    zero, one = (weights.at(model, s) for s in (0.0, 1.0))
    assert torch.allclose(zero.logits("The film is"), before, atol=1e-9)
    plain, tuned = (score_questions(m, FIT.questions).propensity.mean() for m in (model, one))
    assert tuned > plain + 1, "in nats, on what it was trained on"
    assert weights.curve[:, 1].min() < weights.curve[0, 1]
    again = QUICK.train(model, FIT)
    assert all(torch.equal(weights.deltas[n], again.deltas[n]) for n in weights.deltas), "the same seed, the same bits"
    assert all(torch.linalg.matrix_rank(d) <= QUICK.rank for d in weights.deltas.values())


def test_its_costs_are_those_of_the_maps_scores(model: LensModel):
    texts = neutral_texts()[:5]
    found = finetuned_baseline(model, FIT, TEST, texts=texts, strengths=(0.0, 1.0), method=QUICK)
    assert found.kl[0] == pytest.approx(0, abs=1e-9)
    assert (found.kl[1] > 0).all()
    unsteered = score_neutral(model, texts, [])
    assert found.nll[0] == pytest.approx(unsteered.base_nll.numpy(), rel=1e-6)
    assert found.n_tokens.tolist() == unsteered.n_tokens.tolist()
    records = found.to_records(split="test", budget=1e-3, seed=0).set_index(["metric", "strength"])["value"]
    assert records["effect", 0.0] == 0
    assert records["effect", 1.0] == pytest.approx((found.propensity[1] - found.propensity[0]).mean())
    assert records["kl", 1.0] == pytest.approx(found.kl[1].sum() / found.n_tokens.sum())


def test_bad_options_are_refused(model: LensModel):
    with pytest.raises(OptionError, match="rank"):
        LoraFinetune(rank=0)
    with pytest.raises(OptionError, match="share 6 groups"):
        finetuned_baseline(model, FIT, FIT, texts=neutral_texts()[:5])
    with pytest.raises(OptionError, match="ascend from 0"):
        finetuned_baseline(model, FIT, TEST, texts=neutral_texts()[:5], strengths=(1.0, 2.0))

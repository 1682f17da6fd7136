"""Generation: cached equals uncached, rows are independent, chance is ours."""

import pytest
import torch

from steerlens.errors import ModelError, OptionError
from steerlens.models import LensModel, TokenBatch, tiny_model
from steerlens.models._generate import RowSampler
from steerlens.models._tiny import FAMILIES

PROMPTS = ["The film was one of the best", "a", "Nothing at all"]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param, dtype="float64")


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "seed": 3}])
def test_cached_generation_equals_uncached(model: LensModel, sampling: dict[str, float]) -> None:
    cached = model.generate(PROMPTS, max_new_tokens=12, **sampling)
    assert cached == model.generate(PROMPTS, max_new_tokens=12, use_cache=False, **sampling)
    assert any(len(text) > len(prompt) for text, prompt in zip(cached, PROMPTS, strict=True))


def test_greedy_generation_equals_hugging_faces(model: LensModel) -> None:
    tokens = model.to_tokens(PROMPTS[0])
    out = model.bridge.original_model.generate(
        tokens.ids, attention_mask=tokens.attention_mask, max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    new = model.tokenizer.decode(out[0, tokens.ids.shape[1] :], skip_special_tokens=True)
    assert model.generate(PROMPTS[0], max_new_tokens=8) == PROMPTS[0] + new


def test_hugging_faces_generation_works_after_a_batch_of_ours(model: LensModel) -> None:
    """The bridge leaves the size of our batch with a wrapper, which must not be there for a later call."""
    model.logits(PROMPTS)
    test_greedy_generation_equals_hugging_faces(model)


def test_a_row_does_not_depend_on_its_neighbours(model: LensModel) -> None:
    options = {"max_new_tokens": 10, "temperature": 1.0, "seed": 7}
    together = model.generate(PROMPTS, **options)
    assert together[:2] == model.generate(PROMPTS[:2], **options)
    assert together[0] == model.generate(PROMPTS[0], **options)
    assert together == model.generate([*PROMPTS, "It was in the end a great deal longer than that"], **options)[:3]


def test_seeds_and_rows_draw_differently() -> None:
    logits = torch.zeros(64, 1000)
    draws = RowSampler(range(64), temperature=1.0, seed=0)(logits)
    assert draws.unique().numel() > 50
    assert not torch.equal(draws, RowSampler(range(64), temperature=1.0, seed=1)(logits))
    assert torch.equal(draws, RowSampler(range(64), temperature=1.0, seed=0)(logits))


def test_the_sampler_follows_the_distribution() -> None:
    n = 4000
    logits = torch.tensor([0.7, 0.2, 0.1, 0.0]).log().expand(n, -1)
    share = torch.bincount(RowSampler(range(n), temperature=1.0, seed=0)(logits), minlength=4) / n
    # five standard errors of a share
    torch.testing.assert_close(share, torch.tensor([0.7, 0.2, 0.1, 0.0]), atol=5 * 0.5 / n**0.5, rtol=0.0)
    assert share[3] == 0


def test_a_string_in_gives_a_string_out(model: LensModel) -> None:
    one, many = model.generate("a", max_new_tokens=3), model.generate(["a"], max_new_tokens=3)
    assert [one] == many


def test_rows_stop_at_eos() -> None:
    model = tiny_model("llama")
    eos = model.tokenizer.eos_token_id
    seen = []

    def force(x: torch.Tensor, hook: object) -> torch.Tensor:
        seen.append(x.shape)
        out = torch.zeros_like(x)
        out[:, :, eos if len(seen) == 3 else 40] = 1.0
        return out

    with model.bridge.hooks(fwd_hooks=[("unembed.hook_out", force)]):
        text = model.generate("a", max_new_tokens=20)
    assert text == "a" + model.tokenizer.decode([40, 40])
    assert len(seen) == 3


def test_the_global_generator_is_untouched() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = tiny_model("gpt2")
    model.generate("a film", max_new_tokens=3, temperature=1.0, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 1.0}, "sampling needs seed="),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tiny_model("llama").generate("a", **options)


def test_generating_past_the_table_of_positions_is_refused() -> None:
    with pytest.raises(ModelError, match="table of positions ends at 512"):
        tiny_model("gpt2").generate("a", max_new_tokens=513)


@pytest.mark.real
@pytest.mark.slow
def test_the_demo_model_knows_the_capital_of_france() -> None:
    from steerlens.models import load_model

    model = load_model("smollm2-135m-instruct")
    assert model.generate("The capital of France is", max_new_tokens=2).startswith("The capital of France is Paris")


def test_rescoring_sees_the_rows_so_far_and_which_go_on() -> None:
    """Row 0 is made to end at once, row 1 to write one token again and again."""
    model = tiny_model("llama")
    eos, seen = model.tokenizer.eos_token_id, []

    def rescore(logits: torch.Tensor, rows: TokenBatch, going_on: torch.Tensor) -> torch.Tensor:
        seen.append((rows.rows(), going_on.tolist()))
        out = torch.zeros_like(logits)
        out[0, eos], out[1, 40] = 1.0, 1.0
        return out

    texts = model.generate(["a", "a film"], max_new_tokens=3, rescore=rescore)
    assert texts == ["a", "a film" + model.tokenizer.decode([40, 40, 40])]
    assert [going_on for _, going_on in seen] == [[True, True], [False, True], [False, True]]
    assert seen[0][0] == model.encode_all(["a", "a film"])
    assert seen[2][0][1] == [*model.encode("a film"), 40, 40]

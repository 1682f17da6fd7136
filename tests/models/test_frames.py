"""Which absolute token each column of a forward pass is, in every way of running the model."""

import pytest
import torch

from steerlens.errors import ModelError
from steerlens.models import FrameWatch, LensModel, TokenBatch, tiny_model

PROMPTS = ["a film", "The"]
Frames = list[tuple[list[list[int]], list[int]]]


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3"])
def model(request: pytest.FixtureRequest) -> LensModel:
    return tiny_model(request.param)


@pytest.fixture
def rows(model: LensModel) -> list[list[int]]:
    return [[1, 20, 21, 22], [1, 30]]


def frames_during(model: LensModel, run: object) -> Frames:
    """The frame that a hook sees in each forward pass of `run`."""
    seen: Frames = []
    with model.watch_frames() as watch:

        def look(x: torch.Tensor, hook: object) -> None:
            frame = watch.current
            assert frame.index.shape == x.shape[:2]
            seen.append((frame.index.tolist(), frame.n_prompt.tolist()))

        with model.bridge.hooks(fwd_hooks=[("blocks.1.hook_resid_post", look)]):
            run()  # type: ignore[operator]
    return seen


@pytest.mark.parametrize(
    ("side", "index"),
    [("left", [[0, 1, 2, 3], [-1, -1, 0, 1]]), ("right", [[0, 1, 2, 3], [0, 1, -1, -1]])],
)
def test_padding_has_no_index(model: LensModel, rows: list[list[int]], side: str, index: list[list[int]]) -> None:
    batch = TokenBatch.from_rows(rows, pad_id=0, padding_side=side, n_prompt=[3, 1])  # type: ignore[arg-type]
    expected = [(index, [3, 1])]
    assert frames_during(model, lambda: model.logits(batch)) == expected
    assert frames_during(model, lambda: model.read(batch, ["blocks.2.hook_out"], lambda n, v: None)) == expected


def test_a_plain_forward_of_the_bridge_is_all_prompt(model: LensModel, rows: list[list[int]]) -> None:
    batch = TokenBatch.from_rows(rows, pad_id=0, padding_side="left", n_prompt=[3, 1])
    seen = frames_during(model, lambda: model.bridge(batch.ids, attention_mask=batch.attention_mask))
    assert seen == [([[0, 1, 2, 3], [-1, -1, 0, 1]], [4, 2])]
    bare = frames_during(model, lambda: model.bridge(batch.ids))
    assert bare == [([[0, 1, 2, 3], [0, 1, 2, 3]], [4, 4])]


def test_the_prompt_can_be_fixed_for_direct_calls(model: LensModel, rows: list[list[int]]) -> None:
    batch = TokenBatch.from_rows(rows, pad_id=0, padding_side="left", n_prompt=[3, 1])

    def run() -> None:
        with model.fix_prompt(batch.n_prompt):
            model.bridge(batch.ids, attention_mask=batch.attention_mask)

    assert frames_during(model, run)[0][1] == [3, 1]


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_counts_on_from_the_prompt(model: LensModel, use_cache: bool) -> None:
    batch = model.to_tokens(PROMPTS, padding_side="left")
    lengths = batch.lengths.tolist()
    seen = frames_during(model, lambda: model.generate(PROMPTS, max_new_tokens=3, use_cache=use_cache))
    assert seen[0] == (batch.index.tolist(), lengths)
    for step, (index, n_prompt) in enumerate(seen[1:]):
        assert n_prompt == lengths
        assert [row[-1] for row in index] == [n + step for n in lengths]
        assert len(index[0]) == (1 if use_cache else batch.ids.shape[1] + step + 1)
    assert len(seen) == 3


def test_the_hosts_generation_counts_on_as_well(model: LensModel, rows: list[list[int]]) -> None:
    batch = TokenBatch.from_rows(rows, pad_id=0, padding_side="left")

    def bridge() -> None:
        model.bridge.generate(
            batch.ids, attention_mask=batch.attention_mask, max_new_tokens=3, do_sample=False, verbose=False,
            stop_at_eos=False, return_type="tokens",
        )  # fmt: skip

    def hugging_face() -> None:
        model.bridge.original_model.generate(
            batch.ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
        )

    expected = [(batch.index.tolist(), [4, 2]), ([[4], [2]], [4, 2]), ([[5], [3]], [4, 2])]
    assert frames_during(model, bridge) == expected
    assert frames_during(model, hugging_face) == expected


def test_a_cache_without_a_mask_is_counted(model: LensModel) -> None:
    def run() -> None:
        ids = torch.tensor([[1, 20, 21]])
        _, past = model.bridge(ids, use_cache=True, return_type="logits_and_cache")
        model.bridge(torch.tensor([[22, 23]]), past_key_values=past)

    assert frames_during(model, run) == [([[0, 1, 2]], [3]), ([[3, 4]], [3])]


def test_a_forward_that_stops_early_or_starts_late_is_seen(model: LensModel, rows: list[list[int]]) -> None:
    batch = TokenBatch.from_rows(rows, pad_id=0, padding_side="left")
    mask, index = batch.attention_mask, batch.index.tolist()
    with torch.no_grad():
        stream = model.bridge(batch.ids, attention_mask=mask, stop_at_layer=1)
    stopped = frames_during(model, lambda: model.bridge(batch.ids, attention_mask=mask, stop_at_layer=2))
    resumed = frames_during(
        model,
        lambda: model.bridge(
            stream, attention_mask=mask, position_ids=batch.position_ids, start_at_layer=1, use_cache=False
        ),
    )
    assert stopped == resumed == [(index, [4, 2])]


def test_the_watch_ends_with_its_block_and_after_an_exception() -> None:
    model = tiny_model("llama")
    hooks = model.bridge.original_model._forward_pre_hooks
    before = len(hooks)

    def fail() -> None:
        with model.watch_frames():
            assert len(hooks) == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(hooks) == before


def test_there_is_no_frame_before_a_forward() -> None:
    with pytest.raises(ModelError, match="No forward pass has begun"):
        _ = FrameWatch().current


def test_a_mask_that_hides_its_padding_is_refused() -> None:
    model = tiny_model("llama")
    ids = torch.tensor([[1, 20, 21]])
    with model.watch_frames(), pytest.raises(ModelError, match="it got 4 dimensions"):
        model.bridge.original_model(input_ids=ids, attention_mask=torch.zeros(1, 1, 3, 3))
    with model.watch_frames(), pytest.raises(ModelError, match="2 columns for 3 new tokens"):
        model.bridge.original_model(input_ids=ids, attention_mask=torch.ones(1, 2, dtype=torch.long))

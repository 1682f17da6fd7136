"""Trees of tokens: the layout by hand, and that a tree gives the logits of its texts one by one."""

import pytest
import torch
from torch.testing import assert_close

from steerlens.models import (
    Layout,
    LensModel,
    TokenBatch,
    TokenTree,
    TreeBatch,
    resume_trees,
    run_trees,
    tiny_model,
    tree_obstacle,
)

TREES = [TokenTree((10, 11, 12), ((20, 21), (30, 31, 32))), TokenTree((13,), ((40,),))]


def batch(model: LensModel | None = None) -> TreeBatch:
    return TreeBatch.from_trees(TREES, pad_id=0, device=torch.device("cpu"))


def test_the_layout_by_hand():
    made = batch()
    assert made.ids.tolist() == [[10, 11, 12, 20, 30, 31], [0, 0, 13, 0, 0, 0]]
    assert made.index.tolist() == [[0, 1, 2, 3, 3, 4], [-1, -1, 0, -1, -1, -1]]
    assert made.branch.tolist() == [[0, 0, 0, 1, 2, 2], [0] * 6]
    assert made.n_prompt.tolist() == [3, 1]


def test_targets_by_hand():
    targets = batch().targets
    cells = list(zip(targets.cell_row.tolist(), targets.cell_column.tolist(), strict=True))
    assert cells == [(0, 2), (0, 3), (0, 4), (0, 5), (1, 2)]
    told = zip(targets.cell.tolist(), targets.token.tolist(), targets.continuation.tolist(), strict=True)
    assert [(cells[c], token, n) for c, token, n in told] == [
        ((0, 2), 20, 0), ((0, 3), 21, 0), ((0, 2), 30, 1), ((0, 4), 31, 1), ((0, 5), 32, 1), ((1, 2), 40, 2),
    ]  # fmt: skip


def test_what_is_visible_by_hand():
    seen = batch().visible(0, None)[0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]
    near = batch().visible(3, window=2)[0].int().tolist()
    assert near == [[0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]]
    padding = batch().visible(0, None)[1]
    assert padding.any(dim=-1).all(), "a row of nothing has a softmax of NaN"


def test_copies_are_laid_out_beside_and_below():
    layout = Layout(n=5, first_column=4, beside=2)
    assert layout.below == 3
    assert layout.owners(2, 2, torch.device("cpu")).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 4, 4]] * 2
    assert layout.spread(torch.tensor([[1, 2], [3, 4]])).tolist() == [[1, 2, 1, 2]] * 3 + [[3, 4, 3, 4]] * 3


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "qwen2"])
def test_a_tree_gives_the_logits_of_its_texts(family: str):
    model = tiny_model(family, dtype="float64")
    assert tree_obstacle(model) == ""
    made = batch()
    whole = run_trees(model, made, [2], keep_columns=2, logits=True)
    texts = [(t.prompt + c, len(t.prompt)) for t in TREES for c in t.continuations]
    expected = torch.cat([
        model.logits(TokenBatch.from_rows([list(ids)], pad_id=0))[0, n - 1 : -1] for ids, n in texts
    ])  # fmt: skip
    assert whole.logits is not None
    assert_close(whole.logits[made.targets.cell], expected, atol=1e-9, rtol=0)
    layout = Layout(n=3, first_column=2, beside=2)
    again = resume_trees(model, whole, 2, layout, layout.spread(whole.streams[2][:, 2:]))
    assert again.shape[0] == 3
    for copy in again:
        assert_close(copy[made.targets.cell], expected, atol=1e-9, rtol=0)


def test_a_sliding_window_longer_than_a_text_and_shorter():
    """In tiny Gemma 3 the window is short, so that this text crosses it."""
    model = tiny_model("gemma3", dtype="float64")
    window = model.config.sliding_window
    tree = TokenTree(tuple(5 + i % 90 for i in range(2 * window)), ((7, 8, 9), (4, 5)))
    made = TreeBatch.from_trees([tree], pad_id=0, device=model.device)
    n_kept = len(tree.prompt) - 1
    whole = run_trees(model, made, [1], keep_columns=n_kept, logits=True)
    assert whole.logits is not None
    rows = [list(tree.prompt + c) for c in tree.continuations]
    n = len(tree.prompt)
    expected = torch.cat([model.logits(TokenBatch.from_rows([r], pad_id=0))[0, n - 1 : -1] for r in rows])
    assert_close(whole.logits[made.targets.cell], expected, atol=1e-9, rtol=0)
    layout = Layout(n=2, first_column=n_kept, beside=2)
    for copy in resume_trees(model, whole, 1, layout, layout.spread(whole.streams[1][:, n_kept:])):
        assert_close(copy[made.targets.cell], expected, atol=1e-9, rtol=0)


def test_attention_of_an_unknown_kind_is_an_obstacle():
    model = tiny_model("llama")
    model.config.layer_types = ["chunked_attention"] * model.n_layers
    assert "chunked_attention" in tree_obstacle(model)

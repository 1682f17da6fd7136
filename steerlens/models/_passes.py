"""Forward passes over trees: one whole and unsteered, and many that go on from the middle of it.

A change at block ℓ and column c leaves everything below that block and before that column as it was. `run_trees`
keeps what stands there, and `resume_trees` computes the rest, for several changes of the stream at once: they lie side
by side in the columns of a row, kept apart by the attention mask, so that they share the keys and values before c.
"""

import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, final

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from steerlens.errors import ModelError
from steerlens.models import _lean
from steerlens.models._columns import is_out_of_memory
from steerlens.models._lens_model import LensModel
from steerlens.models._tokens import TokenBatch
from steerlens.models._trees import TokenTree, TreeBatch

_OBSTACLES: "weakref.WeakKeyDictionary[LensModel, str]" = weakref.WeakKeyDictionary()


@final
@dataclass(frozen=True, eq=False)
class UnsteeredTrees:
    """What is kept of an unsteered pass.

    Args:
        batch: The trees.
        streams: Residual stream as it enters each wanted block, by its number; the number of blocks stands for what
            leaves the last one.
        logits: Of every cell; None if they were not asked for.
        keys: Keys and values of the first columns.
    """

    batch: TreeBatch
    streams: dict[int, Float[Tensor, "batch column d_model"]]
    logits: Float[Tensor, "cell vocab"] | None
    keys: "_Keys"


@final
@dataclass(frozen=True)
class Layout:
    """How ``n`` changed copies of the columns from ``first_column`` on are laid out.

    ``beside`` copies share a row and its keys; ``below`` rows hold such groups. Copy i is in row i // beside of its
    tree, at place i % beside; places beyond ``n`` are filled with the last copy.
    """

    n: int
    first_column: int
    beside: int

    @property
    def below(self) -> int:
        """Rows that each tree takes."""
        return -(-self.n // self.beside)

    @property
    def copies(self) -> list[int]:
        """Which copy is at each place."""
        return [min(i, self.n - 1) for i in range(self.below * self.beside)]

    def spread(self, x: Tensor) -> Tensor:
        """A [batch, column, …] tensor of the columns from ``first_column`` on, laid out: every copy the same."""
        return repeat(x, "b c ... -> (b below) (beside c) ...", below=self.below, beside=self.beside)

    def owners(self, batch: int, columns: int, device: torch.device) -> Int[Tensor, "row place"]:
        """Which copy each column belongs to."""
        copies = torch.tensor(self.copies, device=device).reshape(self.below, self.beside)
        return repeat(copies, "below beside -> (b below) (beside c)", b=batch, c=columns)


def run_trees(
    model: LensModel, batch: TreeBatch, layers: Sequence[int], *, keep_columns: int, logits: bool
) -> UnsteeredTrees:
    """One unsteered pass.

    Args:
        model: With nobody's hooks on it.
        batch: The trees.
        layers: Blocks whose incoming stream is kept.
        keep_columns: Keys and values of so many first columns are kept.
        logits: Whether the logits are wanted.
    """
    streams: dict[int, Tensor] = {}
    keys = _Keys(keep_columns)
    wanted = set(layers)
    # Keys are kept in every block; without them the pass may end at the last stream.
    deepest = -1 if logits or keep_columns else max(wanted, default=0)

    def see(layer: int, stream: Tensor) -> None:
        if layer in wanted:
            streams[layer] = stream
        if layer == deepest:
            raise _Seen

    found: Tensor | None = None
    with model.running(batch.n_prompt), ExitStack() as stack:
        stack.enter_context(_watching_blocks(model, see))
        with suppress(_Seen):
            found = _cell_logits(
                model,
                ids=batch.ids,
                index=batch.index,
                visible=lambda window: batch.visible(0, window),
                keys=keys,
                cells=(batch.targets.cell_row, batch.targets.cell_column),
            )
    return UnsteeredTrees(batch, streams, found, keys)


def resume_trees(
    model: LensModel,
    unsteered: UnsteeredTrees,
    layer: int,
    layout: Layout,
    stream: Float[Tensor, "row place d_model"],
) -> Float[Tensor, "copy cell vocab"]:
    """Logits of every cell, for every copy, from ``layer`` and the layout's first column on, with hooks that are on.

    Args:
        model: The model.
        unsteered: The pass that is taken up.
        layer: The block to go on with; the number of blocks goes on with the final norm.
        layout: Of the copies.
        stream: What enters that block, laid out.
    """
    batch, first = unsteered.batch, layout.first_column
    index = layout.spread(batch.index[:, first:])
    with model.running(batch.n_prompt.repeat_interleave(layout.below)), _entering(model, layer, stream):
        logits = _cell_logits(
            model,
            ids=layout.spread(batch.ids[:, first:]),
            index=index,
            visible=lambda window: _laid_out(batch.visible(first, window), layout),
            keys=unsteered.keys.extended(first, layout.below),
            cells=_cells(batch, layout),
        )
    return logits.reshape(-1, len(batch.targets.cell_row), logits.shape[-1])


def tree_obstacle(model: LensModel) -> str:
    """Why trees cannot be run on this model; empty if they can, which is tried once."""
    if model not in _OBSTACLES:
        _OBSTACLES[model] = _find_obstacle(model)
    return _OBSTACLES[model]


def _find_obstacle(model: LensModel) -> str:
    try:
        _windows(model)
        draw = random.Random(0)
        ids = [tuple(draw.randrange(model.d_vocab) for _ in range(n)) for n in (7, 3, 3, 2)]
        trees = [TokenTree(prompt, (ids[2], ids[3])) for prompt in ids[:2]]
        batch = TreeBatch.from_trees(trees, pad_id=model.pad_id, device=model.device)
        layer = model.n_layers // 2
        whole = run_trees(model, batch, [layer], keep_columns=6, logits=True)
        layout = Layout(n=3, first_column=6, beside=2)
        again = resume_trees(model, whole, layer, layout, layout.spread(whole.streams[layer][:, 6:]))
        rows = [t.prompt + c[:-1] for t in trees for c in t.continuations]
        plain = model.logits(TokenBatch.from_rows(rows, pad_id=model.pad_id))
    except (ModelError, RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200]
        return (
            said
            if isinstance(error, ModelError)
            else f"its code does not run on trees ({type(error).__name__}: {said})"
        )
    starts = [(r, len(t.prompt) - 1, len(c)) for r, (t, c) in enumerate((t, c) for t in trees for c in t.continuations)]
    expected = torch.cat([plain[r, at : at + n] for r, at, n in starts])
    assert whole.logits is not None
    for name, found in (("a tree", whole.logits), ("a pass from the middle", again[2])):
        if not _lean.nearly_equal(found[batch.targets.cell], expected):
            worst = float((found[batch.targets.cell] - expected).abs().max())
            return f"{name} gives other logits than plain rows, by {worst:.2g}"
    return ""


class _Seen(Exception):  # noqa: N818 - a signal, not an error
    """Every wanted stream has been seen."""


def _cell_logits(
    model: LensModel,
    *,
    ids: Int[Tensor, "row place"],
    index: Int[Tensor, "row place"],
    visible: Callable[[int | None], Bool[Tensor, "row place column"]],
    keys: "_Keys",
    cells: tuple[Int[Tensor, " cell"], Int[Tensor, " cell"]],
) -> Float[Tensor, "cell vocab"]:
    """One forward of the Hugging Face model with masks of ours, unembedding only the cells."""
    hf = model.bridge.original_model
    masks = {kind: _as_mask(model, visible(window)) for kind, window in _windows(model).items()}
    mask = masks if len(masks) > 1 else next(iter(masks.values()))

    def pick(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][cells][None],)

    handle = hf.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        out = hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=index.clamp(min=0),
            past_key_values=keys,
            use_cache=True,
        )
    finally:
        handle.remove()
    logits: Tensor = out.logits[0]
    return logits


def _windows(model: LensModel) -> dict[str, int | None]:
    """The kinds of attention in a model, each with its sliding window.

    Raises:
        ModelError: There is a kind whose mask is not ours to make.
    """
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    unknown = kinds - {"full_attention", "sliding_attention"}
    unknown |= {"local"} if hasattr(config, "attention_types") else set()
    unknown |= {"ALiBi"} if getattr(config, "alibi", False) else set()
    if unknown:
        raise ModelError(f"it has attention of a kind that replay does not know ({', '.join(sorted(unknown))})")
    window = getattr(config, "sliding_window", None)
    if not kinds:
        return {"full_attention": window}
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


def _as_mask(model: LensModel, visible: Bool[Tensor, "row place column"]) -> Tensor:
    """As the attention in use takes it: SDPA boolean, eager attention as a summand."""
    if model.config._attn_implementation == "sdpa":
        return visible[:, None]
    low = torch.finfo(model.dtype).min
    return torch.zeros(visible.shape, dtype=model.dtype, device=visible.device).masked_fill(~visible, low)[:, None]


def _laid_out(visible: Bool[Tensor, "batch query column"], layout: Layout) -> Bool[Tensor, "row place key"]:
    """Every copy sees the columns before the first, and of the rest its own."""
    before, own = visible[..., : layout.first_column], visible[..., layout.first_column :]
    apart = torch.eye(layout.beside, dtype=torch.bool, device=visible.device)
    own = rearrange(own[:, None, :, None] & apart[:, None, :, None], "b s q t k -> b (s q) (t k)")
    both = torch.cat([repeat(before, "b q k -> b (s q) k", s=layout.beside), own], dim=-1)
    return both.repeat_interleave(layout.below, dim=0)


def _cells(batch: TreeBatch, layout: Layout) -> tuple[Int[Tensor, " cell"], Int[Tensor, " cell"]]:
    """Where the cells of every copy are, copy by copy."""
    copies = torch.arange(layout.n, device=batch.ids.device)[:, None]
    columns = batch.ids.shape[1] - layout.first_column
    row = batch.targets.cell_row * layout.below + copies // layout.beside
    place = (copies % layout.beside) * columns + batch.targets.cell_column - layout.first_column
    return row.flatten(), place.flatten()


@final
@dataclass(eq=False)
class _Keys:
    """Keys and values by layer, with that part of a Hugging Face cache's interface which models use.

    Args:
        columns: How many first columns are kept, or were.
        below: Rows that share each kept row.
        kept: By layer; while it is empty, it is being filled.
    """

    columns: int
    below: int = 1
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    filled: bool = False

    def extended(self, columns: int, below: int) -> "_Keys":
        """Of the first ``columns``, to be continued by ``below`` rows each."""
        kept = {} if columns == 0 else {i: (k[:, :, :columns], v[:, :, :columns]) for i, (k, v) in self.kept.items()}
        return _Keys(columns, below, kept, filled=True)

    def update(self, key: Tensor, value: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.filled:
            if self.columns:
                self.kept[layer] = (key[:, :, : self.columns].clone(), value[:, :, : self.columns].clone())
            return key, value
        if self.columns == 0:
            return key, value
        before = self.kept[layer]
        return _behind(before[0], key, self.below), _behind(before[1], value, self.below)

    def get_seq_length(self, layer: int = 0) -> int:
        return self.columns if self.filled else 0


def _behind(kept: Tensor, new: Tensor, below: int) -> Tensor:
    """Kept keys in front of new ones; one copy, into its place."""
    if below == 1:
        return torch.cat([kept, new], dim=2)
    out = new.new_empty(*new.shape[:2], kept.shape[2] + new.shape[2], new.shape[3])
    rearrange(out, "(b r) h c d -> b r h c d", r=below)[..., : kept.shape[2], :] = kept[:, None]
    out[:, :, kept.shape[2] :] = new
    return out


def _container(model: LensModel) -> nn.ModuleList:
    """The list of blocks that the Hugging Face model runs through."""
    first = {id(model.bridge.blocks[0])}
    first |= {id(w.plain) for w in model.wrappers if w.wrapper is model.bridge.blocks[0]}
    for module in model.bridge.original_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) and id(module[0]) in first:
            return module
    raise ModelError("its blocks are not in one list")


@contextmanager
def _watching_blocks(model: LensModel, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Show the stream that enters each block, and the one that leaves the last."""
    blocks = list(_container(model))

    def entering(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, layer: int) -> None:
        see(layer, args[0] if args else kwargs["hidden_states"])

    def leaving(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        see(len(blocks), output if isinstance(output, Tensor) else output[0])

    with ExitStack() as stack:
        for layer, block in enumerate(blocks):
            hook = block.register_forward_pre_hook(_for_layer(entering, layer), with_kwargs=True)
            stack.callback(hook.remove)
        stack.callback(blocks[-1].register_forward_hook(leaving).remove)
        yield


def _for_layer(function: Callable[..., None], layer: int) -> Callable[..., None]:
    return lambda module, args, kwargs: function(module, args, kwargs, layer=layer)


@contextmanager
def _entering(model: LensModel, layer: int, stream: Tensor) -> Iterator[None]:
    """Give ``stream`` to block ``layer``, and leave out those below, which TransformerLens would still compute."""
    container = _container(model)
    before = dict(container._modules)
    try:
        for i in range(layer):
            container._modules[str(i)] = _Given(stream, None)
        if layer == 0:
            container._modules["0"] = _Given(stream, before["0"])
        yield
    finally:
        container._modules.update(before)


@final
class _Given(nn.Module):
    """Stands in for a block: hands on a stream, to the block itself or to whatever comes next."""

    def __init__(self, stream: Tensor, block: nn.Module | None) -> None:
        super().__init__()
        self.stream = stream
        # Not as a submodule, for it is one already.
        self.__dict__["block"] = block

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        block = self.__dict__["block"]
        return self.stream if block is None else block(self.stream, *args, **kwargs)

"""Replay: many interventions on the same prompts, at the price of what they change.

An intervention at block ℓ and token p changes nothing below that block and nothing before that token. So each batch of
prompts runs once, unsteered, and each intervention goes on from the stream at its block and the keys and values before
its first token, many interventions in one pass. The result is that of hooks in whole forward passes.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site, TokenSelector, shrinking_batches
from steerlens.interventions._edits import Edit, Intervention, attached, bind
from steerlens.interventions._steer import steer
from steerlens.models import (
    Layout,
    LensModel,
    TokenBatch,
    TokenFrame,
    TokenTree,
    TreeBatch,
    UnsteeredTrees,
    columns_that_fit,
    is_out_of_memory,
    resume_trees,
    run_trees,
    tree_obstacle,
)

Sink = Callable[["Replayed"], None]
Emit = Callable[[Sequence[int], Float[Tensor, "copy cell vocab"]], None]
_LOG = logging.getLogger(__name__)
_STREAM = re.compile(r"blocks\.\d+\.((?P<pre>hook_resid_pre|hook_in)|hook_resid_post|hook_out)")
_BESIDE = 128
"""Most changed columns that share a row: more would cost attention more than sharing keys saves."""
_WORTH_KEEPING = 1 / 8
"""Share of a row's columns from which on it pays to keep their keys rather than to compute them again."""


@final
@dataclass(frozen=True, eq=False)
class Replayed:
    """Logits of one batch of trees under some of the interventions.

    Args:
        trees: Numbers of the trees, as they were given.
        interventions: Numbers of the interventions, as they were given.
        batch: The trees, with the targets of the cells.
        logits: In the model's dtype, on its device; to be read and let go. One copy stands for all interventions that
            do nothing.
    """

    trees: tuple[int, ...]
    interventions: tuple[int, ...]
    batch: TreeBatch
    logits: Float[Tensor, "copy cell vocab"]


def replay(
    model: LensModel,
    trees: Sequence[TokenTree],
    interventions: Sequence[Intervention],
    sink: Sink,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Show ``sink`` the logits of every tree under every intervention.

    Of a batch of trees, interventions that do nothing come first. A batch that did not fit in memory is begun again, so
    ``sink`` may see a batch twice, and must write its results, not add them up.

    What cannot be replayed (a hook of somebody else's on the model, a site in no block, an architecture whose masks
    are not known) runs as hooks in whole forward passes; the result is the same, and one logged line says why.

    Args:
        model: What to steer.
        trees: Prompts with their continuations.
        interventions: What to do, in any number.
        sink: Gets every part of the result once or, after a lack of memory, more often.
        advance: Told how many (tree, intervention) are done.

    Raises:
        SteerlensError: If an intervention does not fit the model, or a text is too long for it.
        ActivationError: If a single tree does not fit in memory.
    """
    model.check_length(max(len(t.prompt) + max(map(len, t.continuations), default=1) - 1 for t in trees))
    bind(model, interventions)
    reason = why_not_replay(model, interventions)
    if reason:
        _LOG.warning("%s: whole passes with hooks instead of replay, because %s.", model.name, reason)
    limit = columns_that_fit(model)

    def run(rows: list[int]) -> None:
        chosen = [trees[r] for r in rows]
        batch = TreeBatch.from_trees(chosen, pad_id=model.pad_id, device=model.device)
        done = 0

        def emit(numbers: Sequence[int], logits: Tensor) -> None:
            nonlocal done
            sink(Replayed(tuple(rows), tuple(numbers), batch, logits))
            done += len(rows) * len(numbers)
            advance(len(rows) * len(numbers))

        try:
            if reason:
                _hooked_passes(model, chosen, batch, interventions, emit)
            else:
                _resumed_passes(model, batch, interventions, emit, limit)
        except BaseException:
            advance(-done)
            raise

    shrinking_batches([t.n_columns for t in trees], run, tokens=limit)


def _resumed_passes(
    model: LensModel, batch: TreeBatch, interventions: Sequence[Intervention], emit: Emit, limit: int
) -> None:
    """One unsteered pass, and then passes from the middle, each for as many interventions as ``limit`` columns take."""
    idle = [k for k, one in enumerate(interventions) if not one.acts]
    groups: dict[tuple[int, int], list[int]] = {}
    first_changed = _first_changed_columns(batch, interventions)
    for k, one in enumerate(interventions):
        if one.acts:
            layer = min(_entry(site) for site in one.plan)
            groups.setdefault((layer, first_changed[k]), []).append(k)
    whole = run_trees(
        model,
        batch,
        [layer for layer, _ in groups],
        keep_columns=max((column for _, column in groups), default=0),
        logits=bool(idle),
    )
    if idle and whole.logits is not None:
        emit(idle, whole.logits[None])
    for (layer, column), numbers in groups.items():
        changed = batch.ids.shape[0] * (batch.ids.shape[1] - column)
        size = max(1, limit // changed)
        waiting = deque(numbers[i : i + size] for i in range(0, len(numbers), size))
        while waiting:
            chunk = waiting.popleft()
            try:
                emit(chunk, _resumed(model, whole, layer, column, [interventions[k] for k in chunk]))
            except (RuntimeError, MemoryError) as error:
                if len(chunk) == 1 or not is_out_of_memory(error):
                    raise
                half = len(chunk) // 2
                waiting.extendleft((chunk[half:], chunk[:half]))


def _resumed(
    model: LensModel, whole: UnsteeredTrees, layer: int, column: int, interventions: Sequence[Intervention]
) -> Float[Tensor, "copy cell vocab"]:
    """Logits under interventions that all begin at one block and one column."""
    batch = whole.batch
    changed = batch.ids.shape[1] - column
    beside = 1 if column == 0 else max(1, min(len(interventions), _BESIDE // changed))
    layout = Layout(n=len(interventions), first_column=column, beside=beside)
    owner = layout.owners(len(batch.ids), changed, batch.ids.device)
    frame = TokenFrame(
        index=layout.spread(batch.index[:, column:]), n_prompt=batch.n_prompt.repeat_interleave(layout.below)
    )
    stream = layout.spread(whole.streams[layer][:, column:])
    later: list[Edit] = []
    # What leaves a block is edited before what enters the next, as it would be in passing.
    for edit in sorted(bind(model, interventions), key=lambda e: _stream_kind(e.site) == "pre"):
        if _is_stream_into(layer, edit.site):
            stream = edit(stream, stream, frame, owner)
        else:
            later.append(edit)
    with attached(model, later, lambda: frame, lambda: owner):
        return resume_trees(model, whole, layer, layout, stream)


def _hooked_passes(
    model: LensModel, trees: Sequence[TokenTree], batch: TreeBatch, interventions: Sequence[Intervention], emit: Emit
) -> None:
    """Whole passes over plain rows, one continuation a row, with the hooks of one intervention at a time."""
    texts = [(t.prompt, c) for t in trees for c in t.continuations]
    rows = [prompt + c[:-1] for prompt, c in texts]
    tokens = TokenBatch.from_rows(rows, pad_id=model.pad_id, n_prompt=[len(prompt) for prompt, _ in texts])
    places = [(r, len(prompt) - 1 + step) for r, (prompt, c) in enumerate(texts) for step in range(len(c))]
    at = torch.zeros(len(batch.targets.cell_row), 2, dtype=torch.long)
    at[batch.targets.cell.cpu()] = torch.tensor(places)
    row, column = at.to(model.device).unbind(1)
    for k, one in enumerate(interventions):
        with steer(model, one.plan, strength=one.strength):
            emit([k], model.logits(tokens)[row, column][None])


def _first_changed_columns(batch: TreeBatch, interventions: Sequence[Intervention]) -> list[int]:
    """The first column that each intervention changes, or from which a token is to be predicted.

    0 if so few columns stand before it that keeping their keys is not worth it.
    """
    n_columns = batch.ids.shape[1]
    wanted = int(batch.targets.cell_column.min())
    found: dict[TokenSelector, int] = {}
    for selector in {site.tokens for one in interventions for site in one.plan}:
        changed = selector.write(batch.index, batch.n_prompt).any(dim=0).nonzero()
        first = min(wanted, int(changed[0])) if len(changed) else wanted
        found[selector] = first if first > n_columns * _WORTH_KEEPING else 0
    return [min((found[site.tokens] for site in one.plan), default=0) for one in interventions]


def _entry(site: Site) -> int:
    """The block to go on with: the first whose incoming stream, or whose inside, is changed."""
    return site.layer + (_stream_kind(site) == "post")


def _is_stream_into(layer: int, site: Site) -> bool:
    """Whether a site is the very stream that enters a block."""
    return _stream_kind(site) is not None and _entry(site) == layer


def _stream_kind(site: Site) -> str | None:
    found = _STREAM.fullmatch(site.hook_name)
    return None if found is None else ("pre" if found["pre"] else "post")


def why_not_replay(model: LensModel, interventions: Sequence[Intervention]) -> str:
    """Why replay is not possible; empty if it is."""
    if model.is_hooked:
        return "hooks are on the model, which may act anywhere"
    outside = {site.hook_name for one in interventions for site in one.plan if not site.in_block}
    if outside:
        return f"{', '.join(sorted(outside))} is in no block"
    return tree_obstacle(model)

"""Output alignment: is the answer already there at a layer, and does the unembedding see it?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from steerlens.activations import Site, joined_rows
from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._sensitivity import sensitivity
from steerlens.maps import Training
from steerlens.maps._training import train
from steerlens.models import LensModel, TokenBatch, lens_logits, logit_lens
from steerlens.numerics import cluster_change, cluster_mean, cluster_share
from steerlens.progress import progress

ALIGNMENT_COLUMNS = (
    "layer", "site", "aligned", "aligned_low", "aligned_high", "represented", "represented_low", "represented_high",
    "gap", "gap_low", "gap_high", "sensitivity", "sensitivity_low", "sensitivity_high", "rank", "commonest", "regime",
    "n", "n_clusters",
)  # fmt: skip
"""One row is one block. ``aligned`` (A_lin): share of held-out prompts whose likeliest token, by the logit lens, is the
first token of the answer. ``represented`` (A_mlp): the same after a trained residual network. ``gap``: their paired
difference. ``sensitivity`` (λ_sens): change of the next-token logits per unit step in a random direction at the block,
see `steerlens.evaluation.sensitivity`. ``rank``: median rank of the answer by the logit lens. ``commonest``: share of
the commonest answer, which a network that knows nothing can always say. ``regime``: see `REGIMES`."""

REGIMES = {
    "aligned": "the unembedding sees the answer: a mean shift has something to push",
    "represented": "the answer is there, but not where the unembedding looks: a mean shift is expected to fail",
    "absent": "the answer is not there: nothing is expected to steer it here",
    "undecided": "the intervals do not tell",
}
HALF = 0.5
"""An interval above it, and above the share of the commonest answer, counts as high, one below it as low."""
HIDDEN = 512
DISTRACTORS = 512
"""Tokens besides the answers among which the network learns to tell the answer."""
TRAINING = Training(steps=80, learning_rate=1e-2, patience=40, batch_size=64, weight_decay=1e-2)


@final
@dataclass(frozen=True, eq=False)
class OutputAlignment:
    """Where along the depth the answer is, and where the unembedding sees it.

    Args:
        frame: Columns `ALIGNMENT_COLUMNS`.
        model: Its name.
        concept: Its name.
    """

    frame: pd.DataFrame
    model: str
    concept: str

    def to_frame(self) -> pd.DataFrame:
        """One row per block."""
        return self.frame.copy()

    def __str__(self) -> str:
        columns = ["layer", "aligned", "represented", "gap", "sensitivity", "rank", "regime"]
        return f"Output alignment of {self.concept} in {self.model}\n" + self.frame[columns].to_string(
            index=False, float_format="%.2f"
        )


def output_alignment(
    model: LensModel,
    fit: ConceptDataset,
    test: ConceptDataset,
    *,
    layers: Sequence[int] | None = None,
    hidden: int = HIDDEN,
    training: Training = TRAINING,
    seed: int = 0,
) -> OutputAlignment:
    """How well the answer can be read at every block: by the logit lens, and after a small network.

    The answer of a question is the first token of its positive continuation (of the negative one where the context is
    a pair's negative text). The network, h + W₂ GELU(W₁ LN(h)) read by the model's own unembedding, is trained on
    ``fit`` to tell the answer among all answers and 512 other tokens, and judged on ``test`` among all tokens.

    Args:
        model: A model.
        fit: Pairs to train the network on.
        test: Pairs of other groups to report on.
        layers: Blocks; None takes all.
        hidden: Width of the network.
        training: Steps, rate, patience; ``batch_size`` counts questions.
        seed: Of the network, the distractors and the bootstrap.

    Raises:
        OptionError: The two sets share a group, or a block does not exist.
        EstimateError: ``test`` has fewer than five groups.

    References:
        arXiv 2604.15557 (alignment profiles), known to us from its full text as quoted in our notes; nostalgebraist2020
        (logit lens).
    """
    shared = set(fit.groups) & set(test.groups)
    if shared:
        raise OptionError(f"fit and test share groups, such as {sorted(shared)[0]!r}. Split by group: dataset.split().")
    if len(set(test.groups)) < 5:
        raise EstimateError(f"Intervals need at least 5 groups of test pairs, but got {len(set(test.groups))}.")
    blocks = tuple(range(model.n_layers)) if layers is None else tuple(layers)
    learned, held = (_asked(model, pairs, blocks) for pairs in (fit, test))
    lengths = {layer: held.x[layer].double().norm(dim=1) for layer in blocks}
    moved = dict(zip(blocks, sensitivity(model, held.prompts, lengths, seed=seed), strict=True))
    rows: list[dict[str, Any]] = []
    with progress(f"output alignment of {test.name}", len(blocks)) as advance:
        for layer in blocks:
            plain = logit_lens(model, held.x[layer], held.answers)
            trained = _network(model, learned.x[layer], learned.answers, hidden, training, seed + layer)
            better = logit_lens(model, trained(held.x[layer]), held.answers)
            rows.append(_row(layer, plain.rank, better.rank, moved[layer], held, seed))
            advance(1)
    return OutputAlignment(pd.DataFrame(rows, columns=list(ALIGNMENT_COLUMNS)), model.name, test.name)


def _row(
    layer: int,
    plain: Int[Tensor, " n"],
    better: Int[Tensor, " n"],
    moved: Float[Tensor, " n"],
    held: "_Asked",
    seed: int,
) -> dict[str, Any]:
    groups = held.groups
    sensitive = cluster_mean(moved.numpy(), groups, seed=seed)
    commonest = float(held.answers.bincount().max()) / len(held.answers)
    high = max(HALF, commonest)
    before, after = ((r == 0).numpy() for r in (plain, better))
    aligned, represented = (cluster_share(hits, groups, seed=seed) for hits in (before, after))
    gap = cluster_change(before, after, groups, seed=seed)
    regime = "undecided"
    # A network that knows less than the commonest answer was not trained well enough to say that nothing is there.
    if commonest <= represented.high < HALF and aligned.high < HALF:
        regime = "absent"
    elif aligned.low > high:
        regime = "aligned"
    elif represented.low > high and aligned.high < HALF:
        regime = "represented"
    row: dict[str, Any] = {"layer": layer, "site": Site.resid_post(layer).hook_name}
    for name, e in (("aligned", aligned), ("represented", represented), ("gap", gap), ("sensitivity", sensitive)):
        row |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
    return row | {
        "rank": float(plain.double().median()), "commonest": commonest, "regime": regime,
        "n": aligned.n, "n_clusters": aligned.n_clusters,
    }  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class _Asked:
    """Activations at the end of every question's context, and the token that answers it."""

    x: dict[int, Float[Tensor, "n d_model"]]
    prompts: tuple[tuple[int, ...], ...]
    answers: Int[Tensor, " n"]
    groups: tuple[str, ...]


def _asked(model: LensModel, pairs: ConceptDataset, layers: Sequence[int], *, batch: int = 32) -> _Asked:
    questions = pairs.questions
    wanted = [q.negative if q.side == "negative" else q.positive for q in questions]
    rows = [r[0] for r in joined_rows(model, [q.context for q in questions], [(w,) for w in wanted])]
    names = {Site.resid_post(layer).hook_name: layer for layer in layers}
    kept: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        tokens = TokenBatch.from_rows([r.ids[: r.n_prompt] for r in part], pad_id=model.pad_id, padding_side="left")
        model.read(tokens, list(names), lambda name, value: kept[names[name]].append(value[:, -1].detach().cpu()))
    answers = torch.tensor([r.ids[r.n_prompt] for r in rows])
    prompts = tuple(tuple(r.ids[: r.n_prompt]) for r in rows)
    return _Asked({k: torch.cat(v) for k, v in kept.items()}, prompts, answers, tuple(q.group for q in questions))


def _network(
    model: LensModel,
    x: Float[Tensor, "n d_model"],
    answers: Int[Tensor, " n"],
    hidden: int,
    training: Training,
    seed: int,
) -> Any:
    """Train the residual network of one block; a quarter of the rows decides when to stop."""
    generator = torch.Generator().manual_seed(seed)
    d = x.shape[1]
    first = torch.randn(hidden, d, generator=generator) / d**0.5
    second = torch.zeros(d, hidden)
    others = torch.randint(model.d_vocab, (DISTRACTORS,), generator=generator)
    candidates = torch.tensor(sorted({*answers.tolist(), *others.tolist()}))
    goal = torch.searchsorted(candidates, answers)
    order = torch.randperm(len(x), generator=generator)
    held, fit = order[: len(x) // 4], order[len(x) // 4 :]
    rows = x.float()

    def moved(h: Tensor) -> Tensor:
        step = functional.gelu(functional.layer_norm(h, (d,)) @ first.T) @ second.T
        further: Tensor = h + step * h.norm(dim=-1).mean() / d**0.5
        return further

    def loss_of(which: Tensor) -> Tensor:
        return functional.cross_entropy(lens_logits(model, moved(rows[which]), candidates), goal[which])

    def of_batch() -> Tensor:
        return loss_of(fit[torch.randint(len(fit), (training.batch_size,), generator=generator)])

    train([first, second], of_batch, lambda: loss_of(held), training)
    return lambda h: moved(h.float()).detach()

"""Activations of contrasting texts at sites: all sites and both classes in one forward per batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations._memory import shrinking_batches
from steerlens.activations._rows import TextRow, joined_rows
from steerlens.activations._selectors import TokenSelector
from steerlens.activations._site import Site
from steerlens.activations._store import ActivationFile, entry_path
from steerlens.concepts import ConceptDataset
from steerlens.errors import ActivationError, OptionError, SiteError
from steerlens.models import LensModel, TokenBatch
from steerlens.numerics import Moments, moments
from steerlens.progress import progress

BATCH_TOKENS = 4096
"""Tokens per forward before memory decides otherwise."""

Sink = Callable[[Site, list[int], Tensor], None]
"""Takes the activations of some rows at a site, shape (rows, width)."""


@final
@dataclass(frozen=True)
class ActivationSource:
    """Where activations come from: enough to find them again."""

    model: str
    revision: str
    dtype: str
    concept: str
    fingerprint: str
    hook_name: str
    tokens: str
    head: int | None


@final
@dataclass(frozen=True, eq=False)
class ContrastiveActivations:
    """Activations of the two texts of every pair at one site.

    Row i of ``positive`` and of ``negative`` belong to pair i of the data set. Float32, or float64 for a model in
    float64; on the CPU.
    """

    positive: Float[Tensor, "pair d_model"]
    negative: Float[Tensor, "pair d_model"]
    site: Site
    groups: tuple[str, ...]
    source: ActivationSource

    @property
    def differences(self) -> Float[Tensor, "pair d_model"]:
        """positive − negative, pair by pair."""
        return self.positive - self.negative

    def __len__(self) -> int:
        return len(self.positive)

    def __repr__(self) -> str:
        return (
            f"ContrastiveActivations({len(self)} pairs in {len(set(self.groups))} groups, width "
            f"{self.positive.shape[1]}, {self.site}, {self.source.model})"
        )


@final
@dataclass(frozen=True, eq=False)
class ContrastiveMoments:
    """Moments of both classes at one site, for data too large to hold."""

    positive: Moments
    negative: Moments
    site: Site
    source: ActivationSource


def extract(
    model: LensModel,
    dataset: ConceptDataset,
    sites: Iterable[Site],
    *,
    cache: str | Path | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[Site, ContrastiveActivations]:
    """Activations of every pair at every site.

    One forward per batch of similar lengths serves all sites and both classes, and stops after the deepest block
    needed. Only the selected tokens are kept; several tokens of a text are averaged. The result does not depend on
    the batches, up to the rounding of the model's own arithmetic.

    Args:
        model: Where to read.
        dataset: The pairs.
        sites: What to read; selectors of one hook point may differ.
        cache: Folder for results. A site found there (same model, revision, dtype, data and site) is not computed
            again; one computed is streamed there and comes back memory-mapped, so that memory does not grow with
            the number of pairs. None keeps results in memory.
        batch_tokens: Tokens per forward; halved as often as memory runs out.

    Returns:
        One `ContrastiveActivations` per site.

    Raises:
        SiteError: If a site does not fit the model, or a text has no token that its selector reads.
        ActivationError: If activations are not finite; names the site.
    """
    wanted = _checked_sites(model, sites)
    found: dict[Site, ContrastiveActivations] = {}
    files: dict[Site, ActivationFile] = {}
    for site in wanted:
        source = source_of(model, dataset, site)
        path = None if cache is None else entry_path(Path(cache), source)
        if path is not None and path.exists():
            found[site] = _labelled(ActivationFile.read(path), dataset, site, source)
        else:
            files[site] = ActivationFile.create(path, len(dataset), site.check(model), _kept_dtype(model))
    if files:

        def keep(site: Site, rows: list[int], values: Tensor) -> None:
            files[site].write(rows, values)

        try:
            _sweep(model, dataset, tuple(files), keep, batch_tokens)
            for site, file in files.items():
                found[site] = _labelled(file.finish(), dataset, site, source_of(model, dataset, site))
        finally:
            for file in files.values():
                file.discard()
    return {site: found[site] for site in wanted}


def extract_moments(
    model: LensModel,
    dataset: ConceptDataset,
    sites: Iterable[Site],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[Site, ContrastiveMoments]:
    """Mean and covariance of both classes at every site, streamed: no activation outlives its batch.

    Args and errors are those of `extract`. Methods with ``fit_moments`` take the result.
    """
    wanted = _checked_sites(model, sites)
    kept = {site: [Moments.empty(site.check(model)) for _ in range(2)] for site in wanted}

    def merge(site: Site, rows: list[int], values: Tensor) -> None:
        _require_finite(values, site)
        positive = torch.tensor([row < len(dataset) for row in rows])
        for side, mask in enumerate((positive, ~positive)):
            if mask.any():
                kept[site][side] = kept[site][side].merge(moments(values[mask]))

    _sweep(model, dataset, wanted, merge, batch_tokens)
    return {
        site: ContrastiveMoments(kept[site][0], kept[site][1], site, source_of(model, dataset, site)) for site in wanted
    }


def _sweep(model: LensModel, dataset: ConceptDataset, sites: tuple[Site, ...], sink: Sink, batch_tokens: int) -> None:
    """Run all texts once; rows 0 … n−1 are the positive ones, n … 2n−1 the negative ones."""
    pairs = joined_rows(
        model, [p.prompt for p in dataset], [(p.positive, p.negative) for p in dataset], predicted=False
    )
    rows = [positive for positive, _ in pairs] + [negative for _, negative in pairs]
    by_hook: dict[str, list[Site]] = {}
    for site in sites:
        by_hook.setdefault(site.hook_name, []).append(site)

    def run(batch: list[int]) -> None:
        taken = _read_batch(model, [rows[i] for i in batch], by_hook)
        for site, values in zip(taken, _to_cpu(list(taken.values()), _kept_dtype(model)), strict=True):
            sink(site, batch, values)
        advance(len(batch))

    with progress(f"extract {dataset.name}, {len(sites)} sites", len(rows)) as advance:
        shrinking_batches([len(r.ids) for r in rows], run, tokens=batch_tokens)


def _read_batch(
    model: LensModel, rows: Sequence[TextRow], by_hook: Mapping[str, Sequence[Site]]
) -> dict[Site, Float[Tensor, "batch _"]]:
    tokens = TokenBatch.from_rows([r.ids for r in rows], pad_id=model.pad_id, n_prompt=[r.n_prompt for r in rows]).to(
        model.device
    )
    selected = {t: _selected(t, tokens) for t in {site.tokens for of in by_hook.values() for site in of}}
    taken: dict[Site, Tensor] = {}

    def reader(hook_name: str, activation: Tensor) -> None:
        for site in by_hook[hook_name]:
            values = activation if site.head is None else activation[:, :, site.head]
            taken[site] = _pool(values, *selected[site.tokens])

    model.read(tokens, tuple(by_hook), reader)
    return taken


def _selected(
    selector: TokenSelector, tokens: TokenBatch
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " batch"]]:
    """Row and column of every token that is read, and how many each row has."""
    mask = selector.read(tokens.index, tokens.n_prompt)
    counts = mask.sum(dim=1)
    if not bool((counts > 0).all()):
        bad = int((counts == 0).nonzero()[0])
        length = int(tokens.attention_mask[bad].sum())
        raise SiteError(
            f"{selector} selects no token of a text of {length} tokens. Use longer texts or another selector."
        )
    row, column = mask.nonzero(as_tuple=True)
    return row, column, counts


def _pool(
    values: Float[Tensor, "batch token width"],
    row: Int[Tensor, " n"],
    column: Int[Tensor, " n"],
    counts: Int[Tensor, " batch"],
) -> Float[Tensor, "batch width"]:
    """Mean over the selected tokens of each row; tokens not selected never enter the arithmetic."""
    exact = torch.float64 if values.dtype == torch.float64 else torch.float32
    chosen = values[row, column].to(exact)
    if len(row) == len(counts):
        return chosen
    sums = torch.zeros(len(counts), values.shape[-1], dtype=exact, device=values.device)
    return sums.index_add_(0, row, chosen) / counts[:, None]


def _to_cpu(values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """One transfer for all sites of equal width, not one per site."""
    out: dict[int, Tensor] = {}
    for width in {v.shape[1] for v in values}:
        which = [i for i, v in enumerate(values) if v.shape[1] == width]
        moved = torch.stack([values[i] for i in which]).to(device="cpu", dtype=dtype)
        out.update(zip(which, moved, strict=True))
    return [out[i] for i in range(len(values))]


def _labelled(
    values: Float[Tensor, "2 pair d_model"], dataset: ConceptDataset, site: Site, source: ActivationSource
) -> ContrastiveActivations:
    _require_finite(values, site)
    return ContrastiveActivations(values[0], values[1], site, tuple(p.group for p in dataset), source)


def _require_finite(values: Tensor, site: Site) -> None:
    if not torch.isfinite(values).all():
        raise ActivationError(
            f"Activations at {site} have NaN or infinity. In float16 the residual stream of many models overflows: "
            "load the model in bfloat16 or float32."
        )


def _checked_sites(model: LensModel, sites: Iterable[Site]) -> tuple[Site, ...]:
    wanted = tuple(dict.fromkeys(sites))
    if not wanted:
        raise OptionError("extract needs at least one site, such as Site.resid_post(layer=10), but got none.")
    for site in wanted:
        site.check(model)
    return wanted


def _kept_dtype(model: LensModel) -> torch.dtype:
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def source_of(model: LensModel, dataset: ConceptDataset, site: Site) -> ActivationSource:
    """Where activations of a data set at a site come from."""
    return ActivationSource(
        model=model.name,
        revision=model.revision,
        dtype=str(model.dtype).removeprefix("torch."),
        concept=dataset.name,
        fingerprint=dataset.fingerprint,
        hook_name=site.hook_name,
        tokens=repr(site.tokens),
        head=site.head,
    )

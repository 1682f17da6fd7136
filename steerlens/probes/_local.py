"""Whether the difference of a pair depends on where its source lies: one direction for all, or one for each region."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from steerlens.errors import ActivationError, OptionError
from steerlens.numerics import Estimate
from steerlens.probes._groups import deal_groups, group_blocks, group_codes
from steerlens.probes._jackknife import jackknife, share_as_large
from steerlens.probes._pairs import finite_rows, span_coordinates

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class LocalDirectionReport:
    """Whether the differences near a source point where all differences point.

    u(h) is the mean difference of the k nearest sources of other groups. The references are the same statistics after
    the differences have been dealt anew to the groups of sources, so that they cannot depend on place: they have the
    same noise, and the same k.

    Args:
        cosine: Mean cosine of u(hᵢ) with Δ. Only its reference says what is high: averages of k noisy differences
            cannot agree with Δ perfectly.
        ceiling: Mean of that where place does not matter: what a constant field gives. A shift suffices where
            ``cosine`` is about this.
        resultant: Length of the mean of the unit vectors û(hᵢ), in [0, 1]; 1 is a constant field.
        resultant_ceiling: Mean of that where place does not matter.
        autocorrelation: How alike centred differences of neighbours are, as a share of their variance: 0 where place
            does not matter, towards 1 where neighbours share their difference (Moran's I of a vector field).
        p_value: Of the autocorrelation. It sees a field that turns or flips with place, also where Δ is zero and
            neither the cosine nor the resultant can fall below its ceiling.
        p_cosine: Share of dealings that give as low a cosine.
        neighbours: k.
        n: Pairs.
        n_clusters: Groups.
    """

    cosine: Estimate
    ceiling: float
    resultant: Estimate
    resultant_ceiling: float
    autocorrelation: Estimate
    p_value: float
    p_cosine: float
    neighbours: int
    n: int
    n_clusters: int

    def __str__(self) -> str:
        lines = (
            f"Differences of {self.neighbours} neighbours ({self.n} pairs in {self.n_clusters} groups)",
            f"  cosine with Δ    {self.cosine}, constant field {self.ceiling:.3g} (p = {self.p_cosine:.2g})",
            f"  resultant        {self.resultant}, constant field {self.resultant_ceiling:.3g}",
            f"  autocorrelation  {self.autocorrelation}, constant field 0 (p = {self.p_value:.2g})",
        )
        return "\n".join(lines)


def local_direction_report(
    source: Float[Tensor, "pair d_model"],
    differences: Float[Tensor, "pair d_model"],
    groups: Sequence[Hashable],
    *,
    seed: int,
    neighbours: int = 20,
    n_permutations: int = 500,
) -> LocalDirectionReport:
    """Measure whether differences vary with the place of their source.

    Args:
        source: Activations h without the concept.
        differences: Target minus source, of the same pairs.
        groups: The group of each pair. Neighbours come from other groups, and differences are dealt by whole groups.
        seed: Of the dealings.
        neighbours: k; fewer where the other groups have fewer rows.
        n_permutations: Dealings.

    Raises:
        ActivationError: If rows do not match, or are not finite.
        OptionError: If there is not one group for each pair, or ``neighbours`` is below 1.
        EstimateError: If there are fewer than five groups.

    References:
        moran1950 (autocorrelation in space).
    """
    if source.shape != differences.shape:
        raise ActivationError(
            f"Every source needs a difference, but got {tuple(source.shape)} and {tuple(differences.shape)}."
        )
    if neighbours < 1:
        raise OptionError(f"neighbours must be at least 1, but got {neighbours}.")
    h, d = finite_rows(source), finite_rows(differences)
    codes = group_codes(groups, len(h))
    near = neighbours_of_other_groups(h, codes, neighbours)
    gram = (d @ d.T).numpy()
    short = span_coordinates(d)
    same, everything = np.arange(len(d))[None], np.ones(len(d))
    dealt = deal_groups(codes, n_permutations, seed)
    found = np.append(_agreement(short, near, same, everything)[0], _autocorrelation(gram, near, same, everything))
    blocks = group_blocks(codes)
    keeps = [(blocks != b).astype(float) for b in range(int(blocks.max()) + 1)]
    left_out = [np.append(_agreement(short, near, same, k)[0], _autocorrelation(gram, near, same, k)) for k in keeps]
    estimates = [jackknife(v, o, codes) for v, o in zip(found, np.array(left_out).T, strict=True)]
    # The field's length takes longer than its autocorrelation, and its reference needs no far tail.
    agreement = _agreement(short, near, dealt[:100], everything)
    autocorrelation = _autocorrelation(gram, near, dealt, everything)
    return LocalDirectionReport(
        cosine=estimates[0],
        ceiling=float(agreement[:, 0].mean()),
        resultant=estimates[1],
        resultant_ceiling=float(agreement[:, 1].mean()),
        autocorrelation=estimates[2],
        p_value=share_as_large(autocorrelation, found[2], 1.0),
        p_cosine=share_as_large(-agreement[:, 0], -found[0], 1.0),
        neighbours=near.shape[1],
        n=len(d),
        n_clusters=int(codes.max()) + 1,
    )


def neighbours_of_other_groups(x: Tensor, codes: Codes, k: int) -> Codes:
    """Indices of the k nearest rows of other groups, nearest first, shape (n, k)."""
    distance = torch.cdist(x, x)
    code = torch.tensor(codes)
    distance[code[:, None] == code] = torch.inf
    most = len(codes) - int(np.bincount(codes).max())
    nearest: Codes = distance.topk(min(k, most), largest=False, sorted=True).indices.numpy()
    return nearest


def _autocorrelation(gram: Array, near: Codes, dealt: Codes, keep: Array) -> Array:
    """Mean product of centred differences of neighbours over their variance, for each dealing, shape (resample,)."""
    mean = keep / keep.sum()
    along = gram @ mean
    centred = gram - along[:, None] - along + mean @ along
    weight = keep[near] * keep[:, None]
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    variance = float(keep @ centred.diagonal())
    if variance <= 1e-12 * float(keep @ gram.diagonal()):
        return np.zeros(len(dealt))
    return np.array([(weight * centred[p[:, None], p[near]]).sum() for p in dealt]) / variance


def _agreement(d: Array, near: Codes, dealt: Codes, keep: Array) -> Array:
    """Mean cosine of local with global mean and resultant, for each dealing, shape (resample, 2)."""
    n, k = near.shape
    mean = keep @ d / keep.sum()
    count = keep[near].sum(axis=1)
    weight = np.divide(keep[near], count[:, None], out=np.zeros(near.shape), where=count[:, None] > 0)
    average = sparse.csr_array((weight.ravel(), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    used = keep * (count > 0)
    smallest = 1e-9 * np.sqrt((d**2).sum() / n) + 1e-300
    out = np.empty((len(dealt), 2))
    for row, p in enumerate(dealt):
        local = average @ d[p]
        length = np.sqrt(np.einsum("nd,nd->n", local, local))
        field = np.divide(used, length, out=np.zeros(n), where=length > smallest) @ local
        out[row] = field @ mean / max(float(np.linalg.norm(mean)), smallest), np.linalg.norm(field)
    agreement: Array = out / used.sum()
    return agreement

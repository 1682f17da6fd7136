"""Next-layer consistency: does the next block take a steered activation for a real one?"""

import re
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError, SiteError
from steerlens.interventions import steer
from steerlens.maps import SteeringMap
from steerlens.models import LensModel
from steerlens.numerics import Estimate, cluster_share

_ENTERS_BLOCK = re.compile(r"blocks\.\d+\.(hook_resid_pre|hook_in)")


@final
@dataclass(frozen=True)
class NextLayerConsistency:
    """Share of rows that lie among real target activations, one block above the map.

    A row lies among them if some real row has it nearer than that row's own k-th neighbour. ``moved`` is to be read
    against its two references: a map that leads to real activations has the share of ``target``, and one that does
    nothing has that of ``source``.

    Args:
        moved: Of source rows, steered below and pushed through the block.
        source: Of the same rows, unsteered.
        target: Of real target rows that were held out.
        site: Where the map acts.
        read_at: Where rows are compared.
        k: Number of the neighbour.
        n_reference: Real target rows that rows are compared with.
    """

    moved: Estimate
    source: Estimate
    target: Estimate
    site: Site
    read_at: Site
    k: int
    n_reference: int

    def __str__(self) -> str:
        return (
            f"among real activations at {self.read_at.hook_name}: moved {self.moved}, "
            f"unsteered source {self.source}, held-out target {self.target}"
        )


def next_layer_consistency(
    model: LensModel,
    reference: ConceptDataset,
    pairs: ConceptDataset,
    site: Site,
    steering_map: SteeringMap,
    *,
    seed: int,
    strength: float = 1.0,
    k: int = 5,
) -> NextLayerConsistency:
    """Steer the negative texts of ``pairs`` at a site, and look where they are one block later.

    They are compared with the positive texts of ``reference``, by the balls that reach from each to its k-th neighbour
    among the others. The shares are of pairs, clustered by group.

    Args:
        model: What to steer.
        reference: Pairs whose positive texts are the real activations.
        pairs: Pairs to report on; must share no group with ``reference``.
        site: Where the map acts; in any block but the last.
        steering_map: A map that fits the site.
        seed: Of the bootstrap.
        strength: See `SteeringMap`.
        k: Number of the neighbour; the larger, the wider the balls.

    Raises:
        OptionError: k is below 1, or the data sets share a group.
        EstimateError: The reference has no k neighbours, or ``pairs`` fewer than five groups.
        SiteError: The site is in no block, or no block follows.

    References:
        kynkaanniemi2019 (the balls, there for images: improved precision).
    """
    _check(reference, pairs, k)
    read_at = _next_site(model, site)
    real = extract(model, reference, [read_at])[read_at].positive
    plain = extract(model, pairs, [read_at])[read_at]
    with steer(model, {site: steering_map}, strength=strength):
        moved = extract(model, pairs, [read_at])[read_at].negative
    radii = neighbour_radii(real, k)

    def share(rows: Tensor) -> Estimate:
        return cluster_share(among(rows, real, radii).numpy(), plain.groups, seed=seed)

    return NextLayerConsistency(
        share(moved), share(plain.negative), share(plain.positive), site, read_at, k, len(reference)
    )


def neighbour_radii(real: Float[Tensor, "n d_model"], k: int) -> Float[Tensor, " n"]:
    """Distance of every row to its k-th nearest other row."""
    x = real.double()
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(float("inf"))
    return apart.kthvalue(k, dim=1).values


def among(rows: Float[Tensor, "m d_model"], real: Float[Tensor, "n d_model"], radii: Float[Tensor, " n"]) -> Tensor:
    """Whether each row lies within the radius of some real row."""
    apart = torch.cdist(rows.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return (apart <= radii).any(dim=1)


def _next_site(model: LensModel, site: Site) -> Site:
    site.check(model)
    layer = site.layer if _ENTERS_BLOCK.fullmatch(site.hook_name) else site.layer + 1
    if layer >= model.n_layers:
        raise SiteError(
            f"No block of {model.name!r} ({model.n_layers} layers) follows {site.hook_name!r}. "
            "Steer in an earlier block."
        )
    return Site.resid_post(layer, site.tokens)


def _check(reference: ConceptDataset, pairs: ConceptDataset, k: int) -> None:
    if k < 1:
        raise OptionError(f"k counts neighbours from 1, but got {k}.")
    if len(reference) <= k:
        raise EstimateError(f"The reference has {len(reference)} pairs, which have no neighbour number {k}. Add pairs.")
    shared = set(reference.groups) & set(pairs.groups)
    if shared:
        raise OptionError(
            f"reference and pairs share {len(shared)} groups, such as {sorted(shared)[0]!r}, so that rows would be "
            "compared with their own. Split by group: dataset.split(seed=0)."
        )

"""Maps at several sites, each fitted on what the maps below it leave."""

from collections.abc import Iterable

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import OptionError
from steerlens.interventions._steer import steer
from steerlens.maps import SteeringMap, SteeringMethod
from steerlens.models import LensModel

_WITHIN_BLOCK = (
    ("hook_resid_pre", "hook_in"),
    ("attn.hook_z", "attn.o.hook_in"),
    ("hook_attn_out", "attn.hook_out"),
    ("hook_resid_mid", "ln2.hook_in"),
    ("hook_mlp_out", "mlp.hook_out"),
    ("hook_resid_post", "hook_out"),
)
"""Hook points of a block in the order of the forward pass, each with its alias."""


def fit_in_order(
    model: LensModel, pairs: ConceptDataset, sites: Iterable[Site], method: SteeringMethod
) -> dict[Site, SteeringMap]:
    """A map for every site, from the lowest up, each fitted on sources that the maps below have steered already.

    The negative texts run under the maps fitted so far, at strength 1; the positive texts run unsteered, for they are
    where all maps should lead. Fitted all at once instead, each map would carry the whole difference, and together
    they would carry it once a layer. The result is a plan for `steer`. Nothing is read from or written to a cache:
    caches hold unsteered activations.

    Args:
        model: Where to read and steer; there must be no other steering on it.
        pairs: What to fit on.
        sites: In any order; all within blocks. Sites of one hook point act in the order given.
        method: Fitted once a site.

    Raises:
        OptionError: There are no sites, or the model is hooked already.
        SiteError: A site does not fit the model, or is in no block.
        FitError: Whatever the method raises.

    References:
        rodriguez2025 (Linear-AcT, sequential estimation).
    """
    wanted = sorted(dict.fromkeys(sites), key=_place)
    if not wanted:
        raise OptionError("fit_in_order needs at least one site, such as Site.resid_post(layer=10), but got none.")
    if model.is_hooked:
        raise OptionError(f"{model.name!r} has hooks already, so its targets would be steered. Leave them first.")
    unsteered = extract(model, pairs, wanted)
    plan: dict[Site, SteeringMap] = {}
    for site in wanted:
        with steer(model, plan):
            source = (extract(model, pairs, [site]) if plan else unsteered)[site].negative
        plan[site] = method.fit(source=source, target=unsteered[site].positive)
    return plan


def _place(site: Site) -> tuple[int, int]:
    """When the forward pass reaches a site."""
    for rank, names in enumerate(_WITHIN_BLOCK):
        if site.hook_name.removeprefix(f"blocks.{site.layer}.") in names:
            return site.layer, rank
    raise OptionError(
        f"{site.hook_name!r} has no known place within its block. Use resid_pre, z, attn_out, resid_mid, mlp_out or "
        "resid_post."
    )

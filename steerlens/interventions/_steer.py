"""Steering: maps at work inside a model, for the length of a ``with`` block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from steerlens.activations import Site
from steerlens.interventions._edits import Intervention, attached, bind
from steerlens.maps import SteeringMap
from steerlens.models import LensModel


@contextmanager
def steer(model: LensModel, plan: Mapping[Site, SteeringMap], *, strength: float = 1.0) -> Iterator[None]:
    """Apply maps at sites in every forward pass and generation within the block.

    Which tokens change is said by each site's selector, by absolute position, so that batching, padding side and KV
    cache make no difference. Strength 0 attaches nothing: outputs are bit-identical to the unsteered model. Blocks
    nest; the inner one acts on what the outer one left. Afterwards, also after an exception, nothing is left behind.

    At ``resid_mid`` the stream itself is edited, through the output of attention: TransformerLens's own hook there
    reaches only the MLP.

    Args:
        model: What to steer.
        plan: A map for every site.
        strength: See `SteeringMap`; one for all sites.

    Raises:
        SiteError: If a site does not fit the model.
        FitError: If a map does not fit its site.
        OptionError: If the strength is not finite, or negative for a map without a reverse.
    """
    edits = bind(model, [Intervention(plan, strength)])
    if not edits:
        yield
        return
    with model.watch_frames() as frames, attached(model, edits, lambda: frames.current):
        yield

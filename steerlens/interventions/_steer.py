"""Steering: maps at work inside a model, for the length of a ``with`` block."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site
from steerlens.errors import FitError, OptionError, SiteError
from steerlens.maps import SteeringMap
from steerlens.models import LensModel, TokenFrame

Hook = Callable[..., Tensor | None]


@final
@dataclass(frozen=True, eq=False)
class Intervention:
    """Maps at sites with one strength: what is done to a model, as a value."""

    plan: Mapping[Site, SteeringMap]
    strength: float = 1.0

    @property
    def first_layer(self) -> int | None:
        """The lowest block whose work it changes; None if it changes nothing."""
        return min((site.layer for site in self.plan), default=None) if self.strength != 0 else None


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
    acting = [_Acting.bind(model, site, steering_map, strength) for site, steering_map in plan.items()]
    with ExitStack() as stack:
        if strength != 0 and acting:
            frames = stack.enter_context(model.watch_frames())
            # The mid-block stream depends on what else is done to the block, so it is bound last.
            for one in sorted(acting, key=lambda a: a.site.is_resid_mid):
                for hook_name, hook in one.hooks(model, lambda: frames.current):
                    stack.enter_context(_attached(model, hook_name, hook))
        yield


@final
@dataclass(frozen=True, eq=False)
class _Acting:
    """One map, checked against one site and moved to where the model is."""

    site: Site
    steering_map: SteeringMap
    strength: float

    @classmethod
    def bind(cls, model: LensModel, site: Site, steering_map: SteeringMap, strength: float) -> "_Acting":
        if not isinstance(site, Site) or not isinstance(steering_map, SteeringMap):
            raise OptionError(
                "A plan maps sites to steering maps, {Site: SteeringMap}, but got "
                f"{{{type(site).__name__}: {type(steering_map).__name__}}}."
            )
        width = site.check(model)
        wide = torch.float64 if model.dtype == torch.float64 else torch.float32
        moved = steering_map.to(device=model.device, dtype=wide)
        probe = torch.zeros(2, width, device=model.device, dtype=wide)
        try:
            image = moved(probe, strength=strength)
        except FitError as error:
            raise FitError(f"At {site} of {model.name!r}: {error}") from None
        except RuntimeError as error:
            raise FitError(
                f"{type(steering_map).__name__} does not take rows of width {width} at {site}: {error}"
            ) from None
        if image.shape != probe.shape or not torch.isfinite(image).all():
            raise FitError(
                f"{type(steering_map).__name__} must return finite rows of the shape it is given, but made "
                f"{tuple(image.shape)} of {tuple(probe.shape)} at {site}."
            )
        return cls(site, moved, strength)

    def hooks(self, model: LensModel, frame: Callable[[], TokenFrame]) -> list[tuple[str, Hook]]:
        """Names of hook points with what to do there."""
        if not self.site.is_resid_mid:
            return [
                (
                    self.site.hook_name,
                    lambda x, hook: self.edit(x, x if self.site.head is None else x[:, :, self.site.head], frame()),
                )
            ]
        block = f"blocks.{self.site.layer}."
        stream = f"{block}ln1.hook_in"
        if stream not in model.hook_names:
            raise SiteError(
                f"{model.name!r} has no {stream!r}, through which {self.site.hook_name!r} is steered. "
                "Steer at resid_pre or resid_post instead."
            )
        before: list[Tensor] = []

        def remember(x: Tensor, hook: Any) -> None:
            before[:] = [x]

        def edit(x: Tensor, hook: Any) -> Tensor:
            return self.edit(x, before.pop() + x, frame())

        return [(stream, remember), (f"{block}hook_attn_out", edit)]

    def edit(
        self,
        x: Float[Tensor, "batch token *width"],
        stream: Float[Tensor, "batch token d_model"],
        frame: TokenFrame,
    ) -> Float[Tensor, "batch token *width"]:
        """``x`` with the change that the map makes to ``stream``, at the selected tokens. A new tensor."""
        mask = self.site.tokens.write(frame.index, frame.n_prompt)
        if mask.shape != x.shape[:2]:
            raise SiteError(
                f"{self.site.hook_name!r} carries {tuple(x.shape[:2])} (batch, token) where the forward pass has "
                f"{tuple(mask.shape)}. Steer at a hook point of the residual stream, attention or MLP output."
            )
        out = x.clone()
        view = out if self.site.head is None else out[:, :, self.site.head]
        # For mid-block editing x is the attention output, and the map sees the stream that it is added to.
        view[mask] = (view[mask] + self.steering_map.step(stream[mask], strength=self.strength)).to(x.dtype)
        return out


@contextmanager
def _attached(model: LensModel, hook_name: str, hook: Hook) -> Iterator[None]:
    """One hook for the length of the block; removed by its own handle, so that nobody else's go with it."""
    point = model.hook_point(hook_name)
    handle = point.add_hook(hook)
    try:
        yield
    finally:
        handle.hook.remove()
        point.fwd_hooks.remove(handle)

"""What interventions do to the tensors at hook points, many at once: each token may belong to another intervention."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import Site
from steerlens.errors import FitError, OptionError, SiteError
from steerlens.maps import SteeringMap
from steerlens.models import LensModel, TokenFrame

Owner = Int[Tensor, "batch token"] | None
"""Number of the intervention that each token belongs to; None if there is one for all."""


@final
@dataclass(frozen=True, eq=False)
class Intervention:
    """Maps at sites with one strength: what is done to a model, as a value.

    Args:
        plan: A map for every site.
        strength: See `SteeringMap`; one for all sites.
    """

    plan: Mapping[Site, SteeringMap]
    strength: float = 1.0

    @property
    def acts(self) -> bool:
        """Whether it does anything."""
        return self.strength != 0 and bool(self.plan)


def grid(plans: Iterable[Mapping[Site, SteeringMap]], strengths: Sequence[float]) -> list[Intervention]:
    """Every plan at every strength; the strengths of a plan stand together."""
    return [Intervention(plan, float(s)) for plan in plans for s in strengths]


@final
@dataclass(frozen=True, eq=False)
class Edit:
    """What is done at one site.

    Args:
        site: Where.
        acting: Maps, on the model's device, with the strength (0: not at all) at which each intervention uses them.
    """

    site: Site
    acting: tuple[tuple[SteeringMap, Float[Tensor, " intervention"]], ...]

    def __call__(
        self,
        x: Float[Tensor, "batch token *width"],
        stream: Float[Tensor, "batch token d_model"],
        frame: TokenFrame,
        owner: Owner = None,
    ) -> Float[Tensor, "batch token *width"]:
        """``x`` with the change that the maps make to ``stream``, at the selected tokens. A new tensor."""
        mask = self.site.tokens.write(frame.index, frame.n_prompt)
        if mask.shape != x.shape[:2]:
            raise SiteError(
                f"{self.site.hook_name!r} carries {tuple(x.shape[:2])} (batch, token) where the forward pass has "
                f"{tuple(mask.shape)}. Steer at a hook point of the residual stream, attention or MLP output."
            )
        out = x.clone()
        view = out if self.site.head is None else out[:, :, self.site.head]
        for steering_map, strengths in self.acting:
            of_token = strengths[:1].expand(mask.shape) if owner is None else strengths[owner]
            rows, columns = (mask & (of_token != 0)).nonzero(as_tuple=True)
            # For mid-block editing x is the attention output, and the map sees the stream that it is added to.
            wide = stream[rows, columns].to(strengths.dtype)
            step = steering_map.path(wide, of_token[rows, columns])
            view[rows, columns] = (view[rows, columns] + step).to(x.dtype)
        return out


def bind(model: LensModel, interventions: Sequence[Intervention]) -> list[Edit]:
    """What the interventions do, site by site, in the order in which their plans name the sites.

    Every map is checked against its site, and moved to where the model is, once.

    Raises:
        SiteError: If a site does not fit the model.
        FitError: If a map does not fit its site.
        OptionError: If a strength is not finite, or negative for a map without a reverse.
    """
    for one in interventions:
        if not math.isfinite(one.strength):
            raise OptionError(f"A strength must be finite, but got {one.strength}.")
    checked: dict[tuple[Site, int, bool], SteeringMap] = {}
    tables: dict[tuple[int, Site], dict[int, tuple[SteeringMap, Tensor]]] = {}
    wide = torch.float64 if model.dtype == torch.float64 else torch.float32
    for number, one in enumerate(interventions):
        ranks: dict[str, int] = {}
        for site, steering_map in one.plan.items():
            _check_entry(site, steering_map)
            key = (site, id(steering_map), one.strength < 0)
            if key not in checked:
                checked[key] = _fitting(model, site, steering_map, one.strength)
            rank = ranks[site.hook_name] = ranks.get(site.hook_name, -1) + 1
            if one.strength != 0:
                table = tables.setdefault((rank, site), {})
                acting = checked[key]
                strengths = table.setdefault(
                    id(acting), (acting, torch.zeros(len(interventions), dtype=wide, device=model.device))
                )[1]
                strengths[number] = abs(one.strength)
    # The mid-block stream depends on what else is done to the block, so it is bound last.
    order = sorted(tables, key=lambda key: (key[1].is_resid_mid, key[0]))
    return [Edit(site, tuple(tables[rank, site].values())) for rank, site in order]


@contextmanager
def attached(
    model: LensModel, edits: Sequence[Edit], frame: Callable[[], TokenFrame], owner: Callable[[], Owner] = lambda: None
) -> Iterator[None]:
    """All edits at their hook points for the length of the block; nobody else's hooks go with them."""
    hooks = [hook for edit in edits for hook in _hooks(model, edit, frame, owner)]
    with ExitStack() as stack:
        for hook_name, hook in hooks:
            stack.enter_context(model.hooked(hook_name, hook))
        yield


def _hooks(
    model: LensModel, edit: Edit, frame: Callable[[], TokenFrame], owner: Callable[[], Owner]
) -> list[tuple[str, Callable[..., Tensor | None]]]:
    """Names of hook points with what to do there."""
    head = edit.site.head
    if not edit.site.is_resid_mid:
        return [
            (
                edit.site.hook_name,
                lambda x, hook: edit(x, x if head is None else x[:, :, head], frame(), owner()),
            )
        ]
    block = f"blocks.{edit.site.layer}."
    stream = f"{block}ln1.hook_in"
    if stream not in model.hook_names:
        raise SiteError(
            f"{model.name!r} has no {stream!r}, through which {edit.site.hook_name!r} is steered. "
            "Steer at resid_pre or resid_post instead."
        )
    before: list[Tensor] = []

    def remember(x: Tensor, hook: Any) -> None:
        before[:] = [x]

    def act(x: Tensor, hook: Any) -> Tensor:
        return edit(x, before.pop() + x, frame(), owner())

    return [(stream, remember), (f"{block}hook_attn_out", act)]


def _check_entry(site: object, steering_map: object) -> None:
    if not isinstance(site, Site) or not isinstance(steering_map, SteeringMap):
        raise OptionError(
            "A plan maps sites to steering maps, {Site: SteeringMap}, but got "
            f"{{{type(site).__name__}: {type(steering_map).__name__}}}."
        )


def _fitting(model: LensModel, site: Site, steering_map: SteeringMap, strength: float) -> SteeringMap:
    """The map that acts at strengths of this sign, on the model's device, seen to fit the site."""
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
    if strength >= 0:
        return moved
    reverse = moved.reverse
    assert reverse is not None  # the image above would have raised
    return reverse

"""Sites: where in the model and at which tokens."""

import re
from dataclasses import dataclass, field
from typing import final

from steerlens.activations._selectors import LastToken, TokenSelector
from steerlens.errors import OptionError, SiteError
from steerlens.models import LensModel

_BLOCK = re.compile(r"blocks\.(\d+)\.")


@final
@dataclass(frozen=True)
class Site:
    """A hook point and the tokens meant there.

    Args:
        hook_name: TransformerLens's name of the hook point.
        tokens: Which tokens; see `TokenSelector`.
        head: Attention head, for hook points with an axis of heads; None elsewhere.
    """

    hook_name: str
    tokens: TokenSelector = field(default_factory=LastToken)
    head: int | None = None

    @classmethod
    def resid_pre(cls, layer: int, tokens: TokenSelector | None = None) -> "Site":
        """The residual stream as block ``layer`` receives it."""
        return cls(_block(layer, "hook_resid_pre"), tokens or LastToken())

    @classmethod
    def resid_mid(cls, layer: int, tokens: TokenSelector | None = None) -> "Site":
        """The residual stream between attention and MLP of block ``layer``."""
        return cls(_block(layer, "hook_resid_mid"), tokens or LastToken())

    @classmethod
    def resid_post(cls, layer: int, tokens: TokenSelector | None = None) -> "Site":
        """The residual stream as block ``layer`` leaves it: the customary place to steer."""
        return cls(_block(layer, "hook_resid_post"), tokens or LastToken())

    @classmethod
    def attn_out(cls, layer: int, tokens: TokenSelector | None = None) -> "Site":
        """What attention of block ``layer`` adds to the residual stream."""
        return cls(_block(layer, "hook_attn_out"), tokens or LastToken())

    @classmethod
    def mlp_out(cls, layer: int, tokens: TokenSelector | None = None) -> "Site":
        """What the MLP of block ``layer`` adds to the residual stream."""
        return cls(_block(layer, "hook_mlp_out"), tokens or LastToken())

    @classmethod
    def z(cls, layer: int, head: int, tokens: TokenSelector | None = None) -> "Site":
        """Output of one attention head before it is projected into the residual stream; width d_head."""
        return cls(_block(layer, "attn.hook_z"), tokens or LastToken(), head)

    @property
    def layer(self) -> int:
        """Number of the block.

        Raises:
            SiteError: If the hook point is in no block.
        """
        found = _BLOCK.match(self.hook_name)
        if found is None:
            raise SiteError(f"{self.hook_name!r} is in no block. Expected a name such as 'blocks.3.hook_resid_post'.")
        return int(found.group(1))

    @property
    def in_block(self) -> bool:
        """Whether the hook point is inside a block, or its input or output."""
        return _BLOCK.match(self.hook_name) is not None

    @property
    def is_resid_mid(self) -> bool:
        """Whether this is the residual stream between attention and MLP, which needs care to write."""
        return self.hook_name.endswith((".hook_resid_mid", ".ln2.hook_in"))

    def check(self, model: LensModel) -> int:
        """Width of this site in ``model``.

        Raises:
            SiteError: If the hook point does not exist there, or the head is out of range, missing or superfluous.
        """
        model.hook_point(self.hook_name)
        if self.is_resid_mid and model.parallel_blocks:
            raise SiteError(
                f"{model.name!r} computes attention and MLP in parallel, so {self.hook_name!r} does not exist in it. "
                "Use resid_pre or resid_post."
            )
        per_head = self.hook_name.endswith((".hook_z", ".attn.o.hook_in"))
        if per_head != (self.head is not None):
            wanted = "needs a head: Site.z(layer, head)" if per_head else "has no heads, so head must be None"
            raise SiteError(f"{self.hook_name!r} {wanted}; got head={self.head}.")
        if self.head is not None and not 0 <= self.head < model.n_heads:
            raise SiteError(f"{model.name!r} has heads 0 to {model.n_heads - 1}, but got head {self.head}.")
        return model.d_head if per_head else model.d_model

    def __str__(self) -> str:
        head = "" if self.head is None else f" head {self.head}"
        return f"{self.hook_name}{head} at {self.tokens}"


def _block(layer: int, name: str) -> str:
    if layer < 0:
        raise OptionError(f"Layers count from 0, but got layer {layer}.")
    return f"blocks.{layer}.{name}"

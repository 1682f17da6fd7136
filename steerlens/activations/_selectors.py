"""Token selectors: which tokens of a text are read, and which are steered."""

import abc
from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Int
from torch import Tensor

from steerlens.errors import OptionError


class TokenSelector(abc.ABC):
    """Which tokens of each text a site means, by absolute position.

    ``index`` is the position of each column among the real tokens of its row, from 0 (BOS, or the first token of
    a model without one), and −1 for padding. ``n_prompt`` is how many tokens of each row belong to the prompt; what
    follows is the continuation being scored, or the text generated so far. Because positions are absolute, a
    selector means the same tokens whatever the batch, the padding side, or the KV cache.

    Position 0 is an attention sink with an enormous norm in most models. Only `FromIndex` and `SpanTokens` can
    include it, and only when asked for 0.
    """

    @abc.abstractmethod
    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        """Tokens that extraction reads, given whole texts; several tokens of a text are averaged."""

    @abc.abstractmethod
    def write(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        """Tokens that steering changes, given the tokens of one forward pass."""


@final
@dataclass(frozen=True)
class LastToken(TokenSelector):
    """Read: the last token of the text. Steer: the last token of the prompt and every token after it.

    Both are the tokens from which a next token is predicted.
    """

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index == index.amax(dim=1, keepdim=True)

    def write(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index >= (n_prompt - 1).clamp(min=0)[:, None]


@final
@dataclass(frozen=True)
class AllTokens(TokenSelector):
    """Every token but the first, of prompt and continuation alike."""

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index >= 1

    write = read


@final
@dataclass(frozen=True)
class PromptTokens(TokenSelector):
    """The tokens of the prompt but the first, and none that follow it."""

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return (index >= 1) & (index < n_prompt[:, None])

    write = read


@final
@dataclass(frozen=True)
class PromptEnd(TokenSelector):
    """The last token of the prompt, and none that follow it: where the first token of an answer is predicted."""

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return (index >= 0) & (index == n_prompt[:, None] - 1)

    write = read


@final
@dataclass(frozen=True)
class AnswerToken(TokenSelector):
    """Read: the first token of the continuation. Steer: the continuation, and nothing of the prompt.

    The first scored or generated token is predicted from the prompt, so steering here cannot change it.
    """

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index == n_prompt[:, None]

    def write(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index >= n_prompt[:, None]


@final
@dataclass(frozen=True)
class FromIndex(TokenSelector):
    """Every token from absolute position ``start`` on.

    Raises:
        OptionError: If ``start`` is negative.
    """

    start: int

    def __post_init__(self) -> None:
        if self.start < 0:
            raise OptionError(f"FromIndex counts from the first token, so start must be >= 0, but got {self.start}.")

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return index >= self.start

    write = read


@final
@dataclass(frozen=True)
class SpanTokens(TokenSelector):
    """The tokens at absolute positions ``start`` to ``stop`` − 1.

    Raises:
        OptionError: If not 0 <= start < stop.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise OptionError(f"SpanTokens needs 0 <= start < stop, but got {self.start} and {self.stop}.")

    def read(self, index: Int[Tensor, "batch token"], n_prompt: Int[Tensor, " batch"]) -> Bool[Tensor, "batch token"]:
        return (index >= self.start) & (index < self.stop)

    write = read


TOKEN_SELECTORS: dict[str, type[TokenSelector]] = {
    kind.__name__: kind for kind in (AllTokens, AnswerToken, FromIndex, LastToken, PromptEnd, PromptTokens, SpanTokens)
}
"""All shipped selectors, by the names that files and study plans call them."""

"""The one door to a loaded model."""

import difflib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.errors import ModelError, OptionError, SiteError
from steerlens.models import _frames, _generate, _lean
from steerlens.models._host import HookPoint, PreTrainedTokenizerBase
from steerlens.models._tokens import PaddingSide, TokenBatch, check_side

Text = str | Sequence[str]
_LOG = logging.getLogger(__name__)


class _AllRead(Exception):  # noqa: N818 - a signal, not an error
    """Every activation that was asked for has been seen; the rest of the forward is not needed."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class LensModel:
    """A loaded language model over TransformerLens's bridge, in raw mode.

    The weights are Hugging Face's own, frozen and in evaluation mode; logits equal Hugging Face's. Ids always
    go in with their mask and positions, so padding never changes a result.

    Args:
        name: What the model was loaded from.
        bridge: The `TransformerBridge`. Hooks go on its hook points; feed it ids, not text.
        tokenizer: The Hugging Face tokenizer, never changed by us.
        add_bos: Whether a text gets a BOS, which is what this tokenizer does by itself.
        revision: Identity of the weights. Caches are keyed by it and by `dtype`.

    Attributes:
        hook_names: Every hook point that can be used, by canonical name and alias.
        wrappers: TransformerLens's modules that stand aside in our passes while nobody listens to them.
    """

    name: str
    bridge: Any
    tokenizer: PreTrainedTokenizerBase
    add_bos: bool
    revision: str
    hook_names: frozenset[str] = field(init=False)
    _position_ids: bool = field(init=False)
    wrappers: tuple[_lean.Wrapper, ...] = field(init=False)
    _own_hooks: int = field(init=False)

    def __post_init__(self) -> None:
        bridge = self.bridge
        points = bridge.hook_dict
        free = frozenset(n for n, p in points.items() if bridge._gated_hook_reason(p.name or n) is None)
        object.__setattr__(self, "hook_names", free)
        object.__setattr__(self, "_position_ids", bool(bridge._accepts_derived_position_ids()))
        object.__setattr__(self, "wrappers", ())
        object.__setattr__(self, "wrappers", self._checked_wrappers())
        object.__setattr__(self, "_own_hooks", self._count_hooks())

    # -- facts ---------------------------------------------------------------------------------------------

    @functools.cached_property
    def config(self) -> Any:
        """The Hugging Face configuration of the text model."""
        return self.bridge.original_model.config.get_text_config()

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def n_heads(self) -> int:
        """Attention (query) heads of a block."""
        return int(self.config.num_attention_heads)

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return int(getattr(self.config, "head_dim", None) or self.d_model // self.n_heads)

    @functools.cached_property
    def d_vocab(self) -> int:
        """Number of logits, which may exceed the number of tokens that the tokenizer knows."""
        return int(self.bridge.original_model.get_output_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the ids go: the device of the first parameter."""
        return self._parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights and of the residual stream."""
        return self._parameter.dtype

    @property
    def _parameter(self) -> Tensor:
        parameter: Tensor = next(self.bridge.original_model.parameters())
        return parameter

    @property
    def parallel_blocks(self) -> bool:
        """Whether attention and MLP read the same residual (GPT-NeoX), so that there is no mid residual."""
        return "blocks.0.hook_resid_mid" not in self.hook_names

    @functools.cached_property
    def max_tokens(self) -> int | None:
        """Longest row that the model can run at all; None if positions are computed, not looked up."""
        if "pos_embed.hook_out" not in self.hook_names:
            return None
        return int(self.config.max_position_embeddings)

    @functools.cached_property
    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return int(self.bridge.n_params_total)

    @functools.cached_property
    def pad_id(self) -> int:
        """Id written into padding: the tokenizer's pad, else its EOS, else 0."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if isinstance(candidate, int):
                return candidate
        return 0

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a generation: the tokenizer's EOS and those of the generation config."""
        configured = getattr(getattr(self.bridge.original_model, "generation_config", None), "eos_token_id", None)
        listed = configured if isinstance(configured, list) else [configured]
        return frozenset(i for i in (*listed, self.tokenizer.eos_token_id) if isinstance(i, int))

    def __repr__(self) -> str:
        return (
            f"LensModel({self.name!r}, {type(self.bridge.original_model).__name__}, {self.n_layers} layers, "
            f"d_model {self.d_model}, {str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    def describe(self) -> str:
        """A few lines on what was loaded."""
        rows = {
            "architecture": type(self.bridge.original_model).__name__,
            "layers": f"{self.n_layers}" + (" (parallel attention and MLP)" if self.parallel_blocks else ""),
            "width": f"{self.d_model} ({self.n_heads} heads of {self.d_head})",
            "vocabulary": f"{self.d_vocab:,}",
            "parameters": f"{self.n_parameters:,}",
            "precision": f"{str(self.dtype).removeprefix('torch.')} on {self.device}",
            "BOS": "added to every text" if self.add_bos else "not added (the tokenizer's own policy)",
            "revision": self.revision,
        }
        return "\n".join([self.name, *(f"  {key:<13}{value}" for key, value in rows.items())])

    def hook_point(self, name: str) -> HookPoint:
        """The hook point with this canonical name or alias.

        Raises:
            SiteError: There is no such hook point, or TransformerLens has it switched off.
        """
        point: HookPoint | None = self.bridge._hook_registry.get(name) or self.bridge.hook_dict.get(name)
        if point is None:
            near = _closest(name, self.hook_names)
            closest = f" Closest: {', '.join(map(repr, near))}." if near else " See model.hook_names for all of them."
            raise SiteError(f"{name!r} is not a hook point of {self.name!r} ({self.n_layers} layers).{closest}")
        if (switch := self.bridge._gated_hook_reason(point.name or name)) is not None:
            raise SiteError(
                f"{name!r} of {self.name!r} is switched off in TransformerLens and would never fire; call "
                f"model.bridge.set_{switch}(True) first."
            )
        return point

    @property
    def is_hooked(self) -> bool:
        """Whether there is a hook, on a hook point or inside the Hugging Face model, that was not there on loading."""
        return self._count_hooks() > self._own_hooks

    def _count_hooks(self) -> int:
        """Hooks on hook points, and on the modules inside the Hugging Face model.

        Wrappers do not count: TransformerLens puts hooks of its own on them in the first pass.
        """
        with _lean.lean(self.bridge.original_model, self.wrappers):
            inside = [m for name, m in self.bridge.original_model.named_modules() if name]
        counted = {id(p): p for p in self.bridge.hook_dict.values()}
        counted |= {id(m): m for m in inside if not type(m).__module__.startswith("transformer_lens.")}
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in counted.values())

    @contextmanager
    def hooked(self, name: str, function: Callable[..., Tensor | None]) -> Iterator[None]:
        """One hook, ``function(activation, hook=…)``, for the length of the block; it goes by its own handle.

        Raises:
            SiteError: As `hook_point` does.
        """
        point = self.hook_point(name)
        handle = point.add_hook(function)
        try:
            yield
        finally:
            self.bridge._remove_temporary_hook(point, "fwd", handle)

    # -- text ----------------------------------------------------------------------------------------------

    def encode(self, text: str, *, bos: bool | None = None) -> list[int]:
        """Token ids of one text.

        Args:
            text: The text; an empty one is only its BOS.
            bos: Whether to put a BOS in front; by default what the tokenizer does (`add_bos`). A text that
                already begins with BOS does not get a second.

        Raises:
            OptionError: The text has no tokens, or BOS is asked of a tokenizer that has none.
        """
        return self.encode_all([text], bos=bos)[0]

    def to_tokens(self, texts: Text, *, padding_side: PaddingSide = "right", bos: bool | None = None) -> TokenBatch:
        """Tokenise texts into one batch on the model's device; see `encode` for `bos`.

        Raises:
            OptionError: No texts, a text without tokens, or an unknown side.
        """
        check_side(padding_side)
        rows = self.encode_all([texts] if isinstance(texts, str) else texts, bos=bos)
        return TokenBatch.from_rows(rows, pad_id=self.pad_id, padding_side=padding_side).to(self.device)

    def encode_all(self, texts: Sequence[str], *, bos: bool | None = None) -> list[list[int]]:
        """Token ids of many texts, in one call of the tokenizer; see `encode`.

        Raises:
            OptionError: No texts, a text without tokens, or BOS is asked of a tokenizer that has none.
        """
        if not texts:
            raise OptionError("There is no text to tokenise; give a string or a non-empty list of strings.")
        first = self.tokenizer.bos_token_id
        wanted = self.add_bos if bos is None else bos
        if wanted and not isinstance(first, int):
            raise OptionError(f"bos=True, but the tokenizer of {self.name!r} has no BOS token; pass bos=False.")
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        rows = [[first, *row] if wanted and row[:1] != [first] else list(row) for row in encoded]
        if [] in rows:
            raise OptionError(
                f"Text {rows.index([])} has no tokens: {texts[rows.index([])]!r}. This tokenizer adds no BOS "
                "by itself; remove the text, or ask for bos=True."
            )
        return rows

    # -- running -------------------------------------------------------------------------------------------

    def logits(self, tokens: TokenBatch | Text, *, keep_last: int | None = None) -> Float[Tensor, "batch token vocab"]:
        """Logits of every column, without gradients; those of padding mean nothing.

        Args:
            tokens: A batch, or text, which is then padded on the right.
            keep_last: Unembed only the last columns. Meant for left padding, where they are the last tokens.

        Raises:
            OptionError: `keep_last` is not positive.
            ModelError: A row is longer than the model's table of positions.
        """
        batch = self._batch(tokens)
        if keep_last is not None and keep_last < 1:
            raise OptionError(f"keep_last must be at least 1, not {keep_last}.")
        kwargs = {} if keep_last is None or not self._keeps_logits else {"logits_to_keep": keep_last}
        with self.running(batch.n_prompt):
            out: Tensor = self._forward(batch, use_cache=False, **kwargs)
        return out if keep_last is None else out[:, -keep_last:]

    def read(self, tokens: TokenBatch | Text, hook_names: Sequence[str], reader: Callable[[str, Tensor], None]) -> None:
        """Show `reader` the activation at each hook point, in one forward that stops after the last of them.

        Nothing is kept or copied: `reader(hook_name, activation)` sees the model's own tensor, which it must
        not change, and keeps what it wants. What lies behind the deepest hook point is not computed.

        Args:
            tokens: A batch, or text, which is then padded on the right.
            hook_names: Canonical names or aliases; `reader` gets them as they are spelled here.
            reader: Called once for each name, in the order of computation.

        Raises:
            SiteError: A name is not a hook point of this model.
            ModelError: A hook point never fired.
        """
        batch = self._batch(tokens)
        names = list(dict.fromkeys(hook_names))
        if not names:
            return
        for name in names:
            self.hook_point(name)
        waiting = set(names)

        def visit(name: str, value: Tensor, *, hook: object) -> None:
            if name not in waiting:
                return
            reader(name, value)
            waiting.discard(name)
            if not waiting:
                raise _AllRead

        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self.hooked(name, functools.partial(visit, name)))
            stack.enter_context(self.running(batch.n_prompt))
            try:
                self._forward(batch, use_cache=False, **({"logits_to_keep": 1} if self._keeps_logits else {}))
            except _AllRead:
                return
        raise ModelError(
            f"{', '.join(sorted(waiting))} of {self.name!r} did not fire in a forward pass; TransformerLens "
            "lists the name, but this architecture does not compute it. Choose another hook point."
        )

    def generate(
        self,
        prompts: Text,
        *,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        seed: int | None = None,
        use_cache: bool = True,
        draws: Sequence[int] | None = None,
        stop: Sequence[str] = (),
        rescore: _generate.Rescore | None = None,
    ) -> str | list[str]:
        """Continue texts; hooks that are on the model act on every token.

        Args:
            prompts: One text, or several, which run as one batch.
            max_new_tokens: Most tokens to add.
            temperature: 0 for the likeliest token; above 0 samples.
            seed: Required for sampling. A row's sample depends on it and on the row's number, not on other rows.
            use_cache: Keep keys and values between tokens; off gives the same text, slowly.
            draws: Numbers that stand for the rows' own; rows of one number draw alike.
            stop: A continuation ends before the first of these strings that it would contain.
            rescore: Changes the logits of the next token before it is chosen: `rescore(logits, rows, going_on)`.

        Returns:
            Prompt and continuation, without special tokens; a string for a string, else a list.

        Raises:
            OptionError: Sampling without a seed, no tokens asked for, not one of ``draws`` a row, or an empty stop.
            ModelError: Prompt and continuation exceed the model's table of positions.
        """
        if max_new_tokens < 1:
            raise OptionError(f"max_new_tokens must be at least 1, not {max_new_tokens}.")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if isinstance(stop, str) or "" in stop:
            raise OptionError(f"stop takes a list of non-empty strings, but got {stop!r}.")
        numbers = list(range(len(texts)) if draws is None else draws)
        if len(numbers) != len(texts):
            raise OptionError(f"draws has {len(numbers)} numbers for {len(texts)} rows; give one a row.")
        sampler = _generate.RowSampler(numbers, temperature=temperature, seed=seed)
        batch = self.to_tokens(texts, padding_side="left")
        self.check_length(int(batch.ids.shape[1]) + max_new_tokens - 1)
        with self.running(batch.n_prompt):
            added = _generate.decode(
                functools.partial(self._step, use_cache=use_cache),
                batch,
                max_new_tokens=max_new_tokens,
                sampler=sampler,
                stop_ids=self.stop_ids,
                use_cache=use_cache,
                finished=functools.partial(self._contains, stop) if stop else _never,
                rescore=rescore,
            )
        new = [self._continuation(row, ids) for row, ids in zip(batch.rows(), added, strict=True)]
        out = [t + _generate.until(n, stop) for t, n in zip(texts, new, strict=True)]
        return out[0] if isinstance(prompts, str) else out

    def run(self, tokens: TokenBatch, *, first_column: int = 0, gradients: bool = False, **kwargs: Any) -> Any:
        """One forward of the bridge with mask and positions; `kwargs` go to the bridge.

        Args:
            tokens: The batch.
            first_column: Columns before it are not run, and must stand in the `past_key_values` given.
            gradients: Record what follows a hook that puts in a tensor with gradients, for training through the
                model. The weights stay frozen, and below the first such hook nothing is recorded.
            **kwargs: Of the bridge's forward; `logits_to_keep` is dropped where the model does not know it.
        """
        batch = self._batch(tokens)
        if not self._keeps_logits:
            kwargs.pop("logits_to_keep", None)
        if self._position_ids:
            kwargs["position_ids"] = batch.position_ids[:, first_column:]
        with self.running(batch.n_prompt, gradients=gradients):
            return self.bridge(batch.ids[:, first_column:], attention_mask=batch.attention_mask, **kwargs)

    def watch_frames(self) -> AbstractContextManager[_frames.FrameWatch]:
        """Learn, in each forward of the block, which absolute token every column is.

        Holds for `logits`, `generate`, `read`, `bridge(...)` and `bridge.generate(...)`, with a KV cache and
        without, padded on either side. Used by hooks whose effect depends on the token.
        """
        return _frames.watch_frames(self.bridge.original_model)

    def fix_prompt(self, n_prompt: Int[Tensor, " batch"]) -> AbstractContextManager[None]:
        """Say how many tokens of each row are prompt, for direct calls of `bridge` inside the block.

        Without it, a forward that has no KV cache is taken to be all prompt.
        """
        return _frames.announce_prompt(n_prompt)

    # -- inside --------------------------------------------------------------------------------------------

    @contextmanager
    def running(self, n_prompt: Int[Tensor, " batch"], *, gradients: bool = False) -> Iterator[None]:
        """The prompt announced to steering, and only those wrappers that somebody listens to; see `run`."""
        with (
            torch.set_grad_enabled(gradients),
            _frames.announce_prompt(n_prompt),
            _lean.lean(self.bridge.original_model, self.wrappers),
        ):
            yield

    def _checked_wrappers(self) -> tuple[_lean.Wrapper, ...]:
        """Wrappers that may stand aside, seen on this very model to change nothing but time."""
        wrappers = _lean.find_wrappers(self.bridge, self.dtype)
        # Ordinary tokens: the first ids of many vocabularies are special, and were never trained beside each other.
        ids = torch.randint(self.d_vocab, (2, 6), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[0, :2] = 0
        batch = TokenBatch(ids, mask, mask.sum(-1)).to(self.device)
        with torch.no_grad():
            whole = self._forward(batch, use_cache=False)[batch.attention_mask.bool()]
            with _lean.lean(self.bridge.original_model, wrappers):
                plain = self._forward(batch, use_cache=False)[batch.attention_mask.bool()]
        if _lean.nearly_equal(plain, whole):
            return wrappers
        _LOG.warning(
            "%s: without TransformerLens's wrappers its logits differ by %.2g, so they stay, and passes are slower.",
            self.name,
            float((plain - whole).abs().max()),
        )
        return ()

    def _batch(self, tokens: TokenBatch | Text) -> TokenBatch:
        batch = tokens.to(self.device) if isinstance(tokens, TokenBatch) else self.to_tokens(tokens)
        self.check_length(int(batch.ids.shape[1]))
        return batch

    def check_length(self, n_tokens: int) -> None:
        """Refuse rows longer than the model's table of positions.

        Raises:
            ModelError: They are.
        """
        if self.max_tokens is not None and n_tokens > self.max_tokens:
            raise ModelError(
                f"{n_tokens} tokens are asked of {self.name!r}, whose table of positions ends at "
                f"{self.max_tokens}. Shorten the text, or generate fewer tokens."
            )

    @functools.cached_property
    def _keeps_logits(self) -> bool:
        import inspect

        return "logits_to_keep" in inspect.signature(self.bridge.original_model.forward).parameters

    def _forward(self, batch: TokenBatch, **kwargs: Any) -> Any:
        if self._position_ids:
            kwargs["position_ids"] = batch.position_ids
        return self.bridge(batch.ids, attention_mask=batch.attention_mask, **kwargs)

    def _step(
        self,
        fresh: Int[Tensor, "batch token"],
        mask: Int[Tensor, "batch total"],
        past: Any,
        *,
        use_cache: bool,
    ) -> tuple[Float[Tensor, "batch vocab"], Any]:
        kwargs: dict[str, Any] = {"use_cache": use_cache}
        if self._position_ids:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            kwargs["position_ids"] = positions[:, mask.shape[1] - fresh.shape[1] :]
        if self._keeps_logits:
            kwargs["logits_to_keep"] = 1
        if past is not None:
            kwargs["past_key_values"] = past
        logits, past = self.bridge(fresh, attention_mask=mask, return_type="logits_and_cache", **kwargs)
        return logits[:, -1], past

    def _continuation(self, prompt: list[int], added: list[int]) -> str:
        """Text of the new ids; decoded behind the prompt, for SentencePiece drops a leading space."""

        def text(ids: list[int]) -> str:
            return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

        before, whole = text(prompt), text(prompt + added)
        return whole[len(before) :] if whole.startswith(before) else text(added)

    def _contains(self, stop: Sequence[str], added: Sequence[int]) -> bool:
        """Whether the text of new ids contains a stop; the last few are looked at before all of them."""
        near = 4 * max(map(len, stop)) + 4  # a character takes at most four tokens
        return all(
            any(s in self.tokenizer.decode(ids, skip_special_tokens=True) for s in stop)
            for ids in (list(added[-near:]), list(added))
        )


def _never(added: Sequence[int]) -> bool:
    return False


def _closest(name: str, known: frozenset[str]) -> list[str]:
    """Near names; those of the same block first, then shorter ones, for an alias is what people mean."""
    block = ".".join(name.split(".")[:2])

    def distance(other: str) -> tuple[float, int, str]:
        alike = difflib.SequenceMatcher(None, name, other).ratio() + 0.2 * other.startswith(f"{block}.")
        return -alike, len(other), other

    return sorted(difflib.get_close_matches(name, known, n=24, cutoff=0.6), key=distance)[:3]

"""Generation by contrast of layers: the decode loop of all generation, with other scores."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlens.activations import Site, shrinking_batches
from steerlens.errors import OptionError
from steerlens.interventions._dola import DoLa
from steerlens.models import LensModel, TokenBatch, columns_that_fit, stream_logits
from steerlens.numerics import layer_contrast, penalise_repetition
from steerlens.progress import progress

REPETITION_PENALTY = 1.2
"""The authors' value; contrasted scores repeat themselves without one."""


@final
@dataclass(frozen=True, eq=False)
class DoLaTexts:
    """Texts, and the layers that their tokens were contrasted with.

    Args:
        texts: Prompt and continuation.
        layers: The candidates.
        counts: How often each was chosen for a token of each text, the one that ended it included.
    """

    texts: tuple[str, ...]
    layers: tuple[int, ...]
    counts: Int[Tensor, "text layer"]


def generate_dola(
    model: LensModel,
    prompts: Sequence[str],
    dola: DoLa,
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int | None = None,
    repetition_penalty: float = REPETITION_PENALTY,
    stop: Sequence[str] = (),
) -> DoLaTexts:
    """Continue prompts by contrast of layers, batched and with a KV cache.

    A row's text depends neither on the batch nor on padding. Steering combines: inside ``with steer(...)`` all layers,
    early and last, are those of the steered model. The baseline is `model.generate`, without a repetition
    penalty, as the published one.

    Args:
        model: What to decode from.
        prompts: What to continue.
        dola: The contrast.
        max_new_tokens: Most tokens to add.
        temperature: 0 for the token of the largest score; above 0 samples from the softmax of scores.
        seed: Required for sampling.
        repetition_penalty: See `steerlens.numerics.penalise_repetition`; 1 for none.
        stop: A continuation ends before the first of these strings that it would contain.

    Raises:
        OptionError: There are no prompts, the model has not all the layers, sampling has no seed, or the penalty is
            not at least 1.
        ModelError: Prompt and continuation exceed the model's table of positions.

    References:
        chuang2024, section 2 and appendix (repetition penalty).
    """
    if isinstance(prompts, str) or not prompts:
        raise OptionError(f"generate_dola needs a non-empty list of prompts, but got {prompts!r}.")
    if not 1.0 <= repetition_penalty < float("inf"):
        raise OptionError(f"repetition_penalty must be at least 1 (none), but got {repetition_penalty!r}.")
    dola.check(model)
    lengths = [len(ids) + max_new_tokens for ids in model.encode_all(prompts)]
    out = [""] * len(prompts)
    counts = torch.zeros(len(prompts), len(dola.layers), dtype=torch.long)

    def run(batch: list[int]) -> None:
        with _Contrasting(model, dola, len(batch), repetition_penalty) as contrast:
            texts = model.generate(
                [prompts[b] for b in batch],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                draws=batch,
                stop=stop,
                rescore=contrast,
            )
        for b, text in zip(batch, texts, strict=True):
            out[b] = text
        counts[torch.tensor(batch)] = contrast.counts.cpu()
        advance(len(batch))

    with progress(f"generate {len(prompts)} texts by contrast of layers", len(prompts)) as advance:
        shrinking_batches(lengths, run, tokens=16 * columns_that_fit(model))
    return DoLaTexts(tuple(out), dola.layers, counts)


@final
class _Contrasting:
    """Keeps the last column of each candidate's stream, and turns logits into contrasted scores."""

    def __init__(self, model: LensModel, dola: DoLa, n_rows: int, penalty: float) -> None:
        self._model, self._dola, self._penalty = model, dola, penalty
        self._streams: dict[int, Tensor] = {}
        self._hooks = ExitStack()
        self.counts = torch.zeros(n_rows, len(dola.layers), dtype=torch.long, device=model.device)

    def __enter__(self) -> "_Contrasting":
        with ExitStack() as stack:
            for layer in self._dola.layers:
                see = functools.partial(self._see, layer)
                stack.enter_context(self._model.hooked(Site.resid_pre(layer).hook_name, see))
            self._hooks = stack.pop_all()
        return self

    def __exit__(self, *of_exception: object) -> None:
        self._hooks.close()

    def _see(self, layer: int, stream: Tensor, *, hook: object) -> None:
        self._streams[layer] = stream[:, -1]

    def __call__(
        self, logits: Float[Tensor, "batch vocab"], rows: TokenBatch, going_on: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocab"]:
        d = self._dola
        wide = logits.dtype if logits.dtype == torch.float64 else torch.float32
        found = layer_contrast(
            logits.to(wide),
            (stream_logits(self._model, self._streams[j], norm=d.norm).to(wide) for j in d.layers),
            alpha=d.alpha,
            divergence=d.divergence,
            normalisation=d.normalisation,
        )
        self.counts.scatter_add_(1, found.chosen[:, None], going_on[:, None].long())
        return penalise_repetition(found.scores, rows.ids, rows.attention_mask, penalty=self._penalty)

"""Steered generation of many rows at once, each row under an intervention of its own."""

from collections.abc import Sequence

import torch

from steerlens.activations import shrinking_batches
from steerlens.errors import OptionError
from steerlens.interventions._edits import Intervention, attached, bind
from steerlens.models import LensModel, columns_that_fit
from steerlens.progress import progress


def generate(
    model: LensModel,
    prompts: Sequence[str],
    interventions: Sequence[Intervention],
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int | None = None,
    stop: Sequence[str] = (),
) -> list[list[str]]:
    """Continue every prompt under every intervention.

    Rows of all prompts and interventions run together, so that ten strengths of one prompt cost one generation. The
    text of a row is the one that ``model.generate(prompts)`` gives inside `steer`, whatever else is in the batch:
    under sampling, a prompt draws the same random numbers in every intervention.

    Args:
        model: What to steer.
        prompts: What to continue.
        interventions: What to do; a strength of 0 leaves the model as it is.
        max_new_tokens: Most tokens to add.
        temperature: 0 for the likeliest token; above 0 samples.
        seed: Required for sampling.
        stop: A continuation ends before the first of these strings that it would contain.

    Returns:
        Prompt and continuation, by intervention and then by prompt.

    Raises:
        OptionError: If there are no prompts, or sampling has no seed.
        SteerlensError: If an intervention does not fit the model, or a text is too long for it.
    """
    if isinstance(prompts, str) or not prompts:
        raise OptionError(f"generate needs a non-empty list of prompts, but got {prompts!r}.")
    bind(model, interventions)
    lengths = [len(ids) + max_new_tokens for ids in model.encode_all(prompts)]
    rows = [(k, p) for k in range(len(interventions)) for p in range(len(prompts))]
    out = [[""] * len(prompts) for _ in interventions]

    def run(batch: list[int]) -> None:
        used = sorted({rows[b][0] for b in batch})
        owner = torch.tensor([used.index(rows[b][0]) for b in batch], device=model.device)
        edits = bind(model, [interventions[k] for k in used])
        with (
            model.watch_frames() as frames,
            attached(model, edits, lambda: frames.current, lambda: owner[:, None].expand(frames.current.index.shape)),
        ):
            texts = model.generate(
                [prompts[rows[b][1]] for b in batch],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                draws=[rows[b][1] for b in batch],
                stop=stop,
            )
        for b, text in zip(batch, texts, strict=True):
            out[rows[b][0]][rows[b][1]] = text
        advance(len(batch))

    with progress(f"generate {len(rows)} texts", len(rows)) as advance:
        shrinking_batches([lengths[p] for _, p in rows], run, tokens=16 * columns_that_fit(model))
    return out

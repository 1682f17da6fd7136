"""Methods trained on what the model says: a map's parameters learn through the frozen model.

They use the output signal, which maps fitted to activations do not: an effect of theirs says what a family of maps can
do at a site, and not what the activations tell about it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.activations import Site, TextRow, joined_rows
from steerlens.concepts import ConceptDataset, Question
from steerlens.errors import FitError
from steerlens.interventions._edits import Edit, attached
from steerlens.maps import Needs, SteeringMap, Training
from steerlens.maps._training import train
from steerlens.models import LensModel, TokenBatch
from steerlens.progress import progress

HELD_OUT = 1 / 4
"""Share of the groups whose questions decide when training stops."""
MOST_HELD_OUT = 24
"""Most questions of those groups that are looked at."""


@runtime_checkable
class OutputMethod(Protocol):
    """Frozen hyperparameters of a method that is trained through a model, on the questions that pairs put to it."""

    needs: ClassVar[Needs]

    def fit_output(self, model: LensModel, pairs: ConceptDataset, site: Site) -> SteeringMap:
        """Train the map that at ``site`` makes the model prefer the positive continuations."""
        ...


@final
@dataclass(frozen=True, eq=False)
class AskedRows:
    """Questions as rows of tokens, with what the unsteered model gives them.

    Args:
        positive: Context and positive continuation of each question.
        negative: Context and negative continuation.
        base: Log-probability of both continuations without the map, in nats.
    """

    positive: tuple[TextRow, ...]
    negative: tuple[TextRow, ...]
    base: Float[Tensor, "n 2"]

    def __len__(self) -> int:
        return len(self.positive)

    def rows(self, which: Sequence[int]) -> list[TextRow]:
        """Positive rows of some questions, then their negative rows."""
        return [self.positive[i] for i in which] + [self.negative[i] for i in which]


Loss = Callable[[AskedRows, list[int], SteeringMap, torch.Generator | None], Float[Tensor, ""]]
"""Mean loss of some questions under a map. Without a generator nothing may be drawn at random."""


def train_through(
    model: LensModel,
    pairs: ConceptDataset,
    parameters: Sequence[Tensor],
    build: Callable[[], SteeringMap],
    loss: Loss,
    training: Training,
    *,
    seed: int,
) -> Float[Tensor, "look 2"]:
    """Train ``parameters``, in place, so that the map built of them has a small loss through the model.

    Gradients flow from the steered site upwards; the weights stay as they are. Each step runs ``batch_size``
    questions, which bounds the memory. Groups held out decide when to stop.

    Args:
        model: Frozen; hooks that are on it act.
        pairs: What is asked.
        parameters: What is learned.
        build: The map as its parameters stand; differentiable in them.
        loss: Of a batch under a map.
        training: Steps, rate, patience; ``batch_size`` counts questions.
        seed: Of the held-out groups and the batches.

    Returns:
        The training curve, as `steerlens.maps.Training` keeps it.

    Raises:
        FitError: There are fewer than two groups, or the loss is not finite.
    """
    fit, held = (asked(model, questions) for questions in held_apart(pairs, seed))
    generator = torch.Generator().manual_seed(seed)
    size = training.batch_size

    with progress(f"train through {model.name}", training.steps) as advance:

        def of_batch() -> Float[Tensor, ""]:
            advance(1)
            which = torch.randperm(len(fit), generator=generator)[:size].tolist()
            return _finite(loss(fit, which, build(), generator))

        def of_held_out() -> Float[Tensor, ""]:
            now, total = build(), torch.zeros((), dtype=torch.float64)
            for start in range(0, len(held), size):
                which = list(range(start, min(start + size, len(held))))
                total = total + len(which) * loss(held, which, now, None).cpu()
            return _finite(total / len(held))

        return train(parameters, of_batch, of_held_out, training)


def asked(model: LensModel, questions: Sequence[Question], *, batch: int = 32) -> AskedRows:
    """Tokenise questions, and score them as the model is now."""
    rows = joined_rows(model, [q.context for q in questions], [(q.positive, q.negative) for q in questions])
    positive, negative = (tuple(of[side] for of in rows) for side in range(2))
    whole = [*positive, *negative]
    scores = [steered_log_probs(model, whole[i : i + batch]) for i in range(0, len(whole), batch)]
    return AskedRows(positive, negative, torch.cat(scores).view(2, -1).T.contiguous())


def steered_log_probs(
    model: LensModel,
    rows: Sequence[TextRow],
    site: Site | None = None,
    steering_map: SteeringMap | None = None,
    strengths: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """Log-probability of each row's continuation, summed over its tokens; differentiable in the map.

    Args:
        model: Where to run.
        rows: Contexts with continuations.
        site: Where the map acts.
        steering_map: None leaves the model as it is.
        strengths: One a row, also negative, which here scales the displacement and is no reverse; None is 1.
    """
    tokens = TokenBatch.from_rows(
        [r.ids for r in rows], pad_id=model.pad_id, padding_side="left", n_prompt=[r.n_prompt for r in rows]
    ).to(model.device)
    longest = max(len(r.ids) - r.n_prompt for r in rows)
    options: dict[str, Any] = {"use_cache": False, "logits_to_keep": longest + 1}
    if site is None or steering_map is None:
        logits = model.run(tokens, **options)
    else:
        wide = torch.float64 if model.dtype == torch.float64 else torch.float32
        given = torch.ones(len(rows)) if strengths is None else strengths
        edit = Edit(site, ((steering_map, given.to(model.device, wide)),))
        owner = torch.arange(len(rows), device=model.device)[:, None].expand_as(tokens.ids)
        with model.watch_frames() as frames, attached(model, [edit], lambda: frames.current, lambda: owner):
            logits = model.run(tokens, gradients=torch.is_grad_enabled(), **options)
    return continuation_log_probs(logits[:, -longest - 1 : -1], tokens, longest)


def continuation_log_probs(
    logits: Float[Tensor, "batch kept vocab"], tokens: TokenBatch, longest: int
) -> Float[Tensor, " batch"]:
    """Summed log-probability of the last tokens of each row, as far as they are continuation."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    goal: Int[Tensor, "batch kept"] = tokens.ids[:, -longest:]
    of_token = logits.gather(2, goal[..., None])[..., 0] - logits.logsumexp(dim=-1)
    scored = tokens.index[:, -longest:] >= tokens.n_prompt[:, None]
    return (of_token * scored).sum(dim=1).double()


def held_apart(pairs: ConceptDataset, seed: int) -> Iterator[list[Question]]:
    """Questions to train on, and questions of other groups to stop by.

    Raises:
        FitError: There are fewer than two groups.
    """
    groups = pairs.groups
    if len(groups) < 2:
        raise FitError(
            f"Training through a model stops by held-out groups, but {pairs.name!r} has one group of pairs. "
            "Give related pairs finer groups, or add pairs."
        )
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {groups[i] for i in order[: max(round(len(groups) * HELD_OUT), 1)]}
    yield [q for q in pairs.questions if q.group not in held]
    rest = [q for q in pairs.questions if q.group in held]
    chosen = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed)).tolist()
    yield [rest[i] for i in chosen[:MOST_HELD_OUT]]


def _finite(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    if not torch.isfinite(loss):
        raise FitError("The loss is not finite. Lower the learning rate, or load the model in float32.")
    return loss

"""Fine-tuning at matched data: what changing the weights does with the same pairs, loss and stopping rule."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.concepts import ConceptDataset
from steerlens.errors import OptionError
from steerlens.interventions._output_training import AskedRows, asked, continuation_log_probs, held_apart
from steerlens.interventions._preference import check_beta
from steerlens.maps import Training
from steerlens.maps._training import train
from steerlens.models import LensModel, TokenBatch, moved_weights, plain_copy
from steerlens.progress import progress


@final
@dataclass(frozen=True, eq=False)
class LoraWeights:
    """What fine-tuning added to the weights.

    Args:
        deltas: By the host's name of each weight.
        curve: The training curve, as `steerlens.maps.Training` keeps it.
    """

    deltas: Mapping[str, Tensor]
    curve: Float[Tensor, "look 2"]

    def at(self, model: LensModel, strength: float) -> LensModel:
        """``model`` with ``strength`` times the change of its weights: 0 is the model, 1 the fine-tuned one.

        Raises:
            OptionError: If the weights are of another model.
        """
        return moved_weights(model, self.deltas, strength)


@final
@dataclass(frozen=True)
class LoraFinetune:
    """Low-rank changes of every linear layer, trained by peft with the loss and stopping rule of `PreferenceShift`.

    Not a map at a site: the ceiling of what these pairs can teach the model when all of it may change a little. Loss:
    −log σ(β [log π_w(y₊)/π(y₊) − log π_w(y₋)/π(y₋)]), one way only.

    Args:
        seed: Of initial weights, batches and held-out groups.
        rank: Of the change of each matrix.
        beta: As in `PreferenceShift`.
        training: ``batch_size`` counts questions.

    References:
        hu2022 (LoRA); cao2024 (the loss, one of its two ways).
    """

    seed: int = 0
    rank: int = 8
    beta: float = 0.1
    training: Training = Training(steps=40, learning_rate=1e-3, patience=20, batch_size=8, weight_decay=0.0)  # noqa: RUF009 - frozen

    needs: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        if self.rank < 1:
            raise OptionError(f"The rank of a low-rank change must be at least 1, but got {self.rank}.")

    def train(self, model: LensModel, pairs: ConceptDataset) -> LoraWeights:
        """Train on ``pairs``; ``model`` stays as it is.

        Raises:
            OptionError: If peft is not installed.
            FitError: There are fewer than two groups.
        """
        host = _adapted(model, self.rank, self.seed)
        parameters = [p for p in host.parameters() if p.requires_grad]
        fit, held = (asked(model, questions) for questions in held_apart(pairs, self.seed))
        generator = torch.Generator().manual_seed(self.seed)
        size = self.training.batch_size
        with progress(f"fine-tune {model.name}", self.training.steps) as advance:

            def of_batch() -> Float[Tensor, ""]:
                advance(1)
                return self._loss(model, host, fit, torch.randperm(len(fit), generator=generator)[:size].tolist())

            def of_held_out() -> Float[Tensor, ""]:
                batches = [list(range(i, min(i + size, len(held)))) for i in range(0, len(held), size)]
                total = torch.stack([len(which) * self._loss(model, host, held, which) for which in batches])
                return total.sum() / len(held)

            curve = train(parameters, of_batch, of_held_out, self.training)
        return LoraWeights(MappingProxyType(_deltas(host)), curve)

    def _loss(self, model: LensModel, host: Any, rows: AskedRows, which: list[int]) -> Float[Tensor, ""]:
        chosen = rows.rows(which)
        tokens = TokenBatch.from_rows(
            [r.ids for r in chosen], pad_id=model.pad_id, padding_side="left", n_prompt=[r.n_prompt for r in chosen]
        ).to(model.device)
        longest = max(len(r.ids) - r.n_prompt for r in chosen)
        logits = host(
            input_ids=tokens.ids, attention_mask=tokens.attention_mask, position_ids=tokens.position_ids,
            use_cache=False,
        ).logits  # fmt: skip
        found = continuation_log_probs(logits[:, -longest - 1 : -1], tokens, longest).view(2, -1)
        gained = (found - rows.base[which].to(found).T)[0] - (found - rows.base[which].to(found).T)[1]
        return -functional.logsigmoid(self.beta * gained).mean()


def _adapted(model: LensModel, rank: int, seed: int) -> Any:
    """A copy of the model's host with adapters in every linear layer but the last."""
    try:
        import peft
    except ImportError:
        raise OptionError("Fine-tuning needs peft, which is missing: pip install 'steerlens[finetune]'.") from None
    host: Any = plain_copy(model)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of fan_in_fan_out, which peft sets right by itself
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(host, config)
    return adapted.eval()


def _deltas(host: Any) -> dict[str, Tensor]:
    """What each adapter adds to its weight."""
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: m for name, m in host.named_modules() if isinstance(m, LoraLayer)}
    with torch.no_grad():
        return {
            f"{name.removeprefix('base_model.model.')}.weight": module.get_delta_weight("default").detach().cpu()
            for name, module in layers.items()
        }

"""The same sweep twice: by replay, and by hand with plain TransformerLens hooks in whole forward passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import steerlens as sl
from steerlens.interventions import Replayed, replay
from steerlens.maps import DirectionalAblation, GaussianTransport, MeanShift, SteeringMap
from steerlens.models import TokenTree
from steerlens.testing import gaussian_samples

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Sweep:
    """Layers × maps × strengths on random prompts; two next tokens are scored."""

    model: sl.LensModel
    ids: Tensor
    tokens: sl.TokenSelector
    interventions: list[sl.Intervention]

    @classmethod
    def make(
        cls,
        model: sl.LensModel,
        tokens: sl.TokenSelector,
        *,
        n_prompts: int,
        length: int = 64,
        n_layers: int = 6,
        strengths: Sequence[float] = STRENGTHS,
    ) -> "Sweep":
        """Layers are spread evenly over the model."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(model.d_vocab, (n_prompts, length), generator=generator)
        layers = [round((i + 0.5) * model.n_layers / n_layers - 0.5) for i in range(n_layers)]
        maps = three_maps(model.d_model)
        plans = [{sl.Site.resid_post(layer, tokens): m} for layer in layers for m in maps]
        return cls(model, ids, tokens, sl.grid(plans, strengths))

    @property
    def trees(self) -> list[TokenTree]:
        """Each prompt with two continuations of one token."""
        return [TokenTree(tuple(row), ((row[0],), (row[1],))) for row in self.ids.tolist()]

    def by_replay(self) -> Tensor:
        """Log-probabilities, [intervention, prompt, 2]."""
        out = torch.zeros(len(self.interventions), len(self.ids), 2)

        def keep(part: Replayed) -> None:
            targets = part.batch.targets
            scores = part.logits.float()
            wanted = scores[:, targets.cell, targets.token] - scores.logsumexp(-1)[:, targets.cell]
            rows, trees = torch.tensor(part.interventions)[:, None], torch.tensor(part.trees)
            out[rows, trees] = wanted.reshape(len(scores), -1, 2)

        replay(self.model, self.trees, self.interventions, keep)
        return out

    def by_hand(self, which: Sequence[int]) -> Tensor:
        """The same for some of the interventions, one whole hooked pass of all prompts each."""
        columns = slice(1, None) if isinstance(self.tokens, sl.AllTokens) else -1
        return torch.stack([self._one_pass(self.interventions[k], columns) for k in which])

    @torch.no_grad()
    def _one_pass(self, one: sl.Intervention, columns: Any) -> Tensor:
        ((site, steering_map),) = one.plan.items()

        def edit(x: Tensor, hook: object) -> Tensor:
            out = x.clone()
            out[:, columns] = steering_map(x[:, columns], strength=one.strength)
            return out

        bridge = self.model.bridge
        with bridge.hooks(fwd_hooks=[(site.hook_name, edit)]):
            logits = bridge(self.ids, attention_mask=torch.ones_like(self.ids))[:, -1]
        return logits.float().log_softmax(-1).gather(1, self.ids[:, :2])

    def floating_operations(self) -> float:
        """What replay must do at least: matrix products and attention, nothing else."""
        model, (n, length) = self.model, self.ids.shape
        everything = isinstance(self.tokens, sl.AllTokens)
        changed = length if everything else 1
        total = n * length * model.n_layers * column_operations(model, length / 2)
        unembed = 2.0 * model.d_model * model.d_vocab
        for one in self.interventions:
            (site,) = one.plan
            left = model.n_layers - 1 - site.layer
            total += n * changed * left * column_operations(model, length / 2 if everything else length)
            total += n * unembed
        return total


def column_operations(model: sl.LensModel, keys: float) -> float:
    """Of one column in one block: its matrices, and attention to so many keys."""
    embeddings = model.bridge.original_model.get_input_embeddings().weight.numel()
    tied = 1 if model.config.tie_word_embeddings else 2
    matrices = (model.n_parameters - tied * embeddings) / model.n_layers
    return 2.0 * matrices + 4.0 * model.n_heads * model.d_head * keys


def plain_operations(model: sl.LensModel, n: int, length: int) -> float:
    """Of a forward pass with the logits of all columns."""
    blocks = model.n_layers * column_operations(model, length / 2)
    return n * length * (blocks + 2.0 * model.d_model * model.d_vocab)


def three_maps(width: int) -> tuple[SteeringMap, ...]:
    """One of each family that has a closed form, fitted to made-up samples."""
    source, target = gaussian_samples(n=400, width=width)
    return tuple(m.fit(source, target) for m in (MeanShift(), GaussianTransport(rank=64), DirectionalAblation()))

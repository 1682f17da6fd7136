"""Low-rank fine-tuning of a representation (LoReFT): the task-supervised ceiling of edits at one site."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset
from steerlens.errors import OptionError
from steerlens.interventions._output_training import AskedRows, steered_log_probs, train_through
from steerlens.interventions._preference import spread
from steerlens.maps import Family, Needs, SteeringMap, Training
from steerlens.models import LensModel


@final
@dataclass(frozen=True, eq=False)
class LowRankEdit(SteeringMap):
    """T(x) = x + Rᵀ(W x + b − R x): what R reads becomes W x + b, and nothing else changes.

    Args:
        read: R, orthonormal rows.
        write: W.
        bias: b.
        curve: Step and held-out loss during training.
    """

    read: Float[Tensor, "rank d_model"]
    write: Float[Tensor, "rank d_model"]
    bias: Float[Tensor, " rank"]
    curve: Float[Tensor, "look 2"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        R = self.read.to(x)
        # W − R first: near the identity, W x and R x are large and nearly equal.
        return (x @ (self.write - self.read).to(x).T + self.bias.to(x)) @ R


@final
@dataclass(frozen=True)
class LowRankFinetune:
    """The low-rank edit that makes the model say the positive continuations (LoReFT): x + Rᵀ(W x + b − R x).

    R (orthonormal rows), W and b minimise −log π(y₊) per token. It imitates continuations and is told nothing of the
    negative ones: a ceiling for what an edit at this site can do with supervision, and no evidence on how the
    concept is represented. It starts as the identity.

    Args:
        seed: Of the first R, batches and held-out groups.
        rank: Rows of R.
        training: ``batch_size`` counts questions.

    Raises:
        FitError: As `PreferenceShift`.

    References:
        wu2024 (LoReFT, equation 2).
    """

    seed: int = 0
    rank: int = 4
    training: Training = Training(steps=200, learning_rate=1e-2, patience=60, batch_size=8)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "affine"
    needs: ClassVar[Needs] = "model"
    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "the continuation is decided by few directions at the site"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise OptionError(f"rank must be at least 1, but got {self.rank}.")

    def fit_output(self, model: LensModel, pairs: ConceptDataset, site: Site) -> LowRankEdit:
        """Train through the model.

        Raises:
            FitError: There are fewer than two groups, or the loss is not finite.
            OptionError: The rank exceeds the width of the site.
        """
        width, scale = site.check(model), spread(model, pairs, site)
        if self.rank > width:
            raise OptionError(f"rank {self.rank} exceeds the width of {site}, which is {width}.")
        generator = torch.Generator().manual_seed(self.seed)
        free = torch.randn(width, self.rank, dtype=torch.float64, generator=generator)
        # W = R + change, in which 1 moves about one standard deviation: the same rate serves W, b and R.
        change = torch.zeros(self.rank, width, dtype=torch.float64)
        bias = torch.zeros(self.rank, dtype=torch.float64)

        def build(curve: Tensor) -> LowRankEdit:
            R = torch.linalg.qr(free).Q.T
            return LowRankEdit(R, R + change / width**0.5, scale * bias, curve)

        def loss(rows: AskedRows, which: list[int], now: SteeringMap, _: torch.Generator | None) -> Tensor:
            wanted = [rows.positive[i] for i in which]
            lengths = torch.tensor([float(len(r.ids) - r.n_prompt) for r in wanted])
            found = steered_log_probs(model, wanted, site, now)
            return -(found / lengths.to(found)).mean()

        none = torch.zeros(0, 2, dtype=torch.float64)
        curve = train_through(
            model, pairs, [free, change, bias], lambda: build(none), loss, self.training, seed=self.seed
        )
        return build(curve)

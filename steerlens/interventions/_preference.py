"""Maps trained to make the model prefer: a translation (BiPO), and a network."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from steerlens.activations import Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import FitError, OptionError
from steerlens.interventions._output_training import AskedRows, steered_log_probs, train_through
from steerlens.maps import AdditiveMap, Family, MeanShift, MLPMap, Needs, SteeringMap, SubspaceMap, Training
from steerlens.maps._compose import check_rank, within_subspace
from steerlens.maps._nonlinear import check_hidden, initial_network
from steerlens.models import LensModel


class TrainedShift(NamedTuple):
    """A translation, with the held-out loss while it was trained."""

    steering_map: AdditiveMap
    curve: Float[Tensor, "look 2"]


@final
@dataclass(frozen=True)
class PreferenceShift:
    """The translation that most makes the model prefer positive to negative continuations, both ways (BiPO).

    v minimises the mean of −log σ(d β [log π_dv(y₊)/π(y₊) − log π_dv(y₋)/π(y₋)]), d = ±1 at random, where π_dv is
    the model with d·v added at the site: +v must raise the preference, and −v lower it. Of all translations the one
    to beat, for it is the one that has seen the output. It starts at zero.

    Args:
        seed: Of batches and held-out groups.
        beta: β; the smaller, the farther the preference is pushed before the loss is content.
        training: ``batch_size`` counts questions; ``learning_rate`` is in units of the standard deviation of a
            coordinate at the site, so that one default serves all sites.

    References:
        cao2024 (BiPO).
    """

    seed: int = 0
    beta: float = 0.1
    training: Training = Training(steps=200, learning_rate=2e-2, patience=60, batch_size=8, weight_decay=0.0)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "additive"
    needs: ClassVar[Needs] = "model"
    reversible: ClassVar[bool] = True
    assumes: ClassVar[str] = "one translation serves every context, and its opposite undoes it"

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def fit_output(self, model: LensModel, pairs: ConceptDataset, site: Site) -> AdditiveMap:
        """Train through the model.

        Raises:
            FitError: There are fewer than two groups, or the loss is not finite.
        """
        return self.trained(model, pairs, site).steering_map

    def trained(self, model: LensModel, pairs: ConceptDataset, site: Site) -> TrainedShift:
        """`fit_output`, with the training curve."""
        scale = spread(model, pairs, site)
        steps = torch.zeros(site.check(model), dtype=torch.float64)

        def loss(rows: AskedRows, which: list[int], now: SteeringMap, generator: torch.Generator | None) -> Tensor:
            if generator is None:
                ones = torch.ones(len(which))
                both = [_preference(model, site, rows, which, now, d * ones, self.beta) for d in (1.0, -1.0)]
                return torch.stack(both).mean()
            signs = 2.0 * torch.randint(2, (len(which),), generator=generator) - 1.0
            return _preference(model, site, rows, which, now, signs, self.beta)

        curve = train_through(
            model, pairs, [steps], lambda: AdditiveMap(scale * steps), loss, self.training, seed=self.seed
        )
        return TrainedShift(AdditiveMap(scale * steps), curve)


@final
@dataclass(frozen=True)
class OutputMLP:
    """The network of `ResidualMLP`, trained through the model instead of on activations.

    In the whitened leading subspace T(z) = z + Δ + f(z); Δ and f minimise −log σ(β [log π_T(y₊)/π(y₊) −
    log π_T(y₋)/π(y₋)]). It starts as `MeanShift`. Unlike `PreferenceShift` it is trained one way only, since the
    opposite of a map is not its displacement negated: it has no reverse.

    Args:
        seed: Of the initial weights, batches and held-out groups.
        hidden: Widths of the hidden layers.
        rank: Dimensions of the subspace; None takes a fifth of the pairs, at most 32.
        beta: As in `PreferenceShift`.
        training: ``batch_size`` counts questions.

    References:
        cao2024 (the loss, one of its two ways).
    """

    seed: int = 0
    hidden: tuple[int, ...] = (64, 64)
    rank: int | None = None
    beta: float = 0.1
    training: Training = Training(steps=200, learning_rate=3e-3, patience=60, batch_size=8)  # noqa: RUF009 - frozen

    family: ClassVar[Family] = "nonlinear"
    needs: ClassVar[Needs] = "model"
    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "what the output needs is a function of the leading coordinates at the site"

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_rank(self.rank)
        check_hidden(self.hidden)

    def fit_output(self, model: LensModel, pairs: ConceptDataset, site: Site) -> SubspaceMap:
        """Train through the model.

        Raises:
            FitError: There are fewer than two groups, activations do not vary, or the loss is not finite.
        """
        found = extract(model, pairs, [site])[site]
        source, target = found.negative.double(), found.positive.double()
        frame = within_subspace(source, target, MeanShift().fit, rank=self.rank, scaling="whitened")
        rank = frame.basis.shape[1]
        shift = frame.inner.displacement(torch.zeros(rank, dtype=torch.float64)).clone()
        weights, biases = initial_network((rank, *self.hidden, rank), torch.Generator().manual_seed(self.seed))

        def build(curve: Tensor) -> SubspaceMap:
            return replace(frame, inner=MLPMap(shift, weights, biases, curve))

        def loss(rows: AskedRows, which: list[int], now: SteeringMap, generator: torch.Generator | None) -> Tensor:
            return _preference(model, site, rows, which, now, torch.ones(len(which)), self.beta)

        parameters = [shift, *weights, *biases]
        none = torch.zeros(0, 2, dtype=torch.float64)
        curve = train_through(model, pairs, parameters, lambda: build(none), loss, self.training, seed=self.seed)
        return build(curve)


def _preference(
    model: LensModel,
    site: Site,
    rows: AskedRows,
    which: list[int],
    now: SteeringMap,
    signs: Float[Tensor, " n"],
    beta: float,
) -> Float[Tensor, ""]:
    """Mean of −log σ(d β (change of log-odds)) over some questions."""
    found = steered_log_probs(model, rows.rows(which), site, now, signs.repeat(2)).view(2, -1)
    base = rows.base[which].to(found).T
    gained = (found - base)[0] - (found - base)[1]
    return -functional.logsigmoid(signs.to(found) * beta * gained).mean()


def spread(model: LensModel, pairs: ConceptDataset, site: Site) -> float:
    """Standard deviation of a coordinate at the site, in root mean square over coordinates.

    Raises:
        FitError: Nothing varies there.
    """
    found = extract(model, pairs, [site])[site]
    deviation = float(torch.cat([found.positive, found.negative]).double().var(dim=0).mean().sqrt())
    if deviation == 0:
        raise FitError(f"The activations of {pairs.name!r} at {site} are all equal. Choose a later site or token.")
    return deviation


def check_beta(beta: float) -> None:
    if not 0 < beta < float("inf"):
        raise OptionError(f"beta must be positive and finite, but got {beta}.")

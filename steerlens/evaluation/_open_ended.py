"""Open-ended likelihood: does steering make the right continuations likelier, and the wrong ones less likely?"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.concepts import ConceptDataset
from steerlens.errors import EstimateError, OptionError
from steerlens.evaluation._scores import UNSTEERED, score_continuations
from steerlens.interventions import Intervention
from steerlens.models import LensModel
from steerlens.numerics import Estimate, bootstrap

Array = npt.NDArray[np.float64]
Form = Literal["raw", "subtract", "divide"]
Quantity = Literal["promotion", "suppression", "separation"]
Change = Callable[[Array, Array, float, float], Array]
"""Change of log-likelihoods by item: (base, steered, base anchor, steered anchor) → change."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""The hardest quarter, half and three quarters, as published, and all."""

OPEN_ENDED_COLUMNS = (
    "intervention", "form", "share", "quantity", "value", "low", "high", "level", "n", "n_clusters", "interval",
)  # fmt: skip
"""One row is one estimate. ``share`` 0.25 is over the hardest quarter of the items, 1 over all."""

OPEN_ITEM_COLUMNS = (
    "intervention", "item", "prompt", "group", "n_positive", "n_negative",
    "positive_base", "positive_steered", "negative_base", "negative_steered",
)  # fmt: skip
"""One row is one item under one intervention: mean log-likelihood per token of both references, in nats."""

_CHANGES: dict[Form, Change] = {
    "raw": lambda base, steered, was, now: steered - base,
    "subtract": lambda base, steered, was, now: (steered - now) - (base - was),
    "divide": lambda base, steered, was, now: steered / abs(now) - base / abs(was),
}


@final
@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Mean log-likelihood per token of the positive and the negative reference of every item, in nats.

    Raises:
        EstimateError: If the two differ in length, are empty, or hold anything but finite numbers.
    """

    positive: Array
    negative: Array

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        p, n = self.positive, self.negative
        if p.ndim != 1 or p.shape != n.shape or not len(p) or not (np.isfinite(p).all() and np.isfinite(n).all()):
            raise EstimateError(
                "Likelihoods need one finite number for each reference of each item, but got shapes "
                f"{p.shape} and {n.shape}. Look for NaN in what was scored."
            )

    @property
    def anchor(self) -> float:
        """½ (max negative + min positive): the middle of where both kinds of reference overlap, in nats."""
        return 0.5 * (float(self.negative.max()) + float(self.positive.min()))


def open_ended_report(
    base: Likelihoods,
    steered: Likelihoods,
    groups: Sequence[Hashable],
    *,
    seed: int,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """Promotion and suppression of references, over the hardest items, in three forms, with intervals.

    Promotion is the mean rise of the positive references' log-likelihood per token, suppression the mean fall of the
    negative ones'; both are good above 0, and separation is their sum. The hardest positives are the least likely
    ones by the unsteered model, the hardest negatives the most likely ones; ⌈share · n⌉ of each are averaged.

    Three forms. ``raw`` is the change itself, in nats. The published ones relate each model's likelihoods to an anchor
    of its own, ½ (max negative + min positive): ``subtract`` takes it away, ``divide`` divides by its size. (Which of
    the two was meant is not said.) As the anchor moves with the model, ``subtract`` is blind to whatever raises or
    lowers all continuations alike, so that fluency lost does not show: read it beside ``raw``.

    Every resample of groups finds its own hardest items. Anchors are held: they are extremes, of which no resampling
    knows the law (found anew in every resample, intervals of 95 % covered 0.74 to 0.81). Intervals of what depends on
    them are marked "given its anchors": they say what other items would give that are measured against these anchors,
    not what other anchors would give.

    Args:
        base: Of the unsteered model.
        steered: Of the steered model, on the same items.
        groups: The cluster of each item.
        seed: Of the bootstrap.
        shares: Of the items, hardest first; each in (0, 1].

    Returns:
        Columns `OPEN_ENDED_COLUMNS` without ``intervention``.

    Raises:
        OptionError: If a share is not in (0, 1].
        EstimateError: If there are fewer than five groups, or the two are not of the same items.

    References:
        pres2024, section 3.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise OptionError(f"Shares of the items lie in (0, 1], but got {list(shares)}.")
    if not len(base.positive) == len(steered.positive) == len(groups):
        raise EstimateError(
            f"Baseline and steered likelihoods need the same items, each with its group, but got {len(base.positive)}, "
            f"{len(steered.positive)} and {len(groups)} groups."
        )
    rows = []
    for form in _CHANGES:
        for share in shares:
            for quantity in ("promotion", "suppression", "separation"):
                statistic = _statistic(base, steered, form, share, quantity)
                e = bootstrap(statistic, [groups], seed=seed)
                anchored = form == "divide" or (form == "subtract" and quantity != "separation")
                rows.append((form, share, quantity, *_fields(e, ", given its anchors" if anchored else "")))
    return pd.DataFrame(rows, columns=list(OPEN_ENDED_COLUMNS[1:]))


def open_ended_point(base: Likelihoods, steered: Likelihoods, form: Form, quantity: Quantity) -> float:
    """One number of `open_ended_report` over all items, without its interval."""
    return float(_statistic(base, steered, form, 1.0, quantity)(np.ones((1, len(base.positive))))[0])


@final
@dataclass(frozen=True, eq=False)
class OpenEnded:
    """Open-ended likelihood under one or more interventions.

    Args:
        frame: Columns `OPEN_ENDED_COLUMNS`.
        items: Columns `OPEN_ITEM_COLUMNS`; every number of ``frame`` follows from it.
        model: Its name.
    """

    frame: pd.DataFrame
    items: pd.DataFrame
    model: str

    def to_frame(self) -> pd.DataFrame:
        """One row per intervention, form, share and quantity."""
        return self.frame.copy()

    def __str__(self) -> str:
        raw = self.frame[(self.frame["form"] == "raw") & (self.frame["share"] == 1)]
        lines = [
            f"  {row.intervention}: {row.quantity} {row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
            for row in raw.itertuples()
        ]
        head = f"Log-likelihood per token of references, {self.model}: steered less unsteered, in nats"
        return "\n".join([head, *lines])


def open_ended(
    model: LensModel,
    items: ConceptDataset,
    interventions: Mapping[str, Intervention],
    *,
    seed: int,
    shares: Sequence[float] = SHARES,
) -> OpenEnded:
    """Score the references of open prompts, unsteered and under every intervention.

    See `open_ended_report` for what is computed. The continuations are the pairs' own, verbatim; answers are not used.
    `steerlens.concepts.open_ended_items` makes open items of pairs with answers, and `generated_references` writes
    references in the model's own words.

    Args:
        model: What to steer.
        items: Open prompts with a positive and a negative reference each.
        interventions: By name; see `steerlens.Intervention`.
        seed: Of the bootstrap.
        shares: Of the items, hardest first.

    Raises:
        OptionError: If there are no interventions, or a share is not in (0, 1].
        EstimateError: If the items fall into fewer than five groups.

    References:
        pres2024.
    """
    if not interventions:
        raise OptionError("open_ended needs at least one intervention by name, such as {'shift': Intervention(...)}.")
    scores = score_continuations(
        model,
        [p.prompt for p in items],
        [(p.positive, p.negative) for p in items],
        [UNSTEERED, *interventions.values()],
    )
    per_token, n_tokens = scores.per_token.numpy(), scores.n_tokens.numpy()
    found = [Likelihoods(row[0::2], row[1::2]) for row in per_token]
    base, groups = found[0], [p.group for p in items]
    frames, tables = [], []
    for name, steered in zip(interventions, found[1:], strict=True):
        report = open_ended_report(base, steered, groups, seed=seed, shares=shares)
        frames.append(report.assign(intervention=name))
        tables.append(_items(name, items, base, steered, n_tokens))
    return OpenEnded(
        pd.concat(frames, ignore_index=True)[list(OPEN_ENDED_COLUMNS)],
        pd.concat(tables, ignore_index=True)[list(OPEN_ITEM_COLUMNS)],
        model.name,
    )


def _items(
    name: str, items: ConceptDataset, base: Likelihoods, steered: Likelihoods, n_tokens: npt.NDArray[np.int64]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "intervention": name,
            "item": np.arange(len(items)),
            "prompt": [p.prompt for p in items],
            "group": [p.group for p in items],
            "n_positive": n_tokens[0::2],
            "n_negative": n_tokens[1::2],
            "positive_base": base.positive,
            "positive_steered": steered.positive,
            "negative_base": base.negative,
            "negative_steered": steered.negative,
        }
    )


def _statistic(
    base: Likelihoods, steered: Likelihoods, form: Form, share: float, quantity: Quantity
) -> Callable[[Array], Array]:
    """Weights of items, shape (resample, item), to one number a resample."""
    was, now = base.anchor, steered.anchor
    if form == "divide" and not (was and now):
        raise EstimateError("The form 'divide' needs likelihoods below zero, but an anchor of these is 0.")
    up = _CHANGES[form](base.positive, steered.positive, was, now)
    down = 0.0 - _CHANGES[form](base.negative, steered.negative, was, now)

    def of(weights: Array) -> Array:
        promoted = _hardest(up, base.positive, weights, share)
        suppressed = _hardest(down, -base.negative, weights, share)
        return {"promotion": promoted, "suppression": suppressed, "separation": promoted + suppressed}[quantity]

    return of


def _hardest(values: Array, ease: Array, weights: Array, share: float) -> Array:
    """Mean over the ⌈share · n⌉ drawn items of least ease, for every resample; shape (resample,)."""
    order = np.argsort(ease, kind="stable")
    drawn = weights[:, order]
    wanted = np.ceil(share * drawn.sum(axis=1, keepdims=True) - 1e-9)
    taken = np.clip(wanted - (drawn.cumsum(axis=1) - drawn), 0, drawn)
    mean: Array = taken @ values[order] / wanted[:, 0]
    return mean


def _fields(e: Estimate, note: str) -> tuple[float, float, float, float, int, int, str]:
    return e.value, e.low, e.high, e.level, e.n, e.n_clusters, e.method + note

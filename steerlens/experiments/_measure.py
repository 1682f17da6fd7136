"""Measuring trials that share a model and data: one pass over each prompt for all of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import pandas as pd

from steerlens.activations import ContrastiveActivations, Site, extract
from steerlens.concepts import ConceptDataset
from steerlens.errors import OptionError, SteerlensError
from steerlens.evaluation import (
    SCORE_RESOLUTION,
    AntiSteerable,
    Arm,
    DoseCurve,
    Measured,
    anti_steerable,
    measure,
    steerability,
)
from steerlens.evaluation._compare import environment
from steerlens.evaluation._controls import exchanged
from steerlens.evaluation._mean_step import step_length
from steerlens.evaluation._stored_curve import stored_curve
from steerlens.evaluation._tables import per_token, perplexity_ratio, relative_displacement
from steerlens.experiments._methods import build_method
from steerlens.experiments._sites import selector
from steerlens.experiments._trial import TrialMetric, TrialRecord, TrialSpec
from steerlens.interventions import OutputMethod
from steerlens.maps import SteeringMap, method_family, random_direction
from steerlens.models import LensModel
from steerlens.numerics import Estimate, cluster_mean

ITEM_COLUMNS = (
    "item", "number", "group", "side", "strength", "propensity", "propensity_per_token", "positive", "negative",
    "kl", "nll", "n_tokens",
)  # fmt: skip
"""One row is one question (``item`` is "question") or neutral text ("text") at one strength. Log-probabilities and KL
are in nats, summed over tokens; what a text or question does not have is NaN. ``group`` is what is resampled
together: a question's group, a text's document."""


@final
@dataclass(frozen=True, eq=False)
class WorkUnit:
    """Trials that are measured together: one model, one split of one concept, one set of neutral texts.

    Args:
        specs: The trials.
        pairs: The whole concept.
        texts: Neutral texts.
    """

    specs: tuple[TrialSpec, ...]
    pairs: ConceptDataset
    texts: tuple[str, ...]

    @property
    def parts(self) -> tuple[ConceptDataset, ConceptDataset]:
        """Pairs to fit on, and pairs to measure on."""
        first = self.specs[0]
        split = self.pairs.split(seed=int(first.split_seed))
        most = int(first.max_pairs) or None
        return split.fit[:most], split.test[:most]

    @property
    def n_interventions(self) -> int:
        """Steered versions of each prompt, at most."""
        return sum(len(spec.strengths) - 1 for spec in self.specs)


@final
@dataclass(frozen=True, eq=False)
class TrialOutcome:
    """What became of a trial.

    Args:
        spec: The trial.
        record: What it found, or None.
        items: Its rows, columns `ITEM_COLUMNS`, or None.
        reason: Why there is no record; empty if there is one.
    """

    spec: TrialSpec
    record: TrialRecord | None
    items: pd.DataFrame | None
    reason: str = ""


def run_unit(model: LensModel, unit: WorkUnit) -> list[TrialOutcome]:
    """Fit and measure all trials of a unit; one that cannot be fitted, applied or summed up stops no other.

    All are measured in one pass over the prompts. If that fails, halves of them are, and halves of those, until what
    fails is alone: a map that cannot be applied, or more maps than memory holds at once.

    The seconds in a record's environment are those of its whole unit, of ``trials_together`` trials.

    Raises:
        SteerlensError: If the data or the sites do not fit the model: then none of them can be measured.
    """
    started = time.monotonic()
    fit, test = unit.parts
    sites = {spec: site_of(spec) for spec in unit.specs}
    wanted = tuple(dict.fromkeys(sites.values()))
    found, held_out = extract(model, fit, wanted), extract(model, test, wanted)
    arms: dict[TrialSpec, Arm] = {}
    outcomes = []
    for spec, site in sites.items():
        try:
            arms[spec] = _arm(model, spec, found[site], fit)
        except Exception as error:  # one map's fault, foreseen or not, must not cost the others
            outcomes.append(TrialOutcome(spec, None, None, failure_reason(error)))
    if arms:
        measured = _measured(
            list(arms.values()), lambda some: measure(model, some, test.questions, unit.texts, held_out)
        )
        about = environment(time.monotonic() - started) | {"trials_together": len(arms)}
        outcomes += [_outcome(spec, m, about) for spec, m in zip(arms, measured, strict=True)]
    return outcomes


def _measured(arms: Sequence[Arm], together: Callable[[Sequence[Arm]], list[Measured]]) -> list[Measured | str]:
    """What was measured of each arm, or why it could not be; arms that fail together are tried in halves."""
    try:
        return [*together(arms)]
    except Exception as error:  # as in `run_unit`: one map's fault must not cost the others
        if len(arms) == 1:
            return [failure_reason(error)]
    half = len(arms) // 2
    return [*_measured(arms[:half], together), *_measured(arms[half:], together)]


def failure_reason(error: Exception) -> str:
    """What went wrong, on one line; of an error that is not ours also its kind, for its text may say little alone."""
    said = " ".join(str(error).split())[:500]
    return said if isinstance(error, SteerlensError) else f"{type(error).__name__}: {said}"


def site_of(spec: TrialSpec) -> Site:
    """Where a trial's map acts."""
    return Site(spec.hook_name, selector(spec.tokens), spec.head)


def dose_curve(items: pd.DataFrame) -> DoseCurve:
    """The curve of effect and cost, from a trial's stored rows: for contrasts between trials of one study.

    Args:
        items: What `ResultStore.items` gives.
    """
    texts = items[items["item"] == "text"]
    # Rows of earlier versions name no document: each text was its own.
    documents = texts["group"].fillna(texts["number"].astype(str))
    return stored_curve(items[items["item"] == "question"], texts.assign(document=documents))


def _arm(model: LensModel, spec: TrialSpec, found: ContrastiveActivations, fit: ConceptDataset) -> Arm:
    fitted, family = _fitted(model, spec, found, fit)
    usable = tuple(float(s) for s in spec.strengths if s >= 0 or fitted.reverse is not None)
    role = spec.role if spec.role in ("random", "permuted") else "method"
    return Arm(spec.method, family, role, found.site, fitted, usable)  # type: ignore[arg-type]


def _fitted(
    model: LensModel, spec: TrialSpec, found: ContrastiveActivations, fit: ConceptDataset
) -> tuple[SteeringMap, str]:
    """The map of a trial and its family."""
    draw = int(spec.seed) * 10_000 + int(spec.draw)
    if spec.role == "random":
        norm = step_length(found.positive.double() - found.negative.double())
        return random_direction(found.positive.shape[1], norm=norm, seed=draw), "random"
    method = build_method(spec.method, spec.options)
    if isinstance(method, OutputMethod):
        if spec.role == "permuted":
            raise OptionError(f"{spec.method} is trained through the model; permuted labels are for maps of samples.")
        return method.fit_output(model, fit, found.site), method_family(method)
    pairs = exchanged(found, seed=draw) if spec.role == "permuted" else found
    return method.fit(source=pairs.negative, target=pairs.positive), method_family(method)


def _outcome(spec: TrialSpec, measured: Measured | str, about: Mapping[str, object]) -> TrialOutcome:
    if isinstance(measured, str):
        return TrialOutcome(spec, None, None, measured)
    try:
        metrics = tuple(
            TrialMetric(name, strength, estimate)
            for name in spec.metrics
            for strength, estimate in _FINDERS[name](measured, spec)
        )
    except Exception as error:
        return TrialOutcome(spec, None, None, failure_reason(error))
    return TrialOutcome(spec, TrialRecord(spec, metrics, dict(about)), _item_frame(measured))


Found = Iterator[tuple[float | None, Estimate]]


def _at_each_strength(
    of: Callable[[Measured, int, TrialSpec], Estimate],
) -> Callable[[Measured, TrialSpec], Found]:
    def find(m: Measured, spec: TrialSpec) -> Found:
        for k, strength in enumerate(m.arm.strengths):
            yield strength, of(m, k, spec)

    return find


def _changed(values: npt.ArrayLike, m: Measured, spec: TrialSpec) -> Estimate:
    return cluster_mean(values, m.groups, seed=int(spec.seed))


def _whole_curve(of: Callable[[Measured, TrialSpec], Estimate]) -> Callable[[Measured, TrialSpec], Found]:
    def find(m: Measured, spec: TrialSpec) -> Found:
        yield None, of(m, spec)

    return find


def _anti_steerable(m: Measured, s: TrialSpec) -> AntiSteerable:
    known_to = SCORE_RESOLUTION[s.dtype]
    return anti_steerable(m.propensity, m.arm.strengths, m.groups, seed=int(s.seed), resolution=known_to)


_FINDERS: dict[str, Callable[[Measured, TrialSpec], Found]] = {
    "effect": _at_each_strength(lambda m, k, s: _changed(m.propensity[k] - m.propensity[m.zero], m, s)),
    "kl": _at_each_strength(lambda m, k, s: per_token(m, m.kl[k], int(s.seed))),
    "propensity": _at_each_strength(lambda m, k, s: _changed(m.propensity[k], m, s)),
    "effect_per_token": _at_each_strength(
        lambda m, k, s: _changed(m.propensity_per_token[k] - m.propensity_per_token[m.zero], m, s)
    ),
    "perplexity_ratio": _at_each_strength(lambda m, k, s: perplexity_ratio(m, k, seed=int(s.seed))),
    "displacement": _at_each_strength(lambda m, k, s: relative_displacement(m, k, int(s.seed))),
    "effect_at_budget": _whole_curve(lambda m, s: m.dose_curve.at_budget(float(s.budget), seed=int(s.seed)).effect),
    "steerability": _whole_curve(lambda m, s: _changed(steerability(m.propensity, m.arm.strengths), m, s)),
    "anti_slope": _whole_curve(lambda m, s: _anti_steerable(m, s).slope),
    "anti_unit": _whole_curve(lambda m, s: _anti_steerable(m, s).unit),
}


def _item_frame(m: Measured) -> pd.DataFrame:
    """Questions, then texts, at every strength; columns `ITEM_COLUMNS`."""
    strengths = np.asarray(m.arm.strengths, dtype=np.float64)
    n, t, k = len(m.questions), len(m.n_tokens), len(strengths)
    questions = pd.DataFrame(
        {
            "item": "question",
            "number": np.tile(np.arange(n), k),
            "group": [q.group for q in m.questions] * k,
            "side": [str(q.side) for q in m.questions] * k,
            "strength": np.repeat(strengths, n),
            "propensity": m.propensity.ravel(),
            "propensity_per_token": m.propensity_per_token.ravel(),
            "positive": m.log_prob[0].ravel(),
            "negative": m.log_prob[1].ravel(),
        }
    )
    texts = pd.DataFrame(
        {
            "item": "text",
            "number": np.tile(np.arange(t), k),
            "group": [str(d) for d in m.documents] * k,
            "strength": np.repeat(strengths, t),
            "kl": m.kl.ravel(),
            "nll": m.nll.ravel(),
            "n_tokens": np.tile(m.n_tokens, k),
        }
    )
    return pd.concat([questions, texts], ignore_index=True)[list(ITEM_COLUMNS)]

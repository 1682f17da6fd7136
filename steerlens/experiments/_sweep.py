"""Running a plan: one model after the other, every finished trial on disk at once."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from steerlens.errors import ModelError
from steerlens.evaluation import score_neutral, score_questions
from steerlens.evaluation._scores import UNSTEERED
from steerlens.experiments._measure import TrialOutcome, WorkUnit, failure_reason, run_unit, site_of
from steerlens.experiments._model_loaders import LOAD_ERRORS
from steerlens.experiments._plan import ModelPlan, StudyPlan, unit_cost
from steerlens.experiments._store import ResultStore
from steerlens.experiments._study import StudyModel
from steerlens.interventions import Intervention
from steerlens.maps import random_direction
from steerlens.models import LensModel, free_bytes, load_model
from steerlens.progress import progress

CALIBRATION_PROMPTS = 6
CALIBRATION_STEERED = 8


@final
@dataclass(frozen=True)
class TrialFailure:
    """Something that could not be run.

    Args:
        what: The trial or the model.
        reason: What went wrong.
        n_trials: How many trials it cost.
    """

    what: str
    reason: str
    n_trials: int


@final
@dataclass(frozen=True)
class SweepSummary:
    """What became of a plan.

    Args:
        stored: Trials that were run and stored.
        skipped: Trials that were stored before.
        failures: What could not be run, also kept in the store as notes of kind "failure".
        seconds: How long it took.
    """

    stored: int
    skipped: int
    failures: tuple[TrialFailure, ...]
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.stored} trials run in {self.seconds:.0f} s, {self.skipped} were stored before."]
        if self.failures:
            lines.append(f"{sum(f.n_trials for f in self.failures)} trials could not be run:")
            lines += [f"  {f.what}: {f.reason}" for f in self.failures]
        return "\n".join(lines)


@final
@dataclass(frozen=True)
class Calibration:
    """How fast a model is here, measured in a second or so.

    Args:
        tokens_per_second: Of unsteered passes.
        whole: Seconds of an unsteered pass over one prompt.
        resumed: Seconds of a steered pass over one prompt, from the block of a middle trial, beside others of it.
        n_parameters: Of the model; others are taken to be as much slower as they are larger.
    """

    tokens_per_second: float
    whole: float
    resumed: float
    n_parameters: int

    def seconds(self, plan: StudyPlan) -> float:
        """Expected time of what a plan has still to run; fitting maps and loading models are not in it."""
        total = 0.0
        for part in plan.models:
            if part.problem:
                continue
            size = 1.0 if part.description is None else part.description.n_parameters / self.n_parameters
            costs = [unit_cost(unit) for unit in plan.units(part.pending)]
            total += size * sum(c.whole * self.whole + c.resumed * self.resumed for c in costs)
        return total


def calibrate(model: LensModel, unit: WorkUnit) -> Calibration:
    """Time a few prompts of a unit, unsteered and steered where its middle trial steers."""
    questions, texts = unit.parts[1].questions[:CALIBRATION_PROMPTS], unit.texts[:CALIBRATION_PROMPTS]
    site = sorted((site_of(spec) for spec in unit.specs), key=lambda s: s.layer)[len(unit.specs) // 2]
    steps = [random_direction(site.check(model), norm=1e-3, seed=i) for i in range(CALIBRATION_STEERED)]
    steered = [UNSTEERED, *(Intervention({site: step}, 1.0) for step in steps)]

    def timed(interventions: Sequence[Intervention]) -> float:
        started = time.perf_counter()
        score_questions(model, questions, interventions)
        score_neutral(model, texts, interventions)
        return time.perf_counter() - started

    timed(steered)  # the first pass pays for allocations
    alone, together = timed([UNSTEERED]), timed(steered)
    prompts = len(questions) + len(texts)
    n_tokens = sum(len(ids) for ids in model.encode_all([*texts, *(q.context for q in questions)]))
    resumed = max(together - alone, 0.0) / (prompts * CALIBRATION_STEERED)
    n_parameters = sum(p.numel() for p in model.bridge.parameters())
    return Calibration(n_tokens / alone, alone / prompts, resumed, n_parameters)


@final
class Sweep:
    """A plan and its store, ready to run: show it, then `run` it.

    Args:
        plan: What to run.
        store: Where results go.
        device: Where models run.
        load: Loads a model; `steerlens.load_model` unless a test says otherwise.
    """

    def __init__(
        self,
        plan: StudyPlan,
        store: ResultStore,
        *,
        device: str = "cpu",
        load: Callable[..., LensModel] = load_model,
    ) -> None:
        self.plan, self.store = plan, store
        self._device, self._load = device, load
        self._loaded: tuple[StudyModel, LensModel] | None = None

    def calibrate(self) -> Calibration | None:
        """Load the first model that has something to run, and time it; None if nothing is to be run, or none loads.

        The model is kept for `run`.
        """
        for part in self.plan.models:
            if part.problem or not part.pending:
                continue
            try:
                model = self._model(part)
                part = with_revision(part, model.revision, self.store)
                units = self.plan.units(part.pending)
                return calibrate(model, units[0]) if units else None
            except LOAD_ERRORS:
                continue  # `run` meets it again, and records it
        return None

    def describe(self, speed: Calibration | None) -> str:
        """What will run, for people: trials, passes, memory, and expected time if the speed is known."""
        lines = [f"{self.plan.name}: {self.plan.n_trials} trials, {self.plan.n_pending} of them to run"]
        for part in self.plan.models:
            costs = [unit_cost(unit) for unit in self.plan.units(part.pending)] if not part.problem else []
            need = part.needed_bytes
            facts = [f"{len(part.pending)} trials", f"{sum(c.whole for c in costs):,} unsteered passes"]
            facts += [f"{sum(c.resumed for c in costs):,} steered"]
            facts += [] if need is None else [f"about {need / 1e9:.1f} GB"]
            lines.append(f"  {part.model.name} ({part.model.dtype}): {part.problem or ', '.join(facts)}")
        free = free_bytes()
        lines += [] if free is None else [f"  free memory: {free / 1e9:.1f} GB"]
        if speed is not None:
            time_needed = speed.seconds(self.plan)
            lines.append(
                f"  expected: {_duration(time_needed)} for scoring, at {speed.tokens_per_second:,.0f} tokens/s "
                "(measured now); loading models and fitting maps come on top"
            )
        return "\n".join(lines)

    def run(self) -> SweepSummary:
        """Run what is not stored. What cannot be run is noted in the store, and stops nothing else.

        Raises:
            ArtefactError: If the store cannot be written or is damaged. What was stored before stays stored.
        """
        started = time.monotonic()
        failures: list[TrialFailure] = []
        stored = 0
        steps = sum(unit_steps(u) for p in self.plan.models if not p.problem for u in self.plan.units(p.pending))
        with progress(f"sweep {self.plan.name}", max(steps, 1)) as advance:
            for part in self.plan.models:
                for outcome in self._run_model(part, advance):
                    if isinstance(outcome, TrialFailure):
                        failures.append(outcome)
                        note_failure(self.store, outcome)
                    elif outcome.record is not None and outcome.items is not None:
                        stored += self.store.append(outcome.record, outcome.items)
        return summed_up(self.plan, stored, failures, started)

    def _run_model(self, part: ModelPlan, advance: Callable[[int], None]) -> Any:
        """Outcomes and failures of one model; at the end it is let go."""
        if part.problem:
            yield TrialFailure(part.model.name, part.problem, part.n_trials)
            return
        if not part.pending:
            return
        try:
            model = self._model(part)
            part = with_revision(part, model.revision, self.store)
        except LOAD_ERRORS as error:
            self._let_go()
            yield TrialFailure(part.model.name, failure_reason(error), len(part.pending))
            return
        for unit in self.plan.units(part.pending):
            yield from tried(model, unit)
            advance(unit_steps(unit))
        del model
        self._let_go()

    def _model(self, part: ModelPlan) -> LensModel:
        if self._loaded is None or self._loaded[0] != part.model:
            self._let_go()
            asked = part.model
            self._loaded = (
                asked,
                self._load(asked.name, dtype=asked.dtype, revision=asked.revision, device=self._device),
            )
        return self._loaded[1]

    def _let_go(self) -> None:
        """Free the loaded model before the next one is loaded."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def summed_up(plan: StudyPlan, stored: int, failures: Sequence[TrialFailure], started: float) -> SweepSummary:
    """What became of a plan that was begun at this time; what was neither stored nor failed was there before."""
    skipped = plan.n_trials - stored - sum(f.n_trials for f in failures)
    return SweepSummary(stored, skipped, tuple(failures), time.monotonic() - started)


def tried(model: LensModel, unit: WorkUnit) -> list[TrialOutcome | TrialFailure]:
    """The outcomes of a unit; what could not be measured, as failures."""
    try:
        outcomes = run_unit(model, unit)
    except Exception as error:  # a device out of memory, or a fault of ours: other units may do better
        first = unit.specs[0]
        return [TrialFailure(f"{first.concept} in {first.model}", failure_reason(error), len(unit.specs))]
    return [o if o.record is not None else TrialFailure(o.spec.label, o.reason, 1) for o in outcomes]


def note_failure(store: ResultStore, failure: TrialFailure) -> None:
    """Keep a failure in the store, beside the trials."""
    store.append_note("failure", {"what": failure.what, "reason": failure.reason, "n_trials": failure.n_trials})


def with_revision(part: ModelPlan, revision: str, store: ResultStore) -> ModelPlan:
    """The part with the revision that was loaded.

    Raises:
        ModelError: If a list of trials asks for other weights.
    """
    if all(spec.revision == revision for spec in part.trials):
        return part
    if part.study is None:
        raise ModelError(
            f"The trials ask for {part.trials[0].revision!r} of {part.model.name!r}, but what is loaded is "
            f"{revision!r}. Make the trials anew."
        )
    if part.description is None:
        raise ModelError(f"The shape of {part.model.name!r} is not known.")
    trials = part.study.trials(part.model, revision=revision, n_layers=part.description.n_layers)
    return replace(part, trials=trials, pending=tuple(spec for spec in trials if spec not in store))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def unit_steps(unit: WorkUnit) -> int:
    """What the progress bar counts: passes, steered ones included."""
    cost = unit_cost(unit)
    return cost.whole + cost.resumed

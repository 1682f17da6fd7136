"""A theory's prediction with its falsifier, said before the records, and the verdict that follows from them by rule."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, final

import pandas as pd

from steerlens.errors import EstimateError, OptionError
from steerlens.theories._frozen_code import class_source, frozen_code, rule_version
from steerlens.theories._records import Quantity, check_one_model, gather
from steerlens.theories._verdict import (
    Evidence,
    Outcome,
    Prediction,
    Registration,
    Verdict,
    detectable,
    units_needed,
)


@final
class PlantedCase(Enum):
    """What a simulated study is: the theory is true, it is false, there is nothing to see, or it is barely true."""

    TRUE = "true"
    FALSE = "false"
    NULL = "null"
    BARELY = "barely"


@dataclass(frozen=True, kw_only=True)
class Hypothesis(abc.ABC):
    """A theory's prediction about stored records.

    A subclass is a frozen dataclass. Its class says what is asserted (``id``, ``theory``, ``citations``,
    ``population``, ``design``); its fields are the numbers: margins, and what is written here. It supplies
    ``quantities``, ``predictions``, ``evidence``, and ``planted`` studies on which it must be right.

    The rule: SUPPORTED if every prediction's interval lies wholly on the theory's side of its margin and all controls
    pass; REFUTED if the interval of any lies wholly beyond its threshold; VOID, with the reason, if a control failed or
    a record is missing; otherwise INCONCLUSIVE, with what could have been seen beside it. Where k predictions can
    refute, each refutes at level 1 − (1 − level)/k, so that a true theory is refuted as rarely as a theory with one.
    Support needs all of them and no such correction. One interval serves all claims: an equivalence is claimed with
    two one-sided tests at half of 1 − level each.

    Args:
        level: Coverage of the intervals.
        power: With which "inconclusive" says what could have been seen.
        min_units: Fewer units of replication than this make the verdict void. ``unit`` of the class names the columns
            that tell them apart: concepts for claims about methods, groups of prompts for claims within a concept.
            ``every_layer`` of the class says whether it reads all layers of a concept, or the chosen one.
        exploratory: Whether it was thought of after looking; then it does not count among the primary hypotheses.

    Raises:
        OptionError: If a number is outside its range.
    """

    id: ClassVar[str]
    theory: ClassVar[str]
    citations: ClassVar[tuple[str, ...]]
    population: ClassVar[str]
    design: ClassVar[str]
    unit: ClassVar[tuple[str, ...]] = ("concept",)
    every_layer: ClassVar[bool] = False

    level: float = 0.95
    power: float = 0.8
    min_units: int = 8
    exploratory: bool = False

    def __post_init__(self) -> None:
        if not 0 < 1 - self.level < self.power < 1:
            raise OptionError(
                f"{type(self).__name__} needs 0 < 1 − level < power < 1, but got {self.level}, {self.power}."
            )
        if self.min_units < 5:
            raise OptionError(f"{type(self).__name__} needs min_units of 5 or more, but got {self.min_units}.")

    @property
    @abc.abstractmethod
    def quantities(self) -> Mapping[str, Quantity]:
        """What is read from the records, under short names."""

    @property
    @abc.abstractmethod
    def predictions(self) -> tuple[Prediction, ...]:
        """The numbers that the theory commits itself to; at least one can refute it."""

    @abc.abstractmethod
    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        """Estimates at a level and controls, from records with the columns `THEORY_COLUMNS`.

        Raises:
            EstimateError: If records are missing, not finite, or too few.
        """

    @abc.abstractmethod
    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        """Records of a simulated study in which the answer is known, with the noise that real records have."""

    @property
    def prediction(self) -> str:
        """What the theory says the records will show."""
        return "; ".join(str(p) for p in self.predictions) + "."

    @property
    def falsifier(self) -> str:
        """What would count against it."""
        return "; or ".join(p.against for p in self.predictions if p.against) + "."

    @final
    def read(self, records: pd.DataFrame, *only: str, by: Sequence[str] = ()) -> pd.DataFrame:
        """One row per model and unit, one column per quantity, each row complete; see `gather`.

        Args:
            records: Columns `THEORY_COLUMNS`.
            only: Some of ``quantities``, by name; none for all.
            by: More columns that tell rows apart, such as ``strength``.

        Raises:
            EstimateError: If something is missing, not finite, or there are fewer units than ``min_units``; or if there
                are several models, and ``population`` says "of one model".
        """
        wanted = {name: q for name, q in self.quantities.items() if not only or name in only}
        if "of one model" in self.population:
            check_one_model(records, wanted)
        return gather(records, wanted, at_least=self.min_units, unit=self.unit, by=by)

    @property
    def canonical(self) -> str:
        """Every statement, field, prediction and margin as canonical JSON, with the hash of the code behind them.

        Raises:
            OptionError: If the class has no source on disk, as one typed into a prompt.
        """
        return self._document(code=frozen_code(type(self), Hypothesis))

    def _document(self, **code: str) -> str:
        document = {
            "class": type(self).__qualname__,
            **code,
            "statement": [self.id, self.theory, list(self.citations), self.population, self.design],
            "fields": {f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "quantities": {name: dataclasses.asdict(q) for name, q in self.quantities.items()},
            "predictions": [dataclasses.asdict(p) for p in self.predictions],
        }
        return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical text: equal for equal hypotheses, another for a margin changed afterwards."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def is_registered_as(self, registered: Registration) -> bool:
        """Whether this is what was registered; of registrations without a rule only the class's own text was frozen."""
        if registered.rule:
            return self.fingerprint == registered.fingerprint
        source = hashlib.sha256(class_source(type(self)).encode()).hexdigest()
        return hashlib.sha256(self._document(source=source).encode()).hexdigest() == registered.fingerprint

    @final
    def judge(
        self, records: pd.DataFrame, *, level: float | None = None, registered: Registration | None = None
    ) -> Verdict:
        """The verdict, by the rule of `Hypothesis`.

        Args:
            records: Columns `THEORY_COLUMNS`; rows whose split is not ``test`` are not read.
            level: In place of the hypothesis's own; `judge_all` gives it.
            registered: As it was frozen; a hypothesis that has changed since is void.
        """
        level = self.level if level is None else level
        if registered is not None and not self.is_registered_as(registered):
            return self._verdict(Outcome.VOID, level, None, _changed(self, registered))
        verdict = self._judged(records, level)
        if registered is None or registered.rule == rule_version():
            return verdict
        return dataclasses.replace(verdict, reason=f"{verdict.reason} {_other_rule(registered)}")

    def _judged(self, records: pd.DataFrame, level: float) -> Verdict:
        try:
            evidence = strict = self.evidence(records, level=level)
            against = sum(p.threshold is not None for p in self.predictions)
            # Wider intervals contradict less: they are needed only where these do.
            if against > 1 and any(_refutes(p, evidence) for p in self.predictions):
                strict = self.evidence(records, level=1 - (1 - level) / against)
        except EstimateError as error:
            return self._verdict(Outcome.VOID, level, None, str(error))
        except Exception as error:  # of a hypothesis that is not ours: it must not cost the verdicts of the others
            return self._verdict(Outcome.VOID, level, None, f"Its evidence failed: {type(error).__name__}: {error}.")
        failed = [c for c in evidence.controls if not c.passed]
        if failed:
            return self._verdict(Outcome.VOID, level, evidence, " ".join(f"{c.name}: {c.reason}" for c in failed))
        refuting = [p for p in self.predictions if _refutes(p, strict)]
        if refuting:
            said = [f"{p.statistic} is {strict.estimates[p.name]}, and {p.against}" for p in refuting]
            return self._verdict(Outcome.REFUTED, level, strict, "; ".join(said) + ".")
        # What contradicts at this level and not at the stricter one that refuting takes is shown at the stricter one.
        shown = {p.name: strict.estimates[p.name] for p in self.predictions if _refutes(p, evidence)}
        evidence = dataclasses.replace(evidence, estimates={**evidence.estimates, **shown})
        open_ = [p for p in self.predictions if not _holds(p, evidence)]
        if open_ or not evidence.estimates:
            return self._verdict(Outcome.INCONCLUSIVE, level, evidence, self._undecided(open_, evidence))
        said = [f"{p} ({evidence.estimates[p.name]})" for p in self.predictions if p.name in evidence.estimates]
        return self._verdict(Outcome.SUPPORTED, level, evidence, "; ".join(said) + ".")

    def _undecided(self, open_: Sequence[Prediction], evidence: Evidence) -> str:
        said = []
        for p in open_:
            if p.name not in evidence.estimates:
                said.append(f"{p.statistic} was not measured")
                continue
            found = evidence.estimates[p.name]
            seen = detectable(found, self.power)
            said.append(
                f"{p.statistic} is {found}, which does not settle {p.direction} {p.margin:g}; with power "
                f"{self.power:g} a truth {seen:.2g} beyond the margin would have been seen"
            )
        return "; ".join(said) + "."

    def _verdict(self, outcome: Outcome, level: float, evidence: Evidence | None, reason: str) -> Verdict:
        change = {
            Outcome.SUPPORTED: f"It would be refuted by: {self.falsifier}",
            Outcome.REFUTED: f"Support would need: {self.prediction}",
            Outcome.VOID: "Nothing is said of the theory until this is mended.",
            Outcome.INCONCLUSIVE: "",
        }[outcome]
        if outcome is Outcome.INCONCLUSIVE and evidence is not None:
            change = self._more(evidence)
        return Verdict(outcome, reason, self.id, level, evidence, change, self.exploratory)

    def _more(self, evidence: Evidence) -> str:
        needed = [
            units_needed(evidence.estimates[p.name], p, self.power)
            for p in self.predictions
            if p.name in evidence.estimates and not _holds(p, evidence)
        ]
        if not needed:
            return "Measure what is missing."
        if None in needed:
            return "What was found neither supports nor refutes: if it is true, no number of units would settle it."
        return f"About {max(n for n in needed if n is not None)} units would settle it if what was found is true."


def _refutes(prediction: Prediction, evidence: Evidence) -> bool:
    found = evidence.estimates.get(prediction.name)
    return found is not None and prediction.contradicted(found)


def _holds(prediction: Prediction, evidence: Evidence) -> bool:
    found = evidence.estimates.get(prediction.name)
    return prediction.optional if found is None else prediction.fulfilled(found)


def _changed(hypothesis: Hypothesis, registered: Registration) -> str:
    return (
        f"{hypothesis.id} is not the {registered.hypothesis} that was registered on {registered.when:%Y-%m-%d %H:%M}: "
        f"its fingerprint is {hypothesis.fingerprint[:12]}, and was {registered.fingerprint[:12]}. "
        "Judge the registered one, or register this one and read new data."
    )


def _other_rule(registered: Registration) -> str:
    if not registered.rule:
        return "(Registered when a class was frozen without the rule; judged by today's.)"
    return f"(Judged by rule {rule_version()}; registered under {registered.rule}.)"

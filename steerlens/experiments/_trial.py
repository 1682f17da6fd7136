"""A trial is determined by its spec, entirely."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field, fields
from typing import Any, final

from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation import KL_BUDGET, STRENGTHS
from steerlens.experiments._canonical import canonical, canonical_json
from steerlens.experiments._option_types import of_type
from steerlens.models._memory import ITEM_BYTES
from steerlens.numerics import Estimate

METRICS = (
    "effect", "kl", "propensity", "effect_per_token", "perplexity_ratio", "displacement",
    "effect_at_budget", "steerability", "anti_slope", "anti_unit",
)  # fmt: skip
"""What can be asked of a trial; see `docs/studies.md`."""

CONTROL_METRICS = ("effect", "kl", "effect_at_budget")
"""What is asked of controls, of which there are many."""

ROLES = ("method", "random", "permuted")
"""What a trial is there for: the method; a random direction as long as the mean shift (as a pair's difference where the
means of the classes agree); the method fitted to pairs with exchanged labels."""


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class TrialSpec:
    """Everything that determines one result, and nothing else: one map at one site, over a grid of strengths.

    Fields are put into one form when a spec is made: 1 and 1.0, −0.0 and 0, tuples and lists, both forms of an accented
    letter, any order of keys, and hyperparameters given or left at their defaults are the same. Specs are equal if
    and only if their fingerprints are. The device is no field: it changes results by rounding only.

    Args:
        model: What `steerlens.load_model` takes.
        revision: Identity of the weights, as `LensModel.revision` says.
        dtype: Precision of the model.
        concept: Name of the concept.
        data: Fingerprint of all its pairs.
        split_seed: Which pairs are for fitting and which for measuring.
        max_pairs: Use at most this many pairs of each part; 0 for all.
        hook_name: Where the map acts.
        tokens: Token selector, as written: ``"LastToken()"``.
        head: Attention head, or None.
        method: Steering method by name.
        options: Its hyperparameters.
        role: One of `ROLES`; of a random direction, ``method`` is ``"RandomShift"``.
        draw: Which of several random draws of a control.
        strengths: Grid; 0 is always in it.
        budget: KL on neutral text, nats per token, at which the effect is read off.
        neutral: Fingerprint of the neutral texts.
        metrics: Which of `METRICS` are computed.
        seed: Of the bootstrap and the controls; of the method where it has one and the options give none.
        code: `code_version` of what computes.
        as_stored: Take the fields as they stand: for a spec read from a store, whose method may be unknown here.

    Raises:
        UnknownNameError: If the dtype, the method, a hyperparameter or a metric does not exist.
        OptionError: If a value is of the wrong kind, out of range, NaN or infinite.
    """

    model: str
    revision: str
    dtype: str
    concept: str
    data: str
    split_seed: int
    max_pairs: int = 0
    hook_name: str
    tokens: str = "LastToken()"
    head: int | None = None
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str = "method"
    draw: int = 0
    strengths: Sequence[float] = STRENGTHS
    budget: float = KL_BUDGET
    neutral: str
    metrics: Sequence[str] = METRICS
    seed: int
    code: str
    as_stored: InitVar[bool] = False

    def __post_init__(self, as_stored: bool) -> None:
        if not as_stored:
            self._complete()
        for f in fields(self):
            object.__setattr__(self, f.name, canonical(getattr(self, f.name), f"the trial's {f.name}"))
        object.__setattr__(self, "_text", canonical_json(asdict(self), "the trial"))

    def _complete(self) -> None:
        """Fill in what was left out, sort what has no order, refuse what makes no trial."""
        from steerlens.experiments._methods import build_method, method_options, seeded_options
        from steerlens.experiments._sites import selector

        _check_kinds(self)
        object.__setattr__(self, "tokens", repr(selector(self.tokens)))
        _check_choices("dtype", (self.dtype,), tuple(ITEM_BYTES))
        _check_choices("role", (self.role,), ROLES)
        _check_choices("metric", self.metrics, METRICS)
        if not 0 < self.budget < float("inf"):
            raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {self.budget}.")
        strengths = canonical(list(self.strengths), "the trial's strengths")
        given = canonical(self.options, "the trial's options")
        options = seeded_options(self.method, given, seed=int(self.seed))
        object.__setattr__(self, "options", method_options(build_method(self.method, options)))
        object.__setattr__(self, "strengths", tuple(sorted({0, *strengths})))
        object.__setattr__(self, "metrics", tuple(m for m in METRICS if m in self.metrics))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of all fields."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        text: str = object.__getattribute__(self, "_text")
        return text

    @classmethod
    def from_json(cls, text: str) -> "TrialSpec":
        """Read what `to_json` wrote, as it stands: nothing is filled in.

        Raises:
            ArtefactError: If it is no spec.
        """
        try:
            return cls(**json.loads(text), as_stored=True)
        except (json.JSONDecodeError, TypeError, OptionError) as error:
            raise ArtefactError(f"This is no trial spec: {error}. Expected what TrialSpec.to_json wrote.") from None

    @property
    def label(self) -> str:
        """The trial in a few words, for people."""
        what = self.method if self.role == "method" else f"{self.role} {self.draw:02d}"
        return f"{what} at {self.hook_name} on {self.concept} in {self.model}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrialSpec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


@final
@dataclass(frozen=True)
class TrialMetric:
    """One number of a trial.

    Args:
        name: One of `METRICS`.
        strength: At which it was measured; None where it is of the whole curve.
        estimate: The number with its interval.
    """

    name: str
    strength: float | None
    estimate: Estimate


@final
@dataclass(frozen=True)
class TrialRecord:
    """What a trial found.

    Args:
        spec: What determined it.
        metrics: Its numbers.
        environment: Versions, machine and date, which change no number by more than rounding.
    """

    spec: TrialSpec
    metrics: tuple[TrialMetric, ...]
    environment: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def metric(self, name: str, *, strength: float | None = None) -> Estimate:
        """The estimate of this name, at a strength where it has one.

        Raises:
            OptionError: If the trial has no such number.
        """
        found = [m.estimate for m in self.metrics if m.name == name and m.strength == strength]
        if not found:
            there = ", ".join(dict.fromkeys(f"{m.name} at {m.strength}" for m in self.metrics))
            raise OptionError(f"{self.spec.label} has no {name!r} at strength {strength}. It has: {there}.")
        return found[0]

    def to_json(self) -> str:
        """One line of JSON."""
        metrics = [{"name": m.name, "strength": m.strength, **asdict(m.estimate)} for m in self.metrics]
        about = canonical(dict(self.environment), "the environment")
        document = {"spec": json.loads(self.spec.to_json()), "metrics": metrics, "environment": about}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "TrialRecord":
        """Read what `to_json` wrote.

        Raises:
            ArtefactError: If it is no record.
        """
        try:
            document = json.loads(line)
            metrics = tuple(
                TrialMetric(row.pop("name"), row.pop("strength"), Estimate(**row)) for row in document["metrics"]
            )
            return cls(TrialSpec.from_json(json.dumps(document["spec"])), metrics, document["environment"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"This is no trial record: {error!r}. Expected what to_json wrote.") from None


def _check_kinds(spec: TrialSpec) -> None:
    """Refuse fields that hold something else than text, numbers, lists and a table, each where it belongs."""
    for f in fields(spec):
        value, where = getattr(spec, f.name), f"the trial's {f.name}"
        if f.type in (str, int, float, int | None):
            of_type(value, f.type, where)
            if f.type is not float and not isinstance(value, str) and value is not None and value < 0:
                raise OptionError(f"{where} must be a whole number from 0 up, but got {value!r}.")
        elif f.name == "options" and not isinstance(value, Mapping):
            raise OptionError(f"{where} must be a table of hyperparameters by name, but got {value!r}.")
        elif f.name != "options":
            kind = tuple[float, ...] if f.name == "strengths" else tuple[str, ...]
            of_type(tuple(value) if isinstance(value, list) else value, kind, where)


def _check_choices(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    from steerlens.errors import UnknownNameError

    for name in given:
        if name not in known:
            raise UnknownNameError(f"{kind} of a trial", name, known)

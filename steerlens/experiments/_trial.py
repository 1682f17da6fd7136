"""A trial is determined by its spec, entirely."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class TrialSpec:
    """Everything that determines one result. Equal specs have equal fingerprints.

    Args:
        model: Name of the model.
        revision: Identity of its weights.
        concept: Name of the concept.
        data: Fingerprint of the pairs that maps were fitted on.
        site: Hook name.
        tokens: Selector, as written.
        method: Steering method with its hyperparameters.
        strength: Strength of the map.
        seed: Of everything random.
    """

    model: str
    revision: str
    concept: str
    data: str
    site: str
    tokens: str
    method: str
    strength: float
    seed: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the fields, normalised: a strength of 1 and of 1.0 are one spec."""
        fields = asdict(self) | {"strength": float(self.strength) + 0.0, "seed": int(self.seed)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@final
@dataclass(frozen=True)
class TrialRecord:
    """What a trial found: metric names to numbers."""

    spec: TrialSpec
    metrics: Mapping[str, float]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"spec": asdict(self.spec), "metrics": dict(self.metrics)}, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> "TrialRecord":
        """Read what `to_json` wrote."""
        document: dict[str, Any] = json.loads(line)
        return cls(TrialSpec(**document["spec"]), document["metrics"])

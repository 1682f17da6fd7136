"""Studies of theories: which are asked, of which model and concepts, and how it is measured."""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from steerlens.concepts import ConceptDataset, Instructions, Split, concept_names, instructions, load_concept
from steerlens.errors import ArtefactError, OptionError, UnknownNameError
from steerlens.evaluation import KL_BUDGET, neutral_texts
from steerlens.theories._catalogue import theory
from steerlens.theories._hypothesis import Hypothesis

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Enough to find where a method meets the budget, and all from 0 upwards."""

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "model": str, "dtype": str, "concepts": list, "layers": list, "theories": list, "strengths": list,
    "budget": (int, float), "n_random": int, "controls": bool, "max_pairs": int, "max_texts": int, "seed": int,
}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class TheoryStudy:
    """What is asked, and of what.

    Args:
        name: For people.
        model: What `steerlens.load_model` takes.
        concepts: Units of replication; each is split by group into pairs to fit on, to choose the layer on, to report.
        layers: Blocks whose output is steered.
        theories: Hypotheses, with different ids.
        dtype: Precision of the model.
        strengths: Grid from 0 upwards, with 0 and 1 in it.
        budget: KL on neutral text, nats per token, at which effects are compared.
        n_random: Random directions at the chosen layer.
        controls: Whether methods are also fitted to exchanged labels, at a wrong layer and to the next concept, the
            first principal component of neutral texts is tried, and a prompt and examples where the concept has them.
        max_pairs: Choose the layer on, and report on, at most this many pairs; 0 for all. Maps are fitted on all.
        max_texts: Use at most this many neutral texts; 0 for all.
        seed: Of splits, bootstrap, networks and random directions.

    Raises:
        OptionError: If something is empty, given twice, or out of range.
    """

    name: str
    model: str
    concepts: tuple[ConceptDataset, ...]
    layers: tuple[int, ...]
    theories: tuple[Hypothesis, ...]
    dtype: str = "float32"
    strengths: tuple[float, ...] = STRENGTHS
    budget: float = KL_BUDGET
    n_random: int = 20
    controls: bool = True
    max_pairs: int = 0
    max_texts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given in (
            ("concepts", [c.name for c in self.concepts]),
            ("layers", list(self.layers)),
            ("theories", [h.id for h in self.theories]),
        ):
            if not given or len(set(given)) < len(given):
                raise OptionError(f"The study {self.name!r} needs {what}, each once, but got {given}.")
        if not {0.0, 1.0} <= set(self.strengths) or min(self.strengths) < 0:
            raise OptionError(f"strengths go from 0 upwards, with 0 and 1, but got {list(self.strengths)}.")
        if not 0 < self.budget < math.inf:
            raise OptionError(f"budget is KL in nats per token, above 0, but got {self.budget}.")
        if min(self.n_random, self.max_pairs, self.seed) < 0:
            raise OptionError("n_random, max_pairs and seed must not be negative.")
        if self.max_texts and self.max_texts < 10:
            raise OptionError(f"max_texts must be 10 or more, 5 for each half, or 0 for all, but got {self.max_texts}.")

    @property
    def texts(self) -> tuple[str, ...]:
        """The neutral texts."""
        return neutral_texts()[: self.max_texts or None]

    def split(self, pairs: ConceptDataset) -> Split:
        """The three parts of a concept. Of too many pairs to measure on every second, third, … is used: groups stay."""
        fit, *measured = pairs.split(seed=self.seed)
        most = self.max_pairs
        return Split(fit, *(p[:: math.ceil(len(p) / most)] if 0 < most < len(p) else p for p in measured))

    def other(self, pairs: ConceptDataset) -> ConceptDataset | None:
        """The concept whose maps are a control for a concept: the next one, and the first for the last."""
        if not self.controls or len(self.concepts) < 2:
            return None
        names = [c.name for c in self.concepts]
        return self.concepts[(names.index(pairs.name) + 1) % len(names)]

    def instructions(self, pairs: ConceptDataset) -> Instructions | None:
        """What to say for and against a concept, if it is built in."""
        return instructions(pairs.name) if self.controls and pairs.name in concept_names() else None

    def conditions(self, pairs: ConceptDataset) -> dict[str, Any]:
        """All that determines one concept's evidence, apart from the code."""
        other = self.other(pairs)
        return {
            "model": self.model,
            "dtype": self.dtype,
            "concept": pairs.name,
            "data": pairs.fingerprint,
            "layers": list(self.layers),
            "theories": {h.id: h.fingerprint for h in self.theories},
            "strengths": list(self.strengths),
            "budget": self.budget,
            "n_random": self.n_random,
            "controls": self.controls,
            "other": other.fingerprint if other else "",
            "max_pairs": self.max_pairs,
            "neutral": hashlib.sha256(json.dumps(self.texts).encode("ascii")).hexdigest(),
            "seed": self.seed,
        }


def load_theory_study(path: str | Path) -> TheoryStudy:
    """Read a study of theories from a TOML file; see ``examples/which_rung/study.toml``.

    Concepts may be names, or paths relative to the file.

    Raises:
        ArtefactError: If the file cannot be read as TOML.
        UnknownNameError: If a key, concept or theory does not exist; names the nearest.
        OptionError: If something is missing, of the wrong kind, or out of range.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArtefactError(f"The study {str(path)!r} cannot be read: {error.strerror}. Give a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not TOML: {error}. See examples/which_rung/study.toml.") from None
    for key, value in document.items():
        if key not in _KINDS:
            raise UnknownNameError("key of a study of theories", key, _KINDS, f"It stands in {path}.")
        if not isinstance(value, _KINDS[key]) or (isinstance(value, bool) and key != "controls"):
            raise OptionError(f"{path}: {key} cannot be {value!r}. See examples/which_rung/study.toml.")
    missing = [k for k in ("model", "concepts", "layers", "theories") if k not in document]
    if missing:
        raise OptionError(f"{path} lacks {', '.join(missing)}. See examples/which_rung/study.toml.")
    return TheoryStudy(**_read(document, path))


def _read(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    read: dict[str, Any] = {"name": path.stem, **document}
    read["concepts"] = tuple(load_concept(_near(str(c), path)) for c in document["concepts"])
    read["theories"] = tuple(theory(str(t)) for t in document["theories"])
    read["layers"] = tuple(document["layers"])
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in read["layers"]):
        raise OptionError(f"{path}: layers must be whole numbers, but got {document['layers']}.")
    if "strengths" in document:
        if not all(isinstance(s, (int, float)) and not isinstance(s, bool) for s in document["strengths"]):
            raise OptionError(f"{path}: strengths must be numbers, but got {document['strengths']}.")
        read["strengths"] = tuple(float(s) for s in document["strengths"])
    return read


def _near(name: str, path: Path) -> str:
    """A path beside the study's file, if there is one; else the name as it is."""
    beside = path.parent / name
    return str(beside) if beside.is_file() else name

"""Running a study of theories concept by concept into a folder, and reading the folder again."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import pandas as pd

from steerlens.concepts import ConceptDataset
from steerlens.errors import ArtefactError, ModelError, OptionError, SteerlensError
from steerlens.evaluation import Comparison, LayerReading
from steerlens.experiments import code_version
from steerlens.models import LensModel
from steerlens.progress import progress
from steerlens.theories._evidence import concept_evidence, records_for
from steerlens.theories._hypothesis import Hypothesis
from steerlens.theories._judge import judge_all
from steerlens.theories._records import tidy
from steerlens.theories._registration import register, registrations
from steerlens.theories._rungs import RungReading, behaviour_rung
from steerlens.theories._study import TheoryStudy
from steerlens.theories._verdict import Verdict

CONCEPTS, EVIDENCE, STUDY, RECORDS = "concepts", "evidence.json", "study.json", "theory-records.parquet"
SCHEMA = "steerlens/theory-evidence/1"


@final
@dataclass(frozen=True, eq=False)
class TheoryEvidence:
    """All that a folder holds of a study of theories.

    Args:
        name: Of the study.
        model: Name of the model.
        records: Columns `THEORY_COLUMNS` and ``layers``, of all concepts; see `ConceptEvidence`.
        comparisons: By concept.
        rungs: What geometry and behaviour ask for, by concept.
        problems: Why a concept has no evidence, by concept.
        facts: How it was measured.
        notes: What could not be had of a concept that was measured, with the reason, by concept.
    """

    name: str
    model: str
    records: pd.DataFrame
    comparisons: Mapping[str, Comparison]
    rungs: tuple[RungReading, ...]
    problems: Mapping[str, str]
    facts: Mapping[str, Any]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def verdicts(self, theories: tuple[Hypothesis, ...], folder: str | Path) -> tuple[Verdict, ...]:
        """Verdicts over hypotheses as they were registered in the folder, under Holm's method.

        One that was registered when a concept had been measured, by the dates of both, is exploratory.

        Args:
            theories: Those of the study.
            folder: Where they were registered.
        """
        of = {h.id: records_for(h, self.records) for h in theories}
        frozen, first = registrations(folder), min(self.measured_when, default="")
        late = {name for name, r in frozen.items() if first and stamp(r.when) > first}
        return judge_all(theories, of, registered=frozen, late=late)

    @property
    def measured_when(self) -> tuple[str, ...]:
        """When each concept's comparison was finished, in UTC and as text, as far as that is known."""
        dates = (str(c.provenance.environment.get("date", "")) for c in self.comparisons.values())
        return tuple(date for date in dates if date)


def stamp(when: datetime) -> str:
    """A time as records have it: UTC, to the minute."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def run_theories(
    study: TheoryStudy, model: LensModel, folder: str | Path, *, when: datetime
) -> tuple[TheoryEvidence, tuple[Verdict, ...]]:
    """Register the hypotheses, measure each concept that is not stored yet, and judge.

    A concept's evidence lies in the folder as soon as it is whole, and is not measured again. A concept that cannot be
    measured (equal means, too few groups) is noted with the reason, and the others go on.

    Args:
        study: What is asked.
        model: Its model.
        folder: Made if it is not there; one of the same study is gone on with.
        when: Time stamp of the registration.

    Raises:
        OptionError: If the folder holds another study.
        ModelError: If it was begun with other weights.
        ArtefactError: If what it holds cannot be read.
    """
    folder = Path(folder)
    check_same_study(study, folder)
    check_same_weights(model, folder)
    register(study.theories, folder, when=when)
    _write(folder / STUDY, {"schema": SCHEMA, "name": study.name, "concepts": [p.name for p in study.concepts],
                            "theories": [h.id for h in study.theories], "conditions": _shared(study),
                            "model": model.name, "revision": model.revision})  # fmt: skip
    with progress(f"theories over {len(study.concepts)} concepts", len(study.concepts)) as advance:
        for pairs in study.concepts:
            if not is_stored(study, pairs, folder):
                _measured_and_stored(study, pairs, model, folder)
            advance(1)
    evidence = load_evidence(folder)
    return evidence, evidence.verdicts(study.theories, folder)


def check_same_study(study: TheoryStudy, folder: Path) -> None:
    """Refuse a folder with evidence under other conditions, before anything is loaded.

    Raises:
        OptionError: If there is such evidence.
    """
    for pairs in study.concepts:
        path = _place(folder, pairs.name) / EVIDENCE
        if path.is_file() and _document(path).get("conditions") != _print(study, pairs):
            raise OptionError(
                f"{path.parent} holds evidence of {pairs.name!r} under other conditions: model, layers, strengths, "
                "data, theories, or the next concept, whose maps are a control, differ. Choose another folder."
            )


def check_same_weights(model: LensModel, folder: Path) -> None:
    """Refuse a folder that was begun with other weights, whatever name they had.

    Raises:
        ModelError: If it was.
    """
    path = folder / STUDY
    known = _document(path).get("revision") if path.is_file() else model.revision
    if known != model.revision:
        raise ModelError(
            f"{model.name!r} has the weights {model.revision!r}, but {folder} was begun with {known!r}. Evidence of "
            "two models is not mixed: choose another folder."
        )


def is_stored(study: TheoryStudy, pairs: ConceptDataset, folder: Path) -> bool:
    """Whether a concept's evidence is whole in the folder."""
    path = _place(folder, pairs.name) / EVIDENCE
    return path.is_file() and _document(path).get("conditions") == _print(study, pairs)


def load_evidence(folder: str | Path) -> TheoryEvidence:
    """Read what `run_theories` stored. Concepts that are not whole yet are among its problems.

    Raises:
        ArtefactError: If the folder holds no study of theories, or a file cannot be read.
    """
    folder = Path(folder)
    about = _document(folder / STUDY)
    frames, comparisons, rungs, problems, notes = [], {}, [], {}, {}
    for name in about["concepts"]:
        place = _place(folder, name)
        if not (place / EVIDENCE).is_file():
            problems[name] = "Not measured yet. Run the study again to go on."
            continue
        found = _document(place / EVIDENCE)
        if found["problem"]:
            problems[name] = str(found["problem"])
            continue
        try:
            frames.append(pd.read_parquet(place / RECORDS))
            comparisons[name] = Comparison.load(place)
            geometry, behaviour = LayerReading(**found["geometry"]), behaviour_rung(comparisons[name])
            rungs.append(RungReading(name, found["layer"], geometry, behaviour))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtefactError(f"{place} cannot be read: {error}. Delete it, and run the study again.") from None
        notes[name] = tuple(str(note) for note in found.get("notes", ()))
    records = pd.concat(frames, ignore_index=True) if frames else tidy().assign(layers="")
    return TheoryEvidence(
        about["name"], about["model"], records, comparisons, tuple(rungs), problems, about["conditions"], notes
    )


def stored_theories(folder: str | Path) -> tuple[str, ...]:
    """Ids of the hypotheses of a stored study.

    Raises:
        ArtefactError: If the folder holds none.
    """
    return tuple(_document(Path(folder) / STUDY)["theories"])


def _measured_and_stored(study: TheoryStudy, pairs: ConceptDataset, model: LensModel, folder: Path) -> None:
    about: dict[str, Any] = {
        "schema": SCHEMA, "conditions": _print(study, pairs), "concept": pairs.name, "code": code_version(),
    }  # fmt: skip
    place = _place(folder, pairs.name)
    shutil.rmtree(place, ignore_errors=True)  # what a killed run left behind
    place.mkdir(parents=True)
    try:
        found = concept_evidence(model, pairs, study)
    except SteerlensError as error:
        _write(place / EVIDENCE, {**about, "problem": f"{type(error).__name__}: {error}"})
        return
    _slim(found.comparison).save(place)
    found.records.to_parquet(place / RECORDS, index=False)
    found.geometry.to_parquet(place / "geometry.parquet", index=False)
    reading = found.reading
    # Last, and at once: where it stands, the rest is whole.
    _write(
        place / EVIDENCE,
        {
            **about, "problem": "", "layer": reading.layer, "geometry": dataclasses.asdict(reading.geometry),
            "behaviour": dataclasses.asdict(reading.behaviour), "notes": list(found.notes),
        },
    )  # fmt: skip


def _slim(found: Comparison) -> Comparison:
    """Without the single questions and texts of controls, which are most of it; their estimates stay."""
    items, texts = (f[f["role"] == "method"].reset_index(drop=True) for f in (found.items, found.texts))
    return dataclasses.replace(found, items=items, texts=texts)


def _place(folder: Path, concept: str) -> Path:
    """A folder that no name of a concept can lead out of."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in concept)
    suffix = "" if plain == concept else "-" + hashlib.sha256(concept.encode()).hexdigest()[:8]
    return folder / CONCEPTS / (plain + suffix)


def _print(study: TheoryStudy, pairs: ConceptDataset) -> str:
    return hashlib.sha256(json.dumps(study.conditions(pairs), sort_keys=True).encode()).hexdigest()


def _shared(study: TheoryStudy) -> dict[str, Any]:
    """Conditions that all concepts share."""
    own = {"concept", "data", "other", "theories", "model"}
    return {k: v for k, v in study.conditions(study.concepts[0]).items() if k not in own}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be read: {error.strerror}. Expected a folder written by `steerlens theory run` to its end."
        ) from None
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}). Delete it, and run the study again.") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ArtefactError(f"{path} is not of schema {SCHEMA!r}. Run the study again in another folder.")
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Under its name only when all of it is on disk."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)

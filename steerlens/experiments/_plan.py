"""What a study will run: trials in units that share their unsteered passes, and what it costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from steerlens.concepts import ConceptDataset, concept_names, load_concept
from steerlens.errors import ModelError, OptionError
from steerlens.evaluation import neutral_texts
from steerlens.experiments._measure import WorkUnit
from steerlens.experiments._store import ResultStore
from steerlens.experiments._study import Study, StudyModel, texts_fingerprint
from steerlens.experiments._trial import TrialSpec
from steerlens.models import ModelDescription, describe, model_revision

UNIT_INTERVENTIONS = 256
"""Most interventions measured in one go. What a killed run loses is at most one unit; an unsteered pass more for every
256 steered ones costs nothing that shows."""

UNKNOWN = "unknown until loaded"


@final
@dataclass(frozen=True, eq=False)
class ModelPlan:
    """One model's part of a plan.

    Args:
        model: What is loaded.
        trials: All its trials; where the revision is not known before loading, it is not the final one.
        pending: Those that are not stored.
        description: Its shape; None if that cannot be known.
        problem: Why it cannot run; empty if it can.
        study: Makes the trials anew once the revision is known; None for a list of trials.
    """

    model: StudyModel
    trials: tuple[TrialSpec, ...]
    pending: tuple[TrialSpec, ...]
    description: ModelDescription | None
    problem: str = ""
    study: Study | None = None

    @property
    def n_trials(self) -> int:
        """Trials, stored or not; of a model whose shape is not known, as many as the study asks for."""
        return len(self.trials) if self.trials or self.study is None else self.study.n_trials()

    @property
    def needed_bytes(self) -> int | None:
        """Estimate of the memory to run the model; None if its shape is not known."""
        return None if self.description is None else self.description.needed_bytes(self.model.dtype)


@final
@dataclass(frozen=True, eq=False)
class StudyPlan:
    """What will run, model after model.

    Args:
        name: Of the study.
        models: In the order in which they are loaded.
        concepts: By fingerprint.
        texts: Neutral texts, by fingerprint.
    """

    name: str
    models: tuple[ModelPlan, ...]
    concepts: Mapping[str, ConceptDataset] = field(repr=False)
    texts: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def n_trials(self) -> int:
        """Trials, stored or not."""
        return sum(m.n_trials for m in self.models)

    @property
    def n_pending(self) -> int:
        """Trials to run, of models that can."""
        return sum(len(m.pending) for m in self.models if not m.problem)

    def units(self, trials: Iterable[TrialSpec]) -> list[WorkUnit]:
        """Trials of one model, grouped by what they share: concept, split, texts.

        Each unit costs one unsteered pass over each of its prompts.
        """
        units = []
        for (data, _, _, neutral), group in _grouped(trials).items():
            units += [WorkUnit(chunk, self.concepts[data], self.texts[neutral]) for chunk in _chunks(group)]
        return units


@final
@dataclass(frozen=True)
class UnitCost:
    """Passes that a unit needs.

    Args:
        whole: Unsteered passes over questions and texts, and passes that only read activations.
        resumed: Steered passes, each from the block where the map acts.
    """

    whole: int
    resumed: int


def unit_cost(unit: WorkUnit) -> UnitCost:
    """Passes that a unit needs, counting each question's continuations as one."""
    fit, test = unit.parts
    prompts = len(test.questions) + len(unit.texts)
    return UnitCost(whole=prompts + 2 * (len(fit) + len(test)), resumed=prompts * unit.n_interventions)


def plan_study(study: Study, store: ResultStore) -> StudyPlan:
    """What of a study is still to be run; loads no model. Finished trials whose line was lost are put back first.

    Raises:
        UnknownNameError: If a model's name is not understood.
    """
    store.put_back()
    models = tuple(_planned(study, model, store) for model in study.models)
    texts = {texts_fingerprint(study.texts): study.texts}
    return StudyPlan(study.name, models, {pairs.fingerprint: pairs for pairs in study.concepts}, texts)


def plan_trials(
    specs: Sequence[TrialSpec],
    store: ResultStore,
    *,
    concepts: Sequence[ConceptDataset] = (),
    texts: Sequence[str] = (),
    name: str = "trials",
) -> StudyPlan:
    """The same for a list of trials.

    Args:
        specs: What to run; repeated ones run once.
        store: What is stored already.
        concepts: Data sets that are not built in.
        texts: Neutral texts, if not the bundled ones or the first of them.
        name: For people.

    Raises:
        OptionError: If data or texts of a trial are not among those given or bundled.
    """
    store.put_back()
    by_model: dict[StudyModel, list[TrialSpec]] = {}
    for spec in dict.fromkeys(specs):
        by_model.setdefault(StudyModel(spec.model, spec.dtype, _asked(spec)), []).append(spec)
    models = tuple(_part(model, tuple(trials), store, None) for model, trials in by_model.items())
    return StudyPlan(name, models, _data_of(specs, concepts), _texts_of(specs, tuple(texts)))


def _planned(study: Study, model: StudyModel, store: ResultStore) -> ModelPlan:
    try:
        n_layers = describe(model.name).n_layers
        revision = model_revision(model.name, revision=model.revision)
        trials = study.trials(model, revision=revision or UNKNOWN, n_layers=n_layers)
    except (ModelError, OptionError) as error:
        return ModelPlan(model, (), (), None, str(error), study)
    return _part(model, trials, store, study)


def _part(model: StudyModel, trials: tuple[TrialSpec, ...], store: ResultStore, study: Study | None) -> ModelPlan:
    pending = tuple(spec for spec in trials if spec not in store)
    try:
        return ModelPlan(model, trials, pending, describe(model.name), study=study)
    except ModelError as error:
        return ModelPlan(model, trials, pending, None, str(error), study)


def _grouped(trials: Iterable[TrialSpec]) -> dict[tuple[str, int, int, str], list[TrialSpec]]:
    groups: dict[tuple[str, int, int, str], list[TrialSpec]] = {}
    for spec in trials:
        groups.setdefault((spec.data, spec.split_seed, spec.max_pairs, spec.neutral), []).append(spec)
    return groups


def _chunks(group: Sequence[TrialSpec]) -> list[tuple[TrialSpec, ...]]:
    """In order, each of at most `UNIT_INTERVENTIONS` interventions, or one trial."""
    chunks: list[list[TrialSpec]] = [[]]
    for spec in group:
        if chunks[-1] and sum(len(s.strengths) - 1 for s in (*chunks[-1], spec)) > UNIT_INTERVENTIONS:
            chunks.append([])
        chunks[-1].append(spec)
    return [tuple(chunk) for chunk in chunks if chunk]


def _asked(spec: TrialSpec) -> str | None:
    """The commit of a hub model, to load exactly what the spec says."""
    kind, _, rest = spec.revision.partition(":")
    return rest.rpartition("@")[2] if kind == "hub" else None


def _data_of(specs: Sequence[TrialSpec], given: Sequence[ConceptDataset]) -> dict[str, ConceptDataset]:
    known = {pairs.fingerprint: pairs for pairs in given}
    for spec in specs:
        if spec.data not in known and spec.concept in concept_names():
            pairs = load_concept(spec.concept)
            known[pairs.fingerprint] = pairs
        if spec.data not in known:
            raise OptionError(
                f"The data of {spec.label} (fingerprint {spec.data[:12]}) is neither built in nor given. "
                "Pass it in concepts=."
            )
    return known


def _texts_of(specs: Sequence[TrialSpec], given: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    known = {texts_fingerprint(given): given} if given else {}
    wanted = {spec.neutral for spec in specs} - set(known)
    bundled = neutral_texts()
    for n in range(1, len(bundled) + 1) if wanted else ():
        known[texts_fingerprint(bundled[:n])] = bundled[:n]
    for spec in specs:
        if spec.neutral not in known:
            raise OptionError(f"The neutral texts of {spec.label} are not the bundled ones. Pass them in texts=.")
    return known

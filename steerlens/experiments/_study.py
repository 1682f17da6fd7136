"""Studies: many trials, said in one small file."""

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, final

from steerlens.activations import Site
from steerlens.concepts import ConceptDataset, load_concept
from steerlens.errors import ArtefactError, EstimateError, OptionError, UnknownNameError
from steerlens.evaluation import KL_BUDGET, STRENGTHS, neutral_texts
from steerlens.experiments._canonical import canonical, canonical_json
from steerlens.experiments._code import code_version
from steerlens.experiments._methods import build_method, method_options, seeded_options
from steerlens.experiments._sites import selector
from steerlens.experiments._trial import CONTROL_METRICS, METRICS, TrialSpec
from steerlens.interventions import OutputMethod

DTYPES = ("float32", "bfloat16", "float16", "float64")
STREAMS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@final
@dataclass(frozen=True)
class StudyModel:
    """A model of a study.

    Args:
        name: What `steerlens.load_model` takes.
        dtype: Precision.
        revision: Branch, tag or commit, for hub names only.
        called: Its name in trials, if not ``name``: a model beside a study's file is loaded by its whole path, and
            called as the file calls it, so that trials are the same wherever the study is started.
    """

    name: str
    dtype: str = "float32"
    revision: str | None = None
    called: str | None = None


@final
@dataclass(frozen=True)
class StudyMethod:
    """A method of a study.

    Args:
        name: As `steerlens maps` lists it.
        options: Hyperparameters that differ from their defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """Every model × concept × split × site × method × seed, with random directions beside them.

    Args:
        name: For people.
        models: What is steered.
        concepts: What it is steered towards.
        methods: How.
        layers: Blocks; or
        depths: places from 0 (the first block) to 1 (the last), for models of several sizes.
        stream: One of `STREAMS`: where in the block.
        tokens: Token selector, such as ``"LastToken"``.
        strengths: Grid, with 0 and 1 in it.
        budget: KL on neutral text, nats per token, at which effects are read off.
        splits: Seeds of the split into pairs to fit on, to select with and to measure on.
        seeds: Of bootstrap, controls, and methods that draw.
        n_random: Random directions at every site, each as long as the mean shift there; where the classes' means agree
            up to rounding, as long as the pairs' differences are on average.
        n_permuted: Fits of each method to pairs with exchanged labels, at every site.
        max_pairs: Use at most this many pairs of each part; 0 for all.
        max_texts: Use at most this many neutral texts; 0 for all.
        metrics: Which of `METRICS`.

    Raises:
        OptionError: If something is empty, out of range, or given twice with the same hyperparameters.
        UnknownNameError: If a method, hyperparameter, selector, stream or metric does not exist.
        EstimateError: If a concept has too few groups for an interval.
    """

    name: str
    models: tuple[StudyModel, ...]
    concepts: tuple[ConceptDataset, ...]
    methods: tuple[StudyMethod, ...]
    layers: tuple[int, ...] = ()
    depths: tuple[float, ...] = ()
    stream: str = "resid_post"
    tokens: str = "LastToken()"
    strengths: tuple[float, ...] = STRENGTHS
    budget: float = KL_BUDGET
    splits: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    n_random: int = 20
    n_permuted: int = 0
    max_pairs: int = 0
    max_texts: int = 0
    metrics: tuple[str, ...] = METRICS

    def __post_init__(self) -> None:
        _check_lists(self)
        _check_numbers(self)
        _check_names(self)
        _check_repeats(self)
        for pairs, seed in itertools.product(self.concepts, self.splits):
            n = len(pairs.split(seed=seed).test[: self.max_pairs or None].groups)
            if n < 5:
                raise EstimateError(
                    f"An interval needs at least 5 groups of pairs, but of {pairs.name!r} {n} would be measured on. "
                    "Raise max_pairs, or leave the concept out."
                )

    @property
    def texts(self) -> tuple[str, ...]:
        """The neutral texts."""
        return neutral_texts()[: self.max_texts or None]

    def n_trials(self) -> int:
        """Trials of each model."""
        data = len(self.concepts) * len(self.splits)
        at_site = len(self.methods) * (1 + self.n_permuted) + self.n_random
        return data * len(self.layers or self.depths) * len(self.seeds) * at_site

    def trials(self, model: StudyModel, *, revision: str, n_layers: int) -> tuple[TrialSpec, ...]:
        """All trials of one model.

        Args:
            model: One of the study's.
            revision: Identity of its weights, as `LensModel.revision` says.
            n_layers: Its blocks.

        Raises:
            OptionError: If it has no such block.
        """
        sites = [getattr(Site, self.stream)(n, selector(self.tokens)) for n in self._blocks(model, n_layers)]
        return tuple(
            TrialSpec(
                model=model.called or model.name, revision=revision, dtype=model.dtype, concept=pairs.name,
                data=pairs.fingerprint, split_seed=split, max_pairs=self.max_pairs, hook_name=site.hook_name,
                tokens=repr(site.tokens),
                strengths=self.strengths if about["role"] == "method" else [s for s in self.strengths if s >= 0],
                budget=self.budget, neutral=texts_fingerprint(self.texts), seed=seed, code=code_version(), **about,
            )
            for pairs, split, site, seed in itertools.product(self.concepts, self.splits, sites, self.seeds)
            for about in self._arms()
        )  # fmt: skip

    def _arms(self) -> Iterator[dict[str, Any]]:
        """What is tried at each site: methods, then their controls."""
        controls = [m for m in CONTROL_METRICS if m in self.metrics]
        for method in self.methods:
            yield {"method": method.name, "options": method.options, "role": "method", "metrics": self.metrics}
        for method, draw in itertools.product(self.methods, range(self.n_permuted)):
            if not isinstance(build_method(method.name, method.options), OutputMethod):
                yield {"method": method.name, "options": method.options, "role": "permuted", "draw": draw,
                       "metrics": controls}  # fmt: skip
        for draw in range(self.n_random):
            yield {"method": "RandomShift", "role": "random", "draw": draw, "metrics": controls}

    def _blocks(self, model: StudyModel, n_layers: int) -> list[int]:
        outside = [n for n in self.layers if n >= n_layers]
        if outside:
            raise OptionError(
                f"{model.name!r} has blocks 0 to {n_layers - 1}, but the study asks for {outside[0]}. Give depths, "
                "from 0 to 1, for models of several sizes."
            )
        return list(dict.fromkeys(self.layers or [round(d * (n_layers - 1)) for d in self.depths]))


def load_study(path: str | Path) -> Study:
    """Read a study from a TOML file; see ``examples/study.toml``.

    Concepts and models may be names, or paths relative to the file.

    Raises:
        ArtefactError: If the file cannot be read as TOML; names line and column.
        UnknownNameError: If a key, concept, method or other name does not exist; names the nearest.
        OptionError: If something is missing or of the wrong kind.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ArtefactError(f"The study {str(path)!r} cannot be read: {error.strerror}. Give a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not TOML: {error}. See examples/study.toml.") from None
    known = {f.name for f in fields(Study)}
    for key in document:
        if key not in known:
            raise UnknownNameError("key of a study", key, known, f"It stands in {path}.")
    missing = [key for key in ("models", "concepts", "methods") if key not in document]
    if missing:
        raise OptionError(f"{path} lacks {', '.join(missing)}. See examples/study.toml.")
    return Study(**_read_fields(document, path))


def texts_fingerprint(texts: Sequence[str]) -> str:
    """SHA-256 of texts, in order."""
    return hashlib.sha256(json.dumps(list(texts)).encode("ascii")).hexdigest()


def _read_fields(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a study from its document, lists as tuples."""
    read: dict[str, Any] = {"name": path.stem}
    for key, value in document.items():
        if key in ("name", "stream", "tokens"):
            read[key] = _of_kind(value, str, key, path)
        elif key in ("n_random", "n_permuted", "max_pairs", "max_texts"):
            read[key] = _of_kind(value, int, key, path)
        elif key == "budget":
            read[key] = float(_of_kind(value, (int, float), key, path))
        else:
            read[key] = tuple(_of_kind(value, list, key, path))
    read["models"] = tuple(_model(one, path) for one in read["models"])
    read["methods"] = tuple(_method(one, path) for one in read["methods"])
    read["concepts"] = tuple(
        load_concept(_near(_of_kind(one, str, "concepts", path), path)) for one in read["concepts"]
    )
    for key in ("layers", "splits", "seeds"):
        if key in read:
            read[key] = tuple(_of_kind(n, int, key, path) for n in read[key])
    for key in ("depths", "strengths"):
        if key in read:
            read[key] = tuple(float(_of_kind(n, (int, float), key, path)) for n in read[key])
    return read


def _model(given: object, path: Path) -> StudyModel:
    known = {f.name for f in fields(StudyModel)} - {"called"}
    table = _table({"name": given} if isinstance(given, str) else given, known, "model", path)
    for key, value in table.items():
        _of_kind(value, str, f"models.{key}", path)
    name = _near(table["name"], path)
    return StudyModel(**{**table, "name": name, "called": None if name == table["name"] else table["name"]})


def _method(given: object, path: Path) -> StudyMethod:
    if isinstance(given, str):
        return StudyMethod(given)
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise OptionError(
            f'{path}: a method is a name, or a table such as {{name = "LowRankAffine", rank = 2}}; got {given!r}.'
        )
    return StudyMethod(given["name"], {k: v for k, v in given.items() if k != "name"})


def _table(given: object, known: set[str], what: str, path: Path) -> dict[str, Any]:
    if not isinstance(given, dict) or "name" not in given:
        raise OptionError(f"{path}: a {what} is a name, or a table with a name; got {given!r}.")
    for key in given:
        if key not in known:
            raise UnknownNameError(f"key of a {what} in a study", key, known, f"It stands in {path}.")
    return given


def _near(name: str, path: Path) -> str:
    """The whole path of what lies beside the study's file, if it is there; else the name as it is."""
    beside = path.parent / name
    return str(beside.resolve()) if beside.exists() else name


def _of_kind(value: object, kind: type | tuple[type, ...], key: str, path: Path) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise OptionError(f"{path}: {key} must be {names}, but got {value!r}.")
    return value


def _check_lists(study: Study) -> None:
    for key in ("models", "concepts", "methods", "strengths", "splits", "seeds", "metrics"):
        if not getattr(study, key):
            raise OptionError(f"The study {study.name!r} needs at least one of {key}.")
    if bool(study.layers) == bool(study.depths):
        raise OptionError(f"The study {study.name!r} needs either layers or depths, and not both.")
    names = [pairs.name for pairs in study.concepts]
    if len(set(names)) < len(names):
        raise OptionError(f"The concepts of the study {study.name!r} must have different names, but got {names}.")


def _check_numbers(study: Study) -> None:
    if not {0.0, 1.0} <= set(study.strengths) or not all(math.isfinite(s) for s in study.strengths):
        raise OptionError(f"strengths must be finite and include 0 and 1, but got {list(study.strengths)}.")
    if min((*study.layers, *study.splits, *study.seeds, study.n_random, study.n_permuted, study.max_pairs)) < 0:
        raise OptionError("layers, splits, seeds, n_random, n_permuted and max_pairs must not be negative.")
    if not all(0 <= d <= 1 for d in study.depths):
        raise OptionError(f"depths go from 0 (the first block) to 1 (the last), but got {list(study.depths)}.")
    if not 0 < study.budget < math.inf:
        raise OptionError(f"A KL budget must be positive and finite (nats per token), but got {study.budget}.")
    if study.max_texts < 0 or 0 < study.max_texts < 5:
        raise OptionError(f"max_texts must be 5 or more, or 0 for all, but got {study.max_texts}.")


def _check_names(study: Study) -> None:
    for model in study.models:
        if model.dtype not in DTYPES:
            raise UnknownNameError(f"dtype of {model.name!r}", model.dtype, DTYPES)
    for method in study.methods:
        build_method(method.name, method.options)
    if study.stream not in STREAMS:
        raise UnknownNameError("stream", study.stream, STREAMS)
    for metric in study.metrics:
        if metric not in METRICS:
            raise UnknownNameError("metric", metric, METRICS)
    selector(study.tokens)


def _check_repeats(study: Study) -> None:
    """Refuse what would be measured twice: the same trials, whatever was left at its default."""
    numbers = {key: [(n, f"{n}") for n in getattr(study, key)] for key in ("layers", "depths", "splits", "seeds")}
    _refuse_repeats(
        "models", [((m.name, m.dtype, m.revision or "main"), m.called or m.name) for m in study.models], study
    )
    for key, entries in numbers.items():
        _refuse_repeats(key, entries, study)
    for seed in study.seeds:
        _refuse_repeats("methods", [(_whole_options(m, seed), m.name) for m in study.methods], study)


def _whole_options(method: StudyMethod, seed: int) -> tuple[str, str]:
    """A method's name and all its hyperparameters, as in its trials."""
    given = canonical(method.options, f"the options of {method.name}")
    built = build_method(method.name, seeded_options(method.name, given, seed=seed))
    return method.name, canonical_json(method_options(built), f"the options of {method.name}")


def _refuse_repeats(key: str, entries: Sequence[tuple[Hashable, str]], study: Study) -> None:
    same = [one for one, _ in entries]
    repeated = dict.fromkeys(name for one, name in entries if same.count(one) > 1)
    if repeated:
        raise OptionError(
            f"The study {study.name!r} has {', '.join(repeated)} more than once in {key}, with all defaults filled in. "
            "The same trials would be measured again: name each once."
        )

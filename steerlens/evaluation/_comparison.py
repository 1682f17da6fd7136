"""The outcome of a comparison of steering methods: tables, samples, and what they were made from."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, final

import pandas as pd

from steerlens.errors import ArtefactError, OptionError
from steerlens.evaluation._record_check import check_items, check_numbers, check_ordered, check_range, check_texts
from steerlens.evaluation._reliability import SCORE_RESOLUTION
from steerlens.numerics import Estimate

SCHEMA = "steerlens/comparison/3"
EARLIER = "steerlens/comparison/2"
"""What is read, too: without displacements, numbers of continuations' tokens, documents of texts, and strengths chosen
on the selection half; effects at the budget are interpolated between those tried."""

RECORD_COLUMNS = (
    "split", "role", "family", "method", "site", "layer", "strength", "metric",
    "value", "low", "high", "level", "n", "n_clusters", "interval",
)  # fmt: skip
"""One row is one estimate. ``role`` is ``method``, ``random``, another negative control (``neutral direction``; or
``permuted``, ``wrong layer``, ``other concept``, where ``method`` begins with the method's name), ``text`` (a prompt,
or examples in it: no site, layer −1) or ``fine-tuned`` (the weights changed: no site). ``split`` is ``select`` or
``test``. ``area`` (under the frontier, up to the budget, in nats) and ``unmoved`` (share of questions without a slope)
are of all strengths, and stand at the one that meets the budget."""

HEADLINE_COLUMNS = (
    "family", "method", "site", "layer", "budget", "reached", "strength", "kl",
    "effect", "effect_low", "effect_high", "n", "n_clusters",
    "steerability", "steerability_low", "steerability_high",
    "anti_slope", "anti_slope_low", "anti_slope_high",
    "anti_unit", "anti_unit_low", "anti_unit_high",
    "perplexity_ratio", "perplexity_ratio_low", "perplexity_ratio_high", "displacement",
    "random_low", "random_high", "random_n", "random_reached", "z", "n_tried",
)  # fmt: skip
"""One row is one method at the site chosen for all on the selection half, measured on the test half. ``strength`` was
chosen on the selection half's neutral texts, where ``reached`` says whether it meets the budget; ``kl`` and ``effect``
are measured at it. ``random_reached`` of the ``random_n`` directions meet the budget; where it is fewer, their range is
that of a smaller dose, and ``z`` too large."""

DOSE_COLUMNS = ("role", "method", "site", "layer", "budget", "strength", "kl_select", "kl", "reached")
"""One row is one arm: the strength chosen for the budget on the selection half's neutral texts, its KL there and on the
test half's, nats per token, and whether the budget was met there, to a hundredth."""

CONTRAST_COLUMNS = (
    "method", "reference", "difference", "low", "high", "level", "n", "n_clusters", "p_value", "p_holm", "detectable",
)  # fmt: skip
"""One row is the paired difference of two methods' effects at the same budget. ``difference`` and its interval are of
the mean over questions: a group counts by its questions. ``p_value`` is that of the sign-flip test over groups,
``p_holm`` the same adjusted for all rows of the table. ``detectable`` is the difference that so many groups would show
with a power of 0.8 at level 0.05. These three are of group means: every group counts once, whatever its size."""

ITEM_COLUMNS = (
    "role", "arm", "strength", "question", "group", "side", "positive", "negative", "n_positive", "n_negative",
)  # fmt: skip
"""One row is one question of the test half under one arm and strength; ``positive`` and ``negative`` are the
log-probabilities, in nats, of its two continuations, ``n_positive`` and ``n_negative`` their tokens (NaN where an
earlier version stored none). Propensity is the difference of the log-probabilities."""

TEXT_COLUMNS = ("role", "arm", "strength", "text", "kl", "nll", "n_tokens", "document")
"""One row is one neutral text under one arm and strength; ``kl`` and ``nll`` are sums over its ``n_tokens`` tokens, and
texts of one ``document`` are resampled together."""

DISPLACEMENT_COLUMNS = ("role", "arm", "strength", "row", "group", "moved", "norm")
"""One row is one held-out source activation under one method and strength: how far it is moved, and its own length."""

SAMPLE_COLUMNS = ("method", "family", "site", "layer", "question", "group", "side", "strength", "propensity")
"""One row is one question under one method and strength, on the test half."""

RecordPlace = tuple[str, str, str, str, str, int]
"""The first columns of a record: split, role, family, method, site, layer."""

_TABLES = {
    "records": RECORD_COLUMNS,
    "headline": HEADLINE_COLUMNS,
    "contrasts": CONTRAST_COLUMNS,
    "items": ITEM_COLUMNS,
    "texts": TEXT_COLUMNS,
    "doses": DOSE_COLUMNS,
    "displacements": DISPLACEMENT_COLUMNS,
}


@final
@dataclass(frozen=True)
class Generation:
    """A text the model wrote, steered (``strength`` ≠ 0) or not."""

    prompt: str
    method: str
    layer: int
    strength: float
    text: str


@final
@dataclass(frozen=True)
class Provenance:
    """What a comparison was made from, and how to make it again.

    Args:
        question: The question in one sentence.
        model: Facts of the model: name, revision, layers, width, parameters, dtype.
        concept: Facts of the data: name, description, source, licence, fingerprint, pairs and groups per split.
        settings: Sites, strengths, budget, seeds, number of random directions, token selector.
        command: The shell command or call that repeats it.
        environment: Versions, date, machine, seconds taken.
    """

    question: str
    model: Mapping[str, Any]
    concept: Mapping[str, Any]
    settings: Mapping[str, Any]
    command: str
    environment: Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False)
class Comparison:
    """Steering methods compared at one budget of side effects.

    ``records``, ``headline``, ``contrasts``, ``items``, ``texts`` and ``doses`` are data frames with the columns named
    in this module; effects are in nats (change of the log-odds of the positive over the negative continuation), KL in
    nats per token of neutral text. Every estimate of the test half follows from ``items``, ``texts`` and
    ``displacements`` (columns `DISPLACEMENT_COLUMNS`); those of the selection half are kept as estimates alone.
    """

    provenance: Provenance
    records: pd.DataFrame
    headline: pd.DataFrame
    contrasts: pd.DataFrame
    items: pd.DataFrame
    texts: pd.DataFrame
    generations: tuple[Generation, ...] = field(default=())
    doses: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(DOSE_COLUMNS)))
    displacements: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(DISPLACEMENT_COLUMNS)))

    @property
    def samples(self) -> pd.DataFrame:
        """The methods' items as propensities, columns `SAMPLE_COLUMNS`."""
        own = self.items[self.items["role"] == "method"]
        where = self.headline[["method", "family", "site", "layer"]].drop_duplicates("method")
        found = own.rename(columns={"arm": "method"}).merge(where, on="method", how="inner", validate="many_to_one")
        return found.assign(propensity=found["positive"] - found["negative"])[list(SAMPLE_COLUMNS)]

    @property
    def best_doses(self) -> pd.DataFrame:
        """Each method at its own best strength: chosen by effect on the selection half, measured on the test half.

        Columns ``method``, ``strength``, ``effect``, ``low``, ``high``, ``kl`` (nats per token, whatever it is), ``n``
        and ``n_clusters``; no row without a selection half.
        """
        test = self.records[(self.records["split"] == "test") & (self.records["role"] == "method")]
        at = test[test["metric"] == "effect_at_best"].rename(columns={"value": "effect"})
        kl = test[test["metric"] == "kl"].rename(columns={"value": "kl"})[["method", "strength", "kl"]]
        found = at.merge(kl, on=["method", "strength"], how="left", validate="one_to_one")
        return found[["method", "strength", "effect", "low", "high", "kl", "n", "n_clusters"]]

    @property
    def resolution(self) -> float:
        """What propensities are known to, in nats, by the model's precision; one that is not stated counts as float32.

        See `SCORE_RESOLUTION`.
        """
        return SCORE_RESOLUTION[str(self.provenance.model.get("dtype") or "float32")]

    @property
    def grid(self) -> tuple[float, ...]:
        """The strengths planned for every method; others were added to meet the budget. Of no known plan, all."""
        planned = self.provenance.settings.get("strengths") or sorted(self.items["strength"].unique())
        return tuple(float(s) for s in planned)

    def to_frame(self) -> pd.DataFrame:
        """Every estimate as one row, in long form (columns `RECORD_COLUMNS`)."""
        return self.records.copy()

    def plot(self) -> Any:
        """Figure of propensity curves and of effect against KL; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_comparison(self)

    def _repr_html_(self) -> str:
        return str(import_module("steerlens.reports").comparison_html(self))

    def __repr__(self) -> str:
        if self.headline.empty:
            return "Comparison of no methods"
        best = self.headline.sort_values("effect", ascending=False).iloc[0]
        return (
            f"Comparison of {len(self.headline)} methods on {self.provenance.concept.get('name')!r} in "
            f"{self.provenance.model.get('name')!r}; largest effect at the budget: {best['method']} "
            f"{best['effect']:.3g} [{best['effect_low']:.3g}, {best['effect_high']:.3g}] nats"
        )

    def save(self, folder: str | Path) -> Path:
        """Write the tables as Parquet and the rest as ``comparison.json`` into ``folder``.

        Raises:
            OptionError: If the folder cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{str(folder)!r} cannot be made a folder: {error.strerror}. Choose another.") from None
        for name in _TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)
        document = {
            "schema": SCHEMA,
            "provenance": asdict(self.provenance),
            "generations": [asdict(g) for g in self.generations],
        }
        (folder / "comparison.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read what `save` wrote, now or before strengths were chosen on the selection half.

        Numbers are checked: all are finite (but for where a method stands among random directions, which may not have
        been measured), intervals are ordered, shares and p-values within [0, 1], and no record stands there twice.

        Raises:
            ArtefactError: If a file is missing, malformed, or of another schema, or holds numbers that cannot be.
        """
        folder = Path(folder)
        document = _read_document(folder)
        frames = _read_earlier(folder) if document["schema"] == EARLIER else _read_tables(folder, _TABLES)
        for name, check in _CHECKS.items():
            if len(frames[name]):
                check(frames[name], str(folder / f"{name}.parquet"))
        try:
            provenance = Provenance(**document["provenance"])
            generations = tuple(Generation(**g) for g in document["generations"])
        except (KeyError, TypeError) as error:
            raise ArtefactError(
                f"{folder / 'comparison.json'} lacks or misnames a field ({error}). Run the comparison again."
            ) from None
        return cls(provenance=provenance, generations=generations, **frames)


def _check_records(frame: pd.DataFrame, where: str) -> None:
    check_numbers(frame, ("layer", "strength", "value", "low", "high", "level", "n", "n_clusters"), where)
    check_ordered(frame, "low", "high", where)
    check_range(frame, "level", 0, 1, where)
    check_range(frame, "n_clusters", 1, float("inf"), where)
    check_ordered(frame, "n_clusters", "n", where)


def _check_headline(frame: pd.DataFrame, where: str) -> None:
    text = ("family", "method", "site", "reached")
    check_numbers(frame, tuple(c for c in HEADLINE_COLUMNS if c not in (*text, *_MAY_LACK)), where)
    for name in _MAY_LACK:
        check_numbers(frame[frame[name].notna()], (name,), where)
    check_ordered(frame, "random_low", "random_high", where)
    for name in ("effect", "steerability", "anti_slope", "anti_unit", "perplexity_ratio"):
        check_ordered(frame, f"{name}_low", f"{name}_high", where)
    for name in ("anti_slope", "anti_unit"):
        check_range(frame, name, 0, 1, where)
    for name in ("budget", "perplexity_ratio", "displacement"):
        check_range(frame, name, 0, float("inf"), where)


def _check_contrasts(frame: pd.DataFrame, where: str) -> None:
    check_numbers(frame, CONTRAST_COLUMNS[2:], where)
    check_ordered(frame, "low", "high", where)
    for name in ("p_value", "p_holm"):
        check_range(frame, name, 0, 1, where)


_MAY_LACK = ("random_reached", "random_low", "random_high", "z")
"""Columns of the headline that are NaN where there are too few random directions to say."""

_CHECKS: Mapping[str, Callable[[pd.DataFrame, str], None]] = {
    "records": _check_records,
    "headline": _check_headline,
    "contrasts": _check_contrasts,
    "items": check_items,
    "texts": check_texts,
}


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / "comparison.json"
    try:
        document = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(
            f"{folder} has no comparison.json. Expected a folder written by `steerlens demo` or `steerlens compare`."
        ) from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}. Expected a file.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}). Run the comparison again.") from None
    if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, EARLIER):
        given = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise ArtefactError(
            f"{path} has schema {given!r}, but this version of steerlens reads {SCHEMA!r} and {EARLIER!r}."
        )
    made_from = document.get("provenance")
    for part in ("model", "concept", "settings", "environment"):
        if isinstance(made_from, dict) and not isinstance(made_from.get(part, {}), dict):
            raise ArtefactError(
                f"{path}: provenance.{part} should be an object, but is {made_from[part]!r:.40}. Compare again."
            )
    return document


def _read_tables(folder: Path, tables: Mapping[str, tuple[str, ...]]) -> dict[str, pd.DataFrame]:
    return {name: read_frame(folder / f"{name}.parquet", wanted) for name, wanted in tables.items()}


def _read_earlier(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of the schema before, with what they lack: no chosen strengths and no displacements.

    Random directions that reached the budget are counted.

    There a direction reached the budget where it cost as much at any strength; NaN where these costs were not kept.
    """
    tables = {
        name: tuple(c for c in of if c != "random_reached")
        for name, of in _TABLES.items()
        if name not in ("doses", "displacements")
    }
    frames = _read_tables(folder, tables)
    head, r = frames["headline"], frames["records"]
    cost = r[(r["split"] == "test") & (r["role"] == "random") & (r["metric"] == "kl")]
    counts = []
    for site, budget in zip(head["site"], head["budget"], strict=True):
        most = cost[cost["site"] == site].groupby("method")["value"].max()
        counts.append(float((most >= budget).sum()) if len(most) else float("nan"))
    frames["headline"] = head.assign(random_reached=counts)[list(HEADLINE_COLUMNS)]
    return frames


def read_frame(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A stored table that must have these columns.

    Raises:
        ArtefactError: If it is missing, unreadable, or lacks one.
    """
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing. Run the comparison again.") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path} is not a readable Parquet file ({error}).") from None
    frame = with_later_columns(frame, columns)
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise ArtefactError(f"{path} lacks the columns {', '.join(missing)}. Run the comparison again.")
    return frame


def with_later_columns(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table with columns that earlier versions did not store: tokens unknown, each text its own document."""
    absent = [c for c in columns if c not in frame.columns]
    unknown = {c: float("nan") for c in absent if c in ("n_positive", "n_negative")}
    own = {"document": frame["text"].astype(str)} if "document" in absent and "text" in frame.columns else {}
    return frame.assign(**unknown, **own)


def record_table(rows: Iterable[tuple[RecordPlace, float, str, Estimate]]) -> pd.DataFrame:
    """A table of records, from the place, strength, metric and estimate of each; columns `RECORD_COLUMNS`."""
    return pd.DataFrame(
        [
            (*place, strength, metric, e.value, e.low, e.high, e.level, e.n, e.n_clusters, e.method)
            for place, strength, metric, e in rows
        ],
        columns=list(RECORD_COLUMNS),
    )

"""Tidy records, one row per measured quantity, and how hypotheses read them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from steerlens.errors import EstimateError, OptionError

Array = npt.NDArray[np.float64]

_TEXT = ("model", "concept", "split", "role", "family", "method", "site", "setting", "group", "quantity")
_NUMBER = ("layer", "strength", "budget", "context", "item", "seed", "value", "low", "high", "level", "n")

THEORY_COLUMNS = (
    "model", "concept", "split", "role", "family", "method", "site", "layer", "strength", "budget", "setting",
    "context", "group", "item", "seed", "quantity", "value", "low", "high", "level", "n",
)  # fmt: skip
"""One row is one number. Texts that do not apply are empty, numbers NaN.

``split``: only rows of ``test`` are judged. ``role``: ``method``, ``random`` (a matched-norm random direction), or
empty for what needs no arm, such as a property of activations. ``method``: name with its options. ``strength``,
``budget``:
at which it was measured. ``setting``: what else was varied: surroundings, prompt format, path. ``context``: number of
distractor sentences. ``group``, ``item``: of a question or word, where a row is one. ``seed``: of the draw, where there
are several. ``value``, ``low``, ``high``, ``level``, ``n``: the estimate, as in `Estimate`.
"""

IDENTITY = ("model", "concept", "role", "method", "setting", "strength", "budget", "context", "group", "item", "seed",
            "site", "layer", "quantity")  # fmt: skip
"""Columns that tell rows of the test part apart: two rows that agree in all of them are one number twice."""

_SHARE, _SIGNED = (-0.5, 1.5), (-1.5, 1.5)
RANGES: Mapping[str, tuple[float, float]] = {
    "anti_steered": _SHARE, "alignment": _SHARE, "accuracy": _SHARE, "rise": _SHARE, "own_p": _SHARE,
    "independent_p": _SHARE, "coherence": _SIGNED, "cosine": _SIGNED, "accuracy_gain": _SIGNED,
}  # fmt: skip
"""Where values of a bounded quantity can lie, with room for the noise of estimates; beyond is another unit."""

QUANTITIES: Mapping[str, str] = {
    "effect": "change of propensity at a strength, nats",
    "effect_at_budget": "change of propensity at the budget of KL on neutral text, nats",
    "propensity": "log p(positive) − log p(negative) of an item at a strength, nats",
    "steerability": "slope of propensity on strength, nats",
    "steerability_elsewhere": "the same in other surroundings; setting names them",
    "relative_steerability": "steerability elsewhere over that of the map fitted there",
    "anti_steered": "share of questions whose slope is not above zero",
    "kl": "KL(unsteered ‖ steered) on neutral text at a strength, nats per token",
    "excess_perplexity": "perplexity ratio on neutral text at equal effect, less one",
    "gain": "paired difference of effects at the budget; setting is the reference method, nats",
    "gap_quadratic": "bits that quadratic probes save over linear ones",
    "gap_high": "bits that networks save over quadratic probes",
    "local": "autocorrelation of the differences of neighbours: 0 for a constant field",
    "coherence": "mean cosine of a pair's difference with the mean difference",
    "d_prime": "separation of the classes along the mean difference",
    "norm": "length of the mean difference",
    "bures": "covariance term of the Gaussian transport cost, tr(Σ₋ + Σ₊ − 2(Σ₋^½ Σ₊ Σ₋^½)^½), less its mean under "
    "permuted labels, in standard deviations of it",
    "norm_difference": "mean norm of target over that of source, less one",
    "path_energy": "mean squared distance of a path to real activations; setting is chord, geodesic or other order",
    "distortion": "geodesic over Euclidean distance of an ordered concept",
    "alignment": "share of prompts whose target the unembedding reads from the site (A_lin)",
    "cosine": "cosine of the detecting and the controlling direction",
    "promotion": "rise of log-likelihood of positive references, nats per token",
    "suppression": "fall of log-likelihood of negative references, nats per token",
    "open_effect": "change of log-odds of open-ended references, nats per token",
    "propensity_gap": "how far unsteered propensity in a setting is from that at home, either way, nats",
    "accuracy": "share of right answers; setting says under what",
    "rise": "depth, as a share of the model, at which the mass of a token rises; setting is right or wrong",
    "accuracy_gain": "rise of accuracy under softmax-correct scoring",
    "own_p": "mean probability of the target by the classifier that steered",
    "independent_p": "the same by a classifier that saw neither map nor rows",
    "energy": "energy distance to held-out target rows",
}
"""Quantities that the hypotheses here read, and their units."""


@final
@dataclass(frozen=True)
class Quantity:
    """Which rows a hypothesis reads, and what it makes of those of one unit.

    Args:
        name: Of the quantity.
        method: Name of the method, with or without its options.
        role: Left out it is ``method`` where a method is named, and else empty.
        setting: Exactly this; None for any.
        strength: Exactly this; None for any.
        reduce: ``mean`` of the rows of a unit, their ``sd`` or ``count``, or ``error``: the standard error that the
            intervals tell, whose rows must have one.
        optional: Whether records may lack it altogether.
    """

    name: str
    method: str = ""
    role: str = ""
    setting: str | None = ""
    strength: float | None = None
    reduce: Literal["mean", "sd", "count", "error"] = "mean"
    optional: bool = False

    def __str__(self) -> str:
        parts = (("role", self.role), ("method", self.method), ("setting", self.setting), ("strength", self.strength))
        said = ", ".join(f"{k} {v!r}" for k, v in parts if v not in ("", None))
        return f"{self.name!r}" + (f" ({said})" if said else "")


def gather(
    records: pd.DataFrame,
    wanted: Mapping[str, Quantity],
    *,
    at_least: int,
    unit: Sequence[str] = ("concept",),
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """One row per model, unit and ``by``; one column per quantity, every row complete.

    Rows of one unit that differ in nothing asked for (seeds, items) are reduced to one number; they may not differ in
    site or budget, since such a mean has no meaning.

    Args:
        records: Columns `THEORY_COLUMNS`.
        wanted: By the name of the column it becomes.
        at_least: Units of replication.
        unit: Columns that tell those apart.
        by: More columns that tell units apart.

    Raises:
        EstimateError: If columns or rows are missing, a value is not finite, out of range, or there twice, a unit lacks
            a quantity that another has, units mix sites or budgets, some methods were measured on other concepts than
            others (with ``by`` of "method"), or there are too few concepts.
    """
    missing = [c for c in THEORY_COLUMNS if c not in records.columns]
    if missing:
        raise EstimateError(f"The records lack the columns {', '.join(missing)}. Make them with records_of or tidy.")
    rows = _Rows.of(records, list(dict.fromkeys(["model", "concept", *unit, *by])))
    columns, counts = {}, {}
    for name, quantity in wanted.items():
        mask = rows.of_quantity(quantity)
        if mask.any():
            columns[name], counts[name] = rows.reduced(mask, quantity)
    if not columns:
        raise EstimateError("The records hold none of what is asked for: " + ", ".join(map(str, wanted.values())) + ".")
    anywhere = np.sum(list(counts.values()), axis=0) > 0
    for name, count in counts.items():
        if (count[anywhere] == 0).any():
            where = rows.unit_names[np.flatnonzero(anywhere & (count == 0))[0]]
            raise EstimateError(
                f"{wanted[name]} was not measured for {where}, though others were. Measure it, or leave it out."
            )
    index = pd.MultiIndex.from_tuples([u for u, kept in zip(rows.unit_names, anywhere, strict=True) if kept],
                                      names=rows.keys)  # fmt: skip
    wide = pd.DataFrame({name: values[anywhere] for name, values in columns.items()}, index=index)
    if "method" in by:
        _check_crossed(wide)
    check_units(wide, at_least, unit)
    return wide


def check_units(wide: pd.DataFrame, at_least: int, unit: Sequence[str] = ("concept",), *, of: str = "") -> None:
    """Refuse too few units of replication; ``of`` says which of them are counted.

    Raises:
        EstimateError: If there are too few.
    """
    n = len(set(units_in(wide, unit)))
    if n < at_least:
        named = " × ".join(unit) + (f" {of}" if of else "")
        units = f"1 unit ({named}) was" if n == 1 else f"{n} units ({named}) were"
        raise EstimateError(f"{units} measured; {at_least} are needed. Measure more.")


def check_one_model(records: pd.DataFrame, wanted: Mapping[str, Quantity]) -> None:
    """Refuse test rows of several models where a claim is about one.

    Raises:
        EstimateError: If there are several.
    """
    if not {"model", "split", "quantity"} <= set(records.columns):
        return  # `gather` says what is missing
    asked = records["quantity"].isin({q.name for q in wanted.values()}) & (records["split"] == "test")
    models = sorted(set(records.loc[asked, "model"].astype(str)))
    if len(models) > 1:
        raise EstimateError(
            f"The claim is about one model, but the records are of {', '.join(models)}. Judge each alone."
        )


def _check_crossed(wide: pd.DataFrame) -> None:
    """Methods are compared on the same concepts."""
    methods = set(wide.index.get_level_values("method"))
    for unit, rows in wide.reset_index("method").groupby(level=["model", "concept"])["method"]:
        if missing := sorted(methods - set(rows)):
            raise EstimateError(
                f"Methods are compared on the same concepts, but {', '.join(missing)} was not measured on {unit[1]!r} "
                f"of {unit[0]!r}. Measure it there, or leave it out."
            )


def units_in(wide: pd.DataFrame, unit: Sequence[str] = ("concept",)) -> list[Hashable]:
    """The unit of replication of each row."""
    columns = [wide.index.get_level_values(name) for name in unit]
    return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))


@final
@dataclass(frozen=True, eq=False)
class _Rows:
    """The test rows of records as plain arrays, and the unit that each belongs to."""

    columns: Mapping[str, npt.NDArray[Any]]
    keys: list[str]
    unit_names: list[tuple[Hashable, ...]]
    codes: npt.NDArray[np.int64]
    twice: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, records: pd.DataFrame, keys: list[str]) -> "_Rows":
        test = records["split"].to_numpy() == "test"
        columns = {c: _plain(records[c], c)[test] for c in THEORY_COLUMNS}
        number: dict[tuple[Hashable, ...], int] = {}
        tuples = list(zip(*(columns[k].tolist() for k in keys), strict=True))
        for t in sorted(set(tuples), key=repr):
            number[t] = len(number)
        twice = pd.DataFrame({c: columns[c] for c in IDENTITY}).duplicated().to_numpy()
        return cls(columns, keys, list(number), np.array([number[t] for t in tuples], dtype=np.int64), twice)

    def of_quantity(self, quantity: Quantity) -> npt.NDArray[np.bool_]:
        """Which rows are of a quantity; none only if it is optional."""
        c = self.columns
        role = quantity.role or ("method" if quantity.method else "")
        mask: npt.NDArray[np.bool_] = (c["quantity"] == quantity.name) & (c["role"] == role)
        if quantity.setting is not None:
            mask &= c["setting"] == quantity.setting
        if quantity.strength is not None:
            mask &= c["strength"] == quantity.strength
        if quantity.method:
            mask &= c["method"] == self._method(mask, quantity)
        if not mask.any():
            if quantity.optional:
                return mask
            raise EstimateError(f"No record of {quantity} on the test split. {self._instead(quantity, role)}")
        if not np.isfinite(c["value"][mask].astype(np.float64)).all():
            raise EstimateError(f"Some records of {quantity} are NaN or infinite. Look where they come from.")
        self._check_range(mask, quantity)
        self._check_once(mask, quantity)
        self._check_one_place(mask, quantity)
        return mask

    def _instead(self, quantity: Quantity, role: str) -> str:
        """What there is of a quantity whose rows are not those asked for."""
        there = self.columns["quantity"] == quantity.name
        if not there.any():
            return "Measure it."
        seen = sorted({(r, m, s) for r, m, s in zip(*(self.columns[c][there] for c in ("role", "method", "setting")),
                                                    strict=True)})  # fmt: skip
        said = "; ".join(f"role {r!r}, method {m!r}, setting {s!r}" for r, m, s in seen[:4])
        return f"There are {int(there.sum())} of that name: {said}. Role {role!r} was expected."

    def _check_range(self, mask: npt.NDArray[np.bool_], quantity: Quantity) -> None:
        c = self.columns
        low, high = RANGES.get(quantity.name, (-np.inf, np.inf))
        x = c["value"][mask]
        outside = x[(x < low) | (x > high)]
        if len(outside):
            raise EstimateError(
                f"{quantity} is {QUANTITIES[quantity.name]}, but a record has {outside[0]:g}. Look for its unit."
            )
        if (c["low"][mask] > c["high"][mask]).any():
            raise EstimateError(f"Some intervals of {quantity} end below their beginning. Look where they come from.")

    def _check_once(self, mask: npt.NDArray[np.bool_], quantity: Quantity) -> None:
        if self.twice[mask].any():
            i = np.flatnonzero(mask & self.twice)[0]
            which = ", ".join(f"{k} {self.columns[k][i]!r}" for k in ("model", "concept", "method", "setting"))
            raise EstimateError(
                f"{quantity} has two rows that nothing tells apart ({which}). Drop one, or give them a seed or an item."
            )

    def _method(self, mask: npt.NDArray[np.bool_], quantity: Quantity) -> str:
        all_names = set(self.columns["method"][mask].tolist())
        names = sorted(m for m in all_names if m == quantity.method or m.startswith(f"{quantity.method}("))
        if quantity.method in names or not names:
            return quantity.method
        if len(names) > 1:
            raise EstimateError(f"{quantity} was measured with several options: {', '.join(names)}. Name one in full.")
        return str(names[0])

    def _check_one_place(self, mask: npt.NDArray[np.bool_], quantity: Quantity) -> None:
        units = self.codes[mask].tolist()
        for column in ("site", "layer", "budget"):
            # NaN is not equal to itself, and stands for "does not apply".
            places = [None if x != x else x for x in self.columns[column][mask].tolist()]
            if (
                column not in self.keys
                and len(set(places)) > 1
                and len(set(zip(units, places, strict=True))) > len(set(units))
            ):
                raise EstimateError(
                    f"{quantity} was measured at more than one {column} of a concept. Keep the chosen one."
                )

    def reduced(self, mask: npt.NDArray[np.bool_], quantity: Quantity) -> tuple[Array, Array]:
        """One number for each unit, and how many rows it has; meaningless where it has none."""
        codes, k = self.codes[mask], len(self.unit_names)
        x = self.columns["value"][mask].astype(np.float64)
        count = np.bincount(codes, minlength=k).astype(np.float64)
        if quantity.reduce == "error":
            x = standard_errors({c: self.columns[c][mask] for c in ("low", "high", "level")}) ** 2
            if not np.isfinite(x).all():
                raise EstimateError(
                    f"Some records of {quantity} have no interval, which is needed to know their noise."
                )
        rows = np.maximum(count, 1)
        mean = np.bincount(codes, x, k) / rows
        if quantity.reduce == "mean":
            return mean, count
        if quantity.reduce == "count":
            return count, count
        if quantity.reduce == "error":
            return np.sqrt(mean / rows), count
        sd = np.sqrt(np.bincount(codes, (x - mean[codes]) ** 2, k) / np.maximum(count - 1, 1))
        return np.where(sd > 1e-12 * np.abs(mean), sd, 0.0), count


def _plain(column: "pd.Series[Any]", name: str) -> npt.NDArray[Any]:
    """Texts as objects, empty where there is none, as after a file that keeps no empty texts; numbers in float64.

    What is no number is NaN, and refused where it is needed.
    """
    if name in _TEXT:
        return column.to_numpy(dtype=object, na_value="")
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def standard_errors(rows: Mapping[str, npt.NDArray[Any]]) -> Array:
    """Half-widths over the normal quantile of the level, from ``low``, ``high``, ``level``; NaN without them."""
    low, high, level = (rows[c].astype(np.float64) for c in ("low", "high", "level"))
    out: Array = (high - low) / (2 * stats.norm.ppf((1 + level) / 2))
    return out


def tidy(*blocks: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """Blocks of rows as one frame with the columns `THEORY_COLUMNS`.

    Args:
        blocks: Data frames, or mappings from columns to arrays (with ``value`` among them) or to what all rows share.
            What a block lacks is empty or NaN, and its split is ``test``.

    Raises:
        OptionError: If a block has a column that records do not have.
    """
    parts: dict[str, list[npt.NDArray[Any]]] = {c: [] for c in THEORY_COLUMNS}
    for block in blocks:
        unknown = sorted(set(map(str, block)) - set(THEORY_COLUMNS))
        if unknown:
            raise OptionError(f"Records have no column {', '.join(unknown)}; expected some of {THEORY_COLUMNS}.")
        n = len(block["value"])
        for c in THEORY_COLUMNS:
            kind: Any = object if c in _TEXT else np.float64
            missing = ("test" if c == "split" else "") if c in _TEXT else np.nan
            whole = np.empty(n, dtype=kind)
            whole[:] = block.get(c, missing)
            parts[c].append(whole)
    # Texts stay plain objects: pandas would make Arrow strings of them, which take longer than all that follows.
    texts = {c: pd.Series(np.concatenate(parts[c]) if blocks else [], dtype=object) for c in _TEXT}
    numbers = {c: pd.Series(np.concatenate(parts[c]) if blocks else [], dtype=np.float64) for c in _NUMBER}
    return pd.DataFrame(texts | numbers)[list(THEORY_COLUMNS)]


def rows_of(
    quantity: str,
    values: npt.ArrayLike,
    along: str = "",
    labels: Sequence[Any] | None = None,
    *,
    error: float | None = None,
    **columns: Any,
) -> dict[str, Any]:
    """A block of records of one quantity from an array: concepts down, ``along`` across.

    Args:
        quantity: Its name.
        values: Shape (concepts,), or (concepts, labels).
        along: The column of the second axis, such as ``item``, ``seed`` or ``strength``.
        labels: Of the second axis; None numbers them.
        error: Standard error of every value, for intervals of 95 %.
        columns: What all rows share.
    """
    x = np.asarray(values, dtype=np.float64)
    grid = x.reshape(len(x), -1)
    across = list(range(grid.shape[1])) if labels is None else list(labels)
    block: dict[str, Any] = {
        "model": "planted",
        "concept": np.repeat([f"concept {i:02d}" for i in range(len(x))], grid.shape[1]),
        "quantity": quantity,
        "value": grid.ravel(),
        **columns,
    }
    if along:
        block[along] = across * len(x)
    if error is not None:
        block |= {"low": grid.ravel() - 1.959964 * error, "high": grid.ravel() + 1.959964 * error, "level": 0.95}
    return block

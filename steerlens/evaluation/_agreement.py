"""Does multiple choice tell what steering does to open text? Both effects of one map, over several concepts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import detectable_correlation, holm, spearman, wilson

Array = npt.NDArray[np.float64]

AGREEMENT_MEASURES = (
    "raw_separation", "raw_promotion", "raw_suppression", "subtract_promotion", "subtract_suppression",
)  # fmt: skip
"""Open-ended effects that are held against multiple choice, over all items; see `open_ended_report`."""

AGREEMENT_COLUMNS = (
    "concept", "strength", "reached", "kl", "kl_low", "kl_high", "choice", "choice_low", "choice_high",
    *(f"{m}{end}" for m in AGREEMENT_MEASURES for end in ("", "_low", "_high")),
    "same_choice", "same_choice_low", "same_choice_high", "n_questions", "n_items", "n_clusters", "level",
)  # fmt: skip
"""One row is one concept. ``choice`` is the change of the log-odds of its letters, in nats; open-ended effects are in
nats per token, and those less an anchor have intervals that are too short. ``same_choice`` is the share of pairs of
which the unsteered model chooses the same option in both orders: 0 if it goes by the letter, ½ if by chance, 1 if by
what is said; NaN where questions are not asked in both."""

AGREEMENT_RANDOM_COLUMNS = ("concept", "draw", "choice", *AGREEMENT_MEASURES)
"""One row is one random direction on one concept, as long as the map's mean step there."""

AGREEMENT_RANK_COLUMNS = (
    "measure", "rho", "low", "high", "level", "n", "p_value", "p_holm", "opposite", "opposite_low", "opposite_high",
    "n_clear", "n_clear_opposite", "random_low", "random_high", "random_n", "random_reach", "interval",
)  # fmt: skip
"""One row is one open-ended effect against the choice, over concepts. ``rho`` is Spearman's, ``opposite`` the share of
concepts whose two effects differ in sign, ``n_clear`` how many have both intervals clear of zero, and
``n_clear_opposite`` how many of those differ in sign. ``random_…`` is the range of 95 % of random directions' rho,
their number, and the share of them whose rho is as large."""

FEWEST_CONCEPTS = 5


def agreement_ranks(effects: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation and signs of two kinds of effect over concepts, beside those of random directions.

    A concept is one observation. The noise of its two effects is not taken out: it draws rho towards zero, so that a
    small rho of wide intervals says little. Values of p are adjusted by Holm over the rows.

    Args:
        effects: Columns `AGREEMENT_COLUMNS`; of these the effects, their ends and ``level`` are read.
        random: Columns `AGREEMENT_RANDOM_COLUMNS`, the same concepts in every draw.

    Returns:
        Columns `AGREEMENT_RANK_COLUMNS`.

    Raises:
        EstimateError: If there are fewer than five concepts, draws lack one of them, or an effect does not vary.

    References:
        bonett2000 (interval of rho), wilson1927 (of the share).
    """
    names = list(effects["concept"])
    draws = [of.set_index("concept") for _, of in random.groupby("draw", sort=True)]
    if any(sorted(of.index) != sorted(names) for of in draws):
        raise EstimateError(f"Every random draw needs each of the concepts {', '.join(names)} once.")
    level = float(effects["level"].iloc[0])
    found = [_of_measure(effects, [of.loc[names] for of in draws], m, level) for m in AGREEMENT_MEASURES]
    adjusted = holm([row["p_value"] for row in found])
    rows = [{**row, "p_holm": float(p)} for row, p in zip(found, adjusted, strict=True)]
    return pd.DataFrame(rows)[list(AGREEMENT_RANK_COLUMNS)]


@final
@dataclass(frozen=True, eq=False)
class Agreement:
    """Effects of one method in multiple choice and in open text, concept by concept.

    Args:
        frame: Columns `AGREEMENT_COLUMNS`.
        random: Columns `AGREEMENT_RANDOM_COLUMNS`.
        ranks: Columns `AGREEMENT_RANK_COLUMNS`; they follow from the other two by `agreement_ranks`.
        model: Its name.
        dtype: In which it ran; see `rounded`.
        method: Name of the method.
        site: Hook point at which it acts.
        budget: KL on neutral text at which it acts, in nats per token; None where a strength was given.
    """

    frame: pd.DataFrame
    random: pd.DataFrame
    ranks: pd.DataFrame
    model: str
    dtype: str
    method: str
    site: str
    budget: float | None

    def to_frame(self) -> pd.DataFrame:
        """One row per concept, with both effects and their intervals."""
        return self.frame.copy()

    @property
    def by_letter(self) -> tuple[str, ...]:
        """Concepts at floor: fewer pairs are answered alike in both orders than by chance, with the whole interval."""
        return tuple(self.frame["concept"][self.frame["same_choice_high"] < 0.5])

    @property
    def rounded(self) -> bool:
        """Whether logits are of half precision, in which they come in steps of up to ⅛ nat: more than letters move."""
        return self.dtype in ("bfloat16", "float16")

    @property
    def detectable(self) -> float:
        """The least rho that so many concepts show with a power of 0.8."""
        return detectable_correlation(len(self.frame))

    def plot(self) -> Any:
        """Figure of open-ended effects against multiple choice; needs matplotlib."""
        # By name, because evaluation lies below reports: see docs/design/2026-11-21-plotting-from-below.md
        return import_module("steerlens.reports").draw_agreement(self)

    def __str__(self) -> str:
        at = "a given strength" if self.budget is None else f"{self.budget:g} nats of KL"
        n = len(self.frame)
        lines = [
            f"Multiple choice and open text, {self.method} at {self.site} of {self.model}, at {at}, {n} concepts",
            *(f"  {row['measure']:<21} {_said(row)}" for row in self.ranks.to_dict("records")),
            f"  {n} concepts show a rho of {self.detectable:.2f} with a power of 0.8; a smaller one is likely missed.",
        ]
        if self.by_letter:
            lines.append(
                f"  At floor: asked about {', '.join(self.by_letter)}, the unsteered model goes by the letter, not by "
                "what is said."
            )
        if self.rounded:
            lines.append(f"  In {self.dtype} logits are rounded to steps of up to 1/8 nat. Measure in float32.")
        return "\n".join(lines)


def agreement_answer(row: Mapping[str, Any]) -> str:
    """What a row of the ranks shows, in a few words."""
    if row["low"] > 0:
        return "the same order"
    return "the reverse order" if row["high"] < 0 else "no order shown"


def _said(row: Mapping[Any, Any]) -> str:
    opposite = round(row["opposite"] * row["n"])
    return (
        f"rho {row['rho']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] ({agreement_answer(row)}; random directions "
        f"{row['random_low']:+.2f} to {row['random_high']:+.2f}); signs differ on {opposite} of {row['n']} "
        f"[{row['opposite_low']:.2f}, {row['opposite_high']:.2f}], clearly on {row['n_clear_opposite']} of "
        f"{row['n_clear']}"
    )


def _of_measure(effects: pd.DataFrame, draws: Sequence[pd.DataFrame], measure: str, level: float) -> dict[str, Any]:
    x, y = effects["choice"].to_numpy(np.float64), effects[measure].to_numpy(np.float64)
    found = spearman(x, y, level=level)
    opposite = x * y < 0
    share = wilson(int(opposite.sum()), len(x), level=level)
    clear = _clear(effects, "choice") & _clear(effects, measure)
    null = np.array([_rho(of["choice"].to_numpy(np.float64), of[measure].to_numpy(np.float64)) for of in draws])
    low, high = np.quantile(null, [0.025, 0.975]) if len(null) else (np.nan, np.nan)
    return {
        "measure": measure, "rho": found.rho.value, "low": found.rho.low, "high": found.rho.high, "level": level,
        "n": len(x), "p_value": found.p_value, "opposite": share.value, "opposite_low": share.low,
        "opposite_high": share.high, "n_clear": int(clear.sum()), "n_clear_opposite": int((clear & opposite).sum()),
        "random_low": float(low), "random_high": float(high), "random_n": len(null),
        "random_reach": float((null >= found.rho.value - 1e-12).mean()) if len(null) else np.nan,
        "interval": found.rho.method,
    }  # fmt: skip


def _clear(effects: pd.DataFrame, name: str) -> npt.NDArray[np.bool_]:
    """Whether an effect's interval lies on one side of zero."""
    low, high = (effects[f"{name}{end}"].to_numpy(np.float64) for end in ("_low", "_high"))
    return (low > 0) | (high < 0)


def _rho(x: Array, y: Array) -> float:
    """Spearman's correlation; 0 where one side is constant."""
    a, b = (stats.rankdata(side) - (len(x) + 1) / 2 for side in (x, y))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def check_agreement(names: Sequence[str]) -> None:
    """Refuse too few concepts, or one given twice.

    Raises:
        OptionError: If so.
    """
    if len(names) < FEWEST_CONCEPTS or len(set(names)) < len(names):
        raise OptionError(
            f"An agreement over concepts needs at least {FEWEST_CONCEPTS} different ones, but got "
            f"{', '.join(names) or 'none'}. Add concepts."
        )

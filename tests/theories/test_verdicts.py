"""The rule of verdicts, from intervals to outcomes, and several hypotheses at once."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from steerlens.errors import OptionError
from steerlens.numerics import Estimate, holm
from steerlens.theories import (
    Control,
    Evidence,
    Hypothesis,
    Outcome,
    PlantedCase,
    PlantedStudy,
    Prediction,
    Quantity,
    detectable,
    judge_all,
    mean_over,
    rows_of,
    tidy,
    units_in,
    units_needed,
)


@final
@dataclass(frozen=True, kw_only=True)
class Rises(Hypothesis):
    """The mean of one quantity lies above a margin, and so does that of another."""

    id: ClassVar[str] = "Rises"
    theory: ClassVar[str] = "It rises."
    citations: ClassVar[tuple[str, ...]] = ("holm1979",)
    population: ClassVar[str] = "Simulated concepts."
    design: ClassVar[str] = "One number a concept."

    first: str = "effect"
    second: str = ""
    margin: float = 0.0
    optional: bool = False
    can_refute: bool = True
    controlled: bool = True

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        second = {"second": Quantity(self.second, optional=self.optional)} if self.second else {}
        return {"first": Quantity(self.first)} | second

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        names = ("first", "second") if self.second else ("first",)
        against = self.margin if self.can_refute else None
        return tuple(Prediction(n, n, "above", self.margin, against, self.optional and n == "second") for n in names)

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        found = {c: mean_over(w[c], units_in(w), level=level) for c in w.columns}
        return Evidence(found, (Control("a control", self.controlled, "it failed."),), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        return tidy(PlantedStudy.of(seed).measured(self.first, 1.0, 0.1))


def spread(mean: float, half: float, quantity: str = "effect", n: int = 20, level: float = 0.95) -> dict[str, object]:
    """Twenty concepts whose t interval at the level is mean ± half."""
    x = np.linspace(-1, 1, n)
    wanted = half / stats.t.ppf((1 + level) / 2, n - 1) * math.sqrt(n)
    return rows_of(quantity, mean + x / x.std(ddof=1) * wanted)


@pytest.mark.parametrize(
    ("mean", "half", "outcome"),
    [
        (1.0, 0.9, Outcome.SUPPORTED),
        (1.0, 1.1, Outcome.INCONCLUSIVE),
        (-1.0, 0.9, Outcome.REFUTED),
        (-1.0, 1.1, Outcome.INCONCLUSIVE),
    ],
)
def test_the_interval_decides(mean: float, half: float, outcome: Outcome):
    assert Rises().judge(tidy(spread(mean, half))).outcome is outcome


def test_a_prediction_without_a_threshold_withholds_support_and_refutes_nothing():
    assert Rises(can_refute=False).judge(tidy(spread(-1, 0.1))).outcome is Outcome.INCONCLUSIVE
    assert Rises(can_refute=False).judge(tidy(spread(1, 0.1))).outcome is Outcome.SUPPORTED


def test_support_needs_every_prediction_and_one_refutes():
    both = Rises(second="kl")
    good, open_, bad = (spread(m, h, "kl") for m, h in ((1, 0.5), (0.1, 0.5), (-1, 0.5)))
    outcomes = [both.judge(tidy(spread(1, 0.5), kl)).outcome for kl in (good, open_, bad)]
    assert outcomes == [Outcome.SUPPORTED, Outcome.INCONCLUSIVE, Outcome.REFUTED]


def test_two_that_can_refute_each_refute_at_half_the_error():
    nearly = tidy(spread(1, 0.5), spread(-1, 0.95, "kl"))  # at 95 % wholly below 0, at 97.5 % not
    assert Rises(second="kl").judge(nearly).outcome is Outcome.INCONCLUSIVE
    assert Rises(first="kl").judge(nearly).outcome is Outcome.REFUTED
    shown = Rises(second="kl").judge(nearly).evidence
    assert shown is not None
    second = shown.estimates["second"]
    assert second.low < 0 < second.high, "an interval beyond the threshold is not shown under 'inconclusive'"
    assert (second.level, shown.estimates["first"].level) == (0.975, 0.95)


def test_an_optional_prediction_counts_where_it_was_measured():
    maybe = Rises(second="kl", optional=True)
    assert maybe.judge(tidy(spread(1, 0.5))).outcome is Outcome.SUPPORTED
    assert maybe.judge(tidy(spread(1, 0.5), spread(-1, 0.5, "kl"))).outcome is Outcome.REFUTED
    assert Rises(second="kl").judge(tidy(spread(1, 0.5))).outcome is Outcome.VOID


def test_a_failed_control_makes_a_clear_result_void():
    verdict = Rises(controlled=False).judge(tidy(spread(1, 0.1)))
    assert verdict.outcome is Outcome.VOID
    assert "a control: it failed." in verdict.reason


@pytest.mark.parametrize("n", [4, 7])
def test_too_few_concepts_are_void(n: int):
    verdict = Rises().judge(tidy(spread(1, 0.1, n=n)))
    assert verdict.outcome is Outcome.VOID
    assert f"{n} units (concept) were measured; 8 are needed" in verdict.reason


@pytest.mark.parametrize("size", [0.1, 0.3, 0.97, 1.0, 1e6])
def test_units_that_do_not_vary_are_a_point_however_they_are_rounded(size: float):
    """Made up without noise: the verdict follows, and not from the last bit of a mean."""
    for sign, outcome in ((1, Outcome.SUPPORTED), (-1, Outcome.REFUTED)):
        found = Rises().judge(tidy(rows_of("effect", np.full((20, 3), sign * size), "seed")))
        assert found.outcome is outcome
        assert found.evidence is not None
        e = found.evidence.estimates["first"]
        assert (e.low, e.high) == (e.value, e.value) == (pytest.approx(sign * size), pytest.approx(sign * size))
    assert Rises().judge(tidy(rows_of("effect", np.zeros(20)))).outcome is Outcome.INCONCLUSIVE


@final
@dataclass(frozen=True, kw_only=True)
class Fails(Hypothesis):
    """A hypothesis whose evidence has a fault of its own."""

    id: ClassVar[str] = "Fails"
    theory: ClassVar[str] = "It rises."
    citations: ClassVar[tuple[str, ...]] = ("holm1979",)
    population: ClassVar[str] = "Simulated concepts."
    design: ClassVar[str] = "One number a concept."

    quantities = Rises.quantities
    predictions = Rises.predictions
    planted = Rises.planted
    first = "effect"
    second = ""
    margin = 0.0
    optional = False
    can_refute = True

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        raise KeyError("effetc")


def test_a_hypothesis_that_fails_is_void_and_costs_no_other():
    records = tidy(spread(1, 0.1))
    bad, good = judge_all([Fails(), Rises()], records)
    assert bad.outcome is Outcome.VOID
    assert "KeyError: 'effetc'" in bad.reason
    assert good.outcome is Outcome.SUPPORTED


def test_records_by_id_must_be_there_for_all():
    with pytest.raises(OptionError, match="records for Other, but none for Rises"):
        judge_all([Rises()], {"Other": tidy(spread(1, 0.1))})


def test_a_hypothesis_is_never_judged_at_less_than_its_own_level():
    """At 95 % the interval ends at 0.1, at 99.9 % at −0.6: what was frozen decides, alone and among others."""
    records = tidy(spread(1, 0.9))
    assert judge_all([Rises()], records)[0].outcome is Outcome.SUPPORTED
    [found] = judge_all([Rises(level=0.999)], records)
    assert (found.outcome, found.level) == (Outcome.INCONCLUSIVE, 0.999)
    assert judge_all([Rises(level=0.5)], records)[0].level == 0.95


def test_what_was_registered_late_is_a_hint_and_does_not_count_among_the_primary():
    records = tidy(spread(1, 0.9))
    [late, first] = judge_all(several(("Rises", "Second")), records, late=["Rises"])
    assert late.exploratory
    assert late.reason.endswith("It was registered after measuring: a hint, no test.")
    assert (first.exploratory, first.level) == (False, 0.95)


def test_inconclusive_says_what_would_have_been_seen_and_how_many_units_it_takes():
    verdict = Rises().judge(tidy(spread(0.5, 1.0)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "with power 0.8 a truth 1.4 beyond the margin" in verdict.reason
    assert "About 164 units" in verdict.would_change
    assert "refuted by: first: whole interval below 0" in Rises().judge(tidy(spread(1, 0.1))).would_change


def test_what_is_detectable_is_seen_with_its_power():
    """Simulated: means that lie the detectable distance above the margin are supported in 80 of 100 studies."""
    rng = np.random.default_rng(0)
    away = (1.959964 + 0.841621) / math.sqrt(40)
    found = [
        Rises().judge(tidy(rows_of("effect", rng.normal(away, 1, 40)))).outcome is Outcome.SUPPORTED for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.09)  # 3 standard errors
    interval = Estimate(0, -1.959964, 1.959964, 0.95, 40, 40, "")
    assert detectable(interval, 0.8) == pytest.approx(1.959964 + 0.841621, rel=1e-5)


def test_units_needed_settle_it_at_the_value_found():
    p = Prediction("x", "x", "above", 0.0)
    assert units_needed(Estimate(1.0, -1.0, 3.0, 0.95, 20, 20, ""), p, 0.8) == math.ceil(
        20 * (2 * 2.801585 / 1.959964) ** 2
    )
    assert units_needed(Estimate(0.0, -1.0, 1.0, 0.95, 20, 20, ""), p, 0.8) is None


@pytest.mark.parametrize(
    ("direction", "margin", "threshold", "value", "settles"),
    [
        ("above", 0.9, 0.5, 0.7, False), ("above", 0.9, 0.5, 0.95, True), ("above", 0.9, 0.5, 0.4, True),
        ("above", 0.9, None, 0.4, False), ("below", 0.05, None, 0.3, False), ("below", 0.05, None, 0.01, True),
        ("below", 0.0, 0.2, 0.1, False), ("within", 0.1, 0.3, -0.2, False), ("within", 0.1, 0.3, -0.4, True),
        ("within", 0.1, 0.3, -0.05, True),
    ],
)  # fmt: skip
def test_where_a_value_neither_supports_nor_refutes_no_number_of_units_settles_it(
    direction: str, margin: float, threshold: float | None, value: float, settles: bool
):
    p = Prediction("x", "x", direction, margin, threshold)  # type: ignore[arg-type]
    assert (units_needed(Estimate(value, value - 1, value + 1, 0.95, 20, 20, ""), p, 0.8) is not None) is settles


def test_equal_units_have_an_interval_where_their_span_is_known():
    """Of k equal units 1 − 0.025^(1/k) of all may differ unseen: the exact bound of a binomial share of zero."""
    found = mean_over(np.zeros(60), range(60), level=0.95, span=1.0)
    exact = stats.binomtest(0, 60).proportion_ci(0.95, "exact").high
    assert (found.value, found.high) == (0.0, pytest.approx(exact))
    assert found.low == -found.high
    point = mean_over(np.zeros(60), range(60), level=0.95)
    assert (point.low, point.high) == (0.0, 0.0)
    spread_out = np.arange(60.0)
    assert mean_over(spread_out, range(60), level=0.95, span=1.0) == mean_over(spread_out, range(60), level=0.95)


@pytest.mark.parametrize(
    ("direction", "margin", "threshold"),
    [("above", 0.5, 0.6), ("below", 0.5, 0.4), ("within", 0.1, 0.05), ("within", 0.0, None), ("above", math.nan, None)],
)
def test_a_prediction_that_one_interval_could_fulfil_and_contradict_is_refused(
    direction: str, margin: float, threshold: float | None
):
    with pytest.raises(OptionError):
        Prediction("x", "x", direction, margin, threshold)  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["above", "below", "within"])
def test_no_interval_fulfils_and_contradicts(direction: str):
    p = Prediction("x", "x", direction, 0.3, 0.3)  # type: ignore[arg-type]
    rng, seen = np.random.default_rng(1), set()
    for low, width in zip(rng.uniform(-1, 1, 500).tolist(), rng.uniform(0, 0.8, 500).tolist(), strict=True):
        e = Estimate(low + width / 2, low, low + width, 0.95, 9, 9, "")
        seen.add((p.fulfilled(e), p.contradicted(e)))
    assert seen == {(True, False), (False, True), (False, False)}


def test_options_out_of_range_are_refused():
    for change in ({"level": 1.0}, {"power": 0.01}, {"min_units": 4}):
        with pytest.raises(OptionError):
            Rises(**change)  # type: ignore[arg-type]


# Several at once.


@dataclass(frozen=True, kw_only=True)
class Numbered(Hypothesis):
    """One quantity above zero; its id is a field of the class made for it."""

    id: ClassVar[str] = "N"
    theory: ClassVar[str] = "It rises."
    citations: ClassVar[tuple[str, ...]] = ("holm1979",)
    population: ClassVar[str] = "Simulated concepts."
    design: ClassVar[str] = "One number a concept."
    of: str = "effect"

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        return {"x": Quantity(self.of)}

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return (Prediction("x", "x", "above", 0.0, 0.0),)

    def evidence(self, records: pd.DataFrame, *, level: float) -> Evidence:
        w = self.read(records)
        return Evidence({"x": mean_over(w["x"], units_in(w), level=level)}, (), len(w))

    def planted(self, case: PlantedCase, *, seed: int) -> pd.DataFrame:
        return tidy(PlantedStudy.of(seed).measured(self.of, 1.0, 0.1))


def several(names: tuple[str, ...], **change: object) -> tuple[Hypothesis, ...]:
    """Hypotheses about quantities of these names, which are their ids."""
    made = []
    for name in names:
        kind = type(name, (Numbered,), {"id": name})
        made.append(kind(of=name, **change))
    return tuple(made)


def test_deciding_together_is_holm_on_the_p_values():
    rng = np.random.default_rng(3)
    for _ in range(30):
        n = 6
        names = tuple(f"q{i}" for i in range(n))
        values = rng.normal(rng.choice([0.0, 0.3, 0.6, -0.6], n)[:, None], 1, (n, 20))
        p = stats.ttest_1samp(values, 0, axis=1).pvalue
        records = tidy(*(rows_of(name, v) for name, v in zip(names, values, strict=True)))
        verdicts = judge_all(several(names), records)
        decided = [v.outcome in (Outcome.SUPPORTED, Outcome.REFUTED) for v in verdicts]
        assert decided == (holm(p) < 0.05).tolist()
        right = [Outcome.SUPPORTED if m > 0 else Outcome.REFUTED for m in values.mean(axis=1)]
        assert all(v.outcome is r for v, r, d in zip(verdicts, right, decided, strict=True) if d)


def test_exploratory_ones_do_not_count_and_are_marked():
    records = tidy(spread(1, 0.98, "q0"), spread(1, 0.98, "q1"))
    primary, other = several(("q0",)), several(("q1",), exploratory=True)
    verdicts = judge_all((*primary, *other), records)
    assert [v.outcome for v in verdicts] == [Outcome.SUPPORTED, Outcome.SUPPORTED]
    assert [v.exploratory for v in verdicts] == [False, True]
    assert "(exploratory)" in str(verdicts[1])
    together = judge_all((*primary, *several(("q1",))), records)
    assert [v.outcome for v in together] == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE]


def test_a_void_one_was_asked_and_counts():
    records = tidy(spread(1, 0.98, "q0"))
    verdicts = judge_all(several(("q0", "q1")), records)
    assert [v.outcome for v in verdicts] == [Outcome.INCONCLUSIVE, Outcome.VOID]


def test_ids_must_differ():
    with pytest.raises(OptionError, match="q0"):
        judge_all(several(("q0", "q0")), tidy(spread(1, 0.1, "q0")))


def test_a_verdict_is_a_value():
    verdict = Rises().judge(tidy(spread(1, 0.1)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.reason = ""  # type: ignore[misc]

"""The sentences: each says what its interval allows, and no more."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic_comparison import make_comparison

from steerlens.evaluation import Comparison
from steerlens.reports import answer
from steerlens.reports._numbers import estimate, number, percent


def with_headline(comparison: Comparison, method: str, **values: Any) -> Comparison:
    head = comparison.headline.copy()
    for name, value in values.items():
        head.loc[head["method"] == method, name] = value
    return replace(comparison, headline=head)


def with_contrast(
    comparison: Comparison, method: str, reference: str, values: tuple[float, float, float], p_holm: float = 0.006
) -> Comparison:
    rows = comparison.contrasts.copy()
    where = (rows["method"] == method) & (rows["reference"] == reference)
    assert where.sum() == 1
    rows.loc[where, ["difference", "low", "high"]] = values
    rows.loc[where, "p_holm"] = p_holm
    return replace(comparison, contrasts=rows)


def sentences(comparison: Comparison) -> list[str]:
    return [f.text for f in answer(comparison).findings]


def tone_of(comparison: Comparison, start: str) -> str:
    found = [f.tone for f in answer(comparison).findings if f.text.startswith(start)]
    assert len(found) == 1, start
    return found[0]


def test_a_method_that_beats_another_is_said_to() -> None:
    c = with_contrast(make_comparison(), "ResidualMLP", "MeanShift", (0.8, 0.4, 1.2))
    assert (
        "ResidualMLP beats MeanShift: difference +0.80 [0.40, 1.20] nats, n = 40, p = 0.006 after Holm." in sentences(c)
    )
    assert tone_of(c, "ResidualMLP beats MeanShift") == "yes"


def test_a_method_that_does_not_beat_another_is_said_not_to() -> None:
    c = with_contrast(make_comparison(), "GaussianTransport", "MeanShift", (-0.1, -0.4, 0.2), p_holm=1.0)
    said = "GaussianTransport does not beat MeanShift: difference −0.10 [−0.40, 0.20] nats, n = 40, p = 1 after Holm. "
    said += "A difference of 0.42 nats would have shown with a power of 0.8."
    assert said in sentences(c)


def test_a_lead_that_does_not_survive_holm_is_no_win() -> None:
    c = with_contrast(make_comparison(), "ResidualMLP", "MeanShift", (0.8, 0.4, 1.2), p_holm=0.06)
    assert tone_of(c, "ResidualMLP is ahead of MeanShift, but not once every pair is counted") == "no"
    assert any("excludes zero, but not once every pair is counted" in s for s in sentences(c))
    assert "is ahead of every other" not in answer(c).lead


def test_a_higher_mean_whose_interval_holds_zero_is_no_win() -> None:
    c = with_contrast(make_comparison(), "ResidualMLP", "MeanShift", (0.3, -0.1, 0.7))
    assert tone_of(c, "ResidualMLP does not beat MeanShift") == "no"


def test_a_method_that_falls_behind_is_said_to_and_off_budget_is_mentioned(comparison: Comparison) -> None:
    found = [s for s in sentences(comparison) if s.startswith("DirectionalAblation falls behind MeanShift")]
    assert len(found) == 1
    assert "Not at equal KL" in found[0]


@pytest.mark.parametrize(
    ("values", "phrase", "tone"),
    [
        ({"effect_low": 0.59}, "is clear of the random-direction band", "yes"),
        ({"effect_low": 0.57}, "is not clear of the random-direction band", "no"),
        ({"effect": -1.0, "effect_low": -1.2, "effect_high": -0.8}, "pushes the wrong way", "no"),
        ({"random_low": np.nan, "random_high": np.nan, "random_n": 0}, "too few random directions", "open"),
    ],
)
def test_the_random_band_decides(values: dict[str, float], phrase: str, tone: str) -> None:
    c = with_headline(make_comparison(), "MeanShift", **values)
    found = [f for f in answer(c).findings if f.text.startswith("MeanShift") and f.about.startswith("Against")]
    assert [(phrase in f.text, f.tone) for f in found] == [(True, tone)]


def test_a_family_is_ahead_of_every_other_only_if_all_contrasts_exclude_zero(comparison: Comparison) -> None:
    lead = answer(comparison).lead
    assert lead.startswith("3 of 4 methods do more than random directions;")
    assert lead.endswith("at equal KL the nonlinear family is ahead of every other.")
    c = with_contrast(comparison, "ResidualMLP", "GaussianTransport", (0.1, -0.2, 0.4))
    assert "is not shown to be ahead of the affine family" in answer(c).lead
    c = with_contrast(c, "ResidualMLP", "MeanShift", (0.1, -0.2, 0.4))
    assert "no family is shown to be ahead" in answer(c).lead
    assert any("(GaussianTransport) does not exclude zero" in s for s in sentences(c))


def test_a_contrast_is_read_in_either_direction(comparison: Comparison) -> None:
    flipped = comparison.contrasts.rename(columns={"method": "reference", "reference": "method"})
    flipped[["difference", "low", "high"]] = -flipped[["difference", "high", "low"]].to_numpy()
    assert answer(replace(comparison, contrasts=flipped)).lead == answer(comparison).lead


def test_a_family_off_the_budget_is_not_said_to_be_beaten_at_equal_kl(comparison: Comparison) -> None:
    c = with_headline(comparison, "MeanShift", reached=False)
    assert "not shown to be ahead of the additive family" in answer(c).lead
    assert any("With the additive family (MeanShift) nothing is compared at equal KL" in s for s in sentences(c))


def test_a_leader_inside_the_random_band_leads_nobody(comparison: Comparison) -> None:
    c = with_headline(comparison, "ResidualMLP", random_high=9.0)
    assert answer(c).lead.endswith("so no family is called ahead.")
    assert any("so it leads nobody" in s for s in sentences(c))
    assert not any(f.about.startswith("Families") and f.tone == "yes" for f in answer(c).findings)


def test_a_leader_short_of_the_budget_is_not_said_to_lead_at_equal_kl(comparison: Comparison) -> None:
    c = with_headline(comparison, "ResidualMLP", reached=False, kl=0.05)
    assert "has the largest effect, but never reached the budget" in answer(c).lead
    assert "equal KL" not in answer(c).lead
    assert any("(at 0.05, short of 0.1 nats per token of KL)" in s for s in sentences(c))


def test_without_contrasts_no_family_is_called_ahead(comparison: Comparison) -> None:
    c = replace(comparison, contrasts=comparison.contrasts.iloc[:0])
    assert "no family is shown to be ahead" in answer(c).lead
    assert any("No paired contrast" in s for s in sentences(c))


def test_anti_steerable_shares_and_unreached_budgets_are_told(comparison: Comparison) -> None:
    head = comparison.headline.set_index("method").loc["DirectionalAblation"]
    share = percent(head["anti_slope"], head["anti_slope_low"], head["anti_slope_high"])
    assert any(f"{share} for DirectionalAblation" in s for s in sentences(comparison))
    assert any(s.startswith("DirectionalAblation never reached the budget") for s in sentences(comparison))
    assert not any(s.startswith("MeanShift never reached") for s in sentences(comparison))


def test_nothing_measured_is_said_plainly(comparison: Comparison) -> None:
    assert answer(replace(comparison, headline=comparison.headline.iloc[:0])).lead.startswith("No method was measured")


def test_numbers_carry_the_digits_of_their_interval() -> None:
    assert estimate(1.23456, 0.9, 1.5) == "1.23 [0.90, 1.50]"
    assert estimate(123.4, 100.0, 150.0) == "123 [100, 150]"
    assert estimate(-0.1, -0.4, 0.2) == "−0.10 [−0.40, 0.20]"
    assert number(-0.001, 2) == "0.00"
    assert number(0.5, 1, signed=True) == "+0.5"
    assert percent(0.125, 0.05, 0.25) == "12 % [5, 25]"


def test_missing_numbers_are_dashes() -> None:
    assert estimate(np.nan, 0.0, 1.0) == "—"
    assert estimate(1.0, np.nan, np.nan) == "1.00 [—]"
    assert percent(np.nan, 0.0, 1.0) == "—"

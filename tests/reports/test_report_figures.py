"""What is drawn: preparing halves are tested on numbers, drawing halves on what they put on axes."""

import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from synthetic_comparison import BUDGET, DIRECTIONS, FORWARD, METHODS, make_comparison, site_of

from steerlens.evaluation import Comparison, steerability
from steerlens.reports import (
    draw_budget_effects,
    draw_comparison,
    draw_effect_against_kl,
    draw_layer_profiles,
    draw_paired_contrasts,
    draw_propensity_curves,
    draw_steerability,
    prepare_budget_effects,
    prepare_effect_against_kl,
    prepare_layer_profiles,
    prepare_paired_contrasts,
    prepare_propensity_curves,
    prepare_steerability,
)
from steerlens.reports._answer import answer
from steerlens.reports._frontier import band_of, interpolate_effect
from steerlens.reports._limits import limits
from steerlens.reports._tables import comparison_html, headline_table

BY_NAME = {m.method: m for m in METHODS}


def test_propensity_curves_hold_the_planted_values_in_order_of_strength(comparison: Comparison) -> None:
    data = prepare_propensity_curves(comparison)
    assert [c.method for c in data.curves] == [m.method for m in METHODS]
    assert data.families == ("additive", "affine", "nonlinear")
    for curve in data.curves:
        planted = BY_NAME[curve.method]
        assert curve.points["strength"].tolist() == list(planted.strengths)
        assert_allclose(curve.points["value"], [-0.8 + planted.effect(s) for s in planted.strengths])


def test_curves_come_from_the_chosen_site_and_the_test_half_alone(comparison: Comparison) -> None:
    elsewhere = comparison.records.copy()
    elsewhere["value"] = 1e6
    on_select = elsewhere.assign(split="select")
    other_site = elsewhere.assign(site="blocks.3.hook_resid_post", layer=3)
    records = pd.concat([on_select, other_site, comparison.records], ignore_index=True)
    data = prepare_propensity_curves(replace(comparison, records=records))
    assert max(c.points["value"].max() for c in data.curves) < 10
    assert all(len(c.points) == len(BY_NAME[c.method].strengths) for c in data.curves)


def test_the_frontier_pairs_effect_and_kl_of_the_same_strength(comparison: Comparison) -> None:
    data = prepare_effect_against_kl(comparison)
    assert data.budget == BUDGET
    assert data.n_random == DIRECTIONS
    for method in data.methods:
        planted = BY_NAME[method.method]
        assert method.points["strength"].tolist() == [s for s in FORWARD if s > 0]
        assert_allclose(method.points["kl"], [planted.kl(s) for s in FORWARD if s > 0])
        assert_allclose(method.points["effect"], [planted.effect(s) for s in FORWARD if s > 0])
    assert [m.method for m in data.methods if not m.reached] == ["DirectionalAblation"]


def test_the_headline_lies_on_the_curve_that_is_drawn(comparison: Comparison) -> None:
    for method in prepare_effect_against_kl(comparison).methods:
        kl, effect = method.at_budget
        points = method.points
        strengths, costs, effects = (points[c].to_numpy() for c in ("strength", "kl", "effect"))
        found = interpolate_effect(strengths, costs, effects, np.array([kl]))
        assert_allclose(found, [effect])


def test_interpolation_starts_at_the_origin_and_keeps_the_last_effect() -> None:
    strength, kl, effect = np.array([1.0, 2.0]), np.array([0.1, 0.4]), np.array([1.0, 2.0])
    found = interpolate_effect(strength, kl, effect, np.array([0.025, 0.1, 0.225, 0.4, 9.0]))
    assert_allclose(found, [0.5, 1.0, 1.5, 2.0, 2.0])


def test_interpolation_takes_the_first_crossing_where_kl_turns_back() -> None:
    strength, kl, effect = np.array([1.0, 2.0, 3.0]), np.array([0.4, 0.1, 0.8]), np.array([2.0, 9.0, 9.0])
    assert_allclose(interpolate_effect(strength, kl, effect, np.array([0.1])), [1.0])


def test_the_band_is_the_middle_of_the_random_effects() -> None:
    effects = np.linspace(-1, 1, 41)
    curves = [(np.array([1.0, 2.0]), np.array([0.1, 0.4]), np.array([e, 2 * e])) for e in effects]
    band = band_of(curves, 0.1)
    at = band[band["kl"] == 0.1].iloc[0]
    assert_allclose([at["low"], at["high"]], np.quantile(effects, [0.025, 0.975]))
    assert band["kl"].max() == pytest.approx(0.4)


def test_a_band_of_which_some_directions_fall_short_of_the_budget_never_passes_silently(comparison: Comparison) -> None:
    head = comparison.headline
    for reached, short in ((DIRECTIONS, ""), (12, f"12 of {DIRECTIONS}"), (np.nan, "")):
        one = replace(comparison, headline=head.assign(random_reached=reached))
        assert {r.short for r in prepare_budget_effects(one).rows} == {short}
        assert prepare_effect_against_kl(one).short == short
        drawn = []
        for prepare, draw in ((prepare_budget_effects, draw_budget_effects), PAIRS[1]):
            axes = Figure().subplots()
            draw(prepare(one), axes)
            legend = axes.get_legend()
            drawn.append(" ".join(t.get_text() for t in [*axes.texts, *(legend.get_texts() if legend else [])]))
        said = f"12 of {DIRECTIONS} at the budget"
        assert [said in text for text in drawn] == [bool(short)] * 2
        for page in (headline_table(one), " ".join(f.text for f in answer(one).findings), " ".join(limits(one))):
            assert (f"12 of {DIRECTIONS}" in page) is bool(short)
        assert comparison_html(one).count("†") == (2 + len(METHODS) if short else 2)


def test_the_strength_that_was_chosen_is_a_point_of_the_curve_and_carries_the_mark(comparison: Comparison) -> None:
    """A strength between those of the grid, whose KL on the test half is not quite the budget."""
    strength, cost, moved = 1.37, 0.93 * BUDGET, 1.23
    r, head = comparison.records, comparison.headline
    mine = (r["method"] == "MeanShift") & (r["split"] == "test") & (r["strength"] == 1.0)
    added = r[mine].assign(strength=strength)
    added.loc[added["metric"] == "kl", "value"] = cost
    added.loc[added["metric"] == "effect", "value"] = moved
    own = head["method"] == "MeanShift"
    one = replace(
        comparison,
        records=pd.concat([r, added], ignore_index=True),
        headline=head.assign(kl=head["kl"].where(~own, cost), effect=head["effect"].where(~own, moved)),
    )
    data = prepare_effect_against_kl(one)
    shift = next(m for m in data.methods if m.method == "MeanShift")
    assert shift.at_budget == (cost, moved)
    assert shift.points["strength"].tolist() == sorted([s for s in FORWARD if s > 0] + [strength])
    at = shift.points[shift.points["strength"] == strength].iloc[0]
    assert (at["kl"], at["effect"]) == shift.at_budget
    strengths, costs, effects = (shift.points[c].to_numpy() for c in ("strength", "kl", "effect"))
    assert_allclose(interpolate_effect(strengths, costs, effects, np.array([cost])), [moved])


def test_slopes_leave_out_strengths_that_were_added_for_the_budget(comparison: Comparison) -> None:
    items = comparison.items
    added = items[items["strength"] == 1.0].assign(strength=1.3, positive=1e3)
    more = replace(comparison, items=pd.concat([items, added], ignore_index=True))
    for one, two in zip(prepare_steerability(comparison).rows, prepare_steerability(more).rows, strict=True):
        assert_allclose(one.slopes, two.slopes)


def test_every_chosen_site_has_its_own_band(comparison: Comparison) -> None:
    data = prepare_effect_against_kl(comparison)
    assert set(data.bands) == {site_of(m.layer) for m in METHODS}
    assert not data.bands[site_of(8)].equals(data.bands[site_of(14)])


def test_slopes_are_those_that_evaluation_defines(comparison: Comparison) -> None:
    data = prepare_steerability(comparison)
    for row in data.rows:
        own = comparison.samples[comparison.samples["method"] == row.method]
        table = own.pivot(index="strength", columns="question", values="propensity")
        assert_allclose(row.slopes, steerability(table.to_numpy(), list(table.index)))
        head = comparison.headline.set_index("method").loc[row.method]
        assert row.n_anti / len(row.slopes) == pytest.approx(head["anti_slope"])
    assert sum(r.n_anti for r in data.rows) > 0


def test_questions_that_nothing_moves_have_a_slope_of_zero_and_count_as_anti_steerable(comparison: Comparison) -> None:
    """Propensities that differ by the rounding of float32 have slopes of either sign."""
    own = comparison.items["arm"] == "MeanShift"
    start = comparison.items.groupby(["arm", "question"])["positive"].transform("first")
    noise = 1e-6 * np.random.default_rng(0).normal(size=len(start))
    still = comparison.items.assign(positive=comparison.items["positive"].where(~own, start + noise))
    by_name = {r.method: r for r in prepare_steerability(replace(comparison, items=still)).rows}
    assert (by_name["MeanShift"].slopes == 0).all()
    assert by_name["MeanShift"].n_anti == len(by_name["MeanShift"].slopes)
    assert (by_name["GaussianTransport"].slopes != 0).all()
    coarse = comparison.items.assign(positive=comparison.items["positive"].where(~own, start + 1e4 * noise))
    model = {**comparison.provenance.model, "dtype": "bfloat16"}
    in_bfloat16 = replace(comparison, items=coarse, provenance=replace(comparison.provenance, model=model))
    for found, still in ((replace(comparison, items=coarse), False), (in_bfloat16, True)):
        slopes = {r.method: r for r in prepare_steerability(found).rows}["MeanShift"].slopes
        assert (slopes == 0).all() == still


def test_layer_profiles_show_the_selection_half_and_the_chosen_layer(comparison: Comparison) -> None:
    data = prepare_layer_profiles(comparison)
    assert "budget" in data.measure
    for method in data.methods:
        assert method.points["layer"].tolist() == [8, 14, 20]
        assert method.chosen == BY_NAME[method.method].layer
    r = comparison.records
    only = r[(r["split"] == "select") & (r["method"] == "MeanShift")].sort_values("layer")
    assert_allclose(data.methods[0].points["value"], only["value"])


def test_layer_profiles_fall_back_on_the_effect_at_strength_one(comparison: Comparison) -> None:
    r = comparison.records
    effects = r[(r["metric"] == "effect") & (r["role"] == "method")].assign(split="select")
    data = prepare_layer_profiles(replace(comparison, records=effects))
    assert data.measure == "effect at strength 1 (nats)"
    assert_allclose([m.points["value"].item() for m in data.methods], [m.effect(1.0) for m in METHODS])


def test_a_contrast_excludes_zero_only_when_its_interval_does(comparison: Comparison) -> None:
    rows = {(r.method, r.reference): r for r in prepare_paired_contrasts(comparison).rows}
    assert rows["ResidualMLP", "MeanShift"].excludes_zero
    assert not rows["GaussianTransport", "MeanShift"].excludes_zero
    assert rows["DirectionalAblation", "MeanShift"].excludes_zero
    assert not rows["DirectionalAblation", "MeanShift"].same_cost
    assert rows["ResidualMLP", "MeanShift"].same_cost


def test_budget_effects_are_the_headline(comparison: Comparison) -> None:
    rows = prepare_budget_effects(comparison).rows
    head = comparison.headline
    assert_allclose([r.effect for r in rows], head[["effect", "effect_low", "effect_high"]])
    assert [r.reached for r in rows] == [True, False, True, True]


def test_a_family_keeps_its_colour_and_methods_of_a_family_differ(comparison: Comparison) -> None:
    looks = {c.method: c.look for c in prepare_propensity_curves(comparison).curves}
    again = {m.method: m.look for m in prepare_effect_against_kl(comparison).methods}
    assert looks == again
    assert looks["DirectionalAblation"].colour == looks["GaussianTransport"].colour
    assert looks["DirectionalAblation"].marker != looks["GaussianTransport"].marker
    assert len({looks[m].colour for m in ("MeanShift", "GaussianTransport", "ResidualMLP")}) == 3


PAIRS = [
    (prepare_propensity_curves, draw_propensity_curves),
    (prepare_effect_against_kl, draw_effect_against_kl),
    (prepare_budget_effects, draw_budget_effects),
    (prepare_steerability, draw_steerability),
    (prepare_paired_contrasts, draw_paired_contrasts),
    (prepare_layer_profiles, draw_layer_profiles),
]


@pytest.mark.parametrize(("prepare", "draw"), PAIRS, ids=lambda f: f.__name__)
def test_horizontal_axes_are_labelled_with_units_and_vertical_scales_too(comparison, prepare, draw) -> None:  # type: ignore[no-untyped-def]
    axes = Figure().subplots()
    draw(prepare(comparison), axes)
    assert any(unit in axes.get_xlabel() for unit in ("nats", "strength", "layer"))
    if axes.get_yticks().size:
        assert "nats" in axes.get_ylabel()


@pytest.mark.slow
def test_reports_do_not_import_pyplot() -> None:
    code = "import sys, steerlens.reports; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_comparison_is_drawn_without_touching_settings(comparison: Comparison) -> None:
    before = dict(mpl.rcParams)
    figure = draw_comparison(comparison)
    assert len(figure.axes) == 6
    assert dict(mpl.rcParams) == before
    assert comparison.plot()._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_names_with_dollars_are_not_mathematics(comparison: Comparison) -> None:
    name = r"a $\frac{ method"
    odd = make_comparison()
    for frame in (odd.headline, odd.records, odd.items, odd.contrasts):
        for column in {"method", "reference", "arm"} & set(frame.columns):
            frame[column] = frame[column].replace("MeanShift", name)
    for prepare, draw in PAIRS:
        figure = Figure()
        draw(prepare(odd), figure.subplots())
        figure.savefig("/dev/null", format="svg")

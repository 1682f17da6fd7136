"""How records are read: what is averaged, what is refused, and what the estimates are."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steerlens.errors import EstimateError, OptionError
from steerlens.theories import (
    THEORY_COLUMNS,
    Outcome,
    PlantedCase,
    PlantedStudy,
    Quantity,
    correlation_over,
    gather,
    jackknife_over,
    mean_over,
    ratio_over,
    relative_gain,
    rows_of,
    share_over,
    steers,
    theory,
    tidy,
    units_in,
    varies,
)
from steerlens.theories._t16_prompt_structure import _interaction
from steerlens.theories._t19_dataset_property import _mean_squares

X = np.random.default_rng(0).normal(1, 1, (6, 4))


def records(**change: object) -> pd.DataFrame:
    return tidy(rows_of("effect", X, "seed", role="method", method="MeanShift", **change))


SHIFT = {"e": Quantity("effect", "MeanShift")}


def test_tidy_fills_what_is_missing():
    frame = records()
    assert tuple(frame.columns) == THEORY_COLUMNS
    assert set(frame["split"]) == {"test"}
    assert set(frame["setting"]) == {""}
    assert frame["layer"].isna().all()
    assert len(tidy()) == 0
    with pytest.raises(OptionError, match="no column strenght"):
        tidy({"value": [1.0], "strenght": 1.0})


def test_rows_of_a_unit_are_reduced():
    wanted = {r: Quantity("effect", "MeanShift", reduce=r) for r in ("mean", "sd", "count")}
    wide = gather(records(), wanted, at_least=5)
    np.testing.assert_allclose(wide["mean"], X.mean(axis=1))
    np.testing.assert_allclose(wide["sd"], X.std(axis=1, ddof=1))
    assert set(wide["count"]) == {4.0}
    assert units_in(wide) == [f"concept {i:02d}" for i in range(6)]


def test_standard_errors_come_from_intervals_of_any_level():
    at_90 = tidy({"concept": [f"c{i}" for i in range(5)], "model": "m", "quantity": "norm", "value": np.zeros(5),
                  "low": -1.644854, "high": 1.644854, "level": 0.9})  # fmt: skip
    wide = gather(at_90, {"e": Quantity("norm", reduce="error")}, at_least=5)
    np.testing.assert_allclose(wide["e"], 1.0, rtol=1e-6)
    with pytest.raises(EstimateError, match="no interval"):
        gather(records(), {"e": Quantity("effect", "MeanShift", reduce="error")}, at_least=5)


def test_options_of_a_method_may_be_left_out_unless_several_were_measured():
    one = records().assign(method="MeanShift(a=1)")
    assert len(gather(one, SHIFT, at_least=5)) == 6
    two = tidy(one, records().assign(method="MeanShift(a=2)"))
    with pytest.raises(EstimateError, match="several options"):
        gather(two, SHIFT, at_least=5)
    assert len(gather(two, {"e": Quantity("effect", "MeanShift(a=1)")}, at_least=5)) == 6
    assert len(gather(tidy(two, records()), SHIFT, at_least=5)) == 6
    with pytest.raises(EstimateError, match="No record"):
        gather(records().assign(method="MeanShifter"), SHIFT, at_least=5)


@pytest.mark.parametrize("column", ["site", "layer", "budget"])
def test_two_places_of_one_concept_are_not_averaged(column: str):
    places = ("a", "b") if column == "site" else (1.0, 2.0)
    both = tidy(*(records().assign(**{column: p}) for p in places))
    with pytest.raises(EstimateError, match=f"more than one {column}"):
        gather(both, SHIFT, at_least=5)
    assert len(gather(both, SHIFT, at_least=5, by=(column,))) == 12


def test_concepts_may_have_layers_of_their_own():
    own = records().assign(layer=np.repeat(np.arange(6.0), 4))
    assert len(gather(own, SHIFT, at_least=5)) == 6


def test_a_hole_is_named():
    wanted = SHIFT | {"k": Quantity("kl")}
    whole = tidy(records(), rows_of("kl", np.ones(6)))
    assert list(gather(whole, wanted, at_least=5).columns) == ["e", "k"]
    with pytest.raises(EstimateError, match=r"'kl' was not measured for \('planted', 'concept 05'\)"):
        gather(whole.iloc[:-1], wanted, at_least=5)
    with pytest.raises(EstimateError, match="No record of 'kl'"):
        gather(records(), wanted, at_least=5)
    optional = SHIFT | {"k": Quantity("kl", optional=True)}
    assert list(gather(records(), optional, at_least=5).columns) == ["e"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad: float):
    frame = records()
    frame.loc[3, "value"] = bad
    with pytest.raises(EstimateError, match="NaN or infinite"):
        gather(frame, SHIFT, at_least=5)


def test_the_selection_half_is_not_read():
    mixed = tidy(records(), records().assign(split="select", value=100.0))
    np.testing.assert_allclose(gather(mixed, SHIFT, at_least=5)["e"], X.mean(axis=1))


def test_means_and_shares_are_those_of_scipy_and_statsmodels():
    x, names = X[:, 0], list("abcdef")
    for level in (0.9, 0.95, 0.99):
        found, ends = mean_over(x, names, level=level), stats.t.interval(level, 5, x.mean(), stats.sem(x))
        assert (found.low, found.high) == pytest.approx(ends)
        hits = [1, 0, 1, 1, 1, 0]
        found, ends = share_over(hits, names, level=level), proportion_confint(4, 6, alpha=1 - level, method="wilson")
        assert (found.low, found.high) == pytest.approx(ends)


def test_rows_of_one_cluster_count_once():
    names = list("abcdef")
    once = mean_over(X[:, 0], names, level=0.95)
    many = mean_over(np.repeat(X[:, 0], 10), np.repeat(names, 10).tolist(), level=0.95)
    assert (many.low, many.high, many.n_clusters) == (pytest.approx(once.low), pytest.approx(once.high), 6)
    assert share_over([1] * 60, np.repeat(names, 10).tolist(), level=0.95).low == pytest.approx(
        proportion_confint(6, 6, method="wilson")[0]
    )


def test_the_jackknife_of_a_mean_is_student_s_interval():
    x, names = X[:, 0], list("abcdef")
    found, t = jackknife_over(lambda kept: float(x[kept].mean()), names, level=0.95), mean_over(x, names, level=0.95)
    assert (found.value, found.low, found.high) == pytest.approx((t.value, t.low, t.high))


def test_the_interval_of_a_ratio_covers():
    rng, names = np.random.default_rng(2), list(range(24))
    found = []
    for _ in range(400):
        b = rng.lognormal(0, 0.4, 24)
        found.append(ratio_over(0.6 * b + rng.normal(0, 0.3, 24), b, names, level=0.95))
    assert 0.92 <= np.mean([e.low <= 0.6 <= e.high for e in found]) <= 0.98


def test_too_few_units_or_none_that_vary_are_refused():
    with pytest.raises(EstimateError, match="4 units"):
        mean_over([1.0, 2.0, 3.0, 4.0], list("abcd"), level=0.95)
    for below in (np.zeros(6), -np.ones(6), np.array([5.0, -1, -1, -1, -1, -1])):
        with pytest.raises(EstimateError, match="needs that to be above zero"):
            ratio_over(-np.ones(6), below, list("abcdef"), level=0.95)
    with pytest.raises(EstimateError, match="NaN"):
        correlation_over(np.full(6, np.nan), np.ones(6), list("abcdef"), level=0.95)


def test_a_gain_is_a_share_of_the_larger_effect():
    assert relative_gain([2.0, 1.0, 1.0, 0.0, -1.0], [1.0, 2.0, 0.0, 0.0, 1.0]).tolist() == [0.5, -0.5, 1.0, 0.0, -2.0]


def test_steering_is_told_from_noise():
    rng, names = np.random.default_rng(0), list(range(20))
    assert steers(rng.normal(1, 0.3, 20), np.zeros(20), names).passed
    passed = [steers(rng.normal(0, 0.3, 20), np.zeros(20), names).passed for _ in range(400)]
    assert np.mean(passed) < 0.02  # 0.005 expected


def test_variation_is_told_from_noise():
    rng = np.random.default_rng(0)
    assert varies(rng.normal(0, 1, 36), np.full(36, 0.3), "x").passed
    passed = [varies(rng.normal(0, 0.3, 36), np.full(36, 0.3), "x").passed for _ in range(1000)]
    assert np.mean(passed) < 0.006  # 0.001 expected
    assert not varies(np.ones(36), np.zeros(36), "x").passed


def test_mean_squares_are_those_of_two_way_anova():
    import statsmodels.api as sm
    from statsmodels.formula.api import ols

    y = X
    long = pd.DataFrame({"y": y.ravel(), "d": np.repeat(range(6), 4), "m": np.tile(range(4), 6)})
    table = sm.stats.anova_lm(ols("y ~ C(d) + C(m)", long).fit())
    np.testing.assert_allclose(_mean_squares(y), table["sum_sq"] / table["df"], rtol=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_interaction_is_unbiased(share: float):
    rng = np.random.default_rng(4)
    formats = 1 + share * np.array([-1.0, -1, 1, 1]) * np.sqrt(3 / 4)
    found = [_interaction(formats * rng.normal(1, 0.2, (40, 1)) + rng.normal(0, 0.6, (40, 4))) for _ in range(500)]
    assert np.mean(found) == pytest.approx(share**2, abs=0.004)


def test_a_row_that_is_there_twice_is_refused_and_named():
    """Doubled rows would halve variances: noise would pass for differences, and ten random directions for twenty."""
    frame = records()
    with pytest.raises(EstimateError, match=r"two rows that nothing tells apart .*'concept 00'"):
        gather(pd.concat([frame, frame.iloc[:1]], ignore_index=True), SHIFT, at_least=5)
    other_split = frame.assign(split="select")
    assert len(gather(pd.concat([frame, other_split], ignore_index=True), SHIFT, at_least=5)) == 6
    elsewhere = pd.concat([frame, tidy(rows_of("norm", X[:, 0]), rows_of("norm", X[:, 0]))], ignore_index=True)
    assert len(gather(elsewhere, SHIFT, at_least=5)) == 6


@pytest.mark.parametrize("name", ["T5", "T12", "T13", "T18"])
@pytest.mark.parametrize("times", [2, 4])
def test_doubled_records_of_a_null_study_decide_nothing(name: str, times: int):
    h = theory(name)
    null = h.planted(PlantedCase.NULL, seed=0)
    verdict = h.judge(pd.concat([null] * times, ignore_index=True))
    assert verdict.outcome is Outcome.VOID
    assert "nothing tells apart" in verdict.reason


def test_values_in_another_unit_and_intervals_upside_down_are_refused():
    percent = tidy(rows_of("cosine", 97 + X[:, 0]))
    with pytest.raises(EstimateError, match=r"is cosine of .*, but a record has 9"):
        gather(percent, {"c": Quantity("cosine")}, at_least=5)
    upside_down = tidy(rows_of("cosine", X[:, 0] / 10, error=0.1)).rename(columns={"low": "high", "high": "low"})
    with pytest.raises(EstimateError, match="end below their beginning"):
        gather(upside_down, {"c": Quantity("cosine")}, at_least=5)


def test_records_survive_a_file_that_knows_no_empty_texts(tmp_path):
    path = tmp_path / "records.csv"
    records().to_csv(path, index=False)
    again = pd.read_csv(path)
    assert again["setting"].isna().all()
    pd.testing.assert_frame_equal(gather(again, SHIFT, at_least=5), gather(records(), SHIFT, at_least=5))


def test_what_is_there_under_another_role_is_named():
    with pytest.raises(
        EstimateError, match=r"There are 24 of that name: role '', method 'MeanShift'.*Role 'method' was"
    ):
        gather(records().assign(role=""), SHIFT, at_least=5)
    with pytest.raises(EstimateError, match="Measure it"):
        gather(records(), {"k": Quantity("kl")}, at_least=5)


def test_methods_are_compared_on_the_same_concepts():
    other = tidy(rows_of("effect", X[:1], "seed", role="method", method="Other"))
    with pytest.raises(EstimateError, match="Other was not measured on 'concept 01'"):
        gather(pd.concat([records(), other], ignore_index=True), {"e": Quantity("effect", role="method")}, at_least=5,
               by=("method",))  # fmt: skip


@pytest.mark.parametrize("name", ["T3", "T4", "T5", "T9", "T16"])
def test_a_claim_about_one_model_is_void_over_two(name: str):
    h = theory(name)
    one = h.planted(PlantedCase.TRUE, seed=0)
    two = pd.concat([one, h.planted(PlantedCase.TRUE, seed=1).assign(model="another")], ignore_index=True)
    verdict = h.judge(two)
    assert verdict.outcome is Outcome.VOID
    assert "about one model, but the records are of another, planted" in verdict.reason
    unread = one.assign(model="another", split="select")
    assert h.judge(pd.concat([one, unread])).outcome is h.judge(one).outcome is not Outcome.VOID


@pytest.mark.parametrize("name", ["T12", "T13"])
@pytest.mark.parametrize("shared", [True, False])
def test_what_differs_between_models_is_no_correlation_over_concepts(name: str, shared: bool):
    """Two models of which one is steered by 2 nats more, and pure noise within each: neither supported nor refuted."""
    h, decided = theory(name), 0
    for seed in range(8):
        parts = []
        for k in range(2):
            part = h.planted(PlantedCase.NULL, seed=2 * seed + k)
            of = part["quantity"].isin(["effect_at_budget", "open_effect", "steerability", "steerability_elsewhere"])
            part.loc[of, ["value", "low", "high"]] += 2.0 * k
            concept = part["concept"] if shared else part["concept"] + f" of {k}"
            parts.append(part.assign(model=f"model {k}", concept=concept))
        decided += h.judge(pd.concat(parts, ignore_index=True)).outcome in (Outcome.SUPPORTED, Outcome.REFUTED)
    assert decided == 0


def test_one_large_effect_hides_no_small_ones_and_noise_steers_nothing():
    """Nine concepts far above their random directions, one of them very far: Student's interval would hold 0."""
    effect = np.array([0.3, 0.4, 0.5, 0.35, 0.45, 0.6, 0.4, 0.5, 12.0])
    names = [f"c{i}" for i in range(9)]
    assert mean_over(effect, names, level=0.99).low < 0
    assert steers(effect, np.zeros(9), names).passed
    assert not steers(-effect, np.zeros(9), names).passed
    assert steers(effect[:7], np.zeros(7), names[:7]).passed  # Student's interval, for so few
    rng = np.random.default_rng(0)
    passed = [steers(x, np.zeros(12), range(12)).passed for x in rng.normal(0, 1, (2000, 12))]
    assert np.mean(passed) == pytest.approx(0.005, abs=0.005)


def test_intervals_without_width_tell_no_noise():
    control = varies(np.arange(20.0), np.zeros(20), "coherence")
    assert not control.passed
    assert "no width" in control.reason


def test_t20_is_no_success_where_both_maps_steer_backwards():
    h = theory("T20")
    records = h.planted(PlantedCase.TRUE, seed=0)
    study = PlantedStudy.of(0, 12)
    backwards = [study.measured("effect", -2.0, 0.1, role="method", method=m, strength=1.0)
                 for m in ("ClassifierGradient", "FlowMatching")]  # fmt: skip
    assert h.judge(records).outcome is Outcome.SUPPORTED
    verdict = h.judge(pd.concat([records, tidy(*backwards)], ignore_index=True))
    assert verdict.outcome is Outcome.VOID
    assert "above zero" in verdict.reason


def test_t11_s_cost_counts_where_it_was_measured():
    h = theory("T11")
    records = h.planted(PlantedCase.TRUE, seed=0)
    of_one = (records["quantity"] == "kl") & (records["concept"] == "concept 03")
    few = (records["quantity"] == "kl") & (records["concept"] > "concept 03")
    for changed, n in ((records[~of_one], 23), (records.assign(value=records["value"].mask(of_one, 0.0)), 23)):
        verdict = h.judge(changed)
        assert verdict.outcome is Outcome.SUPPORTED
        assert verdict.evidence is not None
        assert verdict.evidence.estimates["cost"].n_clusters == n
    found = h.judge(records[~few])
    assert found.outcome is Outcome.SUPPORTED
    assert found.evidence is not None
    assert "cost" not in found.evidence.estimates


def test_t13_leaves_concepts_without_relative_steerability_out_of_that_correlation_alone():
    h = theory("T13")
    records = h.planted(PlantedCase.TRUE, seed=0)
    weak = (records["quantity"] == "relative_steerability") & (records["concept"] == "concept 03")
    verdict = h.judge(records[~weak])
    assert verdict.outcome is Outcome.SUPPORTED
    assert verdict.evidence is not None
    assert (verdict.evidence.estimates["rho"].n_clusters, verdict.evidence.estimates["objects"].n_clusters) == (50, 49)

"""Records of comparisons, geometries, cards and planted tables: the same numbers, in the columns of theories."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reports.synthetic_comparison import make_comparison

from steerlens.concepts import planted
from steerlens.evaluation import Comparison, planted_table
from steerlens.maps import GaussianTransport, MeanShift
from steerlens.theories import THEORY_COLUMNS, AnyDirectionWorks, Outcome, Quantity, SetPoint, gather, records_of


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """The synthetic one of the reports, with the random directions' effects at the budget that real ones have."""
    found = make_comparison()
    at_one = found.records.query("role == 'random' and metric == 'effect' and strength == 1 and layer == 14")
    return replace(found, records=pd.concat([found.records, at_one.assign(metric="effect_at_budget")]))


@pytest.fixture(scope="module")
def records(comparison: Comparison) -> pd.DataFrame:
    return records_of(comparison)


def test_the_columns_are_those_of_theories(records: pd.DataFrame):
    assert tuple(records.columns) == THEORY_COLUMNS
    assert set(records["split"]) == {"test"}


def test_effects_at_the_budget_are_those_of_the_headline(comparison: Comparison, records: pd.DataFrame):
    wide = gather(records, {"e": Quantity("effect_at_budget", role="method")}, at_least=1, by=("method",))
    for row in comparison.headline.itertuples():
        assert wide["e"].xs(row.method, level="method").item() == pytest.approx(row.effect)


def test_gains_are_the_contrasts(comparison: Comparison, records: pd.DataFrame):
    first = comparison.contrasts.iloc[0]
    rows = records[(records["quantity"] == "gain") & (records["method"] == first["method"])]
    row = rows[rows["setting"] == first["reference"]].iloc[0]
    assert (row["value"], row["low"], row["high"]) == (first["difference"], first["low"], first["high"])


def test_every_question_keeps_its_propensity(comparison: Comparison, records: pd.DataFrame):
    rows = records[records["quantity"] == "propensity"]
    items = rows[rows["item"].notna()]
    assert len(items) == len(comparison.samples)
    np.testing.assert_array_equal(items["value"], comparison.samples["propensity"])


def test_curves_are_read_on_the_grid_that_all_concepts_share(comparison: Comparison, records: pd.DataFrame):
    """Strengths chosen for the budget differ from concept to concept: no curve over strengths may hold them."""
    r, items = comparison.records, comparison.items
    more = replace(
        comparison,
        records=pd.concat([r, r[(r["strength"] == 1.0) & r["metric"].isin(["effect", "kl"])].assign(strength=1.37)]),
        items=pd.concat([items, items[items["strength"] == 1.0].assign(strength=1.37)]),
    )
    assert 1.37 in set(more.samples["strength"])
    pd.testing.assert_frame_equal(records_of(more), records)


def test_a_comparison_refutes_the_artefact_theory(records: pd.DataFrame):
    verdict = AnyDirectionWorks().judge(records)
    assert verdict.outcome is Outcome.REFUTED, str(verdict)


def test_a_comparison_without_random_directions_is_void(records: pd.DataFrame):
    verdict = AnyDirectionWorks().judge(records[records["role"] != "random"])
    assert verdict.outcome is Outcome.VOID
    assert "role 'random'" in verdict.reason


def test_one_concept_is_too_few_for_claims_about_methods(records: pd.DataFrame):
    verdict = SetPoint(set_point="GaussianTransport").judge(records)
    assert verdict.outcome is Outcome.VOID


def test_a_planted_table_becomes_one_concept_a_plant():
    table = planted_table((MeanShift(), GaussianTransport()), [planted("linear"), planted("gauss2")], n=200, n_test=200,
                          n_judge=200)  # fmt: skip
    records = records_of(table)
    assert set(records["concept"]) == {"linear", "gauss2"}
    wanted = {"before": Quantity("energy", role="identity"), "after": Quantity("energy", "GaussianTransport")}
    wide = gather(records, wanted, at_least=2)
    assert (wide["after"] < wide["before"]).all()
    expected = table.maps.query("plant == 'gauss2' and method == 'MeanShift'")["effect"].item()
    found = gather(records, {"e": Quantity("effect", "MeanShift", strength=1.0)}, at_least=2)
    assert found["e"].xs("gauss2", level="concept").item() == pytest.approx(expected)

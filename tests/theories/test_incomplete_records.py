"""Records as real studies leave them: something that could not be had of one concept, or that does not vary at all."""

import numpy as np
import pandas as pd
import pytest

from steerlens.theories import Outcome, PlantedCase, theory
from steerlens.theories._estimates import _attainable


def without(records: pd.DataFrame, concept: str, quantity: str, setting: str = "") -> pd.DataFrame:
    gone = (records["concept"] == concept) & (records["quantity"] == quantity)
    return records[~(gone & (records["setting"] == setting))] if setting else records[~gone]


@pytest.mark.parametrize(
    ("case", "outcome"), [(PlantedCase.TRUE, Outcome.SUPPORTED), (PlantedCase.FALSE, Outcome.REFUTED)]
)
def test_a_concept_too_weak_for_relative_steerability_counts_for_the_rest(case: PlantedCase, outcome: Outcome):
    h = theory("T13")
    records = h.planted(case, seed=0)
    for quantity in ("relative_steerability", "propensity_gap"):
        records = without(records, "concept 03", quantity)
    found = h.judge(records)
    assert found.outcome is outcome
    assert found.evidence is not None
    assert (found.evidence.estimates["rho"].n_clusters, found.evidence.estimates["objects"].n_clusters) == (50, 49)


def test_where_few_concepts_have_relative_steerability_it_is_left_out():
    h = theory("T13")
    records = h.planted(PlantedCase.TRUE, seed=0)
    gone = records["quantity"].isin(["relative_steerability", "propensity_gap"]) & (records["concept"] > "concept 03")
    found = h.judge(records[~gone])
    assert found.outcome is Outcome.SUPPORTED
    assert found.evidence is not None
    assert set(found.evidence.estimates) == {"rho"}


def test_a_task_that_nothing_teaches_needs_no_vector_and_one_that_is_taught_does():
    h = theory("T14")
    records = h.planted(PlantedCase.TRUE, seed=0)
    untaught = (records["concept"] == "concept 03") & (records["setting"] == "five-shot")
    weak = records.assign(value=records["value"].where(~untaught, 0.05))
    assert h.judge(without(weak, "concept 03", "accuracy", "function vector")).outcome is Outcome.SUPPORTED
    lacking = h.judge(without(records, "concept 03", "accuracy", "function vector"))
    assert lacking.outcome is Outcome.VOID


def scaled(longer: np.ndarray, shorter: np.ndarray) -> pd.DataFrame:
    """The planted truth of T7, with other effects of length, as shares of steering's."""
    records = theory("T7").planted(PlantedCase.TRUE, seed=0)
    size = records[records["method"] == "NormRestoredShift"].set_index("concept")["value"]
    for setting, share in (("+20 %", longer), ("−20 %", shorter)):
        mask = (records["method"] == "NormScaling") & (records["setting"] == setting)
        move = records.loc[mask, "concept"].map(size).to_numpy(float) * np.resize(share, mask.sum())
        for column in ("value", "low", "high"):
            records.loc[mask, column] = records.loc[mask, column].astype(float) + move
    return records


@pytest.mark.parametrize(
    ("longer", "shorter", "outcome"),
    [
        ([0.0], [0.0], Outcome.SUPPORTED),
        ([-0.6], [-0.6], Outcome.REFUTED),  # even in length: half the difference is zero
        ([0.6, -0.6], [-0.6, 0.6], Outcome.REFUTED),  # of alternating sign: the mean over concepts is zero
        ([0.6], [-0.6], Outcome.REFUTED),
    ],
    ids=["none", "even", "alternating", "odd"],
)
def test_lengths_that_matter_refute_the_norm_theory_whatever_their_sign(
    longer: list[float], shorter: list[float], outcome: Outcome
):
    assert theory("T7").judge(scaled(np.array(longer), np.array(shorter))).outcome is outcome


def test_transport_is_refuted_where_the_shift_still_rises_on_every_concept():
    """The best strength of the shift is then one and the same, and its variation has no error."""
    h = theory("T3")
    records = h.planted(PlantedCase.FALSE, seed=0)
    rising = (records["quantity"] == "effect") & (records["method"] == "MeanShift")
    records = records.assign(value=records["value"].where(~rising, records["strength"]))
    assert h.judge(records).outcome is Outcome.REFUTED


def test_answers_that_rise_together_and_a_contrast_that_changes_nothing_refute_late_maturity():
    h = theory("T15")
    records = h.planted(PlantedCase.TRUE, seed=0)
    rise, gain = records["quantity"] == "rise", records["quantity"] == "accuracy_gain"
    few = records.assign(value=records["value"].mask(rise, 0.7).mask(gain, 0.0))
    many = pd.concat([few, few.assign(group=few["group"] + " again")])
    found = h.judge(many)
    assert found.outcome is Outcome.REFUTED, str(found)
    assert found.evidence is not None
    assert found.evidence.estimates["later"].value == 0
    assert h.judge(few).outcome is Outcome.INCONCLUSIVE  # 60 groups: 6 of 100 may differ unseen


def test_a_correlation_at_the_floor_is_void_and_not_refuted():
    """Alignment seen on four concepts of fifty: no order of the others could give a correlation of 0.5."""
    h = theory("T9")
    records = h.planted(PlantedCase.TRUE, seed=0)
    assert h.judge(records).outcome is Outcome.SUPPORTED
    floor = (records["quantity"] == "alignment") & (records["concept"] < "concept 46")
    found = h.judge(records.assign(value=records["value"].mask(floor, 0.0)))
    assert found.outcome is Outcome.VOID
    assert "no rank correlation beyond 0.4" in found.reason, found.reason


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_what_ties_leave_room_for_is_the_closed_form(share: float):
    n = 1000
    apart = np.arange(float(n))
    assert _attainable(np.maximum(apart, share * n), apart) == pytest.approx(np.sqrt(1 - share**3), abs=2e-3)
    assert _attainable(apart[::-1], apart) == pytest.approx(1.0)


def test_steerability_that_is_the_same_everywhere_is_void_and_no_crash():
    h = theory("T19")
    records = h.planted(PlantedCase.TRUE, seed=0)
    assert h.judge(records.assign(value=1.0)).outcome is Outcome.VOID

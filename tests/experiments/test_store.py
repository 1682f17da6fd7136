"""The log of trials: equal specs, torn lines, broken lines."""

from dataclasses import replace
from pathlib import Path

import pytest

from steerlens.errors import ArtefactError
from steerlens.experiments import ResultStore, TrialRecord, TrialSpec

SPEC = TrialSpec("tiny", "r1", "sentiment", "abc", "blocks.1.hook_resid_post", "LastToken()", "MeanShift", 1.0, 0)


def test_numbers_that_are_equal_have_one_fingerprint():
    assert replace(SPEC, strength=1).fingerprint == SPEC.fingerprint
    assert replace(SPEC, strength=-0.0).fingerprint == replace(SPEC, strength=0.0).fingerprint
    assert replace(SPEC, strength=2.0).fingerprint != SPEC.fingerprint


def test_records_come_back_in_order(tmp_path: Path):
    store = ResultStore(tmp_path / "deep" / "trials.jsonl")
    assert list(store) == []
    records = [TrialRecord(replace(SPEC, seed=s), {"effect": s / 3}) for s in range(3)]
    for record in records:
        store.append(record)
    assert list(ResultStore(store.path)) == records
    assert SPEC in store
    assert replace(SPEC, seed=9) not in store


def test_a_line_torn_by_a_power_cut_is_forgotten_and_nothing_else_is(tmp_path: Path):
    store = ResultStore(tmp_path / "trials.jsonl")
    for seed in (0, 1):
        store.append(TrialRecord(replace(SPEC, seed=seed), {"effect": 1.0}))
    whole = store.path.read_bytes()
    for cut in range(1, 60):
        store.path.write_bytes(whole[:-cut])
        assert [r.spec.seed for r in store] == [0]
    store.append(TrialRecord(replace(SPEC, seed=2), {"effect": 2.0}))
    assert [r.spec.seed for r in store] == [0, 2]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path):
    store = ResultStore(tmp_path / "trials.jsonl")
    store.path.write_bytes(b"nonsense\n" + TrialRecord(SPEC, {}).to_json().encode() + b"\n")
    with pytest.raises(ArtefactError, match="line 1"):
        list(store)

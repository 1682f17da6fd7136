"""Equal specs have equal fingerprints, and unequal ones have not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerlens.errors import ArtefactError, OptionError, UnknownNameError
from steerlens.experiments import TrialMetric, TrialRecord, TrialSpec, code_version
from steerlens.experiments._canonical import canonical, canonical_json
from steerlens.experiments._methods import build_method, method_options
from steerlens.interventions import OUTPUT_METHODS
from steerlens.maps import METHODS
from steerlens.numerics import Estimate


def spec(**change: Any) -> TrialSpec:
    fields: dict[str, Any] = {
        "model": "tiny-llama", "revision": "r1", "dtype": "float32", "concept": "sentiment", "data": "abc",
        "split_seed": 0, "hook_name": "blocks.1.hook_resid_post", "method": "LowRankAffine", "neutral": "n",
        "strengths": (0, 1, 2), "seed": 3, "code": "c",
    }  # fmt: skip
    return TrialSpec(**{**fields, **change})


SAME = [
    ({"strengths": (0.0, 1.0, 2.0)}, {"strengths": (0, 1, 2)}),
    ({"strengths": [2, 1]}, {"strengths": (-0.0, 1.0, 2.0, 2)}),
    ({"budget": 1}, {"budget": 1.0}),
    ({"tokens": "FromIndex(3)"}, {"tokens": "FromIndex( start = 3 )"}),
    ({"options": {"rank": 4}}, {"options": {}}),
    ({"options": {"rank": 2, "transport_cost": 0.0}}, {"options": {"transport_cost": -0.0, "rank": 2.0}}),
    ({"options": {"seed": 3}}, {"options": {}}),
    ({"options": {"training": {"steps": 800}}}, {"options": {}}),
    ({"concept": "caf\u00e9"}, {"concept": "cafe\u0301"}),
    ({"metrics": ("kl", "effect")}, {"metrics": ["effect", "kl"]}),
    ({"method": "ClassifierGradient", "options": {"hidden": [8, 8]}},
     {"method": "ClassifierGradient", "options": {"hidden": (8.0, 8)}}),
    ({"method": "NormRelativeShift", "options": {"direction": "MeanDifference"}}, {"method": "NormRelativeShift"}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same_is_the_same_spec(one: dict[str, Any], other: dict[str, Any]):
    a, b = spec(**one), spec(**other)
    assert a.fingerprint == b.fingerprint
    assert a == b
    assert hash(a) == hash(b)


DIFFERENT = {
    "model": "tiny-gpt2", "revision": "r2", "dtype": "bfloat16", "concept": "truth", "data": "abd", "split_seed": 1,
    "max_pairs": 5, "hook_name": "blocks.2.hook_resid_post", "tokens": "AllTokens()", "head": 0, "method": "MeanShift",
    "options": {"rank": 5}, "role": "permuted", "draw": 1, "strengths": (0, 1, 3), "budget": 0.2, "neutral": "m",
    "metrics": ("kl",), "seed": 4, "code": "d",
}  # fmt: skip


def test_every_field_matters():
    assert set(DIFFERENT) == set(json.loads(spec().to_json()))
    changed = [spec(**{name: value}) for name, value in DIFFERENT.items()]
    assert len({s.fingerprint for s in (spec(), *changed)}) == len(changed) + 1
    assert spec() not in changed


def test_true_is_not_one_and_nested_options_count():
    assert canonical_json({"a": True}, "x") != canonical_json({"a": 1}, "x")
    assert spec(options={"training": {"steps": 801}}) != spec()
    assert spec(method="NormRelativeShift", options={"direction": "MassMean"}) != spec(method="NormRelativeShift")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float):
    for change in ({"budget": number}, {"strengths": (0.0, number)}, {"options": {"transport_cost": number}}):
        with pytest.raises(OptionError):
            spec(**change)


def test_unknown_names_are_refused_with_their_neighbours():
    with pytest.raises(UnknownNameError, match="Closest: 'LowRankAffine'"):
        spec(method="LowRankAfine")
    with pytest.raises(
        UnknownNameError, match=r"'rnak' is not a known hyperparameter of LowRankAffine\. Closest: 'rank'"
    ):
        spec(options={"rnak": 3})
    with pytest.raises(UnknownNameError, match="Closest: 'effect"):
        spec(metrics=("efect",))
    with pytest.raises(UnknownNameError, match=r"value of NormRelativeShift\.direction"):
        spec(method="NormRelativeShift", options={"direction": "MeanDiference"})


Data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(Data)
def test_the_canonical_form_is_canonical_and_survives_json(value: object):
    try:
        form = canonical(value, "it")
    except OptionError as error:
        assert "two Unicode forms" in str(error)  # noqa: PT017 - the only thing to refuse here
        return
    text = canonical_json(form, "it")
    assert canonical_json(json.loads(text), "it") == text
    assert text.isascii()


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_one_text_exactly_when_they_are_equal(number: float):
    for other in (number, float(number) if abs(number) < 1e300 else number, number + 1, -number):
        assert (canonical_json(number, "it") == canonical_json(other, "it")) == (number == other)


@pytest.mark.parametrize("method", [*METHODS, *OUTPUT_METHODS], ids=lambda m: type(m).__name__)
def test_every_method_survives_being_data(method: Any):
    options = method_options(method)
    again = build_method(type(method).__name__, json.loads(canonical_json(options, "it")))
    assert again == method
    assert method_options(again) == options


def test_a_spec_survives_json_and_keeps_what_is_unknown_here():
    assert TrialSpec.from_json(spec().to_json()) == spec()
    foreign = spec().to_json().replace("LowRankAffine", "SomebodysMethod")
    assert TrialSpec.from_json(foreign).method == "SomebodysMethod"
    assert TrialSpec.from_json(foreign).to_json() == foreign
    for bad in ("{", "[1]", '{"model": "m"}', foreign.replace('"seed":3', '"sed":3')):
        with pytest.raises(ArtefactError, match="no trial spec"):
            TrialSpec.from_json(bad)


def test_a_record_survives_json_and_gives_its_numbers():
    estimate = Estimate(1.0, 0.5, 1.5, 0.95, 10, 5, "by hand")
    record = TrialRecord(spec(), (TrialMetric("effect", 1.0, estimate), TrialMetric("steerability", None, estimate)))
    assert TrialRecord.from_json(record.to_json()) == record
    assert record.metric("effect", strength=1) is estimate
    assert record.metric("steerability") is estimate
    with pytest.raises(OptionError, match="has no 'kl' at strength 1"):
        record.metric("kl", strength=1)


def test_the_code_version_is_that_of_what_computes():
    assert code_version() == code_version()
    assert code_version().split("+")[0].startswith("0.")
    assert len(code_version().split("+")[1]) == 12

"""Equal specs have equal fingerprints, and unequal ones have not."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerlens.errors import ArtefactError, OptionError, UnknownNameError
from steerlens.experiments import TrialMetric, TrialRecord, TrialSpec, code_version
from steerlens.experiments._canonical import canonical, canonical_json
from steerlens.experiments._methods import build_method, method_options
from steerlens.experiments._option_types import of_type, option_types
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": float("nan")}, "the trial's seed must be a whole number, but got nan"),
        ({"seed": float("inf")}, "the trial's seed must be a whole number, but got inf"),
        ({"seed": -1}, "the trial's seed must be a whole number from 0 up, but got -1"),
        ({"draw": True}, "the trial's draw must be a whole number, but got True"),
        ({"max_pairs": None}, "the trial's max_pairs must be a whole number, but got None"),
        ({"max_pairs": 2.5}, "the trial's max_pairs must be a whole number, but got 2.5"),
        ({"head": -1}, "the trial's head must be a whole number from 0 up"),
        ({"head": "a"}, "the trial's head must be a whole number or left out, but got 'a'"),
        ({"budget": "x"}, "the trial's budget must be a number, but got 'x'"),
        ({"budget": True}, "the trial's budget must be a number, but got True"),
        ({"budget": 10**400}, "the trial's budget must be a number"),
        ({"model": 3}, "the trial's model must be text, but got 3"),
        ({"method": 3}, "the trial's method must be text, but got 3"),
        ({"tokens": None}, "the trial's tokens must be text, but got None"),
        ({"strengths": 1.0}, "the trial's strengths must be a list"),
        ({"strengths": (0, "1")}, "the trial's strengths must be a number, but got '1'"),
        ({"strengths": (0, True)}, "the trial's strengths must be a number, but got True"),
        ({"metrics": "effect"}, "the trial's metrics must be a list"),
        ({"metrics": [3]}, "the trial's metrics must be text, but got 3"),
        ({"options": None}, "the trial's options must be a table"),
        ({"dtype": "floatXX"}, "'floatXX' is not a known dtype of a trial. Closest: 'float"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(change: dict[str, Any], message: str):
    """Set afterwards, for pytest enforces annotations when a spec is made; elsewhere our own checks stand alone."""
    one = spec()
    for name, value in change.items():
        object.__setattr__(one, name, value)
    with pytest.raises((OptionError, UnknownNameError)) as caught:
        one._complete()
    assert message in str(caught.value)


def test_stricter_checks_change_no_fingerprint():
    """Of a spec made before they were: a store must find it again."""
    assert spec().fingerprint == "9ea0f8a4f40cc1fd12ec8eb0b728e14f382d19e224a37982dd8c6cf26fb8053b"
    other = {"tokens": "SpanTokens(1, 4)", "method": "ClassifierGradient", "options": {"hidden": [8, 8], "trust": 1}}
    assert spec(**other).fingerprint == "2d8f92390502ecb297a1d73452f772e3a343db34a82cf39f123d918e376e2a6d"


WRONG_OPTIONS = [
    ("GaussianTransport", {"rank": 2.5}, "GaussianTransport.rank must be a whole number or left out, but got 2.5"),
    ("GaussianTransport", {"rank": True}, "GaussianTransport.rank must be a whole number or left out, but got True"),
    ("GaussianTransport", {"shrinkage": "oaz"}, "must be a number or 'oas' or 'bodnar', but got 'oaz'"),
    ("ClassifierGradient", {"hidden": [8.5]}, "ClassifierGradient.hidden must be a whole number, but got 8.5"),
    ("ClassifierGradient", {"hidden": 8}, "ClassifierGradient.hidden must be a list"),
    ("NormRelativeShift", {"direction": "MeanShift"}, "direction must be a DirectionEstimator, but got MeanShift()"),
    ("LowRankAffine", {"training": {"steps": "many"}}, "LowRankAffine.training.steps must be a whole number"),
    ("LowRankAffine", {"scaling": "evn"}, "LowRankAffine.scaling must be 'whitened' or 'even'"),
    ("LowRankAffine", {"transport_cost": True}, "LowRankAffine.transport_cost must be a number, but got True"),
    ("LowRankAffine", {"transport_cost": 10**400}, "LowRankAffine.transport_cost must be a number"),
    ("ConceptorSteering", {"centred": 1}, "ConceptorSteering.centred must be true or false, but got 1"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG_OPTIONS)
def test_a_hyperparameter_of_the_wrong_kind_is_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(OptionError) as caught:
        build_method(name, options)
    assert message in str(caught.value)


def test_whole_numbers_are_floats_too_and_floats_that_are_whole_are_whole_numbers():
    for name, key, value, stored in (
        ("GaussianTransport", "shrinkage", 1, float),
        ("GaussianTransport", "rank", 2.0, int),
        ("LowRankAffine", "transport_cost", 0, float),
    ):
        assert type(getattr(build_method(name, {key: value}), key)) is stored
    assert build_method("ClassifierGradient", {"hidden": [8.0, 8]}).hidden == (8, 8)  # type: ignore[union-attr]


def test_a_plugin_whose_annotations_cannot_be_looked_up_is_asked_nothing():
    @dataclass(frozen=True)
    class Foreign:
        rank: "NotThere" = 2  # type: ignore[name-defined]

    assert option_types(Foreign) == {}
    assert of_type(2.5, option_types(Foreign).get("rank", Any), "Foreign.rank") == 2.5


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

"""What was registered stays, and a hypothesis that changed afterwards says nothing."""

import hashlib
import importlib.util
import inspect
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steerlens.errors import ArtefactError, OptionError
from steerlens.theories import (
    AnyDirectionWorks,
    Hypothesis,
    LinearRepresentation,
    Outcome,
    PlantedCase,
    Registration,
    judge_all,
    register,
    registrations,
)
from steerlens.theories._frozen_code import rule_version

WHEN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
T1, T18 = LinearRepresentation(), AnyDirectionWorks()


def test_what_is_registered_is_read_back(tmp_path: Path):
    given = register([T1, T18], tmp_path / "study", when=WHEN)
    found = registrations(tmp_path / "study")
    assert found == {r.hypothesis: r for r in given}
    assert found["T1"].when == WHEN
    assert found["T1"].fingerprint == T1.fingerprint
    assert json.loads(found["T1"].text)["fields"]["gain"] == 0.1


def test_registering_again_keeps_the_first_time_and_writes_nothing(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    before = (tmp_path / "registrations.jsonl").read_bytes()
    again = register([T1], tmp_path, when=LATER)
    assert again[0].when == WHEN
    assert (tmp_path / "registrations.jsonl").read_bytes() == before
    register([T18], tmp_path, when=LATER)
    assert (tmp_path / "registrations.jsonl").read_bytes().startswith(before)


def test_a_changed_hypothesis_cannot_be_registered_over(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    with pytest.raises(OptionError, match="T1 was registered on 2026-11-21 12:00 with other content"):
        register([replace(T1, gain=0.5)], tmp_path, when=LATER)


def test_a_verdict_over_a_changed_hypothesis_is_void(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    records, frozen = T1.planted(PlantedCase.TRUE, seed=1), registrations(tmp_path)["T1"]
    assert T1.judge(records, registered=frozen).outcome is Outcome.SUPPORTED
    verdict = replace(T1, gain=0.5).judge(records, registered=frozen)
    assert verdict.outcome is Outcome.VOID
    assert "T1 is not the T1 that was registered on 2026-11-21 12:00" in verdict.reason


def test_in_a_study_the_unregistered_are_void(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    records = T1.planted(PlantedCase.TRUE, seed=1)
    one, other = judge_all([T1, T18], records, registered=registrations(tmp_path))
    assert one.outcome is Outcome.SUPPORTED
    assert other.outcome is Outcome.VOID
    assert "not registered" in other.reason


def test_nothing_is_registered_where_there_is_no_log(tmp_path: Path):
    assert registrations(tmp_path) == {}


def test_a_line_that_was_cut_off_is_ignored_and_written_over(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    path = tmp_path / "registrations.jsonl"
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert set(registrations(tmp_path)) == {"T1"}
    register([T18], tmp_path, when=LATER)
    assert set(registrations(tmp_path)) == {"T1", "T18"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'\\"gain\\": 0.1', b'\\"gain\\": 0.2', "Was it edited"),
        (b'"when"', b'"wenn"', "not a registration"),
        (b"+00:00", b"", "its zone"),
        (b"{", b"[", "not a registration"),
    ],
)
def test_an_edited_log_is_refused_by_line(tmp_path: Path, old: bytes, new: bytes, message: str):
    register([T1], tmp_path, when=WHEN)
    path = tmp_path / "registrations.jsonl"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ArtefactError, match=f"line 1.*{message}"):
        registrations(tmp_path)


def test_a_line_that_stands_twice_is_refused(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    path = tmp_path / "registrations.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ArtefactError, match="line 2 registers T1 a second time"):
        registrations(tmp_path)


def test_a_time_without_a_zone_and_ids_that_repeat_are_refused(tmp_path: Path):
    with pytest.raises(OptionError, match="time zone"):
        register([T1], tmp_path, when=WHEN.replace(tzinfo=None))
    with pytest.raises(OptionError, match="id of its own"):
        register([T1, T1], tmp_path, when=WHEN)


MODULE = """
from dataclasses import dataclass
from typing import ClassVar

from steerlens.theories import *

MARGIN = 0.0


def shifted(x):
    {shifted}


class Base(Hypothesis):
    def evidence(self, records, *, level):
        w = self.read(records)
        return Evidence({{"mean": mean_over(shifted(w["e"]), units_in(w), level=level)}}, (), len(w))


@dataclass(frozen=True, kw_only=True)
class Mine(Base):
    id: ClassVar[str] = "mine"
    theory: ClassVar[str] = "It rises."
    citations: ClassVar[tuple[str, ...]] = ("holm1979",)
    population: ClassVar[str] = "Simulated concepts."
    design: ClassVar[str] = "One number a concept."

    @property
    def quantities(self):
        return {{"e": Quantity("effect")}}

    @property
    def predictions(self):
        return (Prediction("mean", "mean", "above", MARGIN, MARGIN),)

    def planted(self, case, *, seed):
        return tidy(PlantedStudy.of(seed).measured("effect", 1.0, 0.1))


def unrelated():
    return {unrelated}
"""


def written(folder: Path, name: str, **parts: str) -> Hypothesis:
    """The hypothesis of a module on disk."""
    text = MODULE.format(**{"shifted": "return x", "unrelated": "1"} | parts)
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.Mine()


@pytest.mark.parametrize(
    ("change", "void"),
    [
        ({}, False),
        ({"unrelated": "2"}, False),
        ({"shifted": '"""Nothing is done."""\n    return x  # at all'}, False),
        ({"shifted": "return x + 5"}, True),
    ],
)
def test_what_a_hypothesis_uses_is_frozen_with_it_and_nothing_else(tmp_path: Path, change: dict[str, str], void: bool):
    """The helper is called by an inherited method: neither is in the class's own text."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    register([written(before, "mine_frozen")], tmp_path, when=WHEN)
    changed = written(after, "mine_frozen", **change)
    records = changed.planted(PlantedCase.TRUE, seed=0)
    verdict = changed.judge(records, registered=registrations(tmp_path)["mine"])
    assert (verdict.outcome is Outcome.VOID) == void


def test_a_constant_of_the_module_is_frozen_too(tmp_path: Path):
    first = written(tmp_path, "mine_constant")
    before = first.fingerprint
    vars(sys.modules["mine_constant"])["MARGIN"] = -1.0
    assert first.fingerprint != before


def test_another_rule_is_said_and_voids_nothing(tmp_path: Path):
    register([T1], tmp_path, when=WHEN)
    frozen, records = registrations(tmp_path)["T1"], T1.planted(PlantedCase.TRUE, seed=1)
    assert frozen.rule == rule_version()
    assert "rule" not in T1.judge(records, registered=frozen).reason
    later = T1.judge(records, registered=replace(frozen, rule="0123456789abcdef"))
    assert later.outcome is Outcome.SUPPORTED
    assert f"Judged by rule {rule_version()}; registered under 0123456789abcdef" in later.reason


def test_a_registration_of_before_the_rule_was_kept_freezes_the_text_of_the_class():
    """As the stored examples have it: a hash of the class's source, and no rule."""
    source = hashlib.sha256(inspect.getsource(LinearRepresentation).encode()).hexdigest()
    document = {k: v for k, v in json.loads(T1.canonical).items() if k != "code"} | {"source": source}
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    old = Registration("T1", hashlib.sha256(text.encode()).hexdigest(), WHEN, text)
    records = T1.planted(PlantedCase.TRUE, seed=1)
    verdict = T1.judge(records, registered=old)
    assert verdict.outcome is Outcome.SUPPORTED
    assert "frozen without the rule" in verdict.reason
    assert replace(T1, gain=0.5).judge(records, registered=old).outcome is Outcome.VOID

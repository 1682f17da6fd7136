"""Parts of studies: whole or not there, of one plan, of one model's weights."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from steerlens.errors import ArtefactError, ModelError, OptionError
from steerlens.experiments import StoredParts, StudyPart, _stored_parts

FOUND = StudyPart(
    pd.DataFrame({"input": ["cat", "dog"], "accuracy": [1.0, 0.0]}), {"task vector": "no prompt is right"}
)
KEY = ("org/model", "float32", "plural", "abc")


def stored_in(folder: Path, plan: str = "plan") -> StoredParts:
    return StoredParts(folder, plan)


def test_a_part_comes_back_as_it_was(tmp_path: Path):
    stored = stored_in(tmp_path)
    assert not stored.has(*KEY)
    assert stored.read(*KEY) is None
    stored.write(*KEY, "revision 1", FOUND)
    again = stored_in(tmp_path).read(*KEY)
    assert again is not None
    pd.testing.assert_frame_equal(again.frame, FOUND.frame)
    assert again.notes == FOUND.notes


@pytest.mark.parametrize(
    "other",
    [
        ("org/model", "float32", "plural", "abd"),
        ("org/model", "bfloat16", "plural", "abc"),
        ("org/model", "float32", "plurals", "abc"),
        ("org-model", "float32", "plural", "abc"),
    ],
    ids=["data", "precision", "part", "model"],
)
def test_parts_of_other_data_precision_task_or_model_are_others(tmp_path: Path, other: tuple[str, str, str, str]):
    stored = stored_in(tmp_path)
    stored.write(*KEY, "revision 1", FOUND)
    assert stored.has(*KEY)
    assert not stored.has(*other)


def test_a_part_that_was_cut_off_before_its_json_is_not_there(tmp_path: Path):
    stored = stored_in(tmp_path)
    stored.write(*KEY, "revision 1", FOUND)
    next(tmp_path.glob("parts/*/*.json")).unlink()
    assert not stored.has(*KEY)
    assert stored.read(*KEY) is None


def test_a_folder_belongs_to_one_plan(tmp_path: Path):
    stored_in(tmp_path, "plan with n_test=20")
    stored_in(tmp_path, "plan with n_test=20")
    with pytest.raises(OptionError, match=r"another plan.*n_test=20.*there.*n_test=30.*here.*give another folder"):
        stored_in(tmp_path, "plan with n_test=30")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OptionError, match="is a file"):
        stored_in(file)


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path):
    stored = stored_in(tmp_path)
    stored.check_weights("org/model", "float32", "revision 2")
    stored.write(*KEY, "revision 1", FOUND)
    stored.check_weights("org/model", "float32", "revision 1")
    stored.check_weights("org/model", "bfloat16", "revision 2")
    with pytest.raises(ModelError, match=r"'revision 2'.*'revision 1'"):
        stored.check_weights("org/model", "float32", "revision 2")


def changed_on_disk(folder: Path, ending: str, change: Callable[[bytes], bytes]) -> None:
    [path] = folder.glob(f"parts/*/*{ending}")
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("ending", "change"),
    [
        (".parquet", lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:]),
        (".parquet", lambda raw: raw[: len(raw) // 2]),
        (".json", lambda raw: raw[:-10]),
        (".json", lambda raw: json.dumps({k: v for k, v in json.loads(raw).items() if k != "sha256"}).encode()),
    ],
    ids=["a bit", "half of the rows", "half of the notes", "no hash"],
)
def test_a_damaged_part_is_not_stored_and_is_written_anew(
    tmp_path: Path, ending: str, change: Callable[[bytes], bytes]
):
    stored = stored_in(tmp_path)
    stored.write(*KEY, "revision 1", FOUND)
    assert stored.has(*KEY)
    changed_on_disk(tmp_path, ending, change)
    assert not stored.has(*KEY)
    assert stored.read(*KEY) is None
    stored.write(*KEY, "revision 1", FOUND)
    again = stored.read(*KEY)
    assert again is not None
    pd.testing.assert_frame_equal(again.frame, FOUND.frame)


def test_a_part_without_its_rows_is_not_stored(tmp_path: Path):
    stored = stored_in(tmp_path)
    stored.write(*KEY, "revision 1", FOUND)
    assert stored.holds(*KEY[:2])
    next(tmp_path.glob("parts/*/*.parquet")).unlink()
    assert not stored.has(*KEY)
    assert stored.read(*KEY) is None
    assert not stored.holds(*KEY[:2])


def test_a_damaged_plan_is_an_error(tmp_path: Path):
    stored_in(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(["a list"]))
    with pytest.raises(ArtefactError, match="holds a list"):
        stored_in(tmp_path)
    (tmp_path / "study.json").write_text('{"plan"')
    with pytest.raises(ArtefactError, match=r"cannot be read.*Give another folder"):
        stored_in(tmp_path)


def test_what_other_code_measured_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stored_in(tmp_path)
    monkeypatch.setattr(_stored_parts, "protocol_version", lambda: "0.1.0+other")
    with pytest.raises(OptionError, match=r"other code: 0\..* there, 0\.1\.0\+other here.*give another folder"):
        stored_in(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"plan": "plan"}))
    with pytest.raises(OptionError, match="other code: unknown there"):
        stored_in(tmp_path)


def test_of_two_writers_of_a_part_the_first_one_s_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second begins between the first one's rows and notes, and waits for the lock."""
    real, second = _stored_parts.write_whole, StudyPart(FOUND.frame.assign(accuracy=0.5), {"other": "notes"})
    stored, other, threads = stored_in(tmp_path), stored_in(tmp_path), []

    def interrupted(path: Path, data: bytes) -> None:
        if path.suffix == ".json" and not threads:
            threads.append(threading.Thread(target=lambda: other.write(*KEY, "revision 1", second)))
            threads[0].start()
            threads[0].join(timeout=0.3)
        real(path, data)

    monkeypatch.setattr(_stored_parts, "write_whole", interrupted)
    stored.write(*KEY, "revision 1", FOUND)
    threads[0].join(timeout=30)
    found = stored.read(*KEY)
    assert found is not None
    pd.testing.assert_frame_equal(found.frame, FOUND.frame)
    assert found.notes == FOUND.notes


@pytest.mark.slow
def test_two_processes_that_write_the_same_parts_do_not_disturb_each_other(tmp_path: Path):
    code = (
        "import sys, pandas as pd\n"
        "from steerlens.experiments import StoredParts, StudyPart\n"
        "stored = StoredParts(sys.argv[1], 'plan')\n"
        "for i in range(40):\n"
        "    part = StudyPart(pd.DataFrame({'who': [sys.argv[2]] * 500}), {'who': sys.argv[2]})\n"
        "    stored.write('m', 'float32', f'part {i}', 'data', 'r', part)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who], stderr=subprocess.PIPE) for who in "ab"
    ]
    said = [w.communicate(timeout=120)[1].decode() for w in writers]
    assert [w.returncode for w in writers] == [0, 0], said
    stored = stored_in(tmp_path)
    for i in range(40):
        found = stored.read("m", "float32", f"part {i}", "data")
        assert found is not None
        assert set(found.frame["who"]) == {found.notes["who"]}
    assert not list(tmp_path.rglob("*.unfinished"))

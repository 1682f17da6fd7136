"""Parts of studies: whole or not there, of one plan, of one model's weights."""

import json
from pathlib import Path

import pandas as pd
import pytest

from steerlens.errors import ArtefactError, ModelError, OptionError
from steerlens.experiments import StoredParts, StudyPart

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


def test_damaged_files_are_errors_that_say_what_to_delete(tmp_path: Path):
    stored = stored_in(tmp_path)
    stored.write(*KEY, "revision 1", FOUND)
    next(tmp_path.glob("parts/*/*.parquet")).write_bytes(b"not parquet")
    with pytest.raises(ArtefactError, match="Delete it"):
        stored.read(*KEY)
    (tmp_path / "study.json").write_text(json.dumps(["a list"]))
    with pytest.raises(ArtefactError, match="holds a list"):
        stored_in(tmp_path)

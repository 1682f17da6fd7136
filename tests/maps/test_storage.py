"""Saved maps: what is refused, and in which words."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from steerlens.errors import ArtefactError, UnknownNameError
from steerlens.maps import MeanShift, SteeringMap, load_map, method_by_name, read_manifest, save_map
from steerlens.testing import gaussian_samples


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_map(MeanShift().fit(*gaussian_samples()), tmp_path / "m", provenance={"model": "tiny", "site": "x"})


def test_the_manifest_says_where_the_map_comes_from(saved: Path):
    manifest = read_manifest(saved)
    assert manifest.map == "AdditiveMap"
    assert manifest.d_model == 12
    assert manifest.provenance == {"model": "tiny", "site": "x"}


def test_an_unknown_schema_is_named(saved: Path):
    document = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(document | {"schema": "steerlens/map/99"}))
    with pytest.raises(ArtefactError, match="steerlens/map/99"):
        load_map(saved)


def test_a_changed_tensor_file_is_refused(saved: Path):
    data = bytearray((saved / "map.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "map.safetensors").write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="not the file its manifest describes"):
        load_map(saved)


def test_missing_and_broken_files_are_named(saved: Path, tmp_path: Path):
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_map(tmp_path / "nowhere")
    (saved / "map.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"no map\.safetensors"):
        load_map(saved)
    (saved / "manifest.json").write_text("{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        load_map(saved)


def test_an_unknown_class_is_not_imported(saved: Path):
    document = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(document | {"map": "os.system"}))
    with pytest.raises(UnknownNameError, match="not a known steering map"):
        load_map(saved)


def test_a_field_that_cannot_be_stored_is_named(tmp_path: Path):
    @dataclass(frozen=True, eq=False)
    class Odd(SteeringMap):
        names: list[str]

        def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
            return torch.zeros_like(x)

    with pytest.raises(ArtefactError, match="'names' of Odd is a list"):
        save_map(Odd(["a"]), tmp_path, provenance={})


def test_an_unknown_method_suggests_a_neighbour():
    with pytest.raises(UnknownNameError, match="MeanShift"):
        method_by_name("MeenShift")

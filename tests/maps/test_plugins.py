"""Methods of other packages: announced by an entry point, listed, compared by name, and refused when broken."""

import shutil
from pathlib import Path

import pytest
import torch

from steerlens.errors import OptionError, UnknownNameError
from steerlens.maps import SteeringMap, SteeringMethod, method_by_name, method_names, method_summaries
from steerlens.testing import MapLaws, MethodLaws, Samples

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_map.py"


def announce(folder: Path, package: str, entries: str) -> None:
    """What installing a package with these entry points leaves behind."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[steerlens.maps]\n{entries}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of imports that holds the example as a package of its own."""
    shutil.copy(EXAMPLE, tmp_path / "median_maps.py")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def median_shift(installed: Path) -> SteeringMethod:
    announce(installed, "median-maps", "MedianShift = median_maps:MedianShift")
    return method_by_name("MedianShift")


class TestExampleMap(MapLaws):
    @pytest.fixture
    def steering_map(self, median_shift: SteeringMethod, samples: Samples) -> SteeringMap:
        return median_shift.fit(*samples)


class TestExampleMethod(MethodLaws):
    @pytest.fixture
    def method(self, median_shift: SteeringMethod) -> SteeringMethod:
        return median_shift


def test_an_announced_method_is_listed_with_its_package(median_shift: SteeringMethod):
    assert "MedianShift" in method_names()
    listed = {m.name: m for m in method_summaries()}["MedianShift"]
    assert listed.package == "median-maps"
    assert listed.family == "additive"
    assert "outliers" in listed.assumes
    fitted = median_shift.fit(torch.zeros(3, 2), torch.tensor([[1.0, 2.0], [1.0, 2.0], [100.0, 2.0]]))
    assert fitted(torch.zeros(1, 2)).tolist() == [[1.0, 2.0]]


def test_without_the_announcement_there_is_no_such_method(installed: Path):
    with pytest.raises(UnknownNameError, match="MedianShift"):
        method_by_name("MedianShift")


def test_a_broken_package_is_named_and_stops_nobody_else(installed: Path):
    announce(installed, "broken-maps", "Broken = no_such_module:Broken\nEmpty = pathlib:Path")
    for name, message in (("Broken", "'broken-maps' cannot be loaded"), ("Empty", "neither fit")):
        with pytest.raises(OptionError, match=message):
            method_by_name(name)
    listed = {m.name: m for m in method_summaries()}
    assert "cannot be loaded" in listed["Broken"].what
    assert listed["MeanShift"].package == "steerlens"
    assert isinstance(method_by_name("MeanShift"), SteeringMethod)


def test_our_names_stay_ours(installed: Path):
    announce(installed, "impostor", "MeanShift = median_maps:MedianShift")
    assert type(method_by_name("MeanShift")).__module__.startswith("steerlens.")
    assert [m.package for m in method_summaries() if m.name == "MeanShift"] == ["steerlens"]


def test_two_packages_of_one_name_are_refused(installed: Path):
    announce(installed, "one", "MedianShift = median_maps:MedianShift")
    announce(installed, "two", "MedianShift = elsewhere:MedianShift")
    with pytest.raises(OptionError, match="Two packages announce"):
        method_by_name("MedianShift")

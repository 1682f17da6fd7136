"""The geometry's page: everything in the table, nothing unescaped, figures with what they say they show."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from steerlens.activations import Site
from steerlens.concepts import load_concept
from steerlens.errors import OptionError
from steerlens.evaluation import Geometry, geometry, transfer
from steerlens.models import load_model
from steerlens.probes import LogisticProbe, MLPProbe, QuadraticProbe
from steerlens.reports import draw_geometry, draw_transfer, prepare_geometry_profiles, write_geometry
from steerlens.reports._geometry_page import geometry_lead

FEW = (LogisticProbe(), QuadraticProbe(), MLPProbe(16))


@pytest.fixture(scope="module")
def days() -> Geometry:
    sites = [Site.resid_post(1), Site.resid_post(2)]
    return geometry(load_model("tiny-llama"), load_concept("weekdays"), sites, probes=FEW, seeds=(0,))


def test_the_profiles_are_those_of_the_frame(days: Geometry):
    frame = days.to_frame()
    probes, gaps, pairs, shares = prepare_geometry_profiles(days)
    assert [line.name for line in probes.lines] == ["linear", "quadratic", "mlp"]
    assert list(probes.band["layer"]) == [1, 2]
    for profile, quantity in ((gaps, "gap_high"), (shares, "linear")):
        wanted = list(frame[frame["quantity"] == quantity]["value"])
        assert any(list(line.points["value"]) == wanted for line in profile.lines), quantity
    assert pairs.unit == "share"


def test_the_page_says_that_groups_are_too_few_and_not_that_nothing_is_there():
    pairs = load_concept("sentiment")
    kept = pairs.groups[:24]
    few = replace(pairs, pairs=tuple(p for p in pairs if p.group in kept))
    found = geometry(load_model("tiny-llama"), few, [Site.resid_post(1)], probes=FEW, seeds=(0,))
    assert found.few_groups
    assert geometry_lead(found).startswith("Too few groups are left")
    assert "too few to show anything" in found.readings[0].text
    assert found.readings[0].rung == "none"


def test_the_figure_has_four_profiles_and_a_ring_for_each_layer(days: Geometry):
    figure = draw_geometry(days)
    titles = [a.get_title(loc="left") for a in figure.axes]
    assert sum(t.startswith("layer ") for t in titles) == 2
    assert len(figure.axes) == 6
    texts = {t.get_text() for a in figure.axes for t in a.texts}
    assert {"Monday", "Sunday"} <= texts
    plain = draw_geometry(replace(days, layers=tuple(replace(layer, ring=None) for layer in days.layers)))
    assert len(plain.axes) == 4


def test_the_page_is_whole_and_escapes_what_it_shows(days: Geometry, tmp_path: Path):
    hostile = replace(days, concept="<script>alert(1)</script>", model="a&b")
    page = write_geometry(hostile, tmp_path / "new", command="steerlens geometry --model '<x>'")
    text = page.read_text("utf-8")
    HTMLParser().feed(text)
    assert "<script" not in text
    assert "&lt;x&gt;" in text
    assert text.count("<figure") == 6
    for layer in days.layers:
        assert f">{layer.reading.rung}<" in text
    assert (tmp_path / "new" / "geometry.png").stat().st_size > 10_000
    stored = pd.read_parquet(tmp_path / "new" / "geometry.parquet")
    assert len(stored) == len(days.to_frame())
    with pytest.raises(OptionError, match="is a file"):
        write_geometry(days, page)


def test_a_transfer_is_a_square_of_its_numbers():
    sets = {"sentiment": load_concept("sentiment"), "formality": load_concept("formality")}
    found = transfer(load_model("tiny-llama"), sets, Site.resid_post(1))
    texts = [t.get_text() for a in draw_transfer(found).axes for t in a.texts]
    assert len(texts) == 4
    first = found.to_frame().iloc[0]
    assert texts[0].startswith(f"{first['auroc']:.2f}")

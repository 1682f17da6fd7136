"""Figures of planted geometry: clouds and grids hold what the table holds."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from steerlens.concepts import planted
from steerlens.errors import UnknownNameError
from steerlens.evaluation import PlantedTable, planted_table
from steerlens.maps import GaussianTransport, MeanShift
from steerlens.reports import (
    draw_planted_grid,
    draw_planted_maps,
    draw_planted_table,
    prepare_planted_grids,
    prepare_planted_panels,
)

pytestmark = pytest.mark.slow  # one table for all: three seconds


@pytest.fixture(scope="module")
def table() -> PlantedTable:
    plants = [planted(name) for name in ("linear", "onion3", "parity3")]
    return planted_table((MeanShift(), GaussianTransport()), plants, n=200, n_test=200, n_judge=2000)


def test_there_is_one_panel_per_map_with_the_numbers_of_the_table(table: PlantedTable):
    data = prepare_planted_panels(table, "linear")
    assert [p.method for p in data.panels] == ["identity", "MeanShift", "GaussianTransport", "true map"]
    own = table.maps[table.maps["plant"] == "linear"].set_index("method")
    for panel in data.panels:
        assert panel.energy == own.loc[panel.method, "energy"]
        assert panel.p_target == own.loc[panel.method, "p_target"]
    assert [p.reached for p in data.panels] == [False, True, True, True]


def test_clouds_are_where_the_maps_put_them(table: PlantedTable):
    data = prepare_planted_panels(table, "linear")
    means = {p.method: p.moved.mean(axis=0) for p in data.panels}
    assert_allclose(means["identity"], [-1, 0], atol=0.1)
    assert_allclose(means["true map"], [1, 0], atol=0.1)
    assert_allclose(data.target.mean(axis=0), [1, 0], atol=0.1)


def test_views_separate_what_plain_coordinates_hide(table: PlantedTable):
    """Spheres by their radius; parity as exclusive or, with signs that agree in the target."""
    onion = prepare_planted_panels(table, "onion3")
    assert_allclose(np.linalg.norm(onion.target, axis=1).mean(), 2, atol=0.05)
    assert onion.labels == ("z₁", "√(z₂² + z₃²)")
    parity = prepare_planted_panels(table, "parity3")
    assert (parity.target.prod(axis=1) > 0).mean() > 0.95
    assert (parity.panels[0].moved.prod(axis=1) < 0).mean() > 0.95


def test_shades_run_from_the_goal_to_the_identity(table: PlantedTable):
    probability, energy = prepare_planted_grids(table)
    for grid in (probability, energy):
        assert (grid.shade.loc["identity"] == 1).all()
        assert (grid.shade.loc["true map"] < 0.1).all()
        assert list(grid.values.columns) == ["linear", "onion3", "parity3"]
    assert energy.reached.loc["MeanShift"].tolist() == [True, False, False]
    assert energy.reached.loc["GaussianTransport", "linear"]
    assert not energy.reached.loc["GaussianTransport", "parity3"]


def test_grids_print_every_number_and_mark_what_is_missing(table: PlantedTable):
    holed = table.maps.copy()
    holed.loc[1, ["p_target", "energy"]] = np.nan
    grid = prepare_planted_grids(replace(table, maps=holed))[1]
    axes = Figure().subplots()
    draw_planted_grid(grid, axes, decimals=3)
    texts = [t.get_text() for t in axes.texts]
    assert len(texts) == 12
    assert texts.count("—") == 1


def test_a_map_that_was_not_fitted_has_an_empty_panel(table: PlantedTable):
    fits = tuple(replace(f, steering_map=None) if f.method == "MeanShift" else f for f in table.fits)
    figure = draw_planted_maps(replace(table, fits=fits), "linear")
    said = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert said.count("not fitted") == 1


def test_figures_have_a_panel_per_map_and_both_grids(table: PlantedTable):
    figure = draw_planted_maps(table, "parity3")
    assert [a.get_title("left") for a in figure.axes if a.get_visible()] == [
        "identity", "MeanShift", "GaussianTransport", "true map",
    ]  # fmt: skip
    assert len(draw_planted_table(table).axes) == 2


def test_an_unknown_plant_is_refused(table: PlantedTable):
    with pytest.raises(UnknownNameError, match="'parity3'"):
        prepare_planted_panels(table, "parity")

"""The nonlinearity gap on planted data: none, of second order, of higher order."""

import numpy as np
import pytest
from probes.labelled import splits

from steerlens.errors import OptionError
from steerlens.probes._families import LogisticProbe, MLPProbe, QuadraticProbe
from steerlens.probes._gap import NonlinearityGap, nonlinearity_gap
from steerlens.probes._scores import ProbeTable, probe_table

PROBES = (LogisticProbe(), QuadraticProbe(), MLPProbe(16), MLPProbe(64))


def table(name: str) -> ProbeTable:
    return probe_table(*splits(name, 600, test=800), probes=PROBES)


def gap(name: str) -> NonlinearityGap:
    return nonlinearity_gap(table(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "null"])
def test_a_linear_concept_has_no_gap(name):
    found = gap(name)
    for part in (found.total, found.quadratic, found.high):
        assert abs(part.value) < 0.02
        assert part.low < 0.01
        assert part.high > -0.01


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("xor2", 0.9), ("onion3", 0.9), ("gauss2", 0.2)])
def test_a_concept_of_second_moments_has_a_quadratic_gap(name, least):
    found = gap(name)
    assert found.quadratic.low > least
    assert abs(found.high.value) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parity3", "ring6"])
def test_a_concept_of_third_moments_has_a_higher_gap(name):
    found = gap(name)
    assert found.high.low > 0.8
    assert abs(found.quadratic.value) < 0.05
    assert dict(found.by_probe)["mlp-64"].low > 0.8


def test_the_parts_add_up_and_are_differences_of_bits():
    scored = table("gauss2")
    found = nonlinearity_gap(scored)
    assert found.total.value == pytest.approx(found.quadratic.value + found.high.value, abs=1e-12)
    nll = {r.name: r.scores.nll.value for r in scored.results}
    assert found.total.value == pytest.approx(nll[found.linear_probe] - nll[found.nonlinear_probe])
    assert found.quadratic.value == pytest.approx(nll[found.linear_probe] - nll[found.quadratic_probe])
    # Paired: shorter than what two independent intervals would give.
    linear, other = (scored[p].scores.nll for p in (found.linear_probe, found.nonlinear_probe))
    assert found.total.high - found.total.low < (linear.high - linear.low) + (other.high - other.low)
    assert "bits" in str(found)


def test_probes_are_chosen_by_select_rows():
    scored = table("gauss2")
    found = nonlinearity_gap(scored)
    widths = [r for r in scored.results if r.function_class == "mlp"]
    assert found.nonlinear_probe == min(widths, key=lambda r: r.select_nll).name
    assert np.isfinite([r.select_nll for r in widths]).all()


def test_a_table_without_a_class_has_no_gap():
    scored = probe_table(*splits("linear", 40), probes=(LogisticProbe(),))
    with pytest.raises(OptionError, match="class quadratic"):
        nonlinearity_gap(scored)

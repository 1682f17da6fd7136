"""Selectivity: a probe that learns types by heart is found out."""

import pytest
import torch
from probes.labelled import rows

from steerlens.errors import OptionError
from steerlens.probes._controls import selectivity
from steerlens.probes._families import LogisticProbe, NearestNeighbours
from steerlens.probes._rows import LabelledRows

TYPES = 60
EACH = 6


def typed(identity: float, concept: float, *, seed: int = 0, width: int = 40) -> LabelledRows:
    """Rows of types that lie ``identity`` apart, each with rows of both labels that lie ``concept`` apart."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.arange(TYPES).repeat_interleave(EACH)
    y = torch.arange(TYPES * EACH) % 2
    x = identity * torch.randn(TYPES, width, generator=g, dtype=torch.float64)[kind]
    x = x + 0.3 * torch.randn(len(kind), width, generator=g, dtype=torch.float64)
    x[:, 0] += concept * (2 * y - 1)
    return LabelledRows(x, y, tuple(kind.tolist()))


def test_a_linear_concept_without_identities_is_selective():
    found = selectivity(typed(0.0, 1.0))
    assert found.task.low > 0.9
    assert found.control.low < 0.5 < found.control.high
    assert found.selectivity.low > 0.25
    assert found.n_types == TYPES


def test_neighbours_learn_types_by_heart():
    by_heart = selectivity(typed(1.0, 0.3), probe=NearestNeighbours((1, 3)))
    assert by_heart.control.low > 0.9
    assert by_heart.selectivity.high < 0.1
    assert selectivity(typed(1.0, 3.0), probe=LogisticProbe()).task.low > 0.9


def test_selectivity_is_the_paired_difference():
    found = selectivity(typed(1.0, 1.0))
    assert found.selectivity.value == pytest.approx(found.task.value - found.control.value)
    assert "selectivity" in str(found)


def test_the_twin_of_a_row_seen_misleads_a_probe_of_neighbours():
    g = torch.Generator().manual_seed(0)
    base = 3 * torch.randn(80, 20, generator=g, dtype=torch.float64)
    pairs = LabelledRows.of_pairs(base, base + 0.1 * torch.randn(80, 20, generator=g, dtype=torch.float64), range(80))
    found = selectivity(pairs, probe=NearestNeighbours((1,)))
    assert found.control.low > 0.9
    assert found.selectivity.high < -0.3


def test_nothing_is_selective_about_nothing():
    found = selectivity(rows("null", 80, 0, pairs=True))
    assert found.selectivity.low < 0 < found.selectivity.high


def test_types_may_be_other_than_groups():
    data = typed(0.0, 1.0)
    coarse = selectivity(data, types=[g // 2 for g in data.groups])
    assert coarse.n_types == TYPES // 2
    assert coarse.task.n_clusters <= TYPES


def test_errors_name_what_is_wrong():
    data = rows("linear", 20, 0)
    with pytest.raises(OptionError, match="six types"):
        selectivity(data)
    with pytest.raises(OptionError, match="needs a type"):
        selectivity(data, types=[1, 2, 3])

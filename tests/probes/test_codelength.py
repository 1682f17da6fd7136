"""The prequential code: what it costs, and that nobody knows a label before it is sent."""

import numpy as np
import pytest
from probes.labelled import rows

from steerlens.errors import OptionError
from steerlens.probes._codelength import FRACTIONS, block_ends, codelength
from steerlens.probes._families import LogisticProbe, MLPProbe, NearestNeighbours, QuadraticProbe

SOME = (LogisticProbe(), QuadraticProbe(), NearestNeighbours())


def code(name: str, n: int = 150, probes=SOME, **options):
    found = codelength(rows(name, n, 1, **options), rows(name, 60, 2, **options), probes=probes)
    return {c.probe: c for c in found}


def test_a_linear_concept_is_compressed_and_noise_is_not():
    linear, null = code("linear")["logistic"], code("null")["logistic"]
    assert linear.compression > 3
    assert linear.surplus.low > 0.5
    assert 0.9 < null.compression < 1.05
    assert null.surplus.low < 0.03
    assert linear.control.value == pytest.approx(1.0, abs=0.1)
    assert linear.kilobits == pytest.approx(linear.bits.value * 300 / 1000)
    assert "kbit" in str(linear)


@pytest.mark.slow
def test_the_class_that_fits_has_the_shorter_code():
    found = code("xor2", probes=(*SOME, MLPProbe(16)))
    assert found["logistic"].bits.value > 0.95
    assert found["quadratic"].bits.high < 0.6
    assert found["mlp-16"].bits.high < 0.6
    linear = code("linear", probes=(LogisticProbe(), NearestNeighbours()))
    assert linear["logistic"].bits.value < linear["knn"].bits.value


def test_blocks_hold_whole_groups_and_every_row_once():
    codes = np.repeat(np.arange(50), 4)
    order, ends = block_ends(codes, (0.01, 0.1, 0.5, 1.0), np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(200))
    assert ends == [4, 20, 100, 200]
    for end in ends[:-1]:
        assert not set(codes[order[:end]]) & set(codes[order[end:]])
    assert (order != block_ends(codes, (1.0,), np.random.default_rng(1))[0]).any()


def test_labels_that_were_not_sent_are_not_known():
    """Flip the labels of the last block: the bits of blocks before it stay."""
    from steerlens.probes._codelength import _sent

    data, select = rows("linear", 60, 1), rows("linear", 30, 2)
    codes = np.arange(120)
    probes, fractions = (LogisticProbe(),), (0.1, 0.25, 0.5, 1.0)
    generator = np.random.default_rng([0, 3])
    order, ends = block_ends(codes, fractions, generator)
    y = data.labels().copy()
    y[order[ends[-2] :]] ^= 1
    before = _sent(data, select, codes, probes, fractions, 0)[0, 0]
    after = _sent(data.relabelled(y), select, codes, probes, fractions, 0)[0, 0]
    # Up to rounding, as permuted labels, which do change, are fitted in the same computation.
    np.testing.assert_allclose(before[order[: ends[-2]]], after[order[: ends[-2]]], rtol=1e-9)
    assert after[order[ends[-2] :]].mean() > 2 > before[order[ends[-2] :]].mean()
    assert (before[order[: ends[0]]] == 1).all()


def test_fractions_start_at_a_hundredth_with_few_rows():
    found = code("linear", probes=(LogisticProbe(),))["logistic"]
    assert found.fractions == tuple(f for f in FRACTIONS if f >= 0.01)
    assert found.orders == 3


def test_pairs_are_sent_together():
    found = code("linear", probes=(LogisticProbe(),), pairs=True)["logistic"]
    assert found.bits.n_clusters == 150
    assert found.bits.high < 0.6


def test_splits_must_not_share_groups():
    data = rows("linear", 30, 1)
    with pytest.raises(OptionError, match="share groups"):
        codelength(data, data)
    with pytest.raises(OptionError, match="needs a probe"):
        codelength(data, rows("linear", 30, 2), probes=())

"""Erase, then probe: the theorem on fit rows, the known answers, and the known false negative."""

import warnings

import numpy as np
import pytest
import torch
from probes.labelled import rows, splits

from steerlens.errors import OptionError
from steerlens.probes._erasure import _erased, erase, erase_then_probe
from steerlens.probes._linear_probes import lda_weights, mean_difference
from steerlens.probes._logistic import logistic_paths
from steerlens.probes._span import FitData

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, on import
    from concept_erasure import LeaceFitter


@pytest.mark.parametrize("width", [16, 300])
def test_no_linear_function_of_the_fit_rows_is_left(width):
    fit, select, _ = splits("linear", 60, width=width)
    data = FitData.of(fit, select)
    y = fit.labels()
    before = np.linalg.norm(mean_difference(data.fit, y))
    erased, _ = _erased(data, data.select, y)
    assert before > 0.3
    assert np.linalg.norm(mean_difference(erased.fit, y)) < 1e-9 * before
    weights, _ = logistic_paths(erased.fit, y[None], np.array([1.0, 100.0]))
    assert np.abs(weights).max() < 1e-6


def test_erasure_agrees_with_concept_erasure():
    fit = rows("heteroscedastic", 5000, 1)
    x, y = fit.features(), fit.labels()
    theirs = LeaceFitter.fit(fit.x, fit.y, shrinkage=False).eraser(fit.x).numpy()
    delta = mean_difference(x, y)
    w, intensity = lda_weights(x - x.mean(axis=0), y, 16)
    assert intensity < 0.01
    ours = erase(x, delta, w, x.mean(axis=0))
    moved = np.linalg.norm(theirs - x, axis=1).mean()
    # What is left is the shrinkage, which they leave out here.
    assert np.linalg.norm(ours - theirs, axis=1).mean() < 0.02 * moved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"),
    # What is erased where class means agree is a direction of chance; see methods.md C.5.
    [
        ("linear", 0.464, 0.53),
        ("xor2", 0.969, 1),
        ("onion3", 0.93, 1),
        ("gauss2", 0.67, 0.79),
        ("parity3", 0.964, 1),
        ("ring6", 0.922, 1),
    ],
)
def test_known_answers(name, low, high):
    found = erase_then_probe(*splits(name, 4000), seeds=(0,))
    assert low <= found.erased_mlp.value <= high
    assert found.erased_linear.value == pytest.approx(0.5, abs=0.03)
    assert found.refitted.value == pytest.approx(0.0, abs=0.1)
    assert found.left.value == pytest.approx(0.0, abs=0.18)  # twice √(4d/n)
    assert found.null_mlp.value == pytest.approx(0.5, abs=0.03)
    assert found.reading == ("nothing nonlinear" if name == "linear" else "nonlinear code beside the linear one")


@pytest.mark.slow
def test_the_known_false_negative_is_named():
    found = erase_then_probe(*splits("ctx", 4000), seeds=(0,))
    assert found.raw_linear.value == pytest.approx(0.695, abs=0.03)
    assert found.raw_mlp.value == pytest.approx(1.0, abs=0.01)
    assert found.erased_mlp.value == pytest.approx(0.525, abs=0.03)
    assert found.raw_gap.low > 0.25
    assert found.reading == "erasure took the nonlinear code with it"


@pytest.mark.slow
def test_the_readings_of_few_rows():
    assert erase_then_probe(*splits("linear", 150)).reading == "nothing nonlinear"
    assert erase_then_probe(*splits("null", 150)).reading == "nothing nonlinear"
    assert erase_then_probe(*splits("xor2", 150)).reading == "nonlinear code beside the linear one"


def test_what_an_eraser_of_few_rows_misses_is_reported():
    generator = torch.Generator().manual_seed(0)
    shift = torch.zeros(400, dtype=torch.float64)
    shift[:40] = 0.5

    def wide(n: int, name: str):
        from steerlens.probes._rows import LabelledRows

        x = torch.randn(2 * n, 400, generator=generator, dtype=torch.float64)
        y = torch.arange(2).repeat_interleave(n)
        return LabelledRows(x + y[:, None] * shift, y, tuple((name, i) for i in range(2 * n)))

    found = erase_then_probe(wide(40, "fit"), wide(60, "select"), wide(400, "test"), seeds=(0,))
    assert found.raw_linear.low > 0.7
    # √(4d/n) = 4.5 standard deviations of chance differences, in which ten or so of the true ones drown
    assert found.left.low > 0.3
    assert found.missed > 0.55
    assert found.reading == "nothing nonlinear"
    assert "missed" in str(found)


def test_an_eraser_of_other_rows_is_called_broken(monkeypatch):
    from steerlens.probes import _erasure

    wrong = _erasure._erased

    def along_noise(data, z, y):
        return wrong(data, z, np.random.default_rng(0).permutation(y))

    monkeypatch.setattr(_erasure, "_erased", along_noise)
    assert erase_then_probe(*splits("linear", 100), seeds=(0,)).reading == "broken eraser"


def test_splits_must_not_share_groups():
    fit, select, _ = splits("linear", 30)
    with pytest.raises(OptionError, match="share groups"):
        erase_then_probe(fit, select, fit)

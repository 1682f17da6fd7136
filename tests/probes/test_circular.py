"""Classes on a circle, classes that are only distinct, and classes that cannot be read."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlens.concepts import planted
from steerlens.errors import ActivationError, EstimateError, OptionError
from steerlens.probes._circular import _orders, circular_probe

TEMPLATES = 20


def rows(period: int, radius: float, seed: int = 0, *, width: int = 16, offsets: float = 0.0) -> tuple:
    """Every class once in each template: a circle, an offset of each class, of each template, and noise."""
    rng = np.random.default_rng(seed)
    j = np.tile(np.arange(period), TEMPLATES)
    template = np.repeat(np.arange(TEMPLATES), period)
    Q = np.linalg.qr(rng.normal(size=(width, width)))[0]
    angle = 2 * np.pi * j / period
    x = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ Q[:2]
    x += offsets * rng.normal(size=(period, width))[j] + rng.normal(size=(TEMPLATES, width))[template]
    x += rng.normal(size=x.shape)
    return torch.tensor(x), torch.tensor(j), period, template.tolist()


@pytest.mark.parametrize("period", [7, 12])
def test_a_circle_is_read_in_its_order_and_in_no_other(period: int):
    found = circular_probe(*rows(period, 6.0), seed=0)
    assert found.r_squared.low > 0.8
    assert found.p_value <= 1 / 360
    assert found.read.in_order
    assert found.principal.in_order
    assert found.harmonics[1].p_value > 0.3, "going round once is not going round twice"


@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_a_line_and_an_open_arc_are_no_ring(bend: float):
    """Seven classes along a line, straight or slightly bent: in order, read best in it, and not round anything."""
    rng = np.random.default_rng(0)
    j, template = np.tile(np.arange(7), TEMPLATES), np.repeat(np.arange(TEMPLATES), 7)
    along = j - 3.0
    x = np.stack([along, bend * along**2], axis=1) @ np.eye(2, 16) + 0.1 * rng.normal(size=(len(j), 16))
    found = circular_probe(torch.tensor(x), torch.tensor(j), 7, template.tolist(), seed=0)
    assert not found.principal.in_order
    if bend:
        assert found.p_value <= 1 / 360, "an arc is read better in its order, too: this p-value says nothing of closing"


def test_distinct_classes_are_read_in_any_order():
    """Offsets of each class make R² high for every order, and put the centroids into the order that was asked for."""
    found = circular_probe(*rows(7, 0.0, offsets=3.0), seed=0)
    assert found.r_squared.low > 0.7
    assert found.read.in_order
    assert found.p_value > 0.05
    assert not found.principal.in_order


def test_noise_is_not_read():
    found = circular_probe(*rows(7, 0.0), seed=0)
    assert found.r_squared.value < 0.1
    assert found.p_value > 0.05


def test_a_circle_that_goes_round_twice_is_the_second_harmonic():
    x, j, period, groups = rows(7, 4.0)
    # The class c = 4j lies at j = 2c on the circle, as 4 · 2 is 1 modulo 7.
    found = circular_probe(x, 4 * j % 7, period, groups, seed=0)
    assert found.harmonics[1].p_value <= 1 / 360
    assert found.p_value > 0.3


def test_the_angle_may_start_anywhere_and_run_either_way():
    x, j, period, groups = rows(7, 4.0)
    plain, turned = circular_probe(x, j, period, groups, seed=0), circular_probe(x, (2 - j) % 7, period, groups, seed=0)
    assert turned.r_squared.value == pytest.approx(plain.r_squared.value, abs=1e-6)
    assert turned.p_value == plain.p_value
    assert turned.principal.in_order


@pytest.mark.parametrize("period", [4, 5, 6, 7, 8])
def test_all_orders_are_each_tried_once(period: int):
    orders, exact = _orders(period, 0)
    assert exact
    assert len(orders) == math.factorial(period - 1) // 2

    def canonical(position: np.ndarray) -> tuple:
        ring = np.argsort(position)
        turned = [np.roll(r, -int(np.argmin(r))) for r in (ring, ring[::-1])]
        return min(tuple(t.tolist()) for t in turned)

    assert len({canonical(o) for o in orders}) == len(orders)
    assert canonical(np.arange(period)) in {canonical(o) for o in orders}


def test_many_classes_are_tried_in_random_orders():
    orders, exact = _orders(12, 0)
    assert not exact
    assert all(sorted(o) == list(range(12)) for o in orders[:20])


def test_r_squared_is_that_of_the_rows_it_returns():
    x, j, period, groups = rows(7, 4.0)
    found = circular_probe(x, j, period, groups, seed=0)
    angle = 2 * np.pi * j.numpy() / 7
    truth = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    left = ((truth - found.read.rows.numpy()) ** 2).sum()
    assert found.r_squared.value == pytest.approx(1 - left / ((truth - truth.mean(axis=0)) ** 2).sum(), abs=1e-9)
    centroid = found.read.rows[j == 3].mean(dim=0)
    torch.testing.assert_close(found.read.centroids[3], centroid)


def test_the_circle_goes_through_its_centroids():
    found = circular_probe(*rows(12, 6.0), seed=0)
    radii = (found.read.centroids - found.read.centre).norm(dim=1)
    assert radii.std() < 0.05
    assert found.read.radius == pytest.approx(float(radii.mean()), abs=0.02)
    assert found.read.radius == pytest.approx(1.0, abs=0.15)
    assert float(found.read.centre.norm()) < 0.1


def test_templates_are_held_out():
    """In 400 dimensions copies of a row in another template tell its class; held out with them, nothing does."""
    x, j, period, _ = rows(7, 0.0, width=400)
    copies, classes = torch.cat([x, x]), torch.cat([j, j])
    honest = [i // 7 % TEMPLATES for i in range(len(copies))]
    leaky = [i // 7 for i in range(len(copies))]
    assert circular_probe(copies, classes, period, honest, seed=0).r_squared.value < 0.05
    assert circular_probe(copies, classes, period, leaky, seed=0).r_squared.value > 0.3


def test_the_planted_ring_is_a_ring():
    plant = planted("ring", points=7)
    source = plant.sample(210, seed=0).source
    z = plant.signal(source)
    j = (torch.atan2(z[:, 1], z[:, 0]) * 7 / (2 * math.pi)).round().long() % 7
    found = circular_probe(source, j, 7, [i // 3 for i in range(210)], seed=0)
    assert found.r_squared.low > 0.95
    assert found.p_value == 1 / 360
    assert found.principal.in_order


@pytest.mark.slow
def test_the_p_value_of_no_order_is_uniform():
    """Classes that are distinct but not ordered: each of the 360 orders is as likely to be the best."""
    p = [circular_probe(*rows(7, 0.0, s, width=8, offsets=1.0), seed=0, harmonics=(1,)).p_value for s in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.1
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_seeds_decide_everything():
    state = torch.get_rng_state()
    first, second = (circular_probe(*rows(12, 1.0), seed=4) for _ in range(2))
    assert first.harmonics == second.harmonics
    assert torch.equal(first.read.rows, second.read.rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert "12 classes on a circle? 240 rows in 20 groups (random 5000 orders)" in str(first)


def test_what_cannot_be_a_circle_is_refused():
    x, j, _, groups = rows(7, 1.0)

    def refused(kind: type[Exception], words: str, *, period: int = 7, index: Tensor = j, **options) -> None:
        with pytest.raises(kind, match=words):
            circular_probe(x, index, period, options.pop("groups", groups), seed=0, **options)

    refused(OptionError, "between 0 and 5, but got 0 to 6", period=6)
    refused(OptionError, r"\[7\] have none", period=8)
    refused(OptionError, "at least 4, but got 3", period=3)
    refused(OptionError, "between 1 and 3", harmonics=(4,))
    refused(EstimateError, "at least 5 groups", groups=[0] * len(x))
    with pytest.raises(ActivationError, match="have NaN"):
        circular_probe(x * torch.nan, j, 7, groups, seed=0)

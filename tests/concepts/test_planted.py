"""What every plant says of itself is so: its order, its map, its behaviour, its embedding."""

import math

import numpy as np
import ot
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.concepts import Plant, plant_names, planted
from steerlens.errors import OptionError, UnknownNameError
from steerlens.numerics import energy_distance

ALL = (*(planted(name) for name in plant_names()), planted("ctx", pi=0.5), planted("ctx", pi=1.0))
N = 20_000


@pytest.fixture(params=ALL, ids=lambda p: p.name)
def plant(request: pytest.FixtureRequest) -> Plant:
    return request.param


def independent(plant: Plant, n: int = N) -> tuple[Tensor, Tensor]:
    """Signals of two samples whose rows are not twins."""
    return plant.signal(plant.sample(n, seed=1).source), plant.signal(plant.sample(n, seed=2).target)


def largest_z(source: Tensor, target: Tensor, order: int) -> float:
    """Largest difference of the raw moments of one order, in standard errors."""
    letters = "abc"[:order]
    powers = []
    for z in (source, target):
        equation = ",".join(f"n{c}" for c in letters) + "->n" + letters
        powers.append(torch.einsum(equation, *[z] * order).flatten(1))
    difference = powers[0].mean(0) - powers[1].mean(0)
    error = (sum(p.var(0) / len(p) for p in powers)).sqrt()
    return float((difference.abs() / error.clamp_min(1e-12)).max())


def test_classes_agree_in_every_moment_below_the_order_and_differ_in_it(plant: Plant):
    """5 standard errors: of at most 3 + 9 + 27 moments of 15 plants, one exceeds it by chance once in 3000 runs."""
    source, target = independent(plant)
    lower = range(1, 4 if plant.order is None else plant.order)
    assert all(largest_z(source, target, k) < 5 for k in lower)
    if plant.order is not None:
        assert largest_z(source, target, plant.order) > 10


def test_the_order_of_a_context_depends_on_its_share():
    assert [planted("ctx", pi=p).order for p in (0.3, 0.5, 0.7)] == [1, 2, 1]


def test_the_true_map_carries_source_to_target(plant: Plant):
    """Within the range of two halves of the target; the identity is far outside, unless the laws are equal."""
    x, target = plant.sample(1000, seed=3).source, plant.sample(2000, seed=4).target
    moved, z = (plant.signal(rows) for rows in (x + plant.displacement(x), target))
    generator = torch.Generator().manual_seed(0)
    floor = []
    for _ in range(20):
        order = torch.randperm(2000, generator=generator)
        floor.append(float(energy_distance(z[order[:1000]], z[order[1000:]])))
    largest = max(floor) + 2 * float(np.std(floor))
    assert float(energy_distance(moved, z[:1000])) < largest
    if plant.order is not None:
        assert float(energy_distance(plant.signal(x), z[:1000])) > 5 * largest


LAWS = {
    "linear": lambda s, g: torch.tensor([1.0, 0]) + 0.5 * torch.randn(N // 5, 2, generator=g),
    "xor2": lambda s, g: torch.stack([s[0], s[0]], 1) + 0.25 * torch.randn(N // 5, 2, generator=g),
    "onion3": lambda s, g: (
        torch.nn.functional.normalize(torch.randn(N // 5, 3, generator=g), dim=1)
        * (2 + 0.1 * torch.randn(N // 5, 1, generator=g))
    ),
    "gauss2": lambda s, g: torch.randn(N // 5, 3, generator=g) * torch.tensor([0.4, 1, 0.4]),
    "ctx(0.5)": lambda s, g: torch.stack([s[0], 2 * s[0]], 1) + 0.25 * torch.randn(N // 5, 2, generator=g),
    "parity3": lambda s, g: torch.stack([s[0], s[1], s[0] * s[1]], 1) + 0.25 * torch.randn(N // 5, 3, generator=g),
    "heteroscedastic": lambda s, g: (
        torch.tensor([1.0, 0]) + torch.randn(N // 5, 2, generator=g) * torch.tensor([1, 0.25])
    ),
    "bimodal": lambda s, g: torch.stack([1.5 * s[0], 0 * s[0]], 1) + 0.25 * torch.randn(N // 5, 2, generator=g),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_target_has_the_law_of_its_definition(name: str):
    """Written down by hand, because the plant makes its target with its own map."""
    g = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (2, N // 5), generator=g) * 2.0 - 1
    by_hand = LAWS[name](signs, g).double()
    plant = next(p for p in ALL if p.name == name)
    source, target = independent(plant, N // 5)
    # Split halves of 4000 rows are below 0.002 on all of these; sources are at least 0.08 away.
    assert float(energy_distance(by_hand, target)) < 0.002
    assert float(energy_distance(by_hand, source)) > 0.05


@pytest.mark.parametrize("name", ["linear", "onion3", "gauss2", "heteroscedastic", "bimodal"])
def test_no_pairing_is_cheaper_than_the_optimal_map(name: str):
    plant = planted(name)
    x = plant.signal(plant.sample(300, seed=0).source)
    moved = x + plant.geometry.move(x, 1.0)
    cost = ot.dist(x.numpy(), moved.numpy())
    weights = np.full(300, 1 / 300)
    assert float(np.trace(cost)) / 300 == pytest.approx(float(ot.emd2(weights, weights, cost)), rel=1e-9)


def test_a_pairing_of_clusters_is_not_always_the_cheapest():
    """The control of the test above: twins of xor2 are corners above each other, and others are as near."""
    plant = planted("xor2")
    x = plant.signal(plant.sample(300, seed=0).source)
    cost = ot.dist(x.numpy(), (x + plant.geometry.move(x, 1.0)).numpy())
    weights = np.full(300, 1 / 300)
    assert float(ot.emd2(weights, weights, cost)) < 0.98 * float(np.trace(cost)) / 300


def test_rows_of_the_gaussian_plants_move_as_gaussian_transport_says():
    from steerlens.numerics import transport_matrix

    for name, before, after in (
        ("gauss2", (1.0, 0.16, 0.16), (0.16, 1.0, 0.16)),
        ("heteroscedastic", (0.25, 0.25), (1.0, 0.0625)),
    ):
        plant = planted(name)
        A = transport_matrix(*(torch.diag(torch.tensor(c, dtype=torch.float64)) for c in (before, after)))
        z = torch.randn(5, len(before), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        linear_part = plant.geometry.move(z, 1.0) - plant.geometry.move(torch.zeros_like(z), 1.0)
        assert_close(linear_part, z @ A - z)


def test_the_behaviour_tells_the_classes_apart(plant: Plant):
    source, target = plant.sample(N, seed=0)
    low, high = plant.logit(source), plant.logit(target)
    if plant.order is None:
        # equal laws: twins differ, samples do not
        assert abs(float(low.mean() - high.mean())) < 5 * float(low.std()) * math.sqrt(2 / N)
        return
    least = {"gauss2": 0.75, "heteroscedastic": 0.84}.get(plant.name, 0.97)
    assert float((low < 0).double().mean()) > least - 0.02
    assert float((high > 0).double().mean()) > least - 0.02
    assert_close(plant.effect(source, target), high - low)


def test_the_behaviour_of_two_gaussians_is_their_likelihood_ratio():
    x = planted("gauss2").sample(50, seed=0).source
    z = planted("gauss2").signal(x)
    laws = [
        torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.diag(torch.tensor(c).double()))
        for c in ((0.16, 1.0, 0.16), (1.0, 0.16, 0.16))
    ]
    assert_close(planted("gauss2").logit(x), laws[0].log_prob(z) - laws[1].log_prob(z))


def test_the_mean_difference_is_the_stated_one(plant: Plant):
    rows = plant.sample(N, seed=5)
    other = plant.sample(N, seed=6)
    difference = other.target.mean(0) - rows.source.mean(0)
    error = ((rows.source.var(0) + other.target.var(0)) / N).sqrt()
    assert float(((difference - plant.mean_difference).abs() / error).max()) < 5


@pytest.mark.parametrize("pi", [0.1, 0.3, 0.7, 0.9, 1.0])
def test_the_mean_shift_of_a_context_steers_its_minority_the_wrong_way(pi: float):
    plant = planted("ctx", pi=pi)
    x = plant.sample(N, seed=0).source
    assert plant.anti_steered == pytest.approx(min(pi, 1 - pi))
    wrong = (plant.effect(x, x + plant.mean_difference) < 0).double().mean()
    # Three standard errors of a share; at the ends it is exact.
    assert float(wrong) == pytest.approx(plant.anti_steered, abs=3 * math.sqrt(pi * (1 - pi) / N) + 1e-9)
    assert float((plant.effect(x, x + plant.displacement(x)) < 0).double().mean()) < 1e-3, "the true map never does"
    assert float(plant.mean_difference @ plant.basis[:, 0]) == pytest.approx(2 * (2 * pi - 1))


def test_at_even_shares_the_mean_shift_of_a_context_is_nothing():
    even = planted("ctx", pi=0.5)
    assert even.anti_steered == 0.5
    assert float(even.mean_difference.norm()) == 0
    assert planted("linear").anti_steered is None


def test_twins_of_a_context_agree_as_far_as_its_share_is_uneven():
    for pi in (0.5, 0.7, 1.0):
        plant = planted("ctx", pi=pi)
        source, target = plant.sample(N, seed=0)
        along = (target - source) @ plant.basis[:, 0]
        assert float((along / along.abs()).mean()) == pytest.approx(2 * pi - 1, abs=5 / math.sqrt(N))


def test_twins_share_all_but_the_concept(plant: Plant):
    source, target = plant.sample(200, seed=0)
    assert_close(target, source + plant.displacement(source))
    assert_close(source @ plant.complement, target @ plant.complement)
    assert (source - target).norm(dim=1).median() > 0.3


def test_paths_begin_at_the_source_and_end_at_the_target(plant: Plant):
    x = plant.sample(50, seed=0).source
    assert float(plant.displacement(x, strength=0.0).abs().max()) < 1e-12
    assert_close(plant.displacement(x, strength=1.0), plant.displacement(x))


@pytest.mark.parametrize("name", ["ring", "ring6", "sphere", "helix"])
def test_curved_paths_stay_on_the_curve_and_chords_do_not(name: str):
    plant = planted(name, points=4) if name == "ring" else planted(name)
    x = plant.sample(200, seed=0).source
    on = slice(None) if name == "sphere" else slice(0, 2)

    def radius(rows: Tensor) -> Tensor:
        return plant.signal(rows)[:, on].norm(dim=1)

    assert_close(radius(x + plant.displacement(x, strength=0.5)), radius(x))
    assert (radius(x + plant.displacement(x) / 2) / radius(x)).max() < 0.99


def test_straight_paths_scale():
    for name in ("linear", "xor2", "onion3", "gauss2", "ctx", "parity3", "heteroscedastic", "bimodal", "cone"):
        plant = planted(name)
        x = plant.sample(50, seed=0).source
        assert_close(plant.displacement(x, strength=0.3), 0.3 * plant.displacement(x))


def test_all_rows_of_a_cone_move_one_way_and_long_ones_farther():
    plant = planted("cone")
    source, target = plant.sample(500, seed=0)
    step = plant.signal(target - source)
    assert float(step[:, 0].abs().max()) < 1e-12
    norms = plant.signal(source).norm(dim=1)
    assert float(torch.corrcoef(torch.stack([norms, step[:, 1]]))[0, 1]) > 0.99


def test_the_embedding_is_orthogonal_and_nuisance_has_its_spread(plant: Plant):
    Q = torch.cat([plant.basis, plant.complement], dim=1)
    assert_close(Q.T @ Q, torch.eye(16, dtype=torch.float64))
    rest = plant.sample(N, seed=0).source @ plant.complement
    assert_close(rest.std(0), torch.full((rest.shape[1],), 0.3, dtype=torch.float64), rtol=0.03, atol=0)


def test_seeds_decide_rows_and_rotation_and_nothing_global():
    before = torch.get_rng_state()
    plant, again, other = planted("xor2", seed=1), planted("xor2", seed=1), planted("xor2", seed=2)
    assert torch.equal(plant.basis, again.basis)
    assert not torch.equal(plant.basis, other.basis)
    assert torch.equal(plant.sample(9, seed=3).source, again.sample(9, seed=3).source)
    assert not torch.equal(plant.sample(9, seed=3).source, plant.sample(9, seed=4).source)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_signal_may_fill_the_whole_width():
    plant = planted("parity3", width=3, nuisance=0.0)
    assert plant.sample(4, seed=0).source.shape == (4, 3)
    assert plant.complement.shape == (3, 0)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UnknownNameError, match="'parity3'"):
        planted("parity")
    for bad, name, words in (
        ({"width": 2}, "parity3", "at least 3"),
        ({"nuisance": -0.1}, "linear", "nuisance"),
        ({"pi": 1.5}, "ctx", "between 0 and 1"),
        ({"pi": 0.5}, "linear", "belongs to 'ctx'"),
        ({"points": 5}, "ctx", "belongs to 'ring'"),
        ({"points": 2}, "ring", "at least 3"),
    ):
        with pytest.raises(OptionError, match=words):
            planted(name, **bad)
    with pytest.raises(OptionError, match="at least one row"):
        planted("linear").sample(0, seed=0)

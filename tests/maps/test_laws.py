"""Every shipped map and method keeps the published laws; so does one that a stranger writes."""

from dataclasses import dataclass
from typing import final

import pytest
import torch
from jaxtyping import Float
from shipped_methods import SHIPPED
from torch import Tensor

from steerlens.maps import (
    DirectionalAblation,
    GaussianTransport,
    InSequence,
    InSubspace,
    MeanShift,
    SteeringMap,
    SteeringMethod,
    random_direction,
)
from steerlens.testing import MapLaws, MethodLaws, Samples


@final
@dataclass(frozen=True, eq=False)
class HalvedMap(SteeringMap):
    """A stranger's map: all that a researcher must write."""

    center: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return (self.center.to(x) - x) / 2


@final
@dataclass(frozen=True)
class Halved:
    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> HalvedMap:
        from steerlens.maps._samples import checked

        source, target = checked(source, target)
        return HalvedMap(target.mean(dim=0))


COMPOSED = [
    InSequence((MeanShift(), GaussianTransport())),
    InSequence((DirectionalAblation(), MeanShift())),
    InSubspace(GaussianTransport(), rank=5),
    InSubspace(InSequence((DirectionalAblation(), MeanShift())), rank=3, scaling="whitened"),
]


@pytest.fixture(params=[*SHIPPED, *COMPOSED, Halved()], ids=lambda m: type(m).__name__)
def any_method(request: pytest.FixtureRequest) -> SteeringMethod:
    return request.param


class TestMaps(MapLaws):
    @pytest.fixture
    def steering_map(self, any_method: SteeringMethod, samples: Samples) -> SteeringMap:
        return any_method.fit(*samples)


class TestRandomDirection(MapLaws):
    @pytest.fixture
    def steering_map(self) -> SteeringMap:
        return random_direction(12, norm=3.0, seed=0)

    def test_it_is_as_long_as_asked_and_its_seed_decides_it(self) -> None:
        a, b, c = (random_direction(12, norm=3.0, seed=s) for s in (0, 0, 1))
        assert a.vector.norm().item() == pytest.approx(3.0)
        assert torch.equal(a.vector, b.vector)
        assert not torch.equal(a.vector, c.vector)


class TestMethods(MethodLaws):
    @pytest.fixture
    def method(self, any_method: SteeringMethod) -> SteeringMethod:
        return any_method

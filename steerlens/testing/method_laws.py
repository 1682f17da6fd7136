"""What holds for every steering method."""

import dataclasses

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError
from steerlens.maps import SteeringMap, SteeringMethod, method_reversible
from steerlens.testing.samples import Samples, gaussian_samples


class MethodLaws:
    """Subclass and supply ``method``."""

    @pytest.fixture
    def samples(self) -> Samples:
        return gaussian_samples()

    @pytest.fixture
    def rows(self, samples: Samples) -> Tensor:
        return gaussian_samples(n=7, width=samples.source.shape[1], seed=1).source

    def test_it_is_a_frozen_method(self, method: SteeringMethod) -> None:
        assert isinstance(method, SteeringMethod)
        assert dataclasses.is_dataclass(method)
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.family = "custom"

    def test_fitting_gives_a_map(self, method: SteeringMethod, samples: Samples) -> None:
        assert isinstance(method.fit(*samples), SteeringMap)

    def test_it_is_reversible_as_it_says(self, method: SteeringMethod, samples: Samples) -> None:
        assert method_reversible(method) in (None, method.fit(*samples).reverse is not None)

    def test_fitting_twice_gives_the_same_map(self, method: SteeringMethod, samples: Samples, rows: Tensor) -> None:
        assert torch.equal(method.fit(*samples)(rows), method.fit(*samples)(rows))

    def test_the_global_generator_is_left_alone(self, method: SteeringMethod, samples: Samples) -> None:
        before = torch.get_rng_state()
        method.fit(*samples)
        assert torch.equal(torch.get_rng_state(), before)

    def test_samples_are_not_modified(self, method: SteeringMethod, samples: Samples) -> None:
        before = [x.clone() for x in samples]
        method.fit(*samples)
        assert all(torch.equal(x, b) for x, b in zip(samples, before, strict=True))

    def test_float32_and_float64_samples_agree(self, method: SteeringMethod, samples: Samples, rows: Tensor) -> None:
        rounded = [x.float() for x in samples]
        assert_close(method.fit(*rounded)(rows), method.fit(*[x.double() for x in rounded])(rows))

    def test_widths_that_differ_are_refused(self, method: SteeringMethod, samples: Samples) -> None:
        # Under jaxtyping's import hook the annotation refuses them first.
        with pytest.raises((FitError, TypeCheckError), match=r"equally wide|d_model"):
            method.fit(samples.source, samples.target[:, :-1])

    def test_nan_is_refused(self, method: SteeringMethod, samples: Samples) -> None:
        broken = samples.source.clone()
        broken[3, 2] = torch.nan
        with pytest.raises(FitError, match="finite"):
            method.fit(broken, samples.target)

    def test_no_rows_are_refused(self, method: SteeringMethod, samples: Samples) -> None:
        with pytest.raises(FitError, match="rows"):
            method.fit(samples.source[:0], samples.target)

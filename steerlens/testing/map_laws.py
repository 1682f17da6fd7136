"""What holds for every steering map."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import ArtefactError, FitError, OptionError
from steerlens.maps import SteeringMap, load_map, save_map
from steerlens.testing.samples import Samples, gaussian_samples


class MapLaws:
    """Subclass and supply ``steering_map``, fitted to ``samples``; override ``rows`` for other inputs."""

    @pytest.fixture
    def samples(self) -> Samples:
        return gaussian_samples()

    @pytest.fixture
    def rows(self, samples: Samples) -> Tensor:
        return gaussian_samples(n=7, width=samples.source.shape[1], seed=1).source

    def test_zero_strength_is_the_identity_bit_for_bit(self, steering_map: SteeringMap, rows: Tensor) -> None:
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            x = rows.to(dtype)
            assert torch.equal(steering_map(x, strength=0.0), x)

    def test_strength_one_is_the_displacement(self, steering_map: SteeringMap, rows: Tensor) -> None:
        assert_close(steering_map(rows), rows + steering_map.displacement(rows))

    def test_strength_scales_the_displacement_unless_the_path_is_curved(
        self, steering_map: SteeringMap, rows: Tensor
    ) -> None:
        if steering_map.strength_unit != "displacements":
            return  # a curved path, which says so
        for strength in (0.5, 1.0, 2.0):
            expected = rows + strength * steering_map.displacement(rows)
            assert_close(steering_map(rows, strength=strength), expected)

    def test_the_path_is_continuous_at_zero(self, steering_map: SteeringMap, rows: Tensor) -> None:
        whole = steering_map.displacement(rows).norm()
        tiny = (steering_map(rows, strength=1e-6) - rows).norm()
        assert tiny < 1e-2 * whole

    def test_rows_with_strengths_of_their_own_move_as_they_would_alone(
        self, steering_map: SteeringMap, rows: Tensor
    ) -> None:
        strengths = torch.linspace(0.25, 1.75, len(rows), dtype=rows.dtype)
        together = rows + steering_map.path(rows, strengths)
        alone = torch.cat([steering_map(x[None], strength=float(s)) for x, s in zip(rows, strengths, strict=True)])
        assert_close(together, alone, rtol=0, atol=1e-10)

    def test_the_map_moves_something(self, steering_map: SteeringMap, rows: Tensor) -> None:
        assert steering_map.displacement(rows).norm() > 0

    def test_negative_strength_is_the_reverse_or_an_error(self, steering_map: SteeringMap, rows: Tensor) -> None:
        reverse = steering_map.reverse
        if reverse is None:
            with pytest.raises(OptionError, match="has no reverse"):
                steering_map(rows, strength=-1.0)
        else:
            assert_close(steering_map(rows, strength=-0.5), reverse(rows, strength=0.5))

    def test_the_reverse_of_the_reverse_is_the_map(self, steering_map: SteeringMap, rows: Tensor) -> None:
        reverse = steering_map.reverse
        if reverse is not None:
            assert reverse.reverse is not None
            assert_close(reverse.reverse.displacement(rows), steering_map.displacement(rows))

    def test_rows_are_independent(self, steering_map: SteeringMap, rows: Tensor) -> None:
        together = steering_map(rows)
        alone = torch.cat([steering_map(row[None]) for row in rows])
        assert_close(together, alone, rtol=0, atol=1e-10)

    def test_leading_axes_do_not_matter(self, steering_map: SteeringMap, rows: Tensor) -> None:
        shaped = rows[:6].reshape(2, 3, -1)
        assert_close(steering_map(shaped).reshape(6, -1), steering_map(rows[:6]), rtol=0, atol=1e-10)
        assert_close(steering_map(rows[0]), steering_map(rows[:1])[0], rtol=0, atol=1e-10)

    def test_no_rows_give_no_rows(self, steering_map: SteeringMap, rows: Tensor) -> None:
        assert steering_map(rows[:0]).shape == rows[:0].shape

    def test_the_argument_is_not_modified(self, steering_map: SteeringMap, rows: Tensor) -> None:
        before = rows.clone()
        steering_map(rows, strength=1.5)
        assert torch.equal(rows, before)

    def test_dtype_is_the_caller_s(self, steering_map: SteeringMap, rows: Tensor) -> None:
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            assert steering_map(rows.to(dtype)).dtype == dtype

    def test_half_precision_rounds_once(self, steering_map: SteeringMap, rows: Tensor) -> None:
        x = rows.to(torch.bfloat16)
        exact = steering_map(x.double())
        # bfloat16 keeps 8 bits: one rounding is at most 2^-9 relative, and the inner float32 work is far finer.
        assert_close(steering_map(x).double(), exact, rtol=2**-8, atol=1e-3)

    def test_results_are_finite(self, steering_map: SteeringMap, rows: Tensor) -> None:
        assert torch.isfinite(steering_map(rows, strength=2.0)).all()

    def test_a_wrong_width_is_refused(self, steering_map: SteeringMap, rows: Tensor) -> None:
        with pytest.raises(FitError, match="width"):
            steering_map(rows[:, :-1])

    def test_a_strength_that_is_not_finite_is_refused(self, steering_map: SteeringMap, rows: Tensor) -> None:
        for strength in (math.nan, math.inf):
            with pytest.raises(OptionError, match="finite"):
                steering_map(rows, strength=strength)

    def test_it_survives_saving(self, steering_map: SteeringMap, rows: Tensor, tmp_path: Path) -> None:
        save_map(steering_map, tmp_path / "map", provenance={"model": "tiny"})
        loaded = load_map(tmp_path / "map", model="tiny", d_model=rows.shape[1])
        assert torch.equal(loaded(rows), steering_map(rows))
        if steering_map.reverse is not None:
            assert torch.equal(loaded(rows, strength=-1.0), steering_map(rows, strength=-1.0))

    def test_it_is_not_loaded_for_another_model(self, steering_map: SteeringMap, rows: Tensor, tmp_path: Path) -> None:
        save_map(steering_map, tmp_path / "map", provenance={"model": "tiny"})
        with pytest.raises(ArtefactError, match="fitted on 'tiny'"):
            load_map(tmp_path / "map", model="other")
        with pytest.raises(ArtefactError, match="width"):
            load_map(tmp_path / "map", d_model=rows.shape[1] + 1)

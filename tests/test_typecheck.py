"""The shape checks are on: without this canary a broken import hook would pass every test."""

import jaxtyping
import pytest
import torch

from steerlens.numerics import energy_distance


def test_a_wrong_shape_is_refused_under_pytest():
    with pytest.raises(jaxtyping.TypeCheckError):
        energy_distance(torch.zeros(3, 2), torch.zeros(3, 4))

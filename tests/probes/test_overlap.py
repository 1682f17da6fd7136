"""Overlap of subspaces, against TransformerLens and against random subspaces."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import ActivationError, FitError
from steerlens.probes._overlap import random_scores, subspace_overlap


def columns(d: int, r: int, seed: int) -> Tensor:
    return torch.randn(d, r, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("r1", "r2"), [(3, 3), (2, 5)])
def test_the_score_is_transformer_lens_s_projection_kernel(r1: int, r2: int):
    from transformer_lens.tools.analysis.projection_kernel import orthonormal_subspace, projection_kernel

    U, V = columns(24, r1, 0), columns(24, r2, 1)
    theirs = projection_kernel(orthonormal_subspace(U), orthonormal_subspace(V))
    ours = subspace_overlap(U, V, seed=0)
    assert ours.score == pytest.approx(float(theirs.score))
    assert_close(ours.cosines, theirs.cosines, atol=1e-6, rtol=1e-6)
    assert ours.overlap * min(r1, r2) == pytest.approx(float(theirs.normalized) * (r1 * r2) ** 0.5)


def test_the_random_reference_has_the_moments_that_transformer_lens_gives():
    from transformer_lens.tools.analysis.projection_kernel import random_projection_kernel_moments

    theirs = random_projection_kernel_moments(20, 4)
    drawn = random_scores(20, 4, 4, seed=0, n_samples=20_000)
    assert drawn.mean() == pytest.approx(theirs.mean, rel=0.01)
    assert drawn.var() == pytest.approx(theirs.variance, rel=0.05)


@pytest.mark.parametrize(("d", "r1", "r2"), [(12, 5, 2), (6, 5, 4), (5, 4, 4), (7, 6, 1)])
def test_the_random_reference_is_that_of_random_matrices(d: int, r1: int, r2: int):
    """Also where the subspaces must meet, r₁ + r₂ > d."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(3000, d, r)))[0] for r in (r1, r2))
    direct = ((U.mT @ V) ** 2).sum(axis=(1, 2))
    drawn = random_scores(d, max(r1, r2), min(r1, r2), seed=1, n_samples=3000)
    assert stats.ks_2samp(direct, drawn).pvalue > 0.001
    assert drawn.mean() == pytest.approx(r1 * r2 / d, rel=0.03)


def test_two_random_lines_have_a_beta_distributed_squared_cosine():
    drawn = random_scores(9, 1, 1, seed=0, n_samples=2000)
    assert stats.kstest(drawn, stats.beta(0.5, 4).cdf).pvalue > 0.001


def test_a_subspace_lies_within_itself_and_apart_from_its_complement():
    Q = torch.linalg.qr(columns(10, 10, 0)).Q
    inside = subspace_overlap(Q[:, :2] @ columns(2, 2, 1), Q[:, :5], seed=0)
    assert inside.overlap == pytest.approx(1.0)
    assert inside.p_value < 0.01
    apart = subspace_overlap(Q[:, :3], Q[:, 3:6], seed=0)
    assert apart.overlap == pytest.approx(0.0, abs=1e-12)
    assert apart.p_value == 1.0
    assert apart.expected == 3 / 10


def test_bases_do_not_matter_and_order_does_not():
    U, V = columns(15, 3, 0), columns(15, 4, 1)
    plain, mixed = subspace_overlap(U, V, seed=0), subspace_overlap(V, U @ columns(3, 3, 2), seed=0)
    assert mixed.overlap == pytest.approx(plain.overlap)
    assert (mixed.low, mixed.high, mixed.p_value) == (plain.low, plain.high, plain.p_value)
    assert plain.low < plain.expected < plain.high


def test_everything_contains_everything():
    assert subspace_overlap(columns(4, 4, 0), columns(4, 2, 1), seed=0).overlap == pytest.approx(1.0)
    assert subspace_overlap(columns(4, 4, 0), columns(4, 2, 1), seed=0).p_value == 1.0


@pytest.mark.slow
def test_p_values_of_random_subspaces_are_uniform():
    pairs = [(columns(12, 2, 2 * s), columns(12, 3, 2 * s + 1)) for s in range(300)]
    p = [subspace_overlap(U, V, seed=s, n_samples=99).p_value for s, (U, V) in enumerate(pairs)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_line_has_its_reference_and_nonsense_is_refused():
    assert "random 0.4 [" in str(subspace_overlap(columns(10, 2, 0), columns(10, 4, 1), seed=0))
    with pytest.raises((ActivationError, TypeCheckError), match=r"widths 10 and 9|d_model=10"):
        subspace_overlap(columns(10, 2, 0), columns(9, 2, 1), seed=0)
    with pytest.raises(ActivationError, match="finite"):
        subspace_overlap(columns(10, 2, 0) * torch.nan, columns(10, 2, 1), seed=0)
    with pytest.raises(FitError, match="3 columns span 2 dimensions"):
        subspace_overlap(columns(10, 2, 0) @ columns(2, 3, 0), columns(10, 2, 1), seed=0)
    with pytest.raises(FitError, match="between 1 and d_model columns"):
        subspace_overlap(columns(3, 4, 0), columns(3, 1, 1), seed=0)

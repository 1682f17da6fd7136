"""Spectral editing: by hand, against numpy's decomposition, and what it keeps and removes."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from steerlens.errors import FitError, OptionError
from steerlens.maps import SpectralEditing, SpectralMap
from steerlens.testing import gaussian_samples


def planted(seed: int, n: int = 300) -> tuple[Tensor, Tensor]:
    """Pairs that share five directions; only the target uses axis 5, only the source axis 6; axis 7 is never used."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    shared[:, 5:] = 0
    own = 4 * torch.randn(2, n, generator=generator, dtype=torch.float64)
    source, target = shared.clone(), shared.clone()
    target[:, 5], source[:, 6] = own
    return source, target


def by_numpy(base: Tensor, rows: Tensor, keep: float) -> np.ndarray:
    U, s, _ = np.linalg.svd((base.T @ rows / len(rows)).numpy())
    explained = np.cumsum(s**2) / np.sum(s**2)
    return U[:, : int(np.argmax(explained >= keep)) + 1]


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_it_is_the_sum_of_two_streams_at_the_norm_of_the_row(keep: float):
    source, target = gaussian_samples()
    neutral = gaussian_samples(seed=3).source
    for given, base in ((None, (source + target) / 2), (neutral, neutral)):
        K, L = by_numpy(base, target, keep), by_numpy(base, source, keep)
        y = source.numpy() @ K @ K.T + source.numpy() @ (np.eye(12) - L @ L.T)
        expected = y * np.linalg.norm(source, axis=1, keepdims=True) / np.linalg.norm(y, axis=1, keepdims=True)
        fitted = SpectralEditing(keep=keep).fit(source, target, neutral=given)
        assert_close(fitted(source), torch.from_numpy(expected))
        assert (fitted(source) - source).norm() > 0.3


def test_it_keeps_what_the_target_uses_and_removes_what_the_source_uses():
    source, target = planted(0)
    fitted = SpectralEditing().fit(source, target)
    rows = planted(1)[0] + planted(2)[1]
    assert rows[:, 6].std() > 1
    moved = fitted(rows)
    assert moved[:, 6].std() < 0.2 * rows[:, 6].std()
    grown = moved[:, 5].abs() / rows[:, 5].abs()
    assert (grown > 1).double().mean() > 0.95
    back = fitted(rows, strength=-1.0)
    assert back[:, 5].std() < 0.2 * rows[:, 5].std(), "the other way round the roles change"


def test_norms_are_kept_at_strength_one_and_shrink_on_the_way():
    source, target = gaussian_samples()
    fitted = SpectralEditing().fit(source, target)
    assert_close(fitted(source).norm(dim=1), source.norm(dim=1))
    assert (fitted(source, strength=0.5).norm(dim=1) < source.norm(dim=1)).all()


def test_it_is_homogeneous_but_not_additive():
    source, target = gaussian_samples()
    fitted = SpectralEditing().fit(source, target)
    assert_close(fitted(3.0 * source), 3.0 * fitted(source))
    assert (fitted(source + target) - fitted(source) - fitted(target)).norm() > 1.0


def test_far_off_the_origin_nothing_is_left_to_edit():
    """One vector, the mean, explains both streams, so that it is doubled and removed."""
    source, target = gaussian_samples()
    near, far = (SpectralEditing().fit(source + c, target + c)(source + c) - source - c for c in (0.0, 1000.0))
    assert near.norm(dim=1).mean() > 0.3
    assert far.norm(dim=1).mean() < 0.1 * near.norm(dim=1).mean()
    fitted = SpectralEditing().fit(source + 1000, target + 1000).forward
    assert fitted.kept.shape == fitted.dropped.shape == (1, 12)


def test_pairs_matter():
    source, target = planted(0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    paired, chance = (SpectralEditing().fit(source, t)(source) for t in (target, target[order]))
    assert (paired - chance).norm(dim=1).mean() > 0.1


def test_a_row_that_is_removed_whole_stays():
    axes = torch.eye(3, dtype=torch.float64)
    drop_first = SpectralMap(axes[1:2], axes[:1])
    rows = torch.stack([axes[0], axes[0] + axes[1], axes[2], 0 * axes[0]])
    moved = drop_first(rows)
    assert_close(moved, torch.stack([axes[0], 2**0.5 * axes[1], axes[2], 0 * axes[0]]))
    assert torch.isfinite(drop_first(rows.float(), strength=2.0)).all()


def test_what_cannot_be_fitted_is_refused():
    source, target = gaussian_samples()
    with pytest.raises(FitError, match="equally many rows"):
        SpectralEditing().fit(source, target[:-1])
    with pytest.raises(FitError, match="equally many rows"):
        SpectralEditing().fit(source, target, neutral=source[:-1])
    with pytest.raises(FitError, match="cross-covariance is zero"):
        SpectralEditing().fit(0 * source, target)
    for keep in (0.0, 1.0, float("nan")):
        with pytest.raises(OptionError, match="keep"):
            SpectralEditing(keep=keep)


def test_fewer_rows_than_dimensions_still_fit():
    source, target = gaussian_samples(n=3, width=64)
    assert torch.isfinite(SpectralEditing().fit(source, target)(source)).all()

"""Rows that belong together: numbered, dealt into folds, blocks and halves, permuted as a whole."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics._codes import codes_of
from steerlens.numerics._resample import MIN_CLUSTERS

Codes = npt.NDArray[np.int64]

N_BLOCKS = 20
"""At most so many parts are left out in turn by a jackknife."""

N_HALVES = 20
"""Splits of the groups into two halves."""


def group_codes(groups: Sequence[Hashable], n: int) -> Codes:
    """Groups as numbers, in order of appearance.

    Raises:
        OptionError: If there is not one group for each row.
        EstimateError: If there are fewer than five.
    """
    if len(groups) != n:
        raise OptionError(f"Each of the {n} rows needs a group, but got {len(groups)} groups.")
    codes = codes_of(groups)
    count = int(codes.max(initial=-1)) + 1
    if count < MIN_CLUSTERS:
        raise EstimateError(f"Needs at least {MIN_CLUSTERS} groups, but got {count} (n = {n}). Measure on more.")
    return codes


def group_sums(x: Tensor, codes: Codes) -> Tensor:
    """Sum of the rows of each group."""
    return x.new_zeros(int(codes.max()) + 1, x.shape[1]).index_add_(0, torch.tensor(codes), x)


def group_folds(codes: Codes, n_folds: int, seed: int) -> Codes:
    """The fold of each row; a group is in one fold, folds are equal in groups up to one."""
    n_groups = int(codes.max()) + 1
    fold = np.arange(n_groups) % min(n_folds, n_groups)
    return np.random.default_rng(seed).permutation(fold)[codes]


def group_blocks(codes: Codes) -> Codes:
    """Groups gathered into at most `N_BLOCKS` parts, for a jackknife; the part of each row."""
    n_groups = int(codes.max()) + 1
    block: Codes = (np.arange(n_groups) * min(N_BLOCKS, n_groups) // n_groups)[codes]
    return block


def group_halves(codes: Codes, seed: int) -> npt.NDArray[np.bool_]:
    """Random halves of the groups, shape (2 · `N_HALVES`, n): parts 2i and 2i + 1 hold all groups between them."""
    n_groups = int(codes.max()) + 1
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n_groups), (N_HALVES, 1)), axis=1)
    first = (order < n_groups // 2)[:, codes]
    return np.stack([first, ~first], axis=1).reshape(-1, len(codes))


def deal_groups(codes: Codes, n_permutations: int, seed: int) -> Codes:
    """Permutations of rows that carry whole groups to the places of others, shape (resample, n).

    Rows that belong together stay together, in random order: where every template holds the same items in the same
    order, an item must not be dealt to itself. Where all groups are equally large this is exactly a permutation of
    groups; where they are not, groups are laid end to end in random order over the places, so that some are cut in two.
    """
    rng = np.random.default_rng(seed)
    places = np.argsort(codes, kind="stable")
    n_groups = int(codes.max()) + 1
    rank = rng.permuted(np.tile(np.arange(n_groups), (n_permutations, 1)), axis=1)
    dealt = np.argsort(rank[:, codes] + rng.random((n_permutations, len(codes))), axis=1)
    permutation = np.empty_like(dealt)
    permutation[:, places] = dealt
    return permutation

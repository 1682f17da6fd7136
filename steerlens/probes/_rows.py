"""What a probe is trained and scored on: rows of two classes, and which of them belong together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlens.errors import ActivationError


@final
@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Activations of two classes. Rows of one group (a template, an entity) are split and resampled together.

    Args:
        x: Activations.
        y: 1 where the concept is present, 0 where it is absent.
        groups: The cluster of each row.

    Raises:
        ActivationError: If the numbers of rows differ, a value is not finite, labels are not whole numbers, one is
            neither 0 nor 1, or a class is empty.
    """

    x: Float[Tensor, "n d_model"]
    y: Int[Tensor, " n"]
    groups: tuple[Hashable, ...]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.groups):
            raise ActivationError(
                f"Every row needs a label and a group, but got {len(self.x)} rows, {len(self.y)} labels and "
                f"{len(self.groups)} groups."
            )
        if not torch.isfinite(self.x).all():
            raise ActivationError("Probes need finite activations, but some are NaN or infinite.")
        if self.y.dtype == torch.bool or self.y.is_floating_point():
            raise ActivationError(f"Labels must be whole numbers, but got {self.y.dtype}. Give y.long().")
        if len(self.y) == 0 or not torch.isin(self.y, torch.tensor([0, 1])).all() or self.y.min() == self.y.max():
            raise ActivationError("Probes need rows of both classes, labelled 0 and 1.")

    @classmethod
    def of_pairs(
        cls,
        negative: Float[Tensor, "pair d_model"],
        positive: Float[Tensor, "pair d_model"],
        groups: Sequence[Hashable],
    ) -> "LabelledRows":
        """Negative rows, then positive rows, in float64; a pair's group is that of both its rows."""
        y = torch.arange(2).repeat_interleave(torch.tensor([len(negative), len(positive)]))
        return cls(torch.cat([negative, positive]).double(), y, (*groups, *groups))

    def __len__(self) -> int:
        return len(self.y)

    def features(self) -> npt.NDArray[np.float64]:
        """The activations as scikit-learn takes them."""
        return self.x.double().cpu().numpy()

    def labels(self) -> npt.NDArray[np.int64]:
        """The labels as scikit-learn takes them."""
        return self.y.cpu().numpy()

    def take(self, rows: Int[Tensor, " m"] | Sequence[int] | npt.NDArray[np.int64]) -> "LabelledRows":
        """Some of the rows, in the order given.

        Raises:
            ActivationError: If they are of one class.
        """
        index = torch.as_tensor(rows, dtype=torch.long)
        return LabelledRows(self.x[index], self.y[index], tuple(self.groups[i] for i in index.tolist()))

    def relabelled(self, y: Int[Tensor, " n"] | npt.NDArray[np.int64]) -> "LabelledRows":
        """The same rows with other labels.

        Raises:
            ActivationError: If the labels are not 0 and 1, one for each row.
        """
        return LabelledRows(self.x, torch.as_tensor(y, dtype=torch.long), self.groups)

"""A steering map of your own, compared with the mean shift on a small random model. Runs offline in seconds.

The map moves the mean only along the k coordinates of the activation in which the two samples differ most, relative
to their spread. It is here to show what a map and a method have to supply, not because it is a good idea.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

import steerlens as sl


@final
@dataclass(frozen=True, eq=False)
class SparseMap(sl.SteeringMap):
    """T(x) = x + v, where v is zero in most coordinates."""

    vector: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The same vector for every row, in the dtype and on the device of x."""
        return self.vector.to(x).expand_as(x)

    @property
    def reverse(self) -> "SparseMap":
        """T(x) = x − v. Without a reverse, a map has no negative strengths."""
        return SparseMap(-self.vector)


@final
@dataclass(frozen=True)
class SparseShift:
    """Carry the source mean to the target mean in the `keep` coordinates where they differ most."""

    keep: int = 16

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> SparseMap:
        """Data goes in here and nothing else does; fit in float64, apply in the dtype of the model."""
        source, target = source.double(), target.double()
        shift = target.mean(dim=0) - source.mean(dim=0)
        spread = ((source.var(dim=0) + target.var(dim=0)) / 2).sqrt()
        chosen = (shift / spread).abs().topk(min(self.keep, len(shift))).indices
        return SparseMap(torch.zeros_like(shift).index_copy(0, chosen, shift[chosen]))


def main() -> None:
    """Fit both methods on the same activations and measure both on the same held-out pairs."""
    model = sl.load_model("tiny-llama")
    fit, _, test = sl.load_concept("sentiment").split(seed=0)
    comparison = sl.compare(
        model,
        fit,
        test,
        site=sl.Site.resid_post(layer=1),
        methods=(sl.maps.MeanShift(), SparseShift(keep=16)),
        strengths=(0, 0.5, 1, 2, 4),
        n_random=5,
        neutral=sl.evaluation.neutral_texts()[:12],
    )
    columns = ["method", "strength", "kl", "effect", "effect_low", "effect_high", "n", "n_clusters"]
    print(comparison.headline[columns].to_string(index=False, float_format="%.4g"))
    print(comparison)


if __name__ == "__main__":
    main()

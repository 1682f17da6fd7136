"""A steering map of your own: a map, a method, and a comparison with the mean shift. Runs offline in seconds.

The method moves the source median to the target median, so that outliers do not count. docs/maps.md shows how to check
it against the laws and how to announce it, so that `steerlens compare --maps MedianShift` knows it.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

import steerlens as sl


@final
@dataclass(frozen=True, eq=False)
class MedianMap(sl.SteeringMap):
    """T(x) = x + v."""

    vector: Float[Tensor, " d_model"]

    def displacement(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The same v for every row."""
        return self.vector.to(x).expand_as(x)


@final
@dataclass(frozen=True)
class MedianShift:
    """Carry the source median to the target median, coordinate by coordinate."""

    family: ClassVar[str] = "additive"
    reversible: ClassVar[bool] = False
    assumes: ClassVar[str] = "the concept moves every row alike, and some rows are outliers"

    def fit(self, source: Float[Tensor, "n d_model"], target: Float[Tensor, "m d_model"]) -> MedianMap:
        """Medians of both samples."""
        source, target = sl.maps.checked(source, target)  # finite, equally wide, in float64
        return MedianMap(target.median(dim=0).values - source.median(dim=0).values)


def main() -> None:
    """Fit both methods on the same activations and measure both on the same held-out pairs."""
    model = sl.load_model("tiny-llama")
    fit, _, test = sl.load_concept("sentiment").split(seed=0)
    comparison = sl.compare(
        model,
        fit,
        test,
        site=sl.Site.resid_post(layer=1),
        methods=(sl.maps.MeanShift(), MedianShift()),
        strengths=(0, 0.5, 1, 2, 4),
        n_random=5,
        neutral=sl.evaluation.neutral_texts()[:12],
    )
    columns = ["method", "strength", "kl", "effect", "effect_low", "effect_high", "n", "n_clusters"]
    print(comparison.headline[columns].to_string(index=False, float_format="%.4g"))
    print(comparison)


if __name__ == "__main__":
    main()

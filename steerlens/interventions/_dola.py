"""DoLa: decoding by contrast of layers, as a value, and the layers it may choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final, get_args

from steerlens.errors import OptionError, UnknownNameError
from steerlens.models import LensModel, LensNorm, check_readout
from steerlens.numerics import Divergence, Normalisation, check_contrast

LayerBucket = Literal["low", "high", "all"]
DEEP, BUCKET_WIDTH = 40, 20
"""Deeper models have more than two buckets, each of so many blocks; "low" is the first and "high" the last."""


@final
@dataclass(frozen=True)
class DoLa:
    """How layers are contrasted.

    Layer j is the residual stream after j blocks: 0 is the embedding, and the number of blocks would be the last layer
    itself. The defaults follow the paper's formulas; `as_published` is what its numbers were computed with.

    Args:
        layers: Candidates for the premature layer; one of them makes it fixed.
        alpha: Tokens less likely than ``alpha`` times the likeliest are cut.
        divergence: How the farthest candidate is found: "jensen-shannon", or "reversed" as the authors' code has it.
        normalisation: "plausible", "vocabulary" or "none"; see `steerlens.numerics.NORMALISATIONS`.
        norm: "final" reads candidates through the model's final norm, as the logit lens does; "none" unembeds them as
            they are.

    Raises:
        OptionError: Layers are empty, repeated or negative, or alpha is not in [0, 1].
        UnknownNameError: There is no such divergence, normalisation or norm.

    References:
        chuang2024; dasilva2025.
    """

    layers: tuple[int, ...]
    alpha: float = 0.1
    divergence: Divergence = "jensen-shannon"
    normalisation: Normalisation = "plausible"
    norm: LensNorm = "final"

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers) or min(self.layers) < 0:
            raise OptionError(f"layers must be different numbers from 0 (the embedding) on, but got {self.layers!r}.")
        check_contrast(self.alpha, self.divergence, self.normalisation)
        if self.norm not in get_args(LensNorm):
            raise UnknownNameError("norm", self.norm, get_args(LensNorm))

    @classmethod
    def as_published(cls, layers: Sequence[int], *, alpha: float) -> "DoLa":
        """As the authors' TruthfulQA multiple-choice script: reversed divergence, no norm, differences as they are.

        That script has ``alpha=0``, and it alone turns off the softmax over differences (``post_softmax=False``). Their
        FACTOR script leaves it on, over the whole vocabulary, with 0.1: ``replace(DoLa.as_published(layers, alpha=0.1),
        normalisation="vocabulary")``. Generation has 0.1, and differences as they are.
        """
        return cls(tuple(layers), alpha, "reversed", "none", "none")

    def check(self, model: LensModel) -> None:
        """Refuse layers that the model does not have, and models whose early layers cannot be read.

        Raises:
            OptionError: There is such a layer.
            ModelError: The model's logits are not made by its final norm and unembedding alone.
        """
        check_readout(model)
        beyond = [layer for layer in self.layers if layer >= model.n_layers]
        if beyond:
            raise OptionError(
                f"Layers {beyond} are no candidates in {model.name!r}, which has {model.n_layers} blocks: take some of "
                f"0 (the embedding) to {model.n_layers - 1}; {model.n_layers} is what they are contrasted with."
            )


def candidate_layers(n_layers: int, bucket: LayerBucket, *, embedding: bool = True) -> tuple[int, ...]:
    """The even layers of a bucket.

    Up to 40 blocks "low" is the first half and "high" the second; deeper models have buckets of 20 blocks, of which
    these are the first and the last. With 32 blocks: 0, 2, …, 14 and 16, 18, …, 30.

    Args:
        n_layers: Blocks of the model.
        bucket: "low", "high", or "all".
        embedding: Whether layer 0 may be chosen. Where embedding and unembedding are tied it mostly predicts the token
            just read, and Hugging Face's implementation leaves it out.

    Raises:
        UnknownNameError: There is no such bucket.
        OptionError: No layer is left.

    References:
        chuang2024, section 2.2 and appendix (buckets by depth).
    """
    width = BUCKET_WIDTH if n_layers > DEEP else n_layers / 2
    ends = {"low": (0, width), "high": (n_layers - width, n_layers), "all": (0, n_layers)}
    if bucket not in ends:
        raise UnknownNameError("bucket", bucket, ends, "Or give the layers yourself: DoLa((0, 2, 4)).")
    first, end = ends[bucket]
    found = tuple(j for j in range(0 if embedding else 2, n_layers, 2) if first <= j < end)
    if not found:
        raise OptionError(f"The bucket {bucket!r} of {n_layers} blocks has no even layer. Give the layers yourself.")
    return found

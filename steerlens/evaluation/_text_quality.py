"""Quality of generated texts, on the strings alone: repetition, variety, compressibility, length."""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from steerlens.errors import EstimateError, OptionError
from steerlens.numerics import Estimate, bootstrap
from steerlens.numerics._resample import MIN_CLUSTERS

Array = npt.NDArray[np.float64]
Counts = Mapping[str, Mapping[str, tuple[float, float]]]
"""Of each prompt and metric, a numerator and a denominator."""

_WORD = re.compile(r"\w+|[^\w\s]")
DISTINCT = (1, 2, 3)
REPEATED = 4
"""Length of the n-grams whose repetition within a text is counted."""


@final
@dataclass(frozen=True)
class TextQuality:
    """Texts of many prompts, in ratios of sums over prompts, prompts resampled.

    A prompt counts for a number, and in its ``n``, if one of its texts is long enough for it, in a difference on both
    sides; all prompts count for ``words`` and ``empty``. N-grams are of words and punctuation marks, without regard to
    case.

    Args:
        distinct: For each n, the share of distinct n-grams among those of all texts of one prompt. Low when texts are
            alike or repeat themselves.
        repetition: Share of 4-grams of a text that it had before. 0 is none.
        zlib_ratio: Compressed over plain bytes. Low when texts repeat themselves; above 1 for very short ones.
        words: Words and punctuation marks of a text.
        empty: Share of texts without any.
    """

    distinct: Mapping[int, Estimate]
    repetition: Estimate
    zlib_ratio: Estimate
    words: Estimate
    empty: Estimate

    def __str__(self) -> str:
        rows = {f"distinct-{n}": e for n, e in self.distinct.items()}
        rows |= {"repetition": self.repetition, "zlib ratio": self.zlib_ratio, "words": self.words, "empty": self.empty}
        return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def text_quality(texts_by_prompt: Mapping[str, Sequence[str]], *, seed: int) -> TextQuality:
    """Quality of the continuations of each prompt.

    Args:
        texts_by_prompt: Continuations, without their prompt.
        seed: Of the bootstrap over prompts.

    Raises:
        OptionError: If a prompt has no texts, or a string in place of a list.
        EstimateError: If fewer than five prompts have a text long enough.

    References:
        li2016 (distinct-n); welleck2020 (repetition within a text).
    """
    return _quality([_counts(texts_by_prompt)], seed)


def text_quality_change(
    steered: Mapping[str, Sequence[str]], unsteered: Mapping[str, Sequence[str]], *, seed: int
) -> TextQuality:
    """Paired differences, steered − unsteered, over the same prompts; see `text_quality`.

    Raises:
        OptionError: If the prompts are not the same, or one has no texts.
        EstimateError: If fewer than five prompts have texts long enough on both sides.
    """
    apart = sorted(set(steered) ^ set(unsteered))
    if apart:
        raise OptionError(
            f"Paired differences need the same prompts on both sides, but {len(apart)} are on one only: {apart[0]!r}."
        )
    return _quality([_counts(steered), _counts({p: unsteered[p] for p in steered})], seed)


def _quality(sides: Sequence[Counts], seed: int) -> TextQuality:
    prompts = sorted(sides[0])

    def estimate(metric: str) -> Estimate:
        counted = [p for p in prompts if all(side[p][metric][1] for side in sides)]
        if len(counted) < MIN_CLUSTERS:
            raise EstimateError(
                f"An interval needs at least {MIN_CLUSTERS} prompts with texts long enough for {metric!r}, but got "
                f"{len(counted)} of {len(prompts)}. Let the model write more tokens, or to more prompts."
            )
        parts = [np.array([side[p][metric] for p in counted], dtype=np.float64).T for side in sides]
        return bootstrap(_difference_of_ratios(parts), [counted], seed=seed)

    return TextQuality(
        distinct={n: estimate(f"distinct-{n}") for n in DISTINCT},
        repetition=estimate("repetition"),
        zlib_ratio=estimate("zlib_ratio"),
        words=estimate("words"),
        empty=estimate("empty"),
    )


def _difference_of_ratios(parts: Sequence[Array]) -> Callable[[Array], Array]:
    def statistic(w: Array) -> Array:
        ratios = [(w @ above) / (w @ below) for above, below in parts]
        found: Array = ratios[0] if len(ratios) == 1 else ratios[0] - ratios[1]
        return found

    return statistic


def _counts(texts_by_prompt: Mapping[str, Sequence[str]]) -> Counts:
    for prompt, texts in texts_by_prompt.items():
        if isinstance(texts, str) or not texts:
            raise OptionError(f"Every prompt needs a list of texts, but {prompt!r:.40} has {texts!r:.40}.")
    return {prompt: _of_prompt(texts) for prompt, texts in texts_by_prompt.items()}


def _of_prompt(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    words = [_WORD.findall(t.casefold()) for t in texts]
    found: dict[str, tuple[float, float]] = {}
    for n in DISTINCT:
        grams = [g for of in words for g in _grams(of, n)]
        found[f"distinct-{n}"] = (len(set(grams)), len(grams))
    repeated = [(len(g) - len(set(g)), len(g)) for g in (_grams(of, REPEATED) for of in words)]
    found["repetition"] = (sum(r for r, _ in repeated), sum(m for _, m in repeated))
    plain = [t.encode("utf-8") for t in texts if t]
    found["zlib_ratio"] = (sum(len(zlib.compress(b, 9)) for b in plain), sum(map(len, plain)))
    found["words"] = (sum(map(len, words)), len(texts))
    found["empty"] = (sum(not of for of in words), len(texts))
    return found


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))
